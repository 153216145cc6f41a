"""What every message is made of: roles, the kinds of fields, and who may say it to whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np

from protocol.errors import RemoteProtocolError
from protocol.numbers import IntArray


class Role(StrEnum):
    """Who takes part."""

    COORDINATOR = "coordinator"
    LABEL = "label"
    FEATURE = "feature"


DATA_ROLES = frozenset({Role.LABEL, Role.FEATURE})


@dataclass(frozen=True, eq=False)
class Message:
    """Base of all messages: who sends one to whom, under which disclosures, and what the receiver learns."""

    senders: ClassVar[frozenset[Role]]
    receivers: ClassVar[frozenset[Role]]
    discloses: ClassVar[str]
    under: ClassVar[tuple[str, ...]] = ("shared", "open", "none")
    sealed: ClassVar[bool] = True  # between two data parties


def is_list(*arrays: IntArray) -> bool:
    """Whether each is a list of numbers, all of the same length."""
    return all(array.ndim == 1 for array in arrays) and len({len(array) for array in arrays}) == 1


def are_sizes(sizes: IntArray, total: int) -> bool:
    """Whether a list's numbers are sizes of parts that make up a whole."""
    # Each is compared first: a sum of numbers near 2^63 could come round.
    return bool(np.all((sizes >= 0) & (sizes <= total))) and int(sizes.sum()) == total


def require(fulfilled: bool, expected: str) -> None:
    """Raise RemoteProtocolError unless what a message holds is as expected; the channel adds whose message it was."""
    if not fulfilled:
        raise RemoteProtocolError(f"malformed: expected {expected}")
