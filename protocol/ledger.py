"""The cost ledger: what one party computed, sent and waited for, by phase and by round.

Cryptographic code calls :func:`operation` or :func:`count` and never sees a ledger: the running role's own one is
found through a context variable, so that several parties in one process are charged apart.

Seconds are of three kinds. ``seconds`` of computing pass on the wall while the role runs, ``cpu seconds`` are those of
all cores it kept busy meanwhile, and ``waiting seconds`` pass while it waits for a message: in one process that is when
the others compute. ``scenarios.benches.ledger`` shows what measuring itself costs.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import sub
from types import coroutine
from typing import Any, ClassVar, TypeVar

Result = TypeVar("Result")

_STATUS = "/proc/self/status"
_HAS_STATUS = os.path.exists(_STATUS)
_SECONDS = ("seconds", "cpu seconds", "waiting seconds")
_OF_OPERATIONS = "cpu seconds of "
_PEAK = "peak memory"

_current: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@dataclass(frozen=True)
class MessageRecord:
    """One message as a transcript shows it: who, what kind, how large; never its contents.

    ``time`` is in nanoseconds of a monotonic clock, ``size`` in bytes of the whole envelope, ``round`` the number of
    the sender's round of training, None outside of one.
    """

    time: int
    phase: str
    sender: str
    receiver: str
    kind: str
    size: int
    sealed: bool
    discloses: str
    ciphertexts: int = 0
    round: int | None = None
    messages: ClassVar[int] = 1


@dataclass(frozen=True)
class RoundRecord:
    """What one round cost a party, by quantity; seconds among them."""

    phase: str
    number: int
    amounts: dict[str, float]


@dataclass
class Receipts:
    """All messages of one kind that came from one sender in one phase; ``size`` in bytes of them together.

    ``time`` is when the first one came, in nanoseconds of a monotonic clock.
    """

    time: int
    phase: str
    sender: str
    receiver: str
    kind: str
    sealed: bool
    discloses: str
    messages: int = 0
    size: int = 0


@dataclass
class Ledger:
    """One party's counts and seconds; keys of ``counts`` and ``operation_seconds`` are ``(phase, quantity)``.

    ``operation_seconds`` are CPU seconds of each kind of operation. ``peak_memory`` is the most memory, in bytes, that
    the party's process had held by the end of each phase, whoever shares that process.
    """

    party: str
    phase: str = "setup"
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    waiting_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    operation_seconds: defaultdict[tuple[str, str], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    peak_memory: dict[str, int] = field(default_factory=dict)
    sent: list[MessageRecord] = field(default_factory=list)
    received: dict[tuple[str, str, str], Receipts] = field(default_factory=dict)
    rounds: list[RoundRecord] = field(default_factory=list)
    round: int | None = None
    _helpers_cpu: float = field(default=0.0, repr=False)
    _running: tuple[float, float] | None = field(default=None, repr=False)
    _stood_still: float | None = field(default=None, repr=False)

    def add(self, quantity: str, number: int) -> None:
        """Charge ``number`` of ``quantity`` to the present phase."""
        self.counts[self.phase, quantity] += number

    def add_helper_seconds(self, seconds: float) -> None:
        """Charge CPU seconds that another process spent for this party."""
        self._helpers_cpu += seconds

    @contextmanager
    def operation(self, kind: str, number: int) -> Iterator[None]:
        """Charge ``number`` operations of a kind, and the CPU seconds spent inside to that kind."""
        self.add(kind, number)
        started = self._cpu_now()
        try:
            yield
        finally:
            self.operation_seconds[self.phase, kind] += self._cpu_now() - started

    def record_sent(self, record: MessageRecord) -> None:
        """Enter one outgoing message."""
        self.sent.append(record)
        self.add("messages sent", 1)
        self.add("bytes sent", record.size)
        self.add("ciphertexts sent", record.ciphertexts)

    def record_received(
        self, sender: str, kind: str, size: int, *, sealed: bool, discloses: str
    ) -> None:
        """Enter one incoming message, which is another party's to pay for: folded, for its sender has the whole."""
        key = self.phase, sender, kind
        if key not in self.received:
            self.received[key] = Receipts(
                time.monotonic_ns(), self.phase, sender, self.party, kind, sealed, discloses
            )
        self.received[key].messages += 1
        self.received[key].size += size

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
        self.clock(running=self._running is not None)
        self.peak_memory[self.phase] = peak_memory()
        self.phase = phase

    @contextmanager
    def during_round(self) -> Iterator[None]:
        """Keep beside the phase's totals what is charged inside, as that of the next round."""
        self.round, seconds = len(self.rounds), self._seconds()
        counts, operations = dict(self.counts), dict(self.operation_seconds)
        try:
            yield
        finally:
            spent: dict[str, float] = {
                key[1]: number - counts.get(key, 0)
                for key, number in self.counts.items()
                if number != counts.get(key)
            }
            for key, taken in self.operation_seconds.items():
                if taken != operations.get(key):
                    spent[_OF_OPERATIONS + key[1]] = taken - operations.get(key, 0.0)
            spent.update(zip(_SECONDS, map(sub, self._seconds(), seconds), strict=True))
            self.rounds.append(RoundRecord(self.phase, self.round, spent))
            self.round = None

    def _seconds(self) -> tuple[float, float, float]:
        """Return the present phase's seconds of each kind, up to now."""
        self.clock(running=self._running is not None)
        phase = self.phase
        return self.seconds[phase], self.cpu_seconds[phase], self.waiting_seconds[phase]

    def clock(self, *, running: bool) -> None:
        """Charge the seconds since the clock was last set, and let it go on or stand still."""
        now, cpu = time.perf_counter(), self._cpu_now()
        if self._running is not None:
            self.seconds[self.phase] += now - self._running[0]
            self.cpu_seconds[self.phase] += cpu - self._running[1]
        elif self._stood_still is not None and running:
            self.waiting_seconds[self.phase] += now - self._stood_still
        self._running, self._stood_still = ((now, cpu), None) if running else (None, now)

    def _cpu_now(self) -> float:
        return time.process_time() + self._helpers_cpu

    def total(self, quantity: str) -> int:
        """Return how much of a quantity all phases have."""
        return sum(number for (_, counted), number in self.counts.items() if counted == quantity)

    def _totals(self) -> Iterator[tuple[str, str, float]]:
        """Give (phase, quantity, number) for every count and all seconds."""
        for (phase, quantity), number in self.counts.items():
            yield phase, quantity, float(number)
        for (phase, kind), seconds in self.operation_seconds.items():
            yield phase, _OF_OPERATIONS + kind, seconds
        for name in _SECONDS:
            by_phase: Mapping[str, float] = getattr(self, name.replace(" ", "_"))
            for phase, seconds in by_phase.items():
                yield phase, name, seconds

    def rows(self) -> list[tuple[str, str, str, float]]:
        """Return (party, phase, quantity, number) for every count, all seconds, and the peak memory in bytes."""
        peaks = ((phase, _PEAK, float(peak)) for phase, peak in self.peak_memory.items())
        rows = [(self.party, *row) for row in (*self._totals(), *peaks)]
        return sorted(row for row in rows if row[3])

    def enter_row(self, phase: str, quantity: str, number: float) -> None:
        """Enter what :meth:`rows` has given."""
        kind = quantity.removeprefix(_OF_OPERATIONS)
        if quantity == _PEAK:
            self.peak_memory[phase] = round(number)
        elif quantity in _SECONDS:
            getattr(self, quantity.replace(" ", "_"))[phase] = number
        elif kind != quantity:
            self.operation_seconds[phase, kind] = number
        else:
            self.counts[phase, quantity] = round(number)

    def round_rows(self) -> list[tuple[str, str, int, str, float]]:
        """Return (party, phase, round, quantity, number) for every round."""
        return [
            (self.party, record.phase, record.number, quantity, number)
            for record in self.rounds
            for quantity, number in sorted(record.amounts.items())
            if number
        ]

    def enter_round_row(self, phase: str, number: int, quantity: str, amount: float) -> None:
        """Enter what :meth:`round_rows` has given, in its order."""
        if number == len(self.rounds):
            self.rounds.append(RoundRecord(phase, number, {}))
        self.rounds[number].amounts[quantity] = amount

    def link_rows(self) -> list[tuple[str, str, str, int, int, int]]:
        """Return (sender, receiver, phase, messages, bytes, ciphertexts) for everyone that was sent something."""
        links = defaultdict[tuple[str, str], list[MessageRecord]](list)
        for record in self.sent:
            links[record.receiver, record.phase].append(record)
        return [
            (
                self.party,
                receiver,
                phase,
                len(records),
                sum(record.size for record in records),
                sum(record.ciphertexts for record in records),
            )
            for (receiver, phase), records in sorted(links.items())
        ]


def count(quantity: str, number: int) -> None:
    """Charge something countable to whichever party is running; outside of a run this does nothing."""
    ledger = _current.get()
    if ledger is not None:
        ledger.add(quantity, number)


def operation(kind: str, number: int) -> AbstractContextManager[None]:
    """Charge operations, and the CPU seconds spent inside, to whichever party is running."""
    ledger = _current.get()
    return nullcontext() if ledger is None else ledger.operation(kind, number)


@dataclass(frozen=True)
class Apart:
    """What a helper counted, and the CPU seconds it spent if it was another process."""

    counts: Counter[tuple[str, str]]
    process: int
    cpu_seconds: float


@contextmanager
def charging(ledger: Ledger) -> Iterator[None]:
    """Charge what is done inside to a ledger."""
    token = _current.set(ledger)
    try:
        yield
    finally:
        _current.reset(token)


def apart(work: Callable[..., Result], *arguments: object) -> tuple[Result, Apart]:
    """Do work on another core, where no role runs; return what it took beside the result."""
    ledger, started = Ledger(""), time.process_time()
    with charging(ledger):
        result = work(*arguments)
    return result, Apart(ledger.counts, os.getpid(), time.process_time() - started)


def merge(done: Apart) -> None:
    """Charge the running party for what was done apart."""
    ledger = _current.get()
    if ledger is None:
        return
    for (_, quantity), number in done.counts.items():
        ledger.add(quantity, number)
    if done.process != os.getpid():  # a thread's seconds are this process' own already
        ledger.add_helper_seconds(done.cpu_seconds)


def peak_memory() -> int:
    """Return the most memory this process has held, in bytes."""
    # Linux hands the other figure on from parent to child.
    if _HAS_STATUS:
        with open(_STATUS, "rb", buffering=0) as file:
            _, _, kilobytes = file.read().partition(b"VmHWM:")
        return 1024 * int(kilobytes.split(None, 1)[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


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


Progress = Callable[[int, int], None]
