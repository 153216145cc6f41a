"""What is said before a training, in every round of it, and at the end of an epoch (protocol/training/roles.py).

What a round needs of logits is in protocol/messages/forward.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parties.quasi_newton import Plan
from protocol.messages.message import DATA_ROLES, Message, Role, require
from protocol.numbers import Ciphertexts, FloatArray, IntArray, Residues, Words


@dataclass(frozen=True, eq=False)
class EncryptedShares(Message):
    """The coordinator's share of each sample's residual and products, encrypted, and of their batch's sum of residuals.

    ``values`` and ``alone`` as in EncryptedResiduals; ``total`` (1,) is in the clear.
    """

    senders = frozenset({Role.COORDINATOR})
    receivers = frozenset({Role.LABEL})
    under = ("shared",)
    discloses = (
        "the sum of the batch's residuals, which is the gradient of its own bias; of the ciphertexts nothing without "
        "the private key"
    )

    values: Ciphertexts
    alone: Ciphertexts
    total: Words

    def __post_init__(self) -> None:
        require(self.total.shape == (1,), "one sum of residuals")


@dataclass(frozen=True, eq=False)
class EncryptedResiduals(Message):
    """Fixed-point residuals and their products with latent sums, added up by entity, under the coordinator's key.

    ``alone`` carries the residuals once more by themselves, where the receiver needs them (training/gradients.py).
    """

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    under = ("shared", "open")
    discloses = "nothing without the private key"

    values: Ciphertexts
    alone: Ciphertexts


@dataclass(frozen=True, eq=False)
class PlainResiduals(Message):
    """Fixed-point residuals and products (n_entities, 1 + k) in the clear: only under ``disclosure = "none"``."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    under = ("none",)
    discloses = "every residual, so every label (disclosure 'none' only: no cryptography at all)"

    values: IntArray


@dataclass(frozen=True, eq=False)
class MaskedGradients(Message):
    """The sender's packed gradient entries under encryption, each plus a uniform mask, randomised at full size."""

    senders = DATA_ROLES
    receivers = frozenset({Role.COORDINATOR})
    under = ("shared", "open")
    discloses = "uniform integers modulo n, and how many"

    values: Ciphertexts


@dataclass(frozen=True, eq=False)
class OpenedGradients(Message):
    """What the coordinator decrypted: gradient plus mask, modulo n."""

    senders = frozenset({Role.COORDINATOR})
    receivers = DATA_ROLES
    under = ("shared", "open")
    discloses = "its own exact gradient of this batch, once it takes its mask off"

    values: Residues


@dataclass(frozen=True, eq=False)
class RoundCheck(Message):
    """Whether a number of the sender's gradient lies beyond its bound, as happens when shares wrap."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.LABEL})
    under = ("shared",)
    discloses = "whether a share has wrapped, which depends on random numbers alone but for 2^-30"

    exceeded: bool


@dataclass(frozen=True, eq=False)
class RoundEnd(Message):
    """Whether the round has to be repeated with fresh randomness."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.COORDINATOR, Role.FEATURE})
    under = ("shared",)
    discloses = "whether a share of anyone's residuals has wrapped"

    repeat: bool


@dataclass(frozen=True, eq=False)
class ProductSeed(Message):
    """The key from which the label party expands its share of the sender's part of inner products; 32 bytes."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.LABEL})
    discloses = "a random key: one share of the sender's inner products, uniform by itself"

    seed: bytes

    def __post_init__(self) -> None:
        require(len(self.seed) == 32, "a seed of 32 bytes")


@dataclass(frozen=True, eq=False)
class ProductShare(Message):
    """The other share: of the products of the sender's gradient with earlier steps and gradients (at most 18,)."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.COORDINATOR})
    discloses = "uniform integers modulo 2^64: one share of the sender's inner products"

    values: Words

    def __post_init__(self) -> None:
        require(self.values.ndim == 1, "a list of shares")


@dataclass(frozen=True, eq=False)
class ProductSum(Message):
    """The coordinator's share of the sums over feature parties of their inner products."""

    senders = frozenset({Role.COORDINATOR})
    receivers = frozenset({Role.LABEL})
    discloses = (
        "sums over parties of inner products of whitened gradients and steps, up to 18 numbers a round; with one "
        "feature party that party's own: how long its gradient is, measured by the spread of its columns, and how it "
        "lies to earlier ones"
    )

    values: Words

    def __post_init__(self) -> None:
        require(self.values.ndim == 1, "a list of shares")


@dataclass(frozen=True, eq=False)
class Step(Message):
    """Everyone's next step, as coefficients of kept steps, changes of the gradient and the gradient (at most 17,)."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = "how the next step combines earlier ones: up to 17 numbers that depend on all parties' gradients"

    coefficients: FloatArray
    keep: bool
    restart: bool
    done: bool

    def __post_init__(self) -> None:
        require(
            self.coefficients.ndim == 1 and bool(np.all(np.isfinite(self.coefficients))),
            "a list of finite coefficients",
        )

    @classmethod
    def of(cls, plan: Plan) -> Step:
        """Tell a plan."""
        coefficients = np.array(plan.coefficients, dtype=np.float64)
        return cls(coefficients, plan.keep, plan.restart, plan.done)

    def plan(self) -> Plan:
        """Return the plan."""
        return Plan(tuple(self.coefficients.tolist()), self.keep, self.restart, self.done)


@dataclass(frozen=True, eq=False)
class BrierShare(Message):
    """The coordinator's share of the sum of squared residuals over the validation rows (1,)."""

    senders = frozenset({Role.COORDINATOR})
    receivers = frozenset({Role.LABEL})
    under = ("shared",)
    discloses = "the Brier score of the validation rows: one number an epoch"

    total: Words

    def __post_init__(self) -> None:
        require(self.total.shape == (1,), "one sum of squared residuals")


@dataclass(frozen=True, eq=False)
class EpochEnd(Message):
    """Whether this epoch's model is the best so far, and whether another epoch follows."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.COORDINATOR, Role.FEATURE})
    discloses = "whether the validation loss improved"

    best: bool
    proceed: bool
