"""The cost ledger: what one party computed, sent and waited for, by phase.

Cryptographic code calls :func:`count` and never sees a ledger: the running role's own one is found
through a context variable, so that several parties in one process are charged apart.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_current: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@dataclass(frozen=True)
class MessageRecord:
    """One message as a transcript shows it: who, what kind, how large; never its contents.

    ``time`` is in nanoseconds of a monotonic clock, ``size`` in bytes of the whole envelope.
    """

    time: int
    phase: str
    sender: str
    receiver: str
    kind: str
    size: int
    sealed: bool
    discloses: str


@dataclass
class Ledger:
    """One party's counts; keys are ``(phase, quantity)``."""

    party: str
    phase: str = "setup"
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    sent: list[MessageRecord] = field(default_factory=list)
    _since: float | None = field(default=None, repr=False)

    def add(self, quantity: str, number: int) -> None:
        """Charge ``number`` of ``quantity`` to the present phase."""
        self.counts[self.phase, quantity] += number

    def record_sent(self, record: MessageRecord, ciphertexts: int) -> None:
        """Enter one outgoing message."""
        self.sent.append(record)
        self.add("messages sent", 1)
        self.add("bytes sent", record.size)
        self.add("ciphertexts sent", ciphertexts)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Charge everything inside to ``phase``."""
        outer = self.phase
        self._enter(phase)
        try:
            yield
        finally:
            self._enter(outer)

    def _enter(self, phase: str) -> None:
        self.clock(running=self._since is not None)
        self.phase = phase

    def clock(self, *, running: bool) -> None:
        """Charge the seconds since the clock was started, and let it go on or stand still."""
        now = time.perf_counter()
        if self._since is not None:
            self.seconds[self.phase] += now - self._since
        self._since = now if running else None

    def total(self, quantity: str) -> int:
        """Return how much of a quantity all phases have."""
        return sum(number for (_, counted), number in self.counts.items() if counted == quantity)

    def rows(self) -> list[tuple[str, str, str, float]]:
        """Return (party, phase, quantity, number) for every count, seconds included."""
        counted = [(self.party, *key, float(number)) for key, number in self.counts.items()]
        timed = [(self.party, phase, "seconds", number) for phase, number in self.seconds.items()]
        return sorted(row for row in [*counted, *timed] if row[3])


def count(quantity: str, number: int) -> None:
    """Charge an operation to whichever party is running; outside of a run this does nothing."""
    ledger = _current.get()
    if ledger is not None:
        ledger.add(quantity, number)


def apart(
    work: Callable[..., Result], *arguments: object
) -> tuple[Result, Counter[tuple[str, str]]]:
    """Do work on another core, where no role runs; return what was counted beside the result."""
    ledger = Ledger("")
    token = _current.set(ledger)
    try:
        return work(*arguments), ledger.counts
    finally:
        _current.reset(token)


def merge(counts: Counter[tuple[str, str]]) -> None:
    """Charge the running party for what was counted apart."""
    for (_, quantity), number in counts.items():
        count(quantity, number)


@coroutine
def metered(work: Coroutine[Any, Any, Result], ledger: Ledger) -> Generator[Any, Any, Result]:
    """Run a role, charging its ledger for the seconds it computes and none that it waits."""
    _current.set(ledger)
    to_send: object = None
    to_throw: BaseException | None = None
    while True:
        ledger.clock(running=True)
        try:
            awaited = work.send(to_send) if to_throw is None else work.throw(to_throw)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        finally:
            ledger.clock(running=False)
        try:
            to_send, to_throw = (yield awaited), None
        except BaseException as error:  # noqa: BLE001 - handed on to the role, cancellation included
            to_throw = error
