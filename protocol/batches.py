"""Which rows go together: the split, the batches, and how samples map to a feature party's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np

from parties.order import PrivateOrder
from protocol.errors import RemoteProtocolError
from protocol.numbers import FloatArray, IntArray, Words

Numbers = TypeVar("Numbers", FloatArray, Words)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples (rows of the label party) and the entities they are about.

    ``entities[party]`` lists that party's aligned rows, each once; ``entity_of[party]``
    (n_samples,) says which of them a sample is about, -1 where the party does not know it. A user
    with many interactions is one entity and many samples.
    """

    samples: IntArray
    entities: Mapping[str, IntArray]
    entity_of: Mapping[str, IntArray]

    @classmethod
    def of(
        cls,
        samples: IntArray,
        positions: Mapping[str, IntArray],
        ranks: Mapping[str, Words] | None = None,
    ) -> Self:
        """Gather samples; ``positions[party]`` is each label-party row's aligned row there.

        Entities come in the order of ``ranks[party]`` (n_aligned,), by default in one drawn here: the order of samples
        is the label party's business, and an entity with many of them would come early. Nor may the agreed order of
        the aligned rows decide, which is drawn afresh each run: then a run's sums would differ from its repeat's.
        """
        entities, entity_of = {}, {}
        for party, of_row in positions.items():
            of_sample = of_row[samples]
            known = of_sample >= 0
            found, codes = np.unique(of_sample[known], return_inverse=True)
            if ranks is None:
                order = PrivateOrder.fresh().permutation(len(found), party)
            else:
                order = np.argsort(ranks[party][found], kind="stable")
            place = np.empty(len(order), dtype=np.int64)
            place[order] = np.arange(len(order))
            entities[party] = found[order]
            entity_of[party] = np.full(len(samples), -1, dtype=np.int64)
            entity_of[party][known] = place[codes]
        return cls(samples, entities, entity_of)

    def __len__(self) -> int:
        return len(self.samples)

    def to_samples(self, party: str, values: Numbers) -> Numbers:
        """Expand values (n_entities, ...) to (n_samples, ...), zero where the party knows none."""
        unknown = np.zeros((1, *values.shape[1:]), dtype=values.dtype)
        return np.concatenate([values, unknown])[self.entity_of[party]]

    def sum_by_entity(self, party: str, values: IntArray) -> IntArray:
        """Add up integers (n_samples, ...) to (n_entities, ...), exactly."""
        known = self.entity_of[party] >= 0
        sums = np.zeros((len(self.entities[party]), *values.shape[1:]), dtype=np.int64)
        np.add.at(sums, self.entity_of[party][known], values[known])
        return sums


def check_positions(positions: IntArray, n_rows: int, *, sender: str) -> None:
    """Raise RemoteProtocolError unless every position names one of the aligned rows."""
    if len(positions) and not (int(np.min(positions)) >= 0 and int(np.max(positions)) < n_rows):
        raise RemoteProtocolError(f"{sender} named a row beyond the {n_rows} aligned ones")
