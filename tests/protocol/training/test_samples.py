from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.dataset import PartyDataset
from protocol.batches import Batch, check_positions
from protocol.errors import AlignmentError, RemoteProtocolError, SettingsError
from protocol.messages.message import Role
from protocol.settings import (
    NegativeSettings,
    ProtocolSettings,
    SplitKind,
    SplitSettings,
    TrainingSettings,
)
from protocol.training.samples import Samples, draw_samples
from protocol.transport.roster import Member, Roster


def settings(batch_size: int, seed: int = 0, **groups: Any) -> ProtocolSettings:
    return ProtocolSettings(seed=seed, training=TrainingSettings(batch_size=batch_size), **groups)


def table(n_rows: int, *, users: int = 5) -> PartyDataset:
    """Interactions of a few users with ten items, in order of time."""
    rows = np.arange(n_rows)
    frame = pd.DataFrame({"user": rows % users, "item": rows * 7 % 10, "x": rows * 1.0, "at": rows})
    frame = frame.assign(price=frame["item"] * 2.0, liked=rows // 3 % 2)
    return PartyDataset.from_frame(
        "shop", frame, ids={"user": "user", "item": "item"}, label="liked", time="at"
    )


def draw(dataset: PartyDataset, positions: Any, chosen: ProtocolSettings) -> Samples:
    members = {
        name: Member(
            name, Role.FEATURE, b"", "item" if name == "maker" else "user", name != "telco"
        )
        for name in positions
    }
    return draw_samples(dataset, positions, Roster(b"", members), chosen)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_sums_and_expansion_follow_the_entities(of_row: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(of_row) - 1), min_size=1))
    batch = Batch.of(np.array(chosen), {"bank": np.array(of_row)})
    numbers = np.array(
        data.draw(
            st.lists(st.integers(-(2**40), 2**40), min_size=len(chosen), max_size=len(chosen))
        )
    )
    entities = batch.entities["bank"].tolist()
    assert len(set(entities)) == len(entities)
    sums = dict.fromkeys(entities, 0)
    for row, number in zip(chosen, numbers.tolist(), strict=True):
        sums[of_row[row]] += number
    assert batch.sum_by_entity("bank", numbers).tolist() == list(sums.values())
    values = np.array(entities, dtype=float)
    assert batch.to_samples("bank", values).tolist() == [of_row[row] for row in chosen]


@given(st.integers(10, 300), st.integers(1, 120))
def test_a_split_uses_every_known_row_once_in_batches_that_are_large_enough(
    n_rows: int, batch_size: int
) -> None:
    of_row = np.arange(n_rows)
    of_row[::7] = -1
    split = draw(table(n_rows), {"bank": of_row}, settings(batch_size)).split
    parts = [*split.batches, split.validation, split.test]
    rows = np.concatenate([part.samples for part in parts])
    assert sorted(rows.tolist()) == np.flatnonzero(of_row >= 0).tolist()
    sizes = [len(batch) for batch in split.batches]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(batch_size, len(split.training_samples))


def test_order_depends_on_the_seed_and_not_on_the_agreed_order() -> None:
    order = np.random.default_rng(0)
    first, second, other = (
        draw(table(100), {"bank": order.permutation(100)}, settings(20, seed)).split
        for seed in (0, 0, 1)
    )
    assert first.training_samples.tolist() == second.training_samples.tolist()
    assert first.training_samples.tolist() != other.training_samples.tolist()
    # Entities have an order of their own, the same in every run: by it sums are added up.
    for one, again in zip(first.batches, second.batches, strict=True):
        assert one.entity_of["bank"].tolist() == again.entity_of["bank"].tolist()
        assert one.entity_of["bank"].tolist() != list(range(len(one)))


def test_one_id_fewer_draws_everything_anew() -> None:
    everyone = np.arange(400)
    fewer = np.where(everyone == 200, -1, everyone)
    splits = [draw(table(400), {"bank": ids}, settings(80)).split for ids in (everyone, fewer)]
    batch_of = [np.full(400, -1) for _ in splits]
    for split, found in zip(splits, batch_of, strict=True):
        for number, batch in enumerate([*split.batches, split.validation, split.test]):
            found[batch.samples] = number
    stayed = batch_of[0] == batch_of[1]
    assert stayed[:200].mean() < 0.4 > stayed[201:].mean()  # about a fifth, by chance


def test_cold_users_are_held_out_whatever_their_ids() -> None:
    """Each for validation as often as any other, and not only whom the draw of the test users passed over."""
    dataset = table(60, users=20)
    chosen = SplitSettings(kind="cold-users", test=0.2, validation=0.2)
    counts = np.zeros(20)
    for seed in range(300):
        split = draw(dataset, {"bank": np.arange(60)}, settings(10, seed, split=chosen)).split
        users = np.unique(dataset.ids["user"][split.validation.samples].astype(int))
        counts[users] += 1
    # Binomial, with mean 60 and deviation 7.
    assert np.abs(counts - 60).max() < 35


def test_too_few_rows_are_refused() -> None:
    unknown = np.full(30, -1)
    unknown[:2] = [0, 1]
    with pytest.raises(AlignmentError, match="only 2 rows are known to all parties"):
        draw(table(30), {"bank": unknown, "maker": np.arange(30)}, settings(8))
    # A party that is not required may know none of them.
    split = draw(table(30), {"bank": np.arange(30), "telco": unknown}, settings(8)).split
    assert len(split.training_samples) > 10


def test_rows_of_unknown_entities_count_as_zero() -> None:
    ranks = {"telco": np.arange(8, dtype=np.uint64)[::-1]}
    batch = Batch.of(np.arange(4), {"telco": np.array([7, -1, 3, 7])}, ranks)
    assert batch.entities["telco"].tolist() == [7, 3]
    assert batch.entity_of["telco"].tolist() == [0, -1, 1, 0]
    assert batch.to_samples("telco", np.array([[1.0], [2.0]])).ravel().tolist() == [1, 0, 2, 1]
    assert batch.sum_by_entity("telco", np.array([1, 10, 100, 1000])).tolist() == [1001, 100]


@pytest.mark.parametrize("kind", ["random", "last", "user-last", "cold-users"])
def test_kinds_of_split(kind: SplitKind) -> None:
    split_settings = SplitSettings(kind=kind, test=0.2, validation=0.2)
    dataset = table(200, users=20)
    split = draw(dataset, {"bank": np.arange(200)}, settings(10, split=split_settings)).split
    parts = [split.training_samples, split.validation.samples, split.test.samples]
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    assert [len(part) for part in parts] == [120, 40, 40]
    users = [set(dataset.ids["user"][part]) for part in parts]
    if kind == "cold-users":
        assert not (users[0] & users[1] | users[0] & users[2] | users[1] & users[2])
    if kind == "last":
        assert parts[0].max() < parts[1].min() <= parts[1].max() < parts[2].min()
    if kind == "user-last":
        assert users[0] == users[1] == users[2]


def test_a_split_needs_its_columns() -> None:
    frame = pd.DataFrame({"id": range(50), "x": np.arange(50.0), "y": np.arange(50) % 2})
    dataset = PartyDataset.from_frame("shop", frame, ids={"member": "id"}, label="y")
    for kind, words in (("last", "needs a time column"), ("cold-users", "needs ids of the entity")):
        chosen = SplitSettings.model_validate({"kind": kind})
        with pytest.raises(SettingsError, match=words):
            draw(dataset, {"bank": np.arange(50)}, settings(10, split=chosen))


def test_negatives_join_the_part_of_their_positive_row() -> None:
    dataset, positions = (
        table(200, users=20),
        {"bank": np.arange(200), "maker": np.arange(200)[::-1]},
    )
    chosen = settings(10, negatives=NegativeSettings(per_positive=2))
    samples = draw(dataset, positions, chosen)
    added = np.arange(200, samples.dataset.n_rows)
    assert len(added) > 50
    assert samples.n_observed == 200
    training, validation = samples.split.training_samples, samples.split.validation.samples
    assert set(added.tolist()) <= set(training.tolist()) | set(validation.tolist())
    assert np.isin(added, validation).any()
    assert samples.split.test.samples.max() < 200
    assert samples.dataset.label is not None
    assert not samples.dataset.label[added].any()
    # A user-keyed party is asked about the row's user, an item-keyed one about the row's item.
    for row in added.tolist():
        user, item = samples.dataset.ids["user"][row], samples.dataset.ids["item"][row]
        assert (
            dataset.ids["user"][positions["bank"].tolist().index(samples.positions["bank"][row])]
            == user
        )
        assert (
            dataset.ids["item"][positions["maker"].tolist().index(samples.positions["maker"][row])]
            == item
        )
        assert samples.dataset.columns["price"][row] == 2.0 * int(item)


def test_positions_beyond_the_rows_are_refused() -> None:
    check_positions(np.array([0, 4]), 5, sender="shop")
    check_positions(np.array([], dtype=np.int64), 0, sender="shop")
    for outside in (-1, 5):
        with pytest.raises(RemoteProtocolError, match="shop named a row beyond the 5 aligned ones"):
            check_positions(np.array([0, outside]), 5, sender="shop")
