"""What is said before a training, in every round of it, and at the end of an epoch (protocol/training/roles.py).

What a round needs of logits is in protocol/messages/forward.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.messages.message import DATA_ROLES, Message, Role, require
from protocol.numbers import Ciphertexts, IntArray, Residues, Words


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
