"""The forward pass: from what each party contributes to a logit to residuals (protocol/sharing/evaluator.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocol.messages.message import Message, Role, require
from protocol.numbers import FloatArray, Words


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
