"""What is said before a training, in every round of it, and at the end of an epoch (protocol/training.py).

What a round needs of logits is in protocol/messages/forward.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocol.messages.message import (
    DATA_ROLES,
    Ciphertexts,
    IntArray,
    Message,
    Residues,
    Role,
    Words,
    are_sizes,
    is_list,
    require,
)


@dataclass(frozen=True, eq=False)
class PublicKeyAnnouncement(Message):
    """The modulus n of the coordinator's Paillier key, little-endian."""

    senders = frozenset({Role.COORDINATOR})
    receivers = DATA_ROLES
    under = ("shared", "open")
    discloses = "the public key"

    modulus: bytes


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
            and bool(np.all(self.samples >= self.sizes)),
            "batches whose sizes add up to the entities listed",
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
class ColumnScale(Message):
    """Whether any of the sender's columns is other than 0/1: how wide the slots towards it must be."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.LABEL})
    under = ("open",)
    discloses = "whether the sender has any column that is not 0/1"

    scaled: bool


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

    ``alone`` carries the residuals once more by themselves, where the receiver needs them (protocol/gradients.py).
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
