"""A star of parties on 127.0.0.1 for the tests: keys, a roster, a proxy that cuts connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from contracts import NAMES, Alter, Altering, End, Play, idle, unaltered

from protocol.ledger import Ledger
from protocol.transport.channel import Channel
from protocol.transport.identity import Identity, RosterEntry, RosterFile
from protocol.transport.network import Limits, NetworkTransport, PartyTransport
from protocol.transport.relay import CoordinatorTransport

ROLES = {"coordinator": "coordinator", "shop": "label", "bank": "feature", "telco": "feature"}
AGREEMENT = bytes(32)
LIMITS = Limits(time_limit=20, absence_limit=1, message_limit=1 << 26)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def entry_of(identity: Identity) -> RosterEntry:
    role = ROLES[identity.name]
    public = identity.public.model_dump()
    entity = "user" if role == "feature" else None
    return RosterEntry.model_validate({**public, "role": role, "entity": entity})


class Star:
    """Keys and roster of four parties; ``dial`` is where the parties believe the coordinator to be."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.identities = {name: Identity.generate(name) for name in NAMES}
        self.limits = limits
        self.listen = f"127.0.0.1:{free_port()}"
        self.dial = self.listen

    @property
    def roster(self) -> RosterFile:
        members = [entry_of(identity) for identity in self.identities.values()]
        return RosterFile(address=self.dial, members=members)

    def transport(self, name: str, **changes: Any) -> NetworkTransport:
        identity, agreement = self.identities[name], changes.pop("agreement", AGREEMENT)
        limits = changes.pop("limits", self.limits)
        if name == "coordinator":
            return CoordinatorTransport(identity, self.roster, agreement, limits, self.listen)
        return PartyTransport(identity, changes.pop("roster", self.roster), agreement, limits)

    async def play(
        self, name: str, role: Play = idle, alter: Alter = unaltered, **changes: Any
    ) -> Any:
        async with self.transport(name, **changes) as transport:
            altering = Altering(transport, alter)
            roster = self.roster.for_run(transport.run)
            seal_key = self.identities[name].sealing
            channel = Channel(name, roster, altering, Ledger(name), seal_key)
            return await role(End(name, altering, channel))

    async def outcomes(self, plays: Mapping[str, Play], alter: Alter = unaltered) -> dict[str, Any]:
        """Return what each party's role returned or raised."""
        roles = [self.play(name, plays.get(name, idle), alter) for name in NAMES]
        return dict(zip(NAMES, await asyncio.gather(*roles, return_exceptions=True), strict=True))


def raise_first(outcomes: Mapping[str, Any]) -> None:
    """Raise what stopped a run; the others only say who it was that stopped."""
    errors = [end for end in outcomes.values() if isinstance(end, BaseException)]
    errors.sort(key=lambda error: "its own log says why" in str(error))
    if errors:
        raise errors[0]


class Proxy:
    """Stands between the parties and the coordinator, and can cut every connection."""

    def __init__(self, target: str) -> None:
        self._target = target.split(":")
        self._open: set[asyncio.StreamWriter] = set()
        self.up = True
        self.connections = 0
        # Bytes after which a connection is cut; None never cuts.
        self.cut_after: int | None = None

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        try:
            yield self
        finally:
            self.cut()
            server.close()

    def cut(self) -> None:
        for writer in self._open:
            writer.close()
        self._open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.up:
            writer.close()
            return
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self._target[0], int(self._target[1])
            )
        except OSError:
            writer.close()
            return
        ends = {writer, far_writer}
        self._open |= ends
        left = [self.cut_after]

        async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while self.up and (data := await source.read(1 << 16)):
                sink.write(data)
                await sink.drain()
                if left[0] is not None:
                    left[0] -= len(data)
                    if left[0] < 0:
                        return

        pipes = [
            asyncio.create_task(pipe(*pair))
            for pair in ((reader, far_writer), (far_reader, writer))
        ]
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for task in pipes:
            task.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        for end in ends:
            end.close()
        self._open -= ends
