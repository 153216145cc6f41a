"""What every message is made of: roles, the kinds of fields, and who may say it to whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

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


def is_list(*arrays: IntArray) -> bool:
    """Whether each is a list of numbers, all of the same length."""
    return all(array.ndim == 1 for array in arrays) and len({len(array) for array in arrays}) == 1


def are_sizes(sizes: IntArray, total: int) -> bool:
    """Whether a list's numbers are sizes of parts that make up a whole."""
    # Each is compared first: a sum of numbers near 2^63 could come round.
    return bool(np.all((sizes >= 0) & (sizes <= total))) and int(sizes.sum()) == total


def require(fulfilled: bool, expected: str) -> None:
    """Raise RemoteProtocolError unless what a message holds is as expected."""
    if not fulfilled:
        raise RemoteProtocolError(f"a message is malformed: expected {expected}")
