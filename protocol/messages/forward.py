"""The forward pass: from what each party contributes to a logit to residuals (protocol/forward.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocol.messages.message import (
    FloatArray,
    IntArray,
    Message,
    Role,
    Words,
    are_sizes,
    is_list,
    require,
)


@dataclass(frozen=True, eq=False)
class SigmoidSeries(Message):
    """The Fourier series that stands for the sigmoid (protocol/shares.py): as the declared bounds ask for."""

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
            and bool(np.all(self.entities >= 0))
            and all(
                bool(np.all((rows >= -1) & (rows < number)))
                for rows, number in zip(self.batches(), self.entities, strict=True)
            ),
            "the row of each sample among as many rows as announced",
        )

    def batches(self) -> list[IntArray]:
        """Return the positions of each batch."""
        return np.split(self.positions, np.cumsum(self.samples)[:-1])


@dataclass(frozen=True, eq=False)
class PartialLogits(Message):
    """The sender's partial logits (n,) and latent sums (n, k) for the entities asked for, in their order."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.LABEL})
    under = ("open", "none")
    discloses = (
        "the sender's partial logit and latent sums of each entity, from which, over many rounds, the label party can "
        "reconstruct the Gram matrix of the sender's rows (disclosure 'open' and 'none')"
    )

    values: FloatArray
    latent_sums: FloatArray

    def __post_init__(self) -> None:
        require(
            self.values.ndim == 1
            and self.latent_sums.shape[:1] == self.values.shape
            and self.latent_sums.ndim == 2
            and bool(np.all(np.isfinite(self.values)))
            and bool(np.all(np.isfinite(self.latent_sums))),
            "finite partial logits and latent sums, one row an entity",
        )


@dataclass(frozen=True, eq=False)
class ContributionSeed(Message):
    """The key from which the label party expands its share of what the sender contributes; 32 bytes."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.LABEL})
    under = ("shared",)
    discloses = "a random key: one share of the sender's sums, uniform by itself"

    seed: bytes

    def __post_init__(self) -> None:
        _require_seed(self.seed)


@dataclass(frozen=True, eq=False)
class ContributionShare(Message):
    """The other share of what the sender contributes: twice its partial logits, and its latent sums (n, 1 + k)."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.COORDINATOR})
    under = ("shared",)
    discloses = "uniform integers modulo 2^64: one share of the sender's sums; how many entities"

    values: Words


@dataclass(frozen=True, eq=False)
class DealtSeed(Message):
    """The key from which the label party expands its half of the dealt randomness; 32 bytes."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.LABEL})
    under = ("shared",)
    discloses = "a random key: its half of values that hide what is opened, and of their products"

    seed: bytes

    def __post_init__(self) -> None:
        _require_seed(self.seed)


@dataclass(frozen=True, eq=False)
class DealtShare(Message):
    """The coordinator's half of the dealt randomness: a key for what is free, and what depends on it (n, columns)."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.COORDINATOR})
    under = ("shared",)
    discloses = "a random key and uniform integers modulo 2^64"

    seed: bytes
    dependent: Words

    def __post_init__(self) -> None:
        _require_seed(self.seed)


@dataclass(frozen=True, eq=False)
class Opening(Message):
    """The sender's share of latent sums, logits or residuals minus dealt masks, for the two to open."""

    senders = frozenset({Role.LABEL, Role.COORDINATOR})
    receivers = frozenset({Role.LABEL, Role.COORDINATOR})
    under = ("shared",)
    discloses = "uniform integers modulo 2^64: each is a value minus a mask that is used once"

    values: Words


def _require_seed(seed: bytes) -> None:
    require(len(seed) == 32, "a seed of 32 bytes")
