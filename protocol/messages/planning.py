"""What is trained, in which batches, and from where: said once, before the rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocol.messages.message import DATA_ROLES, Message, Role, are_sizes, is_list, require
from protocol.numbers import IntArray


@dataclass(frozen=True, eq=False)
class BatchPlan(Message):
    """Which aligned rows of the receiver stand in each batch, the same in every epoch, and in the validation rows.

    ``entities`` runs through all batches, ``sizes`` says how many belong to each, ``samples`` how many of the label
    party's rows each batch has (the divisor of its mean). The last batch is the validation rows.
    """

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = (
        "which of its shared entities are in which training batch or held out for validation, and each batch's row "
        "count"
    )

    entities: IntArray
    sizes: IntArray
    samples: IntArray

    def __post_init__(self) -> None:
        require(
            is_list(self.sizes, self.samples)
            and is_list(self.entities)
            and len(self.sizes) > 1
            and are_sizes(self.sizes, len(self.entities))
            and bool(np.all(self.samples >= self.sizes))
            and all(len(np.unique(rows)) == len(rows) for rows in self.batches()),
            "batches whose sizes add up to the entities listed, each of them once in a batch",
        )

    def batches(self) -> list[IntArray]:
        """Return the entities of each batch, those of the validation rows last."""
        return np.split(self.entities, np.cumsum(self.sizes)[:-1])


@dataclass(frozen=True, eq=False)
class KeptEpochs(Message):
    """After which epochs the sender has kept its half of an earlier, broken training, and of which; empty if none."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.LABEL})
    discloses = "which epochs of a broken training it has kept"

    training: bytes
    epochs: IntArray

    def __post_init__(self) -> None:
        require(len(self.training) in (0, 16), "the 16 bytes that name a training, or none")
        require(is_list(self.epochs), "a list of epochs")


@dataclass(frozen=True, eq=False)
class TrainingStart(Message):
    """How many epochs are done, as all have kept them, and how many at most are to come. ``training`` names it."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = "how far everyone had come in a broken training"

    training: bytes
    done: int
    epochs: int

    def __post_init__(self) -> None:
        require(len(self.training) == 16, "the 16 bytes that name a training")
        require(self.done >= 0 and self.epochs >= 0, "numbers of epochs")


@dataclass(frozen=True, eq=False)
class Schedule(Message):
    """How many rounds an epoch has, and epochs at most are to come."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.COORDINATOR})
    discloses = "the number of batches and epochs"

    rounds: int
    epochs: int

    def __post_init__(self) -> None:
        require(
            self.rounds > 0 and self.epochs >= 0, "at least one round, and no fewer than no epochs"
        )


@dataclass(frozen=True, eq=False)
class OpenedColumns(Message):
    """Of how many columns the sender wants each batch's gradient opened, and whether any column is other than 0/1.

    The second decides how wide the slots towards it must be (training/gradients.py).
    """

    senders = DATA_ROLES
    receivers = frozenset(Role)
    discloses = "of how many of the sender's columns the gradient is opened in each batch, and whether any is not 0/1"

    columns: IntArray
    scaled: bool

    def __post_init__(self) -> None:
        require(
            is_list(self.columns) and bool(np.all((self.columns >= 0) & (self.columns < 1 << 32))),
            "a number of columns for each batch",
        )


@dataclass(frozen=True, eq=False)
class Allowance(Message):
    """How many ciphertexts the coordinator opens to one feature party in each batch's round."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.COORDINATOR})
    under = ("shared", "open")
    discloses = (
        "how many ciphertexts a party has opened in each round, which the rounds show as well"
    )

    party: str
    ciphertexts: IntArray

    def __post_init__(self) -> None:
        require(
            is_list(self.ciphertexts) and bool(np.all(self.ciphertexts >= 0)),
            "a number of ciphertexts for each batch",
        )


@dataclass(frozen=True, eq=False)
class SigmoidSeries(Message):
    """The Fourier series that stands for the sigmoid (protocol/sharing/shares.py): as the declared bounds ask for."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.COORDINATOR, Role.FEATURE})
    under = ("shared",)
    discloses = "nothing: public numbers that follow from the settings"

    period: int
    coefficients: IntArray

    def __post_init__(self) -> None:
        require(
            0 < self.period <= 1 << 16
            and self.period & (self.period - 1) == 0
            and self.coefficients.ndim == 1
            and 0 < len(self.coefficients) <= 1 << 12
            and bool(np.all((self.coefficients > -1 << 24) & (self.coefficients < 1 << 24))),
            "a period that is a power of two, and coefficients of at most 24 bits",
        )


@dataclass(frozen=True, eq=False)
class SamplePositions(Message):
    """Which row of a feature party's contribution each sample refers to, -1 for none, batch after batch.

    ``samples`` and ``entities`` say how many of either each batch has.
    """

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.COORDINATOR})
    under = ("shared",)
    discloses = "which samples are about the same entity, without naming one: nothing where every entity has one row"

    party: str
    positions: IntArray
    samples: IntArray
    entities: IntArray

    def __post_init__(self) -> None:
        require(
            is_list(self.samples, self.entities)
            and is_list(self.positions)
            and len(self.samples) > 0
            and are_sizes(self.samples, len(self.positions))
            and bool(np.all((self.entities >= 0) & (self.entities <= self.samples)))
            and all(
                bool(np.all((rows >= -1) & (rows < number)))
                for rows, number in zip(self.batches(), self.entities, strict=True)
            ),
            "the row of each sample among as many rows as announced",
        )

    def batches(self) -> list[IntArray]:
        """Return the positions of each batch."""
        return np.split(self.positions, np.cumsum(self.samples)[:-1])
