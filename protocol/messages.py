"""Every message of the system: who sends it to whom, its fields, and what its receiver learns.

Read in order, this page is the conversation:

====================  =====================  ===========================================  ===================
phase                 message                from -> to                                   disclosure
====================  =====================  ===========================================  ===================
setup                 PublicKeyAnnouncement  coordinator -> data parties                  shared, open
alignment             IdKindAnnouncement     label <-> feature parties (sealed)           all
alignment             BlindingKey            label -> feature parties (sealed)            all
alignment             PartlyBlindedIds       data parties -> data parties (sealed)        all
alignment             BlindedIds             data parties -> coordinator                  all
alignment             SharedPositions        coordinator -> data parties                  all
training              BatchPlan              label -> feature parties (sealed)            all
training              KeptEpochs             feature parties -> label (sealed)            all
training              TrainingStart          label -> feature parties (sealed)            all
training              ColumnScale            feature parties -> label (sealed)            open
training              Schedule               label -> coordinator                         all
training              SigmoidSeries          label -> coordinator, dealer                 shared
training              SamplePositions        label -> coordinator                         shared
each round            PartialLogits          feature parties -> label (sealed)            open, none
each round            ContributionSeed       feature parties -> label (sealed)            shared
each round            ContributionShare      feature parties -> coordinator               shared
each round            DealtSeed              dealer -> label (sealed)                     shared
each round            DealtShare             dealer -> coordinator                        shared
each round            Opening                label <-> coordinator                        shared
each round            EncryptedShares        coordinator -> label                         shared
each round            EncryptedResiduals     label -> feature parties (sealed)            shared, open
each round            PlainResiduals         label -> feature parties (sealed)            none
each round            MaskedGradients        data parties -> coordinator                  shared, open
each round            OpenedGradients        coordinator -> data parties                  shared, open
each round            RoundCheck             feature parties -> label (sealed)            shared
each round            RoundEnd               label -> everyone                            shared
each epoch            BrierShare             coordinator -> label                         shared
each epoch            EpochEnd               label -> everyone                            all
scoring               ScoreRequest           label -> feature parties (sealed)            all
scoring               ScoreSchedule          label -> coordinator                         shared
scoring               LogitShare             coordinator -> label                         shared
====================  =====================  ===========================================  ===================

Scoring and the validation at the end of an epoch take the messages of a forward pass. What goes between two data
parties is sealed end to end: the coordinator, who relays it, cannot read it.
``BlindingKey`` belongs to the alignment method ``keyed-hash``, ``PartlyBlindedIds`` to ``ecdh``; psi/submission.py has
both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from parties.dataset import IdKind
from protocol.errors import RemoteProtocolError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Words = NDArray[np.uint64]  # integers modulo 2^64


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
    """Base of all messages: who sends one to whom, under which disclosures, and what the receiver learns."""

    senders: ClassVar[frozenset[Role]]
    receivers: ClassVar[frozenset[Role]]
    discloses: ClassVar[str]
    under: ClassVar[tuple[str, ...]] = ("shared", "open", "none")


@dataclass(frozen=True, eq=False)
class PublicKeyAnnouncement(Message):
    """The modulus n of the coordinator's Paillier key, little-endian."""

    senders = frozenset({Role.COORDINATOR})
    receivers = DATA_ROLES
    under = ("shared", "open")
    discloses = "the public key"

    modulus: bytes


@dataclass(frozen=True, eq=False)
class IdKindAnnouncement(Message):
    """Whether the sender's ids of an entity type are numbers or text, so that 7 and '007' are not taken for two ids."""

    senders = DATA_ROLES
    receivers = DATA_ROLES
    discloses = "whether the sender's ids of this type are all whole numbers"

    entity: str
    kind: str

    def __post_init__(self) -> None:
        _require(self.kind in list(IdKind), "a kind of id")


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
class PartlyBlindedIds(Message):
    """A part of one party's distinct ids as elements of ristretto255, 32 bytes each, raised to some parties' secrets.

    ``remaining`` elements follow in further messages. All sets go round all parties of a group, their owner first.
    """

    senders = DATA_ROLES
    receivers = DATA_ROLES
    discloses = "how many ids the set has; its elements are raised to a secret of its owner, so no id can be tried"

    elements: bytes
    remaining: int

    def __post_init__(self) -> None:
        _require_part(len(self.elements), 32, self.remaining)

    def __len__(self) -> int:
        return len(self.elements) // 32


@dataclass(frozen=True, eq=False)
class BlindedIds(Message):
    """A part of one party's distinct ids, 16 bytes each, in an order drawn at random.

    Keyed hashes, or elements that every party has raised to its secret. ``remaining`` digests follow in further
    messages.
    """

    senders = DATA_ROLES
    receivers = frozenset({Role.COORDINATOR})
    discloses = (
        "how many ids each party has, and which of them others have too, without knowing any id"
    )

    digests: bytes
    remaining: int

    def __post_init__(self) -> None:
        _require_part(len(self.digests), 16, self.remaining)

    def __len__(self) -> int:
        return len(self.digests) // 16


@dataclass(frozen=True, eq=False)
class SharedPositions(Message):
    """Positions, in the list that this party brought, of the shared ids in the agreed order; a part of them.

    ``remaining`` positions follow in further messages.
    """

    senders = frozenset({Role.COORDINATOR})
    receivers = DATA_ROLES
    discloses = "which of its own ids every party has"

    positions: IntArray
    remaining: int

    def __post_init__(self) -> None:
        _require(self.positions.ndim == 1, "a list of positions")
        _require_part(len(self.positions), 1, self.remaining)

    def __len__(self) -> int:
        return len(self.positions)


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
        _require(
            len(self.sizes) == len(self.samples) > 1
            and bool(np.all(self.sizes >= 0))
            and bool(np.all(self.samples >= self.sizes))
            and int(self.sizes.sum()) == len(self.entities),
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
        _require(len(self.training) in (0, 16), "the 16 bytes that name a training, or none")


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
        _require(len(self.training) == 16, "the 16 bytes that name a training")
        _require(self.done >= 0 and self.epochs >= 0, "numbers of epochs")


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
        _require(
            self.rounds > 0 and self.epochs >= 0, "at least one round, and no fewer than no epochs"
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
        _require(
            0 < self.period <= 1 << 16
            and self.period & (self.period - 1) == 0
            and self.coefficients.ndim == 1
            and 0 < len(self.coefficients) <= 1 << 12
            and bool(np.all(np.abs(self.coefficients) < 1 << 24)),
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
        _require(
            len(self.samples) == len(self.entities) > 0
            and bool(np.all(self.samples >= 0))
            and bool(np.all(self.entities >= 0))
            and int(self.samples.sum()) == len(self.positions)
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
        _require(
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


@dataclass(frozen=True, eq=False)
class ScoreRequest(Message):
    """Aligned rows of the receiver that the label party wants scored (test, prediction, lists).

    ``logits`` is how many joint logits that makes: ``[n]`` for samples, ``[n_users, n_items]`` for all pairs.
    """

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = "which of its shared entities are being scored, and in how many rows"

    entities: IntArray
    logits: IntArray

    def __post_init__(self) -> None:
        _require_logits(self.logits)


@dataclass(frozen=True, eq=False)
class ScoreSchedule(Message):
    """How many joint logits the label party asks for: ``[n]`` of samples, ``[n_users, n_items]`` of all pairs."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.COORDINATOR})
    under = ("shared",)
    discloses = "how many rows are scored"

    logits: IntArray

    def __post_init__(self) -> None:
        _require_logits(self.logits)


@dataclass(frozen=True, eq=False)
class LogitShare(Message):
    """The coordinator's share of twice the joint logit of each row asked for (n,) or pair (n_users, n_items)."""

    senders = frozenset({Role.COORDINATOR})
    receivers = frozenset({Role.LABEL})
    under = ("shared",)
    discloses = (
        "the joint logit of each row it scores, from which, over a few rows about one entity, it can solve for what "
        "the others contributed to that entity"
    )

    values: Words


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
    rows = [
        "| message | from | to | disclosure | what the receiver learns |",
        "|---|---|---|---|---|",
    ]
    for name, kind in MESSAGES.items():
        senders, receivers = (", ".join(sorted(roles)) for roles in (kind.senders, kind.receivers))
        under = "all" if len(kind.under) == 3 else ", ".join(kind.under)
        rows.append(f"| {name} | {senders} | {receivers} | {under} | {kind.discloses} |")
    return "\n".join(rows)


def _require_logits(logits: IntArray) -> None:
    _require(len(logits) in (1, 2) and bool(np.all(logits >= 0)), "one or two numbers of logits")


def _require_seed(seed: bytes) -> None:
    _require(len(seed) == 32, "a seed of 32 bytes")


def _require_part(size: int, width: int, remaining: int) -> None:
    """A list that travels in parts must come to an end: a part is empty only if it is the last."""
    _require(
        size % width == 0 and remaining >= 0 and (size > 0 or remaining == 0),
        f"a part of a list, {width} units an entry, and how many entries remain",
    )


def _require(fulfilled: bool, expected: str) -> None:
    if not fulfilled:
        raise RemoteProtocolError(f"a message is malformed: expected {expected}")
