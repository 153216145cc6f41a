"""Anyone who reaches the port: idle connections, which cost the coordinator a file each for as long as they were held.

1,100 of them kept parties out, as the usual limit is 1,024 files. Now whoever has not got through TLS in time is hung
up on, and the coordinator has as many files as the system lets it (``make flood`` has 2,000 beside a run).
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time

import pytest
from contracts import End
from star import Star, free_port

from protocol.transport import relay

CONNECTIONS = 150


@pytest.mark.parametrize("first_words", [b"", bytes.fromhex("16030100c8010000c40303")])
def test_connections_that_say_nothing_are_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, first_words: bytes
) -> None:
    options = dict(relay.SERVER_OPTIONS) | {"grpc.server_handshake_timeout_ms": 500}
    monkeypatch.setattr(relay, "SERVER_OPTIONS", tuple(options.items()))
    star = Star()
    star.listen = star.dial = f"127.0.0.1:{free_port()}"
    held = list[float]()

    async def hold() -> None:
        host, port = star.listen.split(":")
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                break
            await asyncio.sleep(0.1)
        started = time.monotonic()
        writer.write(first_words)
        with contextlib.suppress(OSError):
            await reader.read()
        held.append(time.monotonic() - started)
        writer.close()

    async def flooded() -> None:
        over = asyncio.Event()

        async def play(end: End) -> None:
            await over.wait()

        run = asyncio.create_task(star.outcomes(dict.fromkeys(star.identities, play)))
        async with asyncio.timeout(30):
            await asyncio.gather(*(hold() for _ in range(CONNECTIONS)))
        over.set()
        outcomes = await run
        assert not any(isinstance(end, BaseException) for end in outcomes.values())

    asyncio.run(flooded())
    assert len(held) == CONNECTIONS
    assert max(held) < 5


def test_the_coordinator_takes_all_files_it_may_have() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        relay._raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
