"""A feature party, honest but curious: it reads the order of the label party's file off what it is sent.

The public seed permuted the split, and a batch listed its entities by their first sample: whoever knows the seed
permutes back. Measured: every rank of a file, from one run; where the file was sorted by label, every label.

The attacker here has whatever a run sends it, of several runs with seeds of its choice. It undoes the seed as far as it
can, and else averages: places in batches, batches, who is held out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from parties.dataset import PartyDataset
from parties.model import generator
from protocol.batches import Batch
from protocol.messages.message import Role
from protocol.messages.planning import BatchPlan
from protocol.numbers import FloatArray, IntArray
from protocol.settings import ProtocolSettings, SplitSettings, TrainingSettings
from protocol.training.samples import batch_plan, draw_samples
from protocol.transport.roster import Member, Roster

N = 1200
TEST = 0.2
PARTY = "bank"
Told = tuple[BatchPlan, IntArray]  # what a run tells the feature party: batches, and whom it scores
Run = Callable[[PartyDataset, IntArray, int], Told]


@pytest.fixture(scope="module")
def sorted_file() -> PartyDataset:
    """A file sorted by label, with columns that say nothing of it."""
    draw = np.random.default_rng(11)
    label = np.sort(draw.integers(0, 2, N))
    frame = pd.DataFrame({"user": draw.permutation(N), "x": draw.normal(size=N), "bought": label})
    return PartyDataset.from_frame("shop", frame, ids={"user": "user"}, label="bought")


def ours(dataset: PartyDataset, positions: IntArray, seed: int) -> Told:
    settings = ProtocolSettings(
        seed=seed, split=SplitSettings(test=TEST), training=TrainingSettings(batch_size=200)
    )
    roster = Roster(b"", {PARTY: Member(PARTY, Role.FEATURE, b"", "user")})
    split = draw_samples(dataset, {PARTY: positions}, roster, settings).split
    return batch_plan([*split.batches, split.validation], PARTY), split.test.entities[PARTY]


def weaker(dataset: PartyDataset, positions: IntArray, seed: int) -> Told:
    """As it was: the seed alone permutes, and entities come by first sample."""
    rows = generator(seed, "split").permutation(N)
    n_test = round(TEST * N)
    test, training = rows[:n_test], rows[n_test:]
    batches = [
        Batch(part, {PARTY: positions[part]}, {PARTY: np.arange(len(part))})
        for part in np.array_split(training, 5)
    ]
    return batch_plan(batches, PARTY), positions[test]


def ranks_found(told: Told, seed: int) -> Mapping[int, int]:
    """Undo the seed: which place in the file each aligned entity has."""
    plan, scored = told
    in_order = np.concatenate([scored, plan.entities])
    rows = generator(seed, "split").permutation(N)
    return dict(zip(in_order.tolist(), rows.tolist(), strict=True))


def places(told: Told) -> list[FloatArray]:
    """What else an order tells: an entity's place in all, in its batch, its batch's number, whether it is held out."""
    plan, scored = told
    in_order = np.concatenate([scored, plan.entities])
    sizes = np.array([len(scored), *plan.sizes])
    in_batch = np.concatenate([np.arange(size) / size for size in sizes])
    number = np.repeat(np.arange(len(sizes)), sizes)
    found = []
    for values in (np.arange(N), in_batch, number, number == 0):
        of_entity = np.zeros(N)
        of_entity[in_order] = values
        found.append(of_entity)
    return found


def attack(run: Run, dataset: PartyDataset, seeds: int) -> tuple[float, list[float]]:
    """Return the share of ranks found, and the AUC for the label of each mean place over the runs."""
    assert dataset.label is not None
    told, hits, sums = list[Told](), 0, [np.zeros(N) for _ in range(5)]
    for seed in range(seeds):
        # Each run agrees on another order; the attacker knows its own entities in every one.
        positions = np.random.default_rng(100 + seed).permutation(N)
        told.append(run(dataset, positions, seed))
        found = ranks_found(told[-1], seed)
        hits += sum(found[int(positions[row])] == row for row in range(N))
        undone = np.array([found[position] for position in range(N)], dtype=np.float64)
        for total, values in zip(sums, [undone, *places(told[-1])], strict=True):
            total += values[positions]
    return hits / (N * seeds), [roc_auc_score(dataset.label, total) for total in sums]


def test_orders_by_the_seed_alone_give_every_rank_and_so_every_label(
    sorted_file: PartyDataset,
) -> None:
    found, areas = attack(weaker, sorted_file, 1)
    assert found == 1.0
    assert areas[0] == 1.0


@pytest.mark.parametrize("seeds", [1, 5, 20])
def test_our_orders_tell_neither_ranks_nor_labels(sorted_file: PartyDataset, seeds: int) -> None:
    found, areas = attack(ours, sorted_file, seeds)
    assert found < 10 / N  # one by chance in each run
    assert all(0.45 < area < 0.55 for area in areas), areas


def test_an_entity_of_many_rows_comes_no_earlier() -> None:
    draw = np.random.default_rng(3)
    users = np.concatenate([np.arange(300), np.repeat(np.arange(30), 30)])
    frame = pd.DataFrame({"user": draw.permutation(users), "bought": np.arange(len(users)) % 2})
    frame["x"] = draw.normal(size=len(users))
    dataset = PartyDataset.from_frame("shop", frame, ids={"user": "user"}, label="bought")
    ids = dataset.ids["user"].astype(np.int64)
    settings = ProtocolSettings(training=TrainingSettings(batch_size=10_000))
    roster = Roster(b"", {PARTY: Member(PARTY, Role.FEATURE, b"", "user")})
    correlations = []
    for seed in range(10):
        chosen = settings.model_copy(update={"seed": seed})
        (batch,) = draw_samples(dataset, {PARTY: ids}, roster, chosen).split.batches
        counts = np.bincount(batch.entity_of[PARTY], minlength=len(batch.entities[PARTY]))
        correlations.append(spearmanr(counts, np.arange(len(counts))).statistic)
    assert abs(np.mean(correlations)) < 0.06
