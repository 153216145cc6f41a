"""Joint prediction: which rows, and the logits of them (protocol/scoring.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocol.messages.message import Message, Role, is_list, require
from protocol.numbers import IntArray, Words


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
        require(
            is_list(self.entities)
            and len(self.entities) <= int(self.logits.max())
            and (not len(self.entities) or int(self.logits.min()) > 0),
            "no more entities than rows that refer to them, and as many logits",
        )


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


def _require_logits(logits: IntArray) -> None:
    require(
        is_list(logits) and len(logits) in (1, 2) and bool(np.all(logits >= 0)),
        "one or two numbers of logits",
    )
