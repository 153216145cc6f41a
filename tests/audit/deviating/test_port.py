"""Anyone who reaches the port: idle connections, which cost the coordinator a file each for as long as they were held.

1,100 of them kept parties out, as the usual limit is 1,024 files. Now whoever has not got through TLS in time is hung
up on, and whoever says nothing behind it; there are no more connections than files for them, beside 256 of the
coordinator's own (``make flood`` has 2,000 beside a run).
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from contracts import End
from star import Proxy, Star, free_port

from protocol.transport import network, relay

CONNECTIONS = 150


class Visitor:
    """A connection that says no more than it must, and what it costs its server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.gone = asyncio.create_task(self._until_hung_up_on(reader))

    @classmethod
    async def dial(cls, address: str, tls: ssl.SSLContext | None = None) -> Visitor:
        host, port = address.split(":")
        while True:
            with contextlib.suppress(OSError):
                return cls(*await asyncio.open_connection(host, int(port), ssl=tls))
            await asyncio.sleep(0.1)

    async def _until_hung_up_on(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1 << 16):
                pass

    def say(self, words: bytes) -> None:
        self._writer.write(words)

    async def leave(self) -> None:
        self._writer.transport.abort()
        await self.gone


async def beside_a_run(star: Star, visit: Callable[[], Awaitable[None]]) -> None:
    """Let the parties of a run come in, or try to, while visitors come and go."""
    over = asyncio.Event()

    async def play(end: End) -> None:
        await over.wait()

    run = asyncio.create_task(star.outcomes(dict.fromkeys(star.identities, play)))
    async with asyncio.timeout(60):
        await visit()
        over.set()
        outcomes = await run
    assert not any(isinstance(end, BaseException) for end in outcomes.values())


def serve_with(monkeypatch: pytest.MonkeyPatch, **changes: int) -> None:
    """Change options of the server's; a number that is negative takes one away."""
    options = dict(relay.SERVER_OPTIONS)
    options |= {f"grpc.{name}": number for name, number in changes.items()}
    kept = tuple(option for option in options.items() if option[1] >= 0)
    monkeypatch.setattr(relay, "SERVER_OPTIONS", kept)


@pytest.mark.parametrize("first_words", [b"", bytes.fromhex("16030100c8010000c40303")])
def test_connections_that_say_nothing_are_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, first_words: bytes
) -> None:
    serve_with(monkeypatch, server_handshake_timeout_ms=500)
    star = Star()

    async def hold() -> None:
        visitor = await Visitor.dial(star.listen)
        visitor.say(first_words)
        await visitor.gone
        await visitor.leave()

    async def visit() -> None:
        await asyncio.gather(*(hold() for _ in range(CONNECTIONS)))

    asyncio.run(beside_a_run(star, visit))


def test_no_more_connections_are_held_than_there_are_files_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound, visitors = 20, 60
    serve_with(monkeypatch, server_handshake_timeout_ms=60_000)
    monkeypatch.setattr(relay, "_MOST_CONNECTIONS", bound)
    star = Star()
    star.dial = f"127.0.0.1:{free_port()}"  # parties find it once the visitors have gone

    async def visit() -> None:
        come = [await Visitor.dial(star.listen) for _ in range(visitors)]
        waiting = {one.gone for one in come}
        while len(waiting) > bound:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert len(waiting) == bound
        await asyncio.gather(*(one.leave() for one in come))
        await stack.enter_async_context(Proxy(star.listen).listening(int(star.dial.split(":")[1])))

    async def play() -> None:
        async with stack:
            await beside_a_run(star, visit)

    stack = contextlib.AsyncExitStack()
    asyncio.run(play())


@pytest.mark.parametrize("idle", [500, -1])  # the weaker variant: as long as one likes
def test_a_party_that_does_not_say_who_it_is_is_hung_up_on(
    idle: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve_with(monkeypatch, max_connection_idle_ms=idle)
    star = Star()
    shop = star.identities["shop"]
    (tmp_path / "shop.pem").write_text(shop.certificate + shop.tls_key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.load_cert_chain(tmp_path / "shop.pem")
    tls.set_alpn_protocols(["h2"])

    async def visit() -> None:
        visitor = await Visitor.dial(star.listen, tls)
        visitor.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        await asyncio.wait({visitor.gone}, timeout=30 if idle > 0 else 2)
        assert visitor.gone.done() == (idle > 0)
        await visitor.leave()

    asyncio.run(beside_a_run(star, visit))


@pytest.mark.parametrize(
    ("soft", "hard", "after", "connections"),
    [
        (1_024, 1_048_576, 8_448, 8_192),
        (1_024, 4_096, 4_096, 3_840),
        (65_536, 65_536, 65_536, 8_192),
        (300, 300, 300, 150),
        (1_024, resource.RLIM_INFINITY, 8_448, 8_192),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY, 8_192),
    ],
)
def test_the_coordinator_keeps_some_files_for_itself(
    soft: int, hard: int, after: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, to: limits.append(to))
    assert relay._take_connections() == connections
    assert limits[-1] == (after, hard)


def test_what_nobody_has_changed_is_what_the_documents_say() -> None:
    options = dict(relay.SERVER_OPTIONS)
    assert options["grpc.server_handshake_timeout_ms"] == 5_000
    assert options["grpc.max_connection_idle_ms"] == 10_000
    assert network.GREETING_SECONDS == 10
    assert (relay._MOST_CONNECTIONS, relay._OWN_FILES) == (8_192, 256)
