"""A label party that deviates: it asks for scores and declares that none come of them.

A request for pairs named n users and declared [n, 0] logits: those asked counted nothing, and under ``open`` sent what
they contribute to each of the n. Measured: 520 answered under a limit of 10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import msgpack
import numpy as np
import pytest

from protocol.errors import GuardError, RemoteProtocolError
from protocol.messages.scoring import ScoreRequest
from protocol.numbers import IntArray
from protocol.scoring import LogitCount
from protocol.transport.codec import decode

LIMIT = 10
REQUESTS = 60_000


@dataclass
class WeakerCount:
    """As it was: what a request declares, whoever it names."""

    limit: int
    asked: int = 0
    answered: int = field(default=0)

    def add(self, logits: IntArray, entities: int) -> None:
        self.asked += math.prod(logits.tolist())
        if self.asked > self.limit:
            raise GuardError("beyond the limit")
        self.answered += entities


def test_a_count_of_what_is_declared_lets_everything_pass() -> None:
    count = WeakerCount(LIMIT)
    for _ in range(REQUESTS // 20):
        count.add(np.array([20, 0]), 20)
    assert count.answered == REQUESTS


def test_ours_stops_at_the_limit_whatever_is_declared() -> None:
    count, answered = LogitCount("bank", LIMIT), list[int]()

    def ask() -> None:
        for number in range(REQUESTS):
            count.add(np.array([1, 0]), 1)
            answered.append(number)

    with pytest.raises(GuardError, match=r"bank was asked for 11 joint logits, but .* = 10"):
        ask()
    assert len(answered) == LIMIT


def test_such_a_request_is_not_even_read() -> None:
    def request(*logits: int) -> bytes:
        entities = [[3], np.arange(3).tobytes()]
        declared = [[len(logits)], np.array(logits).tobytes()]
        return bytes(msgpack.packb([entities, declared]))

    assert len(decode(ScoreRequest, request(3)).entities) == 3
    assert len(decode(ScoreRequest, request(3, 5)).entities) == 3
    for logits in ((0,), (3, 0), (0, 3), (2,), (2, 2), (-3, -3), (1 << 62, -1)):
        with pytest.raises(RemoteProtocolError, match="malformed"):
            decode(ScoreRequest, request(*logits))
