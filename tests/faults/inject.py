"""Break each party of a short run at its steps, take the run up again, and compare with an undisturbed one.

    python tests/faults/inject.py [EVERY]      at every step (1), or at every so many (3)

Killed, cut off for good or with a full disk: the others must end within the time limit, with exit code 2 and one line
that says who is missing and what ``--resume`` does; resumed, everyone ends with the models of an undisturbed run. Off
the network for 30 s: nothing happens at all. Models are compared to the last byte, under disclosure 'shared' within
the error of its sigmoid; there no seed of randomness may come twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from party import SEED, STEP, Forked, fill_disk, fork, kill
from star import Proxy, free_port

from scenarios.running import processes
from scenarios.scenario import COORDINATOR, Scenario, load

ABSENCE_LIMIT = 1.0
TIME_LIMIT = 60.0
DROP_SECONDS = 30.0
SHARED_ERROR = 2e-3
SETTINGS = ["epochs=3", "batch_size=160", "key_bits=512", "insecure_key=true", "n_jobs=1"]
MOST_SECONDS = 180.0


@dataclass(frozen=True)
class Fault:
    """What befalls one party before its step of number ``at``: done in its process, or to its way to the others."""

    name: str
    in_process: Callable[[], None] | None = None
    off_seconds: float = 0.0


KILLED = Fault("killed", in_process=kill)
DISK_FULL = Fault("disk full", in_process=fill_disk)
OFF_FOR_GOOD = Fault("off the network for good", off_seconds=MOST_SECONDS)
OFF_FOR_A_WHILE = Fault(f"off the network for {DROP_SECONDS:g} s", off_seconds=DROP_SECONDS)
UNDISTURBED = Fault("undisturbed")


@dataclass
class Outcome:
    """How each party's process ended, the last line it wrote, how many steps it took and which seeds it gave away."""

    codes: dict[str, int] = field(default_factory=dict)
    last_lines: dict[str, str] = field(default_factory=dict)
    steps: Counter[str] = field(default_factory=Counter)
    seeds: list[str] = field(default_factory=list)


class Stage:
    """Keys, configurations and results of one run of a scenario, and of the run that takes it up."""

    def __init__(self, scenario: Scenario, folder: Path, absence_limit: float) -> None:
        self.folder = folder
        self.configurations = processes.prepare(
            scenario, folder, folder / "kept", absence_limit=absence_limit, time_limit=TIME_LIMIT
        )
        self._roster = (folder / "roster.toml").read_text(encoding="utf-8")
        (address,) = (
            line.split('"')[1] for line in self._roster.splitlines() if "127.0.0.1:" in line
        )
        self._address = address
        self._detour = f"127.0.0.1:{free_port()}"

    def run(self, party: str = "", at: int = -1, fault: Fault = UNDISTURBED) -> Outcome:
        """Play all parties to their end, one of them with a fault, or if none is given with ``--resume``."""
        if fault.off_seconds:
            self._lead_round(party)
        forked = [
            fork(
                name,
                path,
                resume=not party,
                at=at if name == party else -1,
                fault=fault.in_process,
            )
            for name, path in self.configurations.items()
        ]
        try:
            return asyncio.run(self._follow(forked, party, at, fault))
        except TimeoutError:
            sys.exit(f"{party} {fault.name} at step {at}: somebody hangs")
        finally:
            for one in forked:
                os.close(one.lines)

    def models(self) -> dict[str, list[bytes]]:
        """Return every model that a data party has as a result."""
        found = sorted(self.folder.glob("results/*/*/model.json"))
        return {
            name: [path.read_bytes() for path in found if path.parts[-3] == name]
            for name in self.configurations
            if name != COORDINATOR
        }

    def _lead_round(self, party: str) -> None:
        """Have a party reach the coordinator through a proxy; for the coordinator everyone has to."""
        roster = self.folder / f"{party}.roster.toml"
        roster.write_text(self._roster.replace(self._address, self._detour), encoding="utf-8")
        led = set(self.configurations) - {COORDINATOR} if party == COORDINATOR else {party}
        for name in led:
            path = self.configurations[name]
            text = path.read_text(encoding="utf-8").replace('"roster.toml"', f'"{roster.name}"')
            path.write_text(text, encoding="utf-8")

    async def _follow(self, forked: list[Forked], party: str, at: int, fault: Fault) -> Outcome:
        outcome, proxy = Outcome(), Proxy(self._address)
        cutting: list[asyncio.Task[None]] = []

        async def cut_off() -> None:
            proxy.up = False
            proxy.cut()
            await asyncio.sleep(fault.off_seconds)
            proxy.up = True

        async def read(one: Forked) -> None:
            reader = asyncio.StreamReader()
            pipe = os.fdopen(os.dup(one.lines), "rb")
            await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), pipe
            )
            async for data in reader:
                line = data.decode(errors="replace").strip()
                if line.startswith(STEP):
                    outcome.steps[one.name] += 1
                    if fault.off_seconds and (one.name, line) == (party, f"{STEP}{at}"):
                        cutting.append(asyncio.create_task(cut_off()))
                elif line.startswith(SEED):
                    outcome.seeds.append(line)
                elif line:
                    outcome.last_lines[one.name] = line

        port = int(self._detour.split(":")[1])
        async with asyncio.timeout(MOST_SECONDS), proxy.listening(port):
            await asyncio.gather(*(read(one) for one in forked))
        for task in cutting:
            task.cancel()
        for one in forked:
            _, status = os.waitpid(one.process, 0)
            outcome.codes[one.name] = os.waitstatus_to_exitcode(status)
        return outcome


@dataclass
class Tally:
    """What has come of one kind of fault."""

    injected: int = 0
    survived: int = 0
    without_effect: int = 0
    resumed: int = 0
    identical: int = 0
    taken_up: int = 0
    seeds: int = 0
    problems: int = 0


class Trial:
    """All faults under one disclosure, against one undisturbed run."""

    def __init__(self, disclosure: str) -> None:
        self.scenario = load("breast-cancer", [*SETTINGS, f"disclosure={disclosure}"])
        self.tallies: dict[str, Tally] = {}
        with tempfile.TemporaryDirectory() as temporary:
            stage = Stage(self.scenario, Path(temporary), ABSENCE_LIMIT)
            outcome = stage.run("nobody")
            if any(outcome.codes.values()):
                sys.exit(f"the undisturbed run failed: {outcome}")
            self.models = stage.models()
            self.steps = outcome.steps
        print(f"disclosure '{disclosure}': {dict(self.steps)} steps", flush=True)

    def inject(self, fault: Fault, every: int, absence_limit: float = ABSENCE_LIMIT) -> None:
        """Let a fault befall every party at every so many steps, beginning in the middle of the first so many."""
        tally = self.tallies.setdefault(fault.name, Tally())
        for party, steps in self.steps.items():
            for at in range(min(every, steps) // 2, steps, every):
                started = time.perf_counter()
                problems = self._inject_one(fault, party, at, absence_limit, tally)
                tally.problems += len(problems)
                seconds = time.perf_counter() - started
                said = "; ".join(problems) or "survived"
                print(f"{party} {fault.name} at step {at}: {said} ({seconds:.1f} s)", flush=True)

    def _inject_one(
        self, fault: Fault, party: str, at: int, absence_limit: float, tally: Tally
    ) -> list[str]:
        """Break a run, take it up if it ended early, and return what went otherwise than it should."""
        tally.injected += 1
        with tempfile.TemporaryDirectory() as temporary:
            stage = Stage(self.scenario, Path(temporary), absence_limit)
            broken = stage.run(party, at, fault)
            if not any(broken.codes.values()):
                tally.without_effect += 1
                problems = [] if self._alike(stage.models()) else ["other models came out"]
                tally.survived += not problems
                return problems
            problems = _judge(broken, party, fault)
            tally.survived += not problems
            resumed = stage.run()
            tally.resumed += 1
            if any(resumed.codes.values()):
                return [*problems, f"cannot be resumed: {resumed.codes} {resumed.last_lines}"]
            identical = self._alike(stage.models())
            tally.identical += identical
            tally.taken_up += resumed.steps.total() < self.steps.total()
            seeds = broken.seeds + resumed.seeds
            tally.seeds += len(seeds)
            if len(set(seeds)) < len(seeds):
                problems.append("randomness came twice")
            return (
                problems if identical else [*problems, "other models came out of the resumed run"]
            )

    def _alike(self, models: Mapping[str, list[bytes]]) -> bool:
        """Whether each party has a model, and no other than that of the undisturbed run."""
        same = _close if self.scenario.training.disclosure == "shared" else bytes.__eq__
        return all(
            found and all(same(one, self.models[name][0]) for one in found)
            for name, found in models.items()
        )


def _judge(broken: Outcome, party: str, fault: Fault) -> list[str]:
    """Return what a broken run did otherwise than it should: everyone else names the party and how to go on."""
    problems = []
    for name, code in broken.codes.items():
        line = broken.last_lines.get(name, "")
        if name == party and fault is KILLED:
            if code != -signal.SIGKILL:
                problems.append(f"{name} was to be killed and ended with {code}")
        elif code != 2 or (name != party and not (party in line and "--resume" in line)):
            problems.append(f"{name} ended with {code}: {line}")
    return problems


def _close(one: bytes, other: bytes) -> bool:
    """Whether two models differ by no more than the error of the sigmoid."""
    fields = ("weights", "factors", "bias")
    a, b = json.loads(one), json.loads(other)
    numbers = [np.hstack([np.ravel(model.pop(key) or 0.0) for key in fields]) for model in (a, b)]
    return bool(a == b and np.max(np.abs(numbers[0] - numbers[1])) < SHARED_ERROR)


def main() -> None:
    """Inject all faults and print what came of them; exit code 1 if anything went otherwise than it should."""
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    trials = {disclosure: Trial(disclosure) for disclosure in ("open", "shared", "none")}
    for trial in trials.values():
        trial.inject(KILLED, every)
    trials["open"].inject(DISK_FULL, 4 * every)
    trials["open"].inject(OFF_FOR_GOOD, 4 * every)
    trials["open"].inject(OFF_FOR_A_WHILE, max(trials["open"].steps.values()), 2 * DROP_SECONDS)
    good = True
    for disclosure, trial in trials.items():
        for name, tally in trial.tallies.items():
            print(
                f"disclosure '{disclosure}', {name}: {tally.injected} injected, {tally.survived} survived "
                f"({tally.without_effect} without effect), {tally.resumed} resumed ({tally.taken_up} of them from a "
                f"checkpoint), {tally.identical} to the same models; "
                f"{tally.seeds} seeds of randomness, {tally.problems} problems"
            )
            good &= not tally.problems
    sys.exit(not good)


if __name__ == "__main__":
    main()
