"""The parties on machines of their own: a star of gRPC streams under mutual TLS.

The coordinator listens (``protocol/transport/relay.py``), data parties dial out; one bidirectional stream a party
carries the frames of ``protocol/transport/link.py``. A connection that drops is dialled again and goes on where it
was. A party that is out of reach for ``absence_limit`` seconds, that breaks the protocol, or whose role
fails has left the run: everyone hears who, and every wait ends in a PartyUnavailableError.

Connections live on a thread and an event loop of their own, so that a party that computes for
minutes still answers the network, and the coordinator relays meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from grpc import aio

from protocol.errors import (
    LocalProtocolError,
    PartyUnavailableError,
    ProtocolError,
    RemoteProtocolError,
)
from protocol.transport.identity import HOST, Identity, RosterFile
from protocol.transport.link import (
    FRAME_BYTES,
    OTHER_ERROR,
    OUT_OF_REACH,
    Chunk,
    Ended,
    Frame,
    Hello,
    Link,
    Mailbox,
    Welcome,
    cut,
    pack,
    reason_of,
    unpack,
)
from protocol.transport.sealing import PROTOCOL_VERSION

log = logging.getLogger(__name__)

SERVICE, METHOD = "colonnade.Star", "Converse"
GREETING_SECONDS = 10.0
HANDSHAKE_MILLISECONDS = 5_000
IDLE_MILLISECONDS = 10_000
FAREWELL_SECONDS = 5.0
_REDIAL_SECONDS = 0.2
_SECONDS_BETWEEN_WARNINGS = 10.0
REFUSED = grpc.StatusCode.FAILED_PRECONDITION
OPTIONS = (
    ("grpc.max_receive_message_length", FRAME_BYTES),
    ("grpc.max_send_message_length", FRAME_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """How long is waited, in seconds, and how much is taken, in bytes.

    ``time_limit`` for a message, or for a party to come at first; ``absence_limit`` for one that has dropped out to
    come back; ``message_limit`` for one message: 100,000 ciphertexts of a 2048-bit key are 51 MB.
    """

    time_limit: float = 1800.0
    absence_limit: float = 60.0
    message_limit: int = 1 << 28


@functools.cache
def network_loop() -> asyncio.AbstractEventLoop:
    """Start this process' network thread; gRPC wants all its objects on one event loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="network", daemon=True).start()
    return loop


async def on_network(work: Coroutine[Any, Any, Result]) -> Result:
    """Run on the network thread, wait here."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, network_loop()))


class NetworkTransport(ABC):
    """One party's end of the star: a Transport while its ``async with`` block lasts, which plays the role.

    Leaving the block says goodbye and waits until everyone has, or, after an error, that this party has failed (not
    why). ``run`` is the run's 16 random bytes.
    """

    run: bytes

    def __init__(
        self, identity: Identity, roster: RosterFile, agreement: bytes, limits: Limits
    ) -> None:
        self.name = roster.check_own(identity).name
        self._identity = identity
        self._roster = roster
        self._agreement = agreement
        self._limits = limits
        self._mailboxes = {
            name: Mailbox(limits.message_limit) for name in roster.entries if name != self.name
        }
        self._ended: set[str] = set()
        self._stopped: ProtocolError | None = None
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            await on_network(self._open())
        except BaseException:
            await on_network(self._close())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await on_network(self._leave("" if error is None else reason_of(error)))
        finally:
            await on_network(self._close())

    async def deliver(self, sender: str, receiver: str, envelope: bytes) -> None:
        """Send an envelope off; waits while the connection is behind. Raises a ProtocolError if the run has stopped."""
        if len(envelope) > self._limits.message_limit:
            raise LocalProtocolError(
                f"a message of {len(envelope):,} bytes is larger than message_limit = "
                f"{self._limits.message_limit:,}; raise it everywhere"
            )
        await on_network(self._deliver(receiver, envelope))

    async def collect(self, receiver: str, sender: str) -> bytes:
        """Wait for the next envelope; raises PartyUnavailableError if none can come, or none does in time."""
        return await on_network(self._collect(sender))

    @abstractmethod
    async def _open(self) -> None:
        """Connect."""

    @abstractmethod
    async def _leave(self, reason: str) -> None:
        """Tell the others that this role has ended, and let what was sent arrive."""

    @abstractmethod
    def _way_to(self, receiver: str) -> tuple[Link, str]:
        """Return the link that leads to a party, and whom a chunk on it names."""

    async def _close(self) -> None:
        """End whatever still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _deliver(self, receiver: str, envelope: bytes) -> None:
        link, named = self._way_to(receiver)
        try:
            async with asyncio.timeout(self._limits.time_limit):
                for chunk in cut(envelope, named):
                    self._raise_if_stopped()
                    await link.send(chunk)
        except TimeoutError:
            raise PartyUnavailableError(
                f"{receiver} has taken nothing from {self.name} for {self._limits.time_limit:g} s"
            ) from None

    async def _collect(self, sender: str) -> bytes:
        mailbox = self._mailboxes[sender]
        try:
            async with asyncio.timeout(self._limits.time_limit):
                while True:
                    self._raise_if_stopped()
                    envelope = mailbox.take()
                    if envelope is not None:
                        return envelope
                    if sender in self._ended:
                        raise PartyUnavailableError(
                            f"{self.name} waits for {sender}, which has ended its part of the run"
                        )
                    await mailbox.wait()
        except TimeoutError:
            raise PartyUnavailableError(
                f"{self.name} has waited {self._limits.time_limit:g} s for a message of {sender}"
            ) from None

    async def _wait_for_everyone(self) -> None:
        """Wait until all others have ended their part, or the run has stopped."""
        while not self._mailboxes.keys() <= self._ended and self._stopped is None:
            self._news.clear()
            await self._news.wait()

    def _raise_if_stopped(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def _stop(self, error: ProtocolError) -> None:
        """End every wait, now and from now on; the first reason counts."""
        self._stopped = self._stopped or error
        self._wake()

    def _mark_ended(self, party: str, reason: str) -> None:
        """Note that a party has ended its part; with a reason, that ends the run."""
        self._ended.add(party)
        if reason == OUT_OF_REACH:
            self._stop(PartyUnavailableError(f"{party} is out of reach and has left the run"))
        elif reason:
            what = "an error" if reason == OTHER_ERROR else f"a {reason}"
            self._stop(PartyUnavailableError(f"{party} stopped with {what}; its own log says why"))
        self._wake()

    def _wake(self) -> None:
        for mailbox in self._mailboxes.values():
            mailbox.wake()
        self._news.set()


class PartyTransport(NetworkTransport):
    """A data party's end: it dials the coordinator, and dials again when the connection drops."""

    def __init__(
        self, identity: Identity, roster: RosterFile, agreement: bytes, limits: Limits
    ) -> None:
        super().__init__(identity, roster, agreement, limits)
        self._coordinator = roster.coordinator.name
        self._link = Link()
        self._session = secrets.token_bytes(16)
        self._welcomed = asyncio.Event()
        self._credentials = grpc.ssl_channel_credentials(
            roster.coordinator.certificate.encode(),
            identity.tls_key.encode(),
            identity.certificate.encode(),
        )

    async def _open(self) -> None:
        self._keep(self._stay_connected())
        self._keep(self._link.handle(self._handle))
        await self._welcomed.wait()
        self._raise_if_stopped()

    async def _leave(self, reason: str) -> None:
        self._link.post(Ended(self.name, reason))
        patience = FAREWELL_SECONDS if reason else self._limits.time_limit
        await asyncio.wait({asyncio.create_task(self._link.drain())}, timeout=patience)
        if self._link.pending and not reason:
            self._raise_if_stopped()
            raise PartyUnavailableError(f"{self._coordinator} has not taken the last messages")
        if not reason:
            await self._wait_for_everyone()
            self._raise_if_stopped()

    def _way_to(self, receiver: str) -> tuple[Link, str]:
        return self._link, receiver

    def _stop(self, error: ProtocolError) -> None:
        super()._stop(error)
        self._welcomed.set()

    async def _handle(self, frame: Frame) -> None:
        match frame:
            case Chunk(other=sender) if sender in self._mailboxes:
                self._mailboxes[sender].add(frame)
            case Ended(party, reason) if party in self._mailboxes:
                self._mark_ended(party, reason)
            case _:
                raise RemoteProtocolError("a frame came in the name of a party that is not here")

    async def _stay_connected(self) -> None:
        """Keep a stream to the coordinator open until it refuses us or is out of reach for too long."""
        now = asyncio.get_running_loop().time
        missing_since, patience = now(), self._limits.time_limit
        told, advice = (
            missing_since,
            "; check the address, and that the roster lists its certificate",
        )
        while now() - missing_since < patience:
            try:
                if await self._converse():
                    missing_since, patience = now(), self._limits.absence_limit
                    told, advice = missing_since, ""
                    log.warning("%s: the connection to %s dropped", self.name, self._coordinator)
            except RemoteProtocolError as error:
                self._give_up(error)
                return
            if now() - told > _SECONDS_BETWEEN_WARNINGS:
                told = now()
                log.warning(
                    "%s: no answer from %s at %s for %.0f s; dialling on for %.0f s%s",
                    self.name,
                    self._coordinator,
                    self._roster.address,
                    now() - missing_since,
                    patience - (now() - missing_since),
                    advice,
                )
            await asyncio.sleep(_REDIAL_SECONDS)
        self._give_up(
            PartyUnavailableError(
                f"{self._coordinator} at {self._roster.address} has been out of reach for {patience:g} s{advice}"
            )
        )

    def _give_up(self, error: ProtocolError) -> None:
        self._link.close()
        self._stop(error)

    async def _converse(self) -> bool:
        """Dial once and stay until the stream ends; return whether it got anywhere.

        Raises RemoteProtocolError if the coordinator refuses, or breaks the protocol.
        """
        options = (*OPTIONS, ("grpc.ssl_target_name_override", HOST))
        address = self._roster.address
        async with aio.secure_channel(address, self._credentials, options) as channel:
            call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
            connected = False
            try:
                async with asyncio.timeout(GREETING_SECONDS):
                    accepted = await self._greet(call)
                connected = True
                await exchange(self._link, call.read, call.write, accepted)
            except (aio.AioRpcError, asyncio.InvalidStateError, TimeoutError, EOFError):
                pass
            if call.done() and await call.code() is REFUSED:
                said = "".join(filter(str.isprintable, await call.details()))[:400]
                raise RemoteProtocolError(f"{self._coordinator} refuses {self.name}: {said}")
            return connected

    async def _greet(self, call: Any) -> int:
        """Say who we are; return how many of our frames the coordinator has."""
        run = self.run if self._welcomed.is_set() else b""
        hello = Hello(
            PROTOCOL_VERSION, self.name, self._agreement, self._session, run, self._link.accepted
        )
        await call.write(pack(hello))
        answer = await call.read()
        if answer is aio.EOF:
            raise EOFError
        match unpack(answer):
            case Welcome(run, accepted) if run == (self.run if self._welcomed.is_set() else run):
                self.run = run
                self._welcomed.set()
                return accepted
        raise RemoteProtocolError(f"{self._coordinator} did not answer with a welcome to this run")


async def exchange(
    link: Link,
    read: Callable[[], Awaitable[Any]],
    write: Callable[[bytes], Awaitable[Any]],
    accepted: int,
) -> None:
    """Read and write one stream until it ends in either direction; raises RemoteProtocolError for what is no frame."""

    async def read_all() -> None:
        while (data := await read()) is not aio.EOF:
            link.accept(data)

    both = [asyncio.create_task(read_all()), asyncio.create_task(link.write(write, accepted))]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        ends = await asyncio.gather(*both, return_exceptions=True)
    for end in ends:
        if isinstance(end, RemoteProtocolError):
            raise end
