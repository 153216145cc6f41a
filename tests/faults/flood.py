"""Idle connections by the thousand while a run goes on and ends: ``make flood``. Only ever to 127.0.0.1.

A third say nothing, a third begin a TLS handshake and stop, a third finish one without a certificate. Whoever is hung
up on dials again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from scenarios.running import processes
from scenarios.scenario import load

_CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303")  # the first bytes of one
_SECONDS = 25


async def flood(port: int, connections: int, seconds: float) -> str:
    """Keep so many connections for some seconds; say how many there were at once, and how many of each kind."""
    opened, most = Counter[str](), 0
    end = time.monotonic() + seconds
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def hold(number: int) -> None:
        nonlocal most
        kind = ("silent", "half a handshake", "no certificate")[number % 3]
        while time.monotonic() < end:
            try:
                tls = context if kind == "no certificate" else None
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
            except OSError:
                await asyncio.sleep(1)
                continue
            opened[kind] += 1
            opened["now"] += 1
            most = max(most, opened["now"])
            with contextlib.suppress(OSError, TimeoutError):
                if kind == "half a handshake":
                    writer.write(_CLIENT_HELLO)
                async with asyncio.timeout(max(0.1, end - time.monotonic())):
                    await reader.read()
                await asyncio.sleep(0.5)
            writer.close()
            opened["now"] -= 1

    await asyncio.gather(*(hold(number) for number in range(connections)))
    del opened["now"]
    return f"{most:,} at once; " + ", ".join(f"{kind} {n:,}" for kind, n in opened.items())


def _run(folder: Path, connections: int) -> tuple[float, str]:
    """Return the seconds of a run beside a flood, and what the flood says of itself."""
    changes = ["epochs=30", "encryption.key_bits=1024", "insecure_key=true", "n_jobs=1"]
    configurations = processes.prepare(load("breast-cancer", changes), folder)
    roster = (folder / "roster.toml").read_text()
    port = int(re.search(r'^address = ".*:(\d+)"', roster, re.MULTILINE)[1])  # type: ignore[index]
    flooding = None
    if connections:
        code = f"import asyncio; from flood import flood; print(asyncio.run(flood({port}, {connections}, {_SECONDS})))"
        flooding = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            stdout=subprocess.PIPE,
            text=True,
        )
    started = time.perf_counter()
    asyncio.run(
        processes.supervise(configurations, processes.COLONNADE, lambda *_: None, lambda _: None)
    )
    seconds = time.perf_counter() - started
    said = "none" if flooding is None else flooding.communicate()[0].strip()
    results = list((folder / "results").rglob("metrics.json"))
    assert len(results) == 3, f"{len(results)} parties have left results"
    return seconds, said


def main(connections: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for number in (0, connections):
        with tempfile.TemporaryDirectory() as folder:
            seconds, said = _run(Path(folder), number)
            print(f"idle connections: {said}. The run ends rightly, {seconds:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
