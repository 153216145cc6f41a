"""Every message of the system: who sends it to whom, its fields, and what its receiver learns.

Read in order, this page is the conversation:

====================  =====================  ==========================================
phase                 message                from -> to
====================  =====================  ==========================================
setup                 PublicKeyAnnouncement  coordinator -> data parties
alignment             BlindingKey            label -> feature parties        (sealed)
alignment             BlindedIds             data parties -> coordinator
alignment             SharedPositions        coordinator -> data parties
training              BatchPlan              label -> feature parties        (sealed)
training              ColumnScale            feature parties -> label        (sealed)
training              Schedule               label -> coordinator
each round            PartialLogits          feature parties -> label        (sealed)
each round            EncryptedResiduals     label -> feature parties        (sealed)
each round            MaskedGradients        feature parties -> coordinator
each round            OpenedGradients        coordinator -> feature parties
each epoch            ScoreRequest           label -> feature parties        (sealed)
each epoch            EpochEnd               label -> everyone
====================  =====================  ==========================================

``PlainResiduals`` takes the place of the three encrypted messages under ``disclosure = "none"``.
What goes between two data parties is sealed end to end: the coordinator, who relays it, cannot read
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from protocol.errors import RemoteProtocolError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Role(StrEnum):
    """Who takes part."""

    COORDINATOR = "coordinator"
    LABEL = "label"
    FEATURE = "feature"


DATA_ROLES = frozenset({Role.LABEL, Role.FEATURE})


@dataclass(frozen=True)
class Ciphertexts:
    """Paillier ciphertexts as they travel: ``width`` bytes each, little-endian, one after another."""

    width: int
    data: bytes

    def __len__(self) -> int:
        return len(self.data) // self.width


@dataclass(frozen=True)
class Residues:
    """Integers modulo n as they travel: ``width`` bytes each, little-endian, one after another."""

    width: int
    data: bytes

    def __len__(self) -> int:
        return len(self.data) // self.width

    @classmethod
    def of(cls, integers: list[int], width: int) -> Residues:
        """Write down non-negative integers of at most ``width`` bytes."""
        return cls(width, b"".join(integer.to_bytes(width, "little") for integer in integers))

    def integers(self) -> list[int]:
        """Return the integers."""
        return [
            int.from_bytes(self.data[start : start + self.width], "little")
            for start in range(0, len(self.data), self.width)
        ]


@dataclass(frozen=True, eq=False)
class Message:
    """Base of all messages; a class names its sending and receiving roles and what the receiver learns."""

    senders: ClassVar[frozenset[Role]]
    receivers: ClassVar[frozenset[Role]]
    discloses: ClassVar[str]


@dataclass(frozen=True, eq=False)
class PublicKeyAnnouncement(Message):
    """The modulus n of the coordinator's Paillier key, little-endian."""

    senders = frozenset({Role.COORDINATOR})
    receivers = DATA_ROLES
    discloses = "the public key"

    modulus: bytes


@dataclass(frozen=True, eq=False)
class BlindingKey(Message):
    """The key under which this run's ids are hashed; drawn by the label party, 32 bytes."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = "a random key; with the coordinator's help it could try ids"

    entity: str
    key: bytes

    def __post_init__(self) -> None:
        _require(len(self.key) == 32, "a blinding key of 32 bytes")


@dataclass(frozen=True, eq=False)
class BlindedIds(Message):
    """Keyed hashes of one party's distinct ids, 16 bytes each, in an order drawn at random."""

    senders = DATA_ROLES
    receivers = frozenset({Role.COORDINATOR})
    discloses = (
        "how many ids the party has, and which of them others have too, without knowing any id"
    )

    entity: str
    digests: bytes

    def __post_init__(self) -> None:
        _require(len(self.digests) % 16 == 0, "digests of 16 bytes each")


@dataclass(frozen=True, eq=False)
class SharedPositions(Message):
    """Positions, in the list that this party sent, of the shared ids in the agreed order."""

    senders = frozenset({Role.COORDINATOR})
    receivers = DATA_ROLES
    discloses = "which of its own ids every party has"

    positions: IntArray


@dataclass(frozen=True, eq=False)
class BatchPlan(Message):
    """Which aligned rows of the receiver stand in each batch, the same in every epoch.

    ``entities`` runs through all batches, ``sizes`` says how many belong to each, ``samples`` how
    many of the label party's rows each batch has (the divisor of its mean).
    """

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = (
        "which of its shared entities are in which training batch, and each batch's row count"
    )

    entities: IntArray
    sizes: IntArray
    samples: IntArray

    def __post_init__(self) -> None:
        _require(
            len(self.sizes) == len(self.samples) > 0
            and bool(np.all(self.sizes >= 0))
            and bool(np.all(self.samples >= self.sizes))
            and int(self.sizes.sum()) == len(self.entities),
            "batches whose sizes add up to the entities listed",
        )

    def batches(self) -> list[IntArray]:
        """Return the entities of each batch."""
        return np.split(self.entities, np.cumsum(self.sizes)[:-1])


@dataclass(frozen=True, eq=False)
class ColumnScale(Message):
    """Whether any of the sender's columns is other than 0/1: how wide the slots towards it must be."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.LABEL})
    discloses = "whether the sender has any column that is not 0/1"

    scaled: bool


@dataclass(frozen=True, eq=False)
class Schedule(Message):
    """How many rounds an epoch has, and epochs at most."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.COORDINATOR})
    discloses = "the number of batches and epochs"

    rounds: int
    epochs: int

    def __post_init__(self) -> None:
        _require(self.rounds > 0 and self.epochs > 0, "at least one round and one epoch")


@dataclass(frozen=True, eq=False)
class PartialLogits(Message):
    """The sender's partial logits (n,) and latent sums (n, k) for the entities asked for, in their order."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.LABEL})
    discloses = (
        "the sender's partial logit and latent sums of each entity, from which, over many rounds, the label party can "
        "reconstruct the Gram matrix of the sender's rows (disclosure 'open' and 'none')"
    )

    values: FloatArray
    latent_sums: FloatArray

    def __post_init__(self) -> None:
        _require(
            self.values.ndim == 1
            and self.latent_sums.shape[:1] == self.values.shape
            and self.latent_sums.ndim == 2
            and bool(np.all(np.isfinite(self.values)))
            and bool(np.all(np.isfinite(self.latent_sums))),
            "finite partial logits and latent sums, one row an entity",
        )


@dataclass(frozen=True, eq=False)
class EncryptedResiduals(Message):
    """Fixed-point residuals and their products with latent sums, added up by entity, under the coordinator's key.

    ``alone`` carries the residuals once more by themselves, where the receiver needs them (protocol/gradients.py).
    """

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = "nothing without the private key"

    values: Ciphertexts
    alone: Ciphertexts


@dataclass(frozen=True, eq=False)
class PlainResiduals(Message):
    """Fixed-point residuals and products (n_entities, 1 + k) in the clear: only under ``disclosure = "none"``."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = "every residual, so every label (disclosure 'none' only: no cryptography at all)"

    values: IntArray


@dataclass(frozen=True, eq=False)
class MaskedGradients(Message):
    """The sender's packed gradient entries under encryption, each plus a uniform mask, randomised at full size."""

    senders = frozenset({Role.FEATURE})
    receivers = frozenset({Role.COORDINATOR})
    discloses = "uniform integers modulo n, and how many"

    values: Ciphertexts


@dataclass(frozen=True, eq=False)
class OpenedGradients(Message):
    """What the coordinator decrypted: gradient plus mask, modulo n."""

    senders = frozenset({Role.COORDINATOR})
    receivers = frozenset({Role.FEATURE})
    discloses = "its own exact gradient of this batch, once it takes its mask off"

    values: Residues


@dataclass(frozen=True, eq=False)
class ScoreRequest(Message):
    """Aligned rows of the receiver whose partial logits the label party asks for (validation, test, prediction)."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = "which of its shared entities are being scored"

    entities: IntArray


@dataclass(frozen=True, eq=False)
class EpochEnd(Message):
    """Whether this epoch's model is the best so far, and whether another epoch follows."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.COORDINATOR, Role.FEATURE})
    discloses = "whether the validation loss improved"

    best: bool
    proceed: bool


MESSAGES: dict[str, type[Message]] = {cls.__name__: cls for cls in Message.__subclasses__()}


def disclosure_table() -> str:
    """Return who learns what from which message as a Markdown table; docs/security.md shows it."""
    rows = ["| message | from | to | what the receiver learns |", "|---|---|---|---|"]
    for name, kind in MESSAGES.items():
        senders, receivers = (", ".join(sorted(roles)) for roles in (kind.senders, kind.receivers))
        rows.append(f"| {name} | {senders} | {receivers} | {kind.discloses} |")
    return "\n".join(rows)


def _require(fulfilled: bool, expected: str) -> None:
    if not fulfilled:
        raise RemoteProtocolError(f"a message is malformed: expected {expected}")
