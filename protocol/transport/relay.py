"""The coordinator's end of the network: it listens, checks who comes, relays what it cannot read.

TLS lets nobody in whose certificate the roster does not list; the greeting must then name the party
that this certificate belongs to. Whoever is refused leaves one line in the log, and the run goes on.
"""

from __future__ import annotations

import asyncio
import functools
import resource
import secrets
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import aio

from protocol.errors import RemoteProtocolError, SettingsError
from protocol.transport.identity import Identity, RosterFile, fingerprint
from protocol.transport.link import (
    OUT_OF_REACH,
    Chunk,
    ChunkOrder,
    Ended,
    Frame,
    Hello,
    Link,
    Welcome,
    pack,
    reason_of,
    unpack,
)
from protocol.transport.network import (
    FAREWELL_SECONDS,
    GREETING_SECONDS,
    HANDSHAKE_MILLISECONDS,
    IDLE_MILLISECONDS,
    METHOD,
    OPTIONS,
    REFUSED,
    SERVICE,
    Limits,
    NetworkTransport,
    exchange,
    log,
)

SERVER_OPTIONS = (
    *OPTIONS,
    # Who has not got through TLS by then is hung up on: connections that say nothing cost a file each, and no more.
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MILLISECONDS),
    # Behind TLS a party opens its one stream at once and keeps it; who has none is idle.
    ("grpc.max_connection_idle_ms", IDLE_MILLISECONDS),
    ("grpc.max_concurrent_streams", 8),
)
_MOST_STREAMS = 8  # for each party: one, and a few that are being refused or replaced
_STOP_SECONDS = 0.2
_MOST_CONNECTIONS, _OWN_FILES = 8_192, 256


def _take_connections() -> int:
    """Return how many connections at once this process has files for, beside its own; raise its limit if it may.

    The usual soft limit is 1,024. A limit too low for both is halved between them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _OWN_FILES
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    files = max(soft, wanted if hard == resource.RLIM_INFINITY else min(hard, wanted))
    if files > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return min(_MOST_CONNECTIONS, max(files - _OWN_FILES, files // 2))


@dataclass(eq=False)
class _Connection:
    """One party as the coordinator knows it; ``stream`` is the exchange that runs now, ``session`` its process."""

    link: Link = field(default_factory=Link)
    session: bytes | None = None
    stream: asyncio.Task[None] | None = None
    absence: asyncio.TimerHandle | None = None


class CoordinatorTransport(NetworkTransport):
    """The coordinator's end. It listens at ``listen``, or else at the roster's address."""

    def __init__(
        self,
        identity: Identity,
        roster: RosterFile,
        agreement: bytes,
        limits: Limits,
        listen: str | None = None,
    ) -> None:
        super().__init__(identity, roster, agreement, limits)
        self.run = secrets.token_bytes(16)
        self._listen = listen or roster.address
        self._parties = {name: _Connection() for name in self._mailboxes}
        self._orders = {
            (sender, receiver): ChunkOrder(limits.message_limit)
            for sender in self._parties
            for receiver in self._parties
            if sender != receiver
        }
        self._names = {
            fingerprint(entry.certificate.encode()): name for name, entry in roster.entries.items()
        }
        self._refusals: dict[str, str] = {}

    async def _open(self) -> None:
        others = [entry for entry in self._roster.members if entry.name != self.name]
        credentials = grpc.ssl_server_credentials(
            [(self._identity.tls_key.encode(), self._identity.certificate.encode())],
            "".join(entry.certificate for entry in others).encode(),
            require_client_auth=True,
        )
        streams = _MOST_STREAMS * len(others)
        most = ("grpc.max_allowed_incoming_connections", _take_connections())
        self._server = aio.server(options=(*SERVER_OPTIONS, most), maximum_concurrent_rpcs=streams)
        handler = grpc.stream_stream_rpc_method_handler(self._converse)
        generic = grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
        self._server.add_generic_rpc_handlers((generic,))
        try:
            self._server.add_secure_port(self._listen, credentials)
        except RuntimeError:
            raise SettingsError(
                f"{self.name} cannot listen at {self._listen}; is the port taken, or the address another machine's?"
            ) from None
        await self._server.start()
        for name in self._parties:
            self._keep(self._serve(name))
            self._expect(name, self._limits.time_limit)

    async def _leave(self, reason: str) -> None:
        """Say that the role has ended; relay on until everyone has, unless the run has failed."""
        self._announce(self.name, reason)
        if not reason:
            await self._wait_for_everyone()
        await self._wait_for_farewells()
        if not reason:
            self._raise_if_stopped()

    async def _wait_for_farewells(self) -> None:
        """Let everyone hear the end and hang up; for a short while, those too who come only now."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                while any(
                    party.stream is not None or (party.session is None and name not in self._ended)
                    for name, party in self._parties.items()
                ):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass

    async def _close(self) -> None:
        for party in self._parties.values():
            if party.absence is not None:
                party.absence.cancel()
        await self._server.stop(_STOP_SECONDS)
        await super()._close()

    def _way_to(self, receiver: str) -> tuple[Link, str]:
        return self._parties[receiver].link, self.name

    async def _converse(self, requests: object, context: Any) -> None:
        """Serve one stream of whoever got through TLS."""
        (certificate,) = context.auth_context()["x509_pem_cert"]
        owner = self._names.get(fingerprint(certificate), "a stranger")
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                hello = self._check_greeting(await context.read(), owner)
        except (RemoteProtocolError, TimeoutError) as refusal:
            said = str(refusal) or "no greeting came in time"
            log.warning("refused a connection from %s at %s: %s", owner, context.peer(), said)
            await context.abort(REFUSED, said)
            return
        party = self._parties[hello.name]
        stream = asyncio.create_task(self._stream(party, party.stream, hello, context))
        party.session, party.stream = hello.session, stream
        try:
            await asyncio.wait({stream})
        finally:  # gRPC cancels us when it notices first that the connection is gone
            stream.cancel()
            if party.stream is stream:
                self._hung_up(hello.name, stream)
        if hello.name in self._refusals:
            await context.abort(REFUSED, self._refusals[hello.name])

    def _check_greeting(self, data: Any, owner: str) -> Hello:
        """Return the greeting of a party that may come in, if ``owner`` of the certificate it is.

        Raises RemoteProtocolError, fit for its eyes and the log.
        """
        hello = unpack(data) if isinstance(data, bytes) else None
        if not isinstance(hello, Hello):
            raise RemoteProtocolError("expected a greeting")
        name, party = hello.name, self._parties.get(hello.name)
        if party is None:
            raise RemoteProtocolError("the roster lists no data party of that name")
        if name != owner:
            raise RemoteProtocolError(f"the certificate is not the one the roster lists for {name}")
        if hello.agreement != self._agreement:
            raise RemoteProtocolError(
                f"{name} has other settings or another roster, or only one of us resumes; everyone needs the same two "
                "files, and --resume"
            )
        if hello.run not in (b"", self.run):
            raise RemoteProtocolError(f"{name} comes from another run; start it again")
        if party.session not in (None, hello.session):
            raise RemoteProtocolError(f"there is a {name} in this run already")
        if name in self._ended and self._stopped is not None:
            raise RemoteProtocolError(f"the run has ended: {self._stopped}")
        return hello

    async def _stream(
        self,
        party: _Connection,
        previous: asyncio.Task[None] | None,
        hello: Hello,
        context: Any,
    ) -> None:
        if previous is not None:  # it is dead, whether TCP knows it yet or not
            previous.cancel()
            await asyncio.wait({previous})
        if party.absence is not None:
            party.absence.cancel()
        await context.write(pack(Welcome(self.run, party.link.accepted)))
        await exchange(party.link, context.read, context.write, hello.accepted)

    def _hung_up(self, name: str, stream: asyncio.Task[None]) -> None:
        self._parties[name].stream = None
        self._news.set()
        error = stream.exception() if stream.done() and not stream.cancelled() else None
        if isinstance(error, RemoteProtocolError):
            self._refuse(name, error)
        elif name not in self._ended:
            log.warning("the connection to %s dropped", name)
            self._expect(name, self._limits.absence_limit)

    async def _serve(self, name: str) -> None:
        """Deal with what a party sends, for as long as it keeps to the protocol."""
        try:
            await self._parties[name].link.handle(functools.partial(self._handle, name))
        except RemoteProtocolError as error:
            self._refuse(name, error)

    async def _handle(self, name: str, frame: Frame) -> None:
        match frame:
            case Chunk(other=self.name):
                self._mailboxes[name].add(frame)
            case Chunk(other, total, offset, data) if (name, other) in self._orders:
                self._orders[name, other].check(frame)
                if other not in self._ended:
                    await self._parties[other].link.send(Chunk(name, total, offset, data))
            case Ended(party, reason) if party == name and reason != OUT_OF_REACH:
                self._announce(name, reason)
                self._mark_ended(name, reason)
            case _:
                raise RemoteProtocolError("a frame came that is not its sender's to send")

    def _refuse(self, name: str, error: RemoteProtocolError) -> None:
        """End a party's part because it broke the protocol."""
        if name not in self._refusals:
            log.warning("%s broke the protocol: %s", name, error)
            self._refusals[name] = str(error)
            self._lose(name, reason_of(error))
            stream = self._parties[name].stream
            if stream is not None:
                stream.cancel()

    def _expect(self, name: str, seconds: float) -> None:
        """Give a party some time to come, or to come back."""
        loop = asyncio.get_running_loop()
        self._parties[name].absence = loop.call_later(seconds, self._lose, name, OUT_OF_REACH)

    def _lose(self, name: str, reason: str) -> None:
        if name not in self._ended:
            self._parties[name].link.close()
            self._announce(name, reason)
            self._mark_ended(name, reason)

    def _announce(self, party: str, reason: str) -> None:
        for name, other in self._parties.items():
            if name != party:
                other.link.post(Ended(party, reason))
