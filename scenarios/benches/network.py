"""What the network costs on one machine: ``python -m scenarios.benches.network`` or ``make bench-network``.

An epoch with all parties in one process against the same epoch over gRPC between processes on
127.0.0.1, in turns, the best of each: noise only ever adds. Then the round trip of a small message.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from protocol.transport.identity import Identity, RosterFile
from protocol.transport.network import PartyTransport
from protocol.transport.relay import CoordinatorTransport
from scenarios.running import processes, runner
from scenarios.running.organisation import Organisation
from scenarios.scenario import COORDINATOR, Scenario, load

ROUNDS = 3
ROUND_TRIPS = 500


def main() -> None:
    """Print both ratios."""
    scenario = load("breast-cancer", ["epochs=20", "disclosure=open"])
    together, apart = [], []
    for _ in range(ROUNDS):
        together.append(_epoch(runner.run(scenario)))
        apart.append(_epoch(processes.run(scenario)))
    print(
        f"epoch of breast-cancer: {1000 * min(together):.0f} ms in one process, "
        f"{1000 * min(apart):.0f} ms in processes over gRPC: {min(apart) / min(together):.2f} times"
    )
    print(f"idle round trip: {1000 * asyncio.run(round_trip(scenario)):.2f} ms")


def _epoch(run: runner.Run) -> float:
    return statistics.median(epoch.seconds for epoch in run.label_party.trained.history)


async def round_trip(scenario: Scenario) -> float:
    """Return the median seconds that a few bytes take to the coordinator and back, with nothing else to do."""
    with tempfile.TemporaryDirectory() as temporary:
        configurations = processes.prepare(scenario, Path(temporary))
        ready = {name: Organisation.read(path) for name, path in configurations.items()}
    label = scenario.label_party.name
    roster: RosterFile = ready[COORDINATOR].roster
    limits = ready[COORDINATOR].configuration.limits

    def keys(name: str) -> tuple[Identity, RosterFile, bytes]:
        return ready[name].identity, roster, roster.agreement(scenario)

    async def answer() -> None:
        async with CoordinatorTransport(*keys(COORDINATOR), limits) as transport:
            for _ in range(ROUND_TRIPS):
                envelope = await transport.collect(COORDINATOR, label)
                await transport.deliver(COORDINATOR, label, envelope)

    async def ask() -> list[float]:
        times = []
        async with PartyTransport(*keys(label), limits) as transport:
            for _ in range(ROUND_TRIPS):
                started = time.perf_counter()
                await transport.deliver(label, COORDINATOR, b"ping")
                await transport.collect(label, COORDINATOR)
                times.append(time.perf_counter() - started)
        return times

    async def only_come(name: str) -> None:
        async with PartyTransport(*keys(name), limits):
            pass

    others = [only_come(party.name) for party in scenario.feature_parties]
    asking = asyncio.create_task(ask())
    await asyncio.gather(answer(), asking, *others)
    return statistics.median(asking.result())


if __name__ == "__main__":
    main()
