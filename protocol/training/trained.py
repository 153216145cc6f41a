"""The halves of a joint model: how a party's begins, and what it has when training ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parties.features import FeatureEncoder, FixedPointMatrix
from parties.model import LocalModel
from protocol.numbers import FloatArray
from protocol.settings import ProtocolSettings
from protocol.training.checkpoints import Epoch, TrainingState
from protocol.training.guards import Guard
from protocol.training.samples import Samples, Split


@dataclass(frozen=True, eq=False)
class TrainedHalf:
    """What one data party has when training ends; it stays with that party.

    ``matrix`` is its table in fixed point: all rows at the label party, the aligned ones at a feature party. ``guard``
    knows what was opened to it.
    """

    state: TrainingState
    encoder: FeatureEncoder
    matrix: FixedPointMatrix
    guard: Guard

    @property
    def model(self) -> LocalModel:
        """The half as it was after the best epoch."""
        return self.state.best


@dataclass(frozen=True, eq=False)
class TrainedLabelParty(TrainedHalf):
    """The label party's half, its samples and the course of training."""

    samples: Samples

    @property
    def history(self) -> list[Epoch]:
        """All epochs, those before a break included."""
        return self.state.history

    @property
    def repeated(self) -> int:
        """How many rounds were played again because a share had wrapped."""
        return self.state.repeated

    @property
    def converged(self) -> bool:
        """Whether training ended as the loss would have fallen by less than asked for."""
        return self.state.converged

    @property
    def split(self) -> Split:
        """The training batches and the rows held out."""
        return self.samples.split

    @property
    def labels(self) -> FloatArray:
        """The labels of all rows, sampled negatives included."""
        assert self.samples.dataset.label is not None, "the label party has led the training"
        return self.samples.dataset.label


def initial_model(
    settings: ProtocolSettings, encoder: FeatureEncoder, draw: np.random.Generator, *, bias: bool
) -> LocalModel:
    """Return a party's half before the first round, drawn under a key of its own (parties/order.py)."""
    training = settings.training
    l2 = np.full((len(encoder.column_names), 1 + training.n_factors), training.l2_factors)
    l2[:, 0] = np.where(encoder.identifiers, training.l2_ids, training.l2)
    return LocalModel.initialise(l2, bias=bias, optimizer=training.new_optimizer(), draw=draw)
