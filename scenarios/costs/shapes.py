"""How large everything in a training is, found in the clear: all that its cost depends on besides the settings.

Aligning and splitting go as in a run, so the shapes are those of the run itself. They can be scaled to more rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from parties.columns import ColumnKind
from parties.dataset import PartyDataset
from parties.features import FeatureEncoder, FixedPointMatrix
from protocol.batches import Batch
from protocol.numbers import IntArray
from protocol.training.guards import openable
from protocol.training.samples import Samples, Split, draw_samples
from protocol.transport.in_process import InProcessTransport
from scenarios.running.runner import Run, connect, load_datasets
from scenarios.scenario import Scenario


@dataclass(frozen=True)
class RowsShape:
    """One party's part of a batch: its ``rows`` (samples at the label party, entities at a feature party).

    ``ones`` counts non-zero 0/1 entries, ``opened`` the columns whose gradient is opened, ``known`` the samples that
    are about an entity of this party.
    """

    rows: int
    ones: int
    opened: int
    known: int

    def scaled(self, factor: float) -> Self:
        """Return the part of a batch so many times as long."""
        return replace(
            self,
            rows=round(self.rows * factor),
            ones=round(self.ones * factor),
            known=round(self.known * factor),
        )


@dataclass(frozen=True)
class BatchShape:
    """``times`` batches of ``samples`` rows at the label party; each party's part of one, in the order of sending."""

    samples: int
    parts: Mapping[str, RowsShape]
    times: int = 1

    def scaled(self, factor: float) -> Self:
        """Return a batch so many times as long."""
        parts = {party: part.scaled(factor) for party, part in self.parts.items()}
        return replace(self, samples=round(self.samples * factor), parts=parts)


@dataclass(frozen=True)
class PartyShape:
    """One party's table: its ``rows``, ``sources``, which are the columns in use, and how many of these are ``named``.

    Cells of named columns are categories or ids. ``scaled`` and ``indicators`` are the matrix columns they make.
    """

    rows: int
    sources: int
    named: int
    scaled: int
    indicators: int

    @property
    def columns(self) -> int:
        """Columns of the matrix."""
        return self.scaled + self.indicators


@dataclass(frozen=True)
class Shapes:
    """The label party's table stands first in ``parties``. ``validation`` and ``test`` are one batch each."""

    parties: Mapping[str, PartyShape]
    batches: Sequence[BatchShape]
    validation: BatchShape
    test: BatchShape

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        """Read all tables and work out what a run would; raises what reading and splitting raise."""
        datasets = load_datasets(scenario)
        samples = rehearse(scenario, datasets)
        matrices = {
            party.name: training_matrix(party.name, scenario, datasets, samples)
            for party in scenario.parties
        }
        return cls._of(scenario, datasets, samples.split, matrices)

    @classmethod
    def of_run(cls, run: Run) -> Self:
        """Return the shapes of a finished run, from the matrices that it has made already."""
        matrices = {name: half.matrix for name, half in run.halves.items()}
        return cls._of(run.scenario, run.datasets, run.label_party.trained.split, matrices)

    @classmethod
    def _of(
        cls,
        scenario: Scenario,
        datasets: Mapping[str, PartyDataset],
        split: Split,
        matrices: Mapping[str, FixedPointMatrix],
    ) -> Self:
        return cls(
            {
                name: PartyShape(
                    datasets[name].n_rows,
                    len(datasets[name].kinds),
                    sum(kind is not ColumnKind.NUMERIC for kind in datasets[name].kinds.values()),
                    matrix.scaled.shape[1],
                    matrix.indicators.shape[1],
                )
                for name, matrix in matrices.items()
            },
            [_batch(batch, matrices, scenario, opens=True) for batch in split.batches],
            _batch(split.validation, matrices, scenario, opens=False),
            _batch(split.test, matrices, scenario, opens=False),
        )

    @property
    def samples(self) -> int:
        """The label party's training rows."""
        return sum(batch.samples * batch.times for batch in self.batches)

    @property
    def rounds(self) -> int:
        """The batches of an epoch."""
        return sum(batch.times for batch in self.batches)

    def with_rows(self, rows: int, batch_size: int) -> Self:
        """Return these shapes for a label party of so many rows, with the same columns and rows an entity.

        Batches are equal and of at least ``batch_size`` rows, as in a run.
        """
        label = next(iter(self.parties.values()))
        factor = rows / label.rows
        training = round(self.samples * factor)
        times = max(1, training // batch_size)
        average = self._average()
        return replace(
            self,
            parties={
                name: replace(party, rows=round(party.rows * factor))
                for name, party in self.parties.items()
            },
            batches=[replace(average.scaled(training / times / average.samples), times=times)],
            validation=self.validation.scaled(factor),
            test=self.test.scaled(factor),
        )

    def _average(self) -> BatchShape:
        first, rounds = self.batches[0], self.rounds
        parts = {
            party: RowsShape(
                *(
                    round(
                        sum(getattr(b.parts[party], what) * b.times for b in self.batches) / rounds
                    )
                    for what in ("rows", "ones", "opened", "known")
                )
            )
            for party in first.parts
        }
        return BatchShape(round(self.samples / rounds), parts)


def rehearse(scenario: Scenario, datasets: Mapping[str, PartyDataset]) -> Samples:
    """Align and split as a run would, in the clear; entities are rows of their party's own table.

    Raises AlignmentError or SettingsError as a run does.
    """
    label = datasets[scenario.label_party.name]
    roster = next(iter(connect(scenario, InProcessTransport()).values())).roster
    positions = {
        party: _positions(label, datasets[party], entity)
        for entity, parties in roster.groups()
        for party in parties
    }
    return draw_samples(label, positions, roster, scenario)


def _positions(label: PartyDataset, table: PartyDataset, entity: str) -> IntArray:
    row_of = {identifier: row for row, identifier in enumerate(table.ids[entity])}
    return np.array([row_of.get(one, -1) for one in label.ids[entity]], dtype=np.int64)


def rows_of(party: str, batch: Batch, scenario: Scenario) -> IntArray:
    """Return which rows of its matrix a party brings to a batch."""
    return batch.samples if party == scenario.label_party.name else batch.entities[party]


def training_matrix(
    party: str, scenario: Scenario, datasets: Mapping[str, PartyDataset], samples: Samples
) -> FixedPointMatrix:
    """Return a party's whole table as a matrix, encoded as its rows in the batches teach."""
    dataset = samples.dataset if party == scenario.label_party.name else datasets[party]
    training = [rows_of(party, batch, scenario) for batch in samples.split.batches]
    return FeatureEncoder.fit(dataset, np.unique(np.concatenate(training))).transform(dataset)


def _batch(
    batch: Batch,
    matrices: Mapping[str, FixedPointMatrix],
    scenario: Scenario,
    *,
    opens: bool,
) -> BatchShape:
    training, parts = scenario.training, dict[str, RowsShape]()
    for party in (scenario.label_party.name, *batch.entities):
        rows = matrices[party].take(rows_of(party, batch, scenario))
        known = batch.entity_of.get(party)
        parts[party] = RowsShape(
            rows.n_rows,
            rows.indicators.nnz,
            len(openable(rows, training.min_support, with_total=known is None)) if opens else 0,
            len(batch) if known is None else int(np.count_nonzero(known >= 0)),
        )
    return BatchShape(len(batch), parts)
