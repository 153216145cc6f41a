"""How the parties find the entities they share (psi/)."""

from __future__ import annotations

from dataclasses import dataclass

from parties.dataset import IdKind
from protocol.messages.message import DATA_ROLES, Message, Role, require
from protocol.numbers import IntArray


@dataclass(frozen=True, eq=False)
class IdKindAnnouncement(Message):
    """Whether the sender's ids of an entity type are numbers or text, so that 7 and '007' are not taken for two ids."""

    senders = DATA_ROLES
    receivers = DATA_ROLES
    discloses = "whether the sender's ids of this type are all whole numbers"

    entity: str
    kind: str

    def __post_init__(self) -> None:
        require(self.kind in list(IdKind), "a kind of id")


@dataclass(frozen=True, eq=False)
class BlindingKey(Message):
    """The key under which this run's ids are hashed; drawn by the label party, 32 bytes."""

    senders = frozenset({Role.LABEL})
    receivers = frozenset({Role.FEATURE})
    discloses = "a random key; with the coordinator's help it could try ids"

    entity: str
    key: bytes

    def __post_init__(self) -> None:
        require(len(self.key) == 32, "a blinding key of 32 bytes")


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
        require(self.positions.ndim == 1, "a list of positions")
        _require_part(len(self.positions), 1, self.remaining)

    def __len__(self) -> int:
        return len(self.positions)


def _require_part(size: int, width: int, remaining: int) -> None:
    """A list that travels in parts must come to an end: a part is empty only if it is the last."""
    require(
        size % width == 0 and remaining >= 0 and (size > 0 or remaining == 0),
        f"a part of a list, {width} units an entry, and how many entries remain",
    )
