"""Which rows go together: the split, the batches, and how samples map to a feature party's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from parties.model import generator
from protocol.errors import AlignmentError
from protocol.messages import FloatArray, IntArray
from protocol.settings import ProtocolSettings


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
    def of(cls, samples: IntArray, positions: Mapping[str, IntArray]) -> Self:
        """Gather samples; ``positions[party]`` is each label-party row's aligned row there.

        Entities come in order of their first sample, which depends on the seed alone: the agreed
        order of the aligned rows is drawn afresh each run and must not decide the order of
        floating-point sums.
        """
        entities, entity_of = {}, {}
        for party, of_row in positions.items():
            of_sample = of_row[samples]
            known = of_sample >= 0
            codes, entities[party] = pd.factorize(of_sample[known])
            entity_of[party] = np.full(len(samples), -1, dtype=np.int64)
            entity_of[party][known] = codes
        return cls(samples, entities, entity_of)

    def __len__(self) -> int:
        return len(self.samples)

    def to_samples(self, party: str, values: FloatArray) -> FloatArray:
        """Expand values (n_entities, ...) to (n_samples, ...), zero where the party knows none."""
        unknown = np.zeros((1, *values.shape[1:]))
        return np.concatenate([values, unknown])[self.entity_of[party]]

    def sum_by_entity(self, party: str, values: IntArray) -> IntArray:
        """Add up integers (n_samples, ...) to (n_entities, ...), exactly."""
        known = self.entity_of[party] >= 0
        sums = np.zeros((len(self.entities[party]), *values.shape[1:]), dtype=np.int64)
        np.add.at(sums, self.entity_of[party][known], values[known])
        return sums


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


def draw_split(positions: Mapping[str, IntArray], settings: ProtocolSettings) -> Split:
    """Split the rows that every party knows, at random from the seed; raises AlignmentError if too few.

    An epoch has as many batches of equal size as hold at least ``batch_size`` rows each. They stay
    the same in every epoch: a party that saw one row in ever new batches could combine the sums and
    solve for its residual.
    """
    known = np.flatnonzero(np.all([of_row >= 0 for of_row in positions.values()], axis=0))
    shuffled = generator(settings.seed, "split").permutation(known).astype(np.int64)
    n_test = round(settings.split.test * len(known))
    n_validation = round(settings.split.validation * len(known))
    test, validation, training = np.split(shuffled, [n_test, n_test + n_validation])
    if not (len(test) and len(validation) and len(training)):
        raise AlignmentError(
            f"only {len(known)} rows are known to all parties; expected enough to train, validate and test on"
        )
    n_batches = max(1, len(training) // settings.training.batch_size)
    return Split(
        [Batch.of(samples, positions) for samples in np.array_split(training, n_batches)],
        Batch.of(validation, positions),
        Batch.of(test, positions),
    )
