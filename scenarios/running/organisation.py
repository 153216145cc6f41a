"""One organisation's part of a run on the network: its configuration, its role, what it keeps.

Two files are the same everywhere: the settings (a scenario without parties) and the roster. A
configuration names them beside what is this organisation's alone: its key file, its table, where
its results go.

results/<run>/          the run's id, the same at every organisation
    settings.json       the settings all agreed on
    model.json          a data party's own weights and preprocessing
    metrics.json        who was who; the label party's scores and course of training; what was opened to a data party
    costs.csv           what this party spent; rounds.csv and links.csv the same by round and by link
    transcript.jsonl    every message it sent, received.jsonl what kinds of messages it received; never contents
    report.html, plots/ all that for people, made from these files alone (scenarios/report)
results/<configuration>.checkpoints/    a data party's half after the last epochs, until everyone has finished
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from joblib import parallel_config
from pydantic import Field

from parties.catalogue import USER
from parties.dataset import PartyDataset
from protocol.errors import PartyUnavailableError, RemoteProtocolError, SettingsError
from protocol.ledger import Ledger, Progress, metered, peak_memory
from protocol.settings import Positive, ProtocolSettings, Settings
from protocol.training.checkpoints import forget
from protocol.training.trained import TrainedHalf
from protocol.transport.channel import Channel
from protocol.transport.identity import Identity, Name, RosterFile
from protocol.transport.network import Limits, NetworkTransport, PartyTransport
from protocol.transport.relay import CoordinatorTransport
from scenarios.judging.evaluation import Score
from scenarios.party import PartySettings
from scenarios.running import environment, folders, runner
from scenarios.scenario import read_toml, validated

Say = Callable[[str], None]
Play = Callable[[Channel, Path], Coroutine[Any, Any, None]]

RESUME = "start everyone again with --resume to go on after the last epoch that all have kept"


class Agreement(ProtocolSettings):
    """The settings that everyone has agreed on, under a name."""

    name: Name = "run"
    title: str = ""


class Configuration(Settings):
    """What one organisation's file says; paths are relative to it.

    ``data`` says where a data party's table comes from, as in a scenario's ``[[parties]]``; name, role and what it
    joins on are the roster's. Paths in it start at ``data_folder``, if that is given. ``checkpoints`` go beside the
    ``results`` if nothing is said. ``listen`` is the coordinator's own address where the roster's is not on its
    machine. ``report`` asks for a page with the results.
    """

    key: str
    roster: str
    settings: str
    results: str = "runs"
    checkpoints: str | None = None
    listen: str | None = None
    report: bool = True
    time_limit: Positive = Limits.time_limit
    absence_limit: Positive = Limits.absence_limit
    message_limit: Annotated[int, Field(ge=1 << 20)] = Limits.message_limit
    data: dict[str, Any] = Field(default={})
    data_folder: str = ""

    @property
    def limits(self) -> Limits:
        """How long and how much."""
        return Limits(self.time_limit, self.absence_limit, self.message_limit)


@dataclass(frozen=True)
class Organisation:
    """An organisation that is ready to take part."""

    identity: Identity
    roster: RosterFile
    agreement: Agreement
    configuration: Configuration
    results: Path
    checkpoints: Path
    folder: Path
    resume: bool

    @classmethod
    def read(cls, path: Path, *, resume: bool = False) -> Self:
        """Read a configuration and the three files it names; raises SettingsError."""
        configuration = validated(Configuration, read_toml(path, str(path)), str(path))
        folder = path.parent
        settings = folder / configuration.settings
        agreement = validated(
            Agreement, {"name": settings.stem, **read_toml(settings, str(settings))}, str(settings)
        )
        identity = Identity.read(folder / configuration.key)
        roster = RosterFile.read(folder / configuration.roster)
        roster.check_own(identity)
        results = folder / configuration.results
        keep_in = results / f"{path.stem}.checkpoints"
        if configuration.checkpoints is not None:
            keep_in = folder / configuration.checkpoints
        for place in (results, keep_in):
            folders.check_writable(place)
        runner.check_settings(agreement, len(roster.members) - 1)
        return cls(identity, roster, agreement, configuration, results, keep_in, folder, resume)

    @property
    def role(self) -> str:
        """The role that the roster gives this organisation."""
        return self.roster.entries[self.identity.name].role

    @property
    def common(self) -> bytes:
        """The digest of what everyone must have in common."""
        return self.roster.agreement(self.agreement, resume=self.resume)

    def coordinate(self, say: Say) -> Path:
        """Play the coordinator from beginning to end; return the folder of its results."""
        if self.role != "coordinator":
            raise SettingsError(
                f"{self.identity.name} is a {self.role} party in the roster; start it with 'colonnade party'"
            )
        if self.configuration.data:
            raise SettingsError("a coordinator holds no data; take [data] out of its configuration")
        transport = CoordinatorTransport(
            self.identity,
            self.roster,
            self.common,
            self.configuration.limits,
            self.configuration.listen,
        )

        async def play(channel: Channel, folder: Path) -> None:
            shared = await runner.coordinator(channel, self.agreement)
            self._write_metrics(folder, channel, {"shared": dict(shared)})

        say(
            f"{self.identity.name}: listening at {self.configuration.listen or self.roster.address}"
        )
        return self._run(transport, play, say)

    def take_part(self, say: Say, progress: Progress) -> Path:
        """Play a data party from beginning to end; return the folder of its results.

        Raises DataError or GuardError before anything is sent.
        """
        if self.role == "coordinator":
            raise SettingsError(
                f"{self.identity.name} is the coordinator in the roster; start it with 'colonnade coordinator'"
            )
        dataset = self.table()
        secret = bytes.fromhex(self.identity.order_secret or "")
        runner.check_table(self.agreement, dataset)
        transport = PartyTransport(
            self.identity, self.roster, self.common, self.configuration.limits
        )

        async def lead(channel: Channel, folder: Path) -> None:
            result = await runner.label_party(
                channel,
                self.agreement,
                dataset,
                progress,
                keep_in=self.checkpoints,
                secret=secret,
            )
            folders.write_half(folder, result.trained)
            self._write_metrics(folder, channel, label_metrics(result, dataset))

        async def follow(channel: Channel, folder: Path) -> None:
            trained = await runner.feature_party(
                channel, self.agreement, dataset, self.checkpoints, secret
            )
            folders.write_half(folder, trained)
            self._write_metrics(folder, channel, half_metrics(trained, dataset))

        say(f"{self.identity.name}: dialling {self.roster.address}")
        return self._run(transport, lead if self.role == "label" else follow, say)

    def table(self) -> PartyDataset:
        """Read the own table; raises SettingsError or DataError."""
        entry, data = self.roster.entries[self.identity.name], self.configuration.data
        agreed = {"name": entry.name, "role": entry.role}
        if entry.entity is not None:
            missing = "drop" if entry.required else "neutral"
            agreed |= {"entity": entry.entity, "missing": missing}
        if twice := sorted(agreed.keys() & data.keys()):
            raise SettingsError(f"data.{twice[0]} is the roster's to say; take it out of [data]")
        party = validated(PartySettings, {**agreed, **data}, "[data]")
        return party.dataset(self.folder / self.configuration.data_folder)

    def _write_metrics(self, folder: Path, channel: Channel, own: Mapping[str, Any]) -> None:
        members = channel.roster.members.values()
        folders.write_json(
            folder / "metrics.json",
            {
                "party": channel.name,
                "roles": {member.name: member.role for member in members},
                **own,
                "peak_memory_bytes": peak_memory(),
                "environment": environment.describe(),
            },
        )

    def _run(self, transport: NetworkTransport, play: Play, say: Say) -> Path:
        with parallel_config(n_jobs=self.agreement.encryption.n_jobs):
            return asyncio.run(self._connected(transport, play, say))

    async def _connected(self, transport: NetworkTransport, play: Play, say: Say) -> Path:
        """Connect, play, and keep the results before the others are told that this party has ended.

        Checkpoints stay until everyone has ended; those of an earlier training go once all agree to begin a new one.
        Raises RemoteProtocolError, before anything is sent, for a run of which there are results already.
        """
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        name, connected = self.identity.name, False
        try:
            async with transport:
                connected = True
                say(f"{name}: connected, run {transport.run.hex()}")
                results = self._place_for(transport.run)
                roster = self.roster.for_run(transport.run)
                ledger = Ledger(name)
                channel = Channel(name, roster, transport, ledger, self.identity.sealing)
                with folders.written_whole(results) as folder:
                    if not self.resume:
                        self._forget()
                    await metered(play(channel, folder), ledger)
                    folders.write_json(folder / "settings.json", self.agreement.model_dump())
                    folders.write_ledgers(folder, [ledger])
                    folders.write_lines(folder / "received.jsonl", ledger.received.values())
                say(f"{name}: done, results in {results}")
        except PartyUnavailableError as error:
            raise PartyUnavailableError(f"{error}; {RESUME}") if connected else error from None
        self._forget()
        return results

    def _place_for(self, run: bytes) -> Path:
        """Return where the results of a run go; raises RemoteProtocolError if there are some of a run of this name."""
        results = self.results / run.hex()
        if results.exists():
            raise RemoteProtocolError(
                f"{self.roster.coordinator.name} names a run that {self.identity.name} has results of in {results}; "
                "nothing was sent. Every run needs a name of its own: start the coordinator again, or ask who runs it"
            )
        return results

    def _forget(self) -> None:
        forget(self.checkpoints)


def label_metrics(result: runner.LabelPartyResult, dataset: PartyDataset) -> dict[str, Any]:
    """Return what the label party can say of a run: scores of its own test rows, the course of training."""
    trained = result.trained
    test = trained.split.test.samples
    users = trained.samples.dataset.ids.get(USER)
    score = Score.of(
        result.test_logits, trained.labels[test], None if users is None else users[test]
    )
    return {
        "test": folders.finite(asdict(score)),
        "history": [asdict(epoch) for epoch in trained.history],
        "rows": folders.rows_in_use(trained.split),
        "rounds_repeated": trained.repeated,
        **half_metrics(trained, dataset),
    }


def half_metrics(half: TrainedHalf, dataset: PartyDataset) -> dict[str, Any]:
    """Return what any data party can say of a run: its table, and what was opened to it."""
    return {
        "table": folders.table_size(dataset, half),
        "entries_opened": half.guard.opened,
        "entries_withheld": half.guard.withheld,
        "cells_clipped": half.matrix.clipped,
        "warnings": half.guard.warnings,
    }
