"""Kill each party's process at every message of a short run; the others must say who is missing, and end.

    python tests/faults/inject.py [EVERY]      at every message, or every so many

A fault is survived if all others end by themselves within the time limit, with exit code 2 and one
line that names the party that was killed, and no results are left half written.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from party import VARIABLE

from scenarios import processes
from scenarios.processes import Exit
from scenarios.scenario import Scenario, load

ABSENCE_LIMIT = 2.0
TIME_LIMIT = 60.0
ENTRY = (sys.executable, str(Path(__file__).with_name("party.py")))


def main() -> None:
    """Inject all faults and print what came of each."""
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    scenario = load(
        "breast-cancer",
        ["epochs=1", "disclosure=open", "key_bits=512", "insecure_key=true", "n_jobs=1"],
    )
    undisturbed, sent = run(scenario, "nobody", 0)
    if any(end.code for end in undisturbed.values()):
        sys.exit(f"the undisturbed run failed: {undisturbed}")
    injected = survived = 0
    for party, messages in sent.items():
        for number in range(0, messages, every):
            started = time.perf_counter()
            ends, _ = run(scenario, party, number)
            problems = judge(ends, party)
            injected, survived = injected + 1, survived + (not problems)
            seconds = time.perf_counter() - started
            print(
                f"{party} before message {number}: {problems or 'survived'} ({seconds:.1f} s)",
                flush=True,
            )
    print(f"{injected} faults injected, {survived} survived")
    sys.exit(injected != survived)


def run(scenario: Scenario, party: str, number: int) -> tuple[dict[str, Exit], dict[str, int]]:
    """Run with one fault; return how every process ended, and how many messages each sent."""
    os.environ[VARIABLE] = f"{party}:{number}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        limits = {"absence_limit": ABSENCE_LIMIT, "time_limit": TIME_LIMIT}
        configurations = processes.prepare(scenario, folder, **limits)

        async def watch_all() -> list[Exit]:
            async with asyncio.timeout(2 * TIME_LIMIT):
                return await asyncio.gather(
                    *(
                        processes.watch(name, path, ENTRY, lambda line: None)
                        for name, path in configurations.items()
                    )
                )

        ends = dict(zip(configurations, asyncio.run(watch_all()), strict=True))
        sent = {
            path.parts[-3]: len(path.read_text(encoding="utf-8").splitlines())
            for path in folder.glob("results/*/*/transcript.jsonl")
        }
        left = list(folder.glob("results/*/.*"))
        if left and party not in {path.parts[-2] for path in left}:
            sys.exit(f"results were left half written: {left}")
        return ends, sent


def judge(ends: dict[str, Exit], killed: str) -> list[str]:
    """Return what went otherwise than it should."""
    problems = []
    for name, end in ends.items():
        if name == killed:
            if end.code != -signal.SIGKILL:
                problems.append(f"{name} was to be killed and ended with {end.code}")
        elif end.code != 2 or killed not in end.last_line:
            problems.append(f"{name} ended with {end.code}: {end.last_line}")
    return problems


if __name__ == "__main__":
    main()
