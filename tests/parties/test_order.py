from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from parties.dataset import PartyDataset
from parties.order import PrivateOrder


def table(n: int = 30) -> PartyDataset:
    draw = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "user": [f"user{number}" for number in range(n)],
            "colour": draw.choice(["red", "green"], n),
            "size": draw.normal(size=n),
            "at": pd.date_range("2024-01-01", periods=n),
            "bought": np.arange(n) % 2,
        }
    )
    return PartyDataset.from_frame(
        "shop", frame, ids={"user": "user"}, label="bought", time="at", categorical=["colour"]
    )


def test_the_same_table_seed_and_secret_give_the_same_orders() -> None:
    one, again = (PrivateOrder.of(table(), 3, b"secret") for _ in range(2))
    assert one.key == again.key
    assert one.permutation(50, "split").tolist() == again.permutation(50, "split").tolist()
    assert one.generator("weights").random() == again.generator("weights").random()
    assert one.permutation(50, "split").tolist() != one.permutation(50, "other").tolist()
    assert "key" not in repr(one)


def test_any_other_cell_seed_secret_or_row_order_gives_others() -> None:
    dataset = table()
    assert dataset.label is not None
    flipped = dataset.label.copy()
    flipped[7] = 1 - flipped[7]
    grown = dataset.columns.assign(
        size=dataset.columns["size"].where(dataset.columns.index != 4, 9.0)
    )
    repainted = dataset.columns.assign(colour=["red"] * dataset.n_rows)
    ids = dataset.ids["user"].copy()
    ids[0] = "somebody"
    keys = [
        PrivateOrder.of(changed, seed, secret).key
        for changed, seed, secret in (
            (dataset, 3, b""),
            (dataset, 4, b""),
            (dataset, 3, b"secret"),
            (replace(dataset, label=flipped), 3, b""),
            (replace(dataset, columns=grown), 3, b""),
            (replace(dataset, columns=repainted), 3, b""),
            (replace(dataset, ids={"user": ids}), 3, b""),
            (dataset.take(np.arange(30)[::-1]), 3, b""),
            (replace(dataset, time=None), 3, b""),
            (replace(dataset, party="bank"), 3, b""),
        )
    ]
    assert len(set(keys)) == len(keys)


def test_whoever_knows_other_rows_changes_all() -> None:
    order, rows = PrivateOrder.of(table(), 3, b"secret"), np.arange(30) < 20
    knowing = [
        {},
        {"bank": rows},
        {"telco": rows},
        {"bank": rows, "telco": rows},
        {"bank": rows, "telco": np.arange(30) < 21},
        {"bank": np.arange(30) > 9},
    ]
    keys = [order.key, *(order.given(known).key for known in knowing)]
    assert len(set(keys)) == len(keys)
    swapped = dict(reversed(list(knowing[4].items())))
    assert order.given(swapped).key == order.given(knowing[4]).key


@given(st.integers(0, 200))
def test_permutations_have_everyone_once(n: int) -> None:
    assert sorted(PrivateOrder.fresh().permutation(n, "rows").tolist()) == list(range(n))


def test_permutations_are_uniform() -> None:
    order = PrivateOrder(bytes(32))
    counts = np.zeros((5, 5))
    for number in range(4000):
        counts[np.arange(5), order.permutation(5, str(number))] += 1
    # Each cell is binomial with mean 800 and deviation 25.
    assert np.abs(counts - 800).max() < 130


@given(st.lists(st.integers(-1, 12), min_size=1, max_size=60), st.permutations(range(13)))
def test_ranks_follow_an_entitys_first_row_however_it_is_numbered(
    of_row: list[int], numbers: list[int]
) -> None:
    order = PrivateOrder(bytes(32))
    rows = np.array(of_row)
    renamed = np.array([numbers[one] if one >= 0 else -1 for one in of_row])
    ranks, others = order.ranks(rows, "entities"), order.ranks(renamed, "entities")
    for entity in set(of_row) - {-1}:
        assert ranks[entity] == others[numbers[entity]]
    repeated = order.ranks(np.concatenate([rows, rows]), "entities")
    assert repeated.tolist() == ranks.tolist()
