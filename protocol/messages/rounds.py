"""What is said before a training, in every round of it, and at the end of an epoch (protocol/training/roles.py).

What a round needs of logits is in protocol/messages/forward.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parties.quasi_newton import Plan
from protocol.messages.message import DATA_ROLES, Message, Role, are_sizes, is_list, require
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
    """The other share: of the products of the sender's gradient with earlier steps and gradients.

    At most 18 for each output of the model, one output after another.
    """

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
    """Everyone's next step, as coefficients of kept steps, changes of the gradient and the gradient.

    ``sizes`` (n_outputs,) says how many coefficients each output of the model has, at most 17; ``keep`` and ``restart``
    (n_outputs,) are 0 or 1.
    """

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = "how the next step combines earlier ones: up to 17 numbers that depend on all parties' gradients"

    coefficients: FloatArray
    sizes: IntArray
    keep: IntArray
    restart: IntArray
    done: bool

    def __post_init__(self) -> None:
        require(
            self.coefficients.ndim == 1 and bool(np.all(np.isfinite(self.coefficients))),
            "a list of finite coefficients",
        )
        require(
            is_list(self.sizes, self.keep, self.restart)
            and len(self.sizes) > 0
            and are_sizes(self.sizes, len(self.coefficients))
            and bool(np.all(np.isin(np.append(self.keep, self.restart), (0, 1)))),
            "a number of coefficients and two flags for each output",
        )

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Step:
        """Tell the plans of all outputs."""
        return cls(
            np.array([one for plan in plans for one in plan.coefficients], dtype=np.float64),
            np.array([len(plan.coefficients) for plan in plans], dtype=np.int64),
            np.array([plan.keep for plan in plans], dtype=np.int64),
            np.array([plan.restart for plan in plans], dtype=np.int64),
            all(plan.done for plan in plans),
        )

    def plans(self) -> list[Plan]:
        """Return the plan of each output."""
        coefficients = np.split(self.coefficients, np.cumsum(self.sizes)[:-1])
        flags = zip(self.keep.tolist(), self.restart.tolist(), strict=True)
        return [
            Plan(tuple(own.tolist()), bool(keep), bool(restart), self.done)
            for own, (keep, restart) in zip(coefficients, flags, strict=True)
        ]


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
