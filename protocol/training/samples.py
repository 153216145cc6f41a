"""Which rows are trained, validated and tested on: the split, its batches, and sampled negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from parties.catalogue import ITEM, USER, Catalogue, draw_negatives
from parties.dataset import PartyDataset
from parties.order import PrivateOrder
from parties.splits import split_cold_users, split_global_time, split_per_user_by_time
from protocol.batches import Batch
from protocol.errors import AlignmentError, SettingsError
from protocol.messages.planning import BatchPlan
from protocol.numbers import IntArray
from protocol.settings import ProtocolSettings
from protocol.transport.roster import Roster


@dataclass(frozen=True, eq=False)
class Split:
    """The training batches, fixed for all epochs, and the rows held out."""

    batches: list[Batch]
    validation: Batch
    test: Batch

    @property
    def training_samples(self) -> IntArray:
        """The label party's training rows, in batch order."""
        return np.concatenate([batch.samples for batch in self.batches])


@dataclass(frozen=True, eq=False)
class Samples:
    """What the label party trains and tests on: its table, with sampled negatives at the end, and the split.

    ``positions[party]`` is each row's aligned row at a feature party, -1 where that party does not know it. Rows from
    ``n_observed`` on are sampled negatives.
    """

    dataset: PartyDataset
    positions: Mapping[str, IntArray]
    split: Split
    n_observed: int
    order: PrivateOrder


def batch_plan(batches: Sequence[Batch], party: str) -> BatchPlan:
    """Return what one feature party hears of the batches, those of the validation rows last."""
    entities = [batch.entities[party] for batch in batches]
    return BatchPlan(
        np.concatenate(entities),
        np.array([len(rows) for rows in entities]),
        np.array([len(batch) for batch in batches]),
    )


def draw_samples(
    dataset: PartyDataset,
    positions: Mapping[str, IntArray],
    roster: Roster,
    settings: ProtocolSettings,
    secret: bytes = b"",
) -> Samples:
    """Split the rows that every required party knows, and add negatives if asked for.

    All orders are drawn under a key (parties/order.py), of which ``secret`` is the label party's own part, and anew
    where any party knows other rows.

    An epoch has as many batches of equal size as hold at least ``batch_size`` rows each. They stay the
    same in every epoch: a party that saw one row in ever new batches could combine the sums and
    solve for its residual. Raises AlignmentError if too few rows are known to all, DataError if they cannot be split.
    """
    required = [party for party in positions if roster.members[party].required]
    by_all = np.all(
        [np.ones(dataset.n_rows), *(positions[party] >= 0 for party in required)], axis=0
    )
    # A row that one of the required parties lacks is in nobody's run.
    knows = {p: by_all if p in required else of_row >= 0 for p, of_row in positions.items()}
    order = PrivateOrder.of(dataset, settings.seed, secret).given(knows)
    known = np.flatnonzero(by_all)
    known = known[order.permutation(len(known), "split")]
    n_observed = dataset.n_rows
    test, rest = _hold_out(dataset, known, settings.split.test, settings, order, "test")
    share = settings.split.validation / (1 - settings.split.test)
    validation, training = _hold_out(dataset, rest, min(share, 0.9), settings, order, "validation")
    if settings.negatives.per_positive:
        # To the validation rows too: the loss that stops training must be the one it descends.
        dataset, positions, (training, validation) = _add_negatives(
            dataset, positions, [training, validation], roster, settings, order
        )
    n_batches = max(1, len(training) // max(1, settings.training.rows_of_batch(len(training))))
    ranks = {
        party: order.ranks(of_row, f"entities of {party}") for party, of_row in positions.items()
    }
    split = Split(
        [Batch.of(samples, positions, ranks) for samples in np.array_split(training, n_batches)],
        Batch.of(validation, positions, ranks),
        Batch.of(test, positions, ranks),
    )
    return Samples(dataset, positions, split, n_observed, order)


def _hold_out(
    dataset: PartyDataset,
    rows: IntArray,
    fraction: float,
    settings: ProtocolSettings,
    order: PrivateOrder,
    part: str,
) -> tuple[IntArray, IntArray]:
    """Return the rows held out for a part and the others, both in their given order."""
    if len(rows) < 3:
        raise AlignmentError(
            f"only {len(rows)} rows are known to all parties; expected enough to train, validate and test on"
        )
    kind = settings.split.kind
    if kind in ("last", "user-last") and dataset.time is None:
        raise SettingsError(
            f"split.kind = '{kind}' needs a time column; set time at {dataset.party} to its name"
        )
    if kind in ("user-last", "cold-users") and USER not in dataset.ids:
        raise SettingsError(
            f"split.kind = '{kind}' needs ids of the entity 'user' at {dataset.party}"
        )
    table = dataset.take(rows)
    if kind == "cold-users":
        held_out = split_cold_users(
            table.ids[USER], fraction, lambda n: order.permutation(n, f"cold users of {part}")
        )
    elif kind == "user-last":
        held_out = split_per_user_by_time(table.ids[USER], _times(table), fraction)
    elif kind == "last":
        held_out = split_global_time(_times(table), fraction)
    else:
        # The rows are in random order already.
        held_out = np.arange(len(rows)) < max(1, round(fraction * len(rows)))
    return rows[held_out], rows[~held_out]


def _times(table: PartyDataset) -> pd.Series[Any]:
    assert table.time is not None, "checked where the kind of split is"
    return table.time


def _add_negatives(
    dataset: PartyDataset,
    positions: Mapping[str, IntArray],
    parts: Sequence[IntArray],
    roster: Roster,
    settings: ProtocolSettings,
    order: PrivateOrder,
) -> tuple[PartyDataset, dict[str, IntArray], list[IntArray]]:
    """Draw negatives for the positive rows of all parts; each joins the part of the row it is drawn for."""
    assert dataset.label is not None, "only the label party draws samples"
    catalogue, rows = Catalogue.of(dataset), np.concatenate(parts)
    negatives = draw_negatives(
        catalogue,
        rows[dataset.label[rows] == 1],
        rows,
        per_positive=settings.negatives.per_positive,
        popularity=settings.negatives.popularity,
        draw=order.generator("negatives"),
    )
    row_of_added = {
        party: negatives.item_rows if roster.members[party].entity == ITEM else negatives.user_rows
        for party in positions
    }
    extended = {
        party: np.concatenate([of_row, of_row[row_of_added[party]]])
        for party, of_row in positions.items()
    }
    added = np.arange(dataset.n_rows, dataset.n_rows + len(negatives))
    joined = []
    for number, part in enumerate(parts):
        rows = np.concatenate([part, added[np.isin(negatives.user_rows, part)]])
        joined.append(rows[order.permutation(len(rows), f"negatives in part {number}")])
    return negatives.extend(dataset, catalogue), extended, joined
