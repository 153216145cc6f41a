"""Run a scenario with every party as a process of its own on 127.0.0.1, under fresh keys.

The person who simulates sees all parties' folders and puts their halves together again: the saved
halves score the test rows once more in this process, so that the tables are those of an in-process run.
"""

from __future__ import annotations

import asyncio
import csv
import json
import re
import socket
import sys
import tempfile
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parties.dataset import PartyDataset
from protocol.errors import PartyUnavailableError
from protocol.ledger import Ledger, MessageRecord, Progress
from protocol.settings import ProtocolSettings
from protocol.training.checkpoints import Epoch, TrainingState
from protocol.training.guards import Guard
from protocol.training.samples import draw_samples
from protocol.training.trained import TrainedHalf, TrainedLabelParty
from protocol.transport.channel import Channel
from protocol.transport.identity import Identity, RosterEntry, RosterFile, to_toml, write_new
from psi.alignment import align_feature_party, align_label_party, coordinate_alignment
from scenarios import consent
from scenarios.party import PartySettings
from scenarios.running import folders, runner
from scenarios.running.folders import SavedHalf
from scenarios.running.organisation import RESUME, Say
from scenarios.running.runner import LabelPartyResult, Run
from scenarios.scenario import COORDINATOR, Scenario

# With -P no module of the current folder takes the place of a library's.
COLONNADE = (sys.executable, "-P", "-c", "from scenarios.commands.main import main; main()")
_ROUND = re.compile(r"training: round (\d+) of at most (\d+)")
_STOP_SECONDS = 5.0


def run(
    scenario: Scenario,
    progress: Progress = lambda done, total: None,
    say: Say = lambda line: None,
    command: Sequence[str] = COLONNADE,
    *,
    keep_in: Path | None = None,
    resume: bool = False,
) -> Run:
    """Run a scenario in processes; ``say`` hears their lines.

    Each data party keeps checkpoints in a folder of its own in ``keep_in``, and with ``resume`` takes up what is there.

    Raises what is wrong with settings or tables as an in-process run does, later PartyUnavailableError with the
    line of whoever stopped.
    """
    consent.allow(consent.allowed(scenario.folder))  # their files lie elsewhere
    started = time.perf_counter()
    datasets = runner.load_datasets(scenario)
    with tempfile.TemporaryDirectory(prefix="colonnade-") as temporary:
        folder = Path(temporary)
        configurations = prepare(scenario, folder, keep_in)
        asyncio.run(supervise(configurations, command, progress, say, resume=resume))
        seconds = time.perf_counter() - started
        return _gather(scenario, datasets, folder, seconds)


def prepare(
    scenario: Scenario, folder: Path, keep_in: Path | None = None, **entries: float
) -> dict[str, Path]:
    """Write keys, roster, settings and a configuration for every party; return the configurations.

    ``entries`` are further ones of every configuration, such as its limits. Pages of single parties are left out: the
    one who simulates them all gets that of the whole run.
    """
    settings = scenario.model_dump(include={*ProtocolSettings.model_fields, "title"})
    (folder / "settings.toml").write_text(to_toml({"name": "run", **settings}), encoding="utf-8")
    parties = {party.name: party for party in scenario.parties}
    members = []
    for name in (COORDINATOR, *parties):
        # Without secrets of their own parties draw the orders and first weights of a run in one process.
        identity = Identity.generate(name).model_copy(update={"order_secret": None})
        identity.write(folder)
        members.append(_entry(identity, parties.get(name)))
    roster = RosterFile(address=f"127.0.0.1:{_free_port()}", members=members)
    write_new(folder / "roster.toml", roster.to_toml())
    configurations = {}
    for name in (COORDINATOR, *parties):
        values: dict[str, Any] = {
            "key": f"{name}.key.toml",
            "roster": "roster.toml",
            "settings": "settings.toml",
            "results": f"results/{name}",
            "checkpoints": keep_in and str(keep_in.absolute() / name),
            "report": False,
            **entries,
        }
        if name in parties:
            values["data"] = _source(parties[name])
            values["data_folder"] = str(scenario.folder.absolute())
        configurations[name] = folder / f"{name}.toml"
        configurations[name].write_text(to_toml(values), encoding="utf-8")
    return configurations


def _entry(identity: Identity, party: PartySettings | None) -> RosterEntry:
    public = identity.public.model_dump()
    if party is None:
        return RosterEntry(**public, role="coordinator")
    if party.role == "label":
        return RosterEntry(**public, role="label")
    required = party.missing == "drop"
    return RosterEntry(**public, role="feature", entity=party.entity, required=required)


def _source(party: PartySettings) -> dict[str, Any]:
    """Return a party's own section: all but what the roster says of it."""
    agreed = {"name", "role", "missing"} | ({"entity"} if party.role == "feature" else set())
    return party.model_dump(exclude_defaults=True, exclude=agreed)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Exit:
    """How a party's process ended: ``code`` as the shell has it, the last line it wrote to standard error."""

    code: int
    last_line: str


async def watch(
    name: str, configuration: Path, command: Sequence[str], say: Say, *, resume: bool = False
) -> Exit:
    """Run one party's process to its end; one that is no longer wanted is ended."""
    part = "coordinator" if name == COORDINATOR else "party"
    process = await asyncio.create_subprocess_exec(
        *command,
        part,
        str(configuration),
        *(["--resume"] if resume else []),
        *(f"--allow={name}" for name in consent.allowed(configuration.parent) if part == "party"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None

    async def follow(stream: asyncio.StreamReader) -> str:
        last = ""
        async for line in stream:
            last = line.decode(errors="replace").rstrip()
            say(last)
        return last

    try:
        _, last_line = await asyncio.gather(follow(process.stdout), follow(process.stderr))
        return Exit(await process.wait(), last_line)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


async def supervise(
    configurations: Mapping[str, Path],
    command: Sequence[str],
    progress: Progress,
    say: Say,
    *,
    resume: bool = False,
) -> None:
    """Run all processes to their end; raises PartyUnavailableError with the line of whoever stopped first."""

    def hear(line: str) -> None:
        if found := _ROUND.fullmatch(line):
            progress(int(found[1]), int(found[2]))
        else:
            say(line)

    tasks = {
        name: asyncio.create_task(watch(name, configuration, command, hear, resume=resume))
        for name, configuration in configurations.items()
    }
    try:
        failed = await _first_failures(tasks)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    if failed:
        # Whoever only heard of it says so; the cause is somebody else's line.
        name = min(failed, key=lambda one: "its own log says why" in failed[one].last_line)
        line = failed[name].last_line.removeprefix("colonnade: ")
        raise PartyUnavailableError(f"{name} stopped: {line or f'its process was ended; {RESUME}'}")


async def _first_failures(tasks: Mapping[str, asyncio.Task[Exit]]) -> dict[str, Exit]:
    """Wait until all have ended well, or one has not and the others have had some time to hear of it."""
    waiting = set(tasks.values())
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if any(task.result().code for task in done):
            await asyncio.wait(tasks.values(), timeout=_STOP_SECONDS)
            break
    ends = {name: task.result() for name, task in tasks.items() if task.done()}
    return {name: end for name, end in ends.items() if end.code}


def _gather(
    scenario: Scenario, datasets: Mapping[str, PartyDataset], folder: Path, seconds: float
) -> Run:
    """Put the run together from what each party kept."""
    names = [COORDINATOR, *datasets]
    kept = {name: next((folder / "results" / name).iterdir()) for name in names}
    metrics = {name: json.loads((kept[name] / "metrics.json").read_bytes()) for name in names}
    halves = {name: folders.read_half(kept[name]) for name in datasets}
    label = scenario.label_party.name

    def leader(channel: Channel) -> Coroutine[Any, Any, LabelPartyResult]:
        return _lead(channel, scenario, datasets[label], halves[label], metrics[label])

    def follower(channel: Channel) -> Coroutine[Any, Any, TrainedHalf]:
        name = channel.name
        return _follow(channel, scenario, datasets[name], halves[name], metrics[name])

    results, channels = runner.play(
        scenario, lambda channel: _coordinate(channel, scenario), leader, follower
    )
    return Run(
        scenario=scenario,
        datasets=datasets,
        label_party=results[label],
        feature_parties={name: results[name] for name in channels[label].roster.features},
        shared=metrics[COORDINATOR]["shared"],
        ledgers={name: _read_ledger(name, kept[name]) for name in names},
        views={name: [] for name in names},
        seconds=seconds,
        peak_memory=sum(metrics[name]["peak_memory_bytes"] for name in names),
        apart=True,
    )


async def _coordinate(channel: Channel, scenario: Scenario) -> None:
    await coordinate_alignment(channel, scenario.alignment)
    await runner.coordinate_scoring(channel, scenario)


async def _lead(
    channel: Channel,
    scenario: Scenario,
    dataset: PartyDataset,
    half: SavedHalf,
    metrics: Mapping[str, Any],
) -> LabelPartyResult:
    positions = await align_label_party(channel, scenario.alignment, dataset)
    samples = draw_samples(dataset, positions, channel.roster, scenario)
    state = TrainingState.begin(half.model)
    state.history = [Epoch(**epoch) for epoch in metrics["history"]]
    state.repeated = metrics["rounds_repeated"]
    trained = TrainedLabelParty(
        state,
        half.encoder,
        half.encoder.transform(samples.dataset),
        _guard(dataset.party, scenario, metrics),
        samples,
    )
    return await runner.score_test_rows(channel, scenario, dataset, positions, trained)


async def _follow(
    channel: Channel,
    scenario: Scenario,
    dataset: PartyDataset,
    half: SavedHalf,
    metrics: Mapping[str, Any],
) -> TrainedHalf:
    aligned = await align_feature_party(channel, scenario.alignment, dataset)
    matrix = half.encoder.transform(dataset.take(aligned))
    guard = _guard(dataset.party, scenario, metrics)
    trained = TrainedHalf(TrainingState.begin(half.model), half.encoder, matrix, guard)
    await runner.answer_test_rows(channel, scenario, trained)
    return trained


def _guard(party: str, scenario: Scenario, metrics: Mapping[str, Any]) -> Guard:
    return Guard(
        party,
        scenario.training,
        warnings=metrics["warnings"],
        opened=metrics["entries_opened"],
        withheld=metrics["entries_withheld"],
    )


def _read_ledger(party: str, folder: Path) -> Ledger:
    ledger = Ledger(party)
    with (folder / "costs.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            ledger.enter_row(row["phase"], row["quantity"], float(row["number"]))
    with (folder / "rounds.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            ledger.enter_round_row(
                row["phase"], int(row["round"]), row["quantity"], float(row["number"])
            )
    lines = (folder / "transcript.jsonl").read_text(encoding="utf-8").splitlines()
    ledger.sent += [MessageRecord(**json.loads(line)) for line in lines]
    return ledger
