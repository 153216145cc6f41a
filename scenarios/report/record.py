"""A finished run as its folder tells it: settings, metrics, costs and transcript, never a party's model."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from parties import files
from protocol.errors import SettingsError
from protocol.ledger import MessageRecord, Receipts
from protocol.messages.message import Role
from protocol.settings import ProtocolSettings
from scenarios.judging.baselines import JOINT
from scenarios.report import conversation
from scenarios.report.conversation import Step
from scenarios.running import folders
from scenarios.running.organisation import Agreement
from scenarios.scenario import COORDINATOR, Scenario

# What says where data come from, or what to call a run, is no setting that results depend on.
_NOT_COMPARED = {"name", "title", "description", "folder", "parties", "truth"}
_RECEIVED = "received.jsonl"
_OF_ROUNDS = ("seconds", "cpu seconds", "waiting seconds")


@dataclass(frozen=True, eq=False)
class Account(ABC):
    """What a folder tells, whoever wrote it. ``costs`` maps (party, phase) to quantities, as costs.csv names them."""

    folder: Path
    settings: Scenario | Agreement
    metrics: Mapping[str, Any]
    costs: Mapping[tuple[str, str], Mapping[str, float]]
    transcript: list[MessageRecord]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder; raises SettingsError if it holds no finished run or is damaged."""
        settings = cls.read_settings(folder)
        with _reading(folder):
            metrics = json.loads(files.read(folder / "metrics.json", files.MODEL_BYTES))
            cls.check(metrics)
            costs: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
            with (folder / "costs.csv").open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    costs[row["party"], row["phase"]][row["quantity"]] = float(row["number"])
            with (folder / "transcript.jsonl").open(encoding="utf-8") as file:
                transcript = [MessageRecord(**json.loads(line)) for line in file]
        return cls(folder, settings, metrics, dict(costs), transcript)

    @classmethod
    @abstractmethod
    def read_settings(cls, folder: Path) -> Scenario | Agreement:
        """Read settings.json; raises SettingsError."""

    @classmethod
    @abstractmethod
    def check(cls, metrics: Any) -> None:
        """Touch what no metrics.json is without; raises KeyError, TypeError or IndexError."""

    @property
    @abstractmethod
    def roles(self) -> dict[str, Role]:
        """Everyone of whom there is something to say: the label party first, the coordinator in the middle."""

    @cached_property
    def steps(self) -> list[Step]:
        """The messages, folded."""
        return conversation.steps(self.transcript)

    @property
    def title(self) -> str:
        """What to call the run."""
        return self.settings.title or self.settings.name

    @cached_property
    def finished(self) -> str:
        """When the run ended, for people; the folder's name where that is no time."""
        try:
            moment = datetime.strptime(self.folder.name, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
        except ValueError:
            return self.folder.name
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"

    def cost(self, quantity: str, party: str | None = None, phase: str | None = None) -> float:
        """Return how much of a quantity a party's phase took; None stands for all."""
        return sum(
            numbers.get(quantity, 0.0)
            for (charged, during), numbers in self.costs.items()
            if party in (None, charged) and phase in (None, during)
        )

    def peak_memory(self, party: str, phase: str | None = None) -> float:
        """Return the most bytes that a party's process had held by the end of a phase, or of the last one."""
        return max(
            numbers.get("peak memory", 0.0)
            for (charged, during), numbers in self.costs.items()
            if charged == party and phase in (None, during)
        )

    def operations(self, party: str, phase: str) -> dict[str, tuple[float, float]]:
        """Return (number, CPU seconds) of each kind of operation that a party's phase took."""
        numbers, prefix = self.costs.get((party, phase), {}), "cpu seconds of "
        return {
            kind: (numbers.get(kind, 0.0), spent)
            for quantity, spent in numbers.items()
            if (kind := quantity.removeprefix(prefix)) != quantity
        }

    def per_round(self, quantity: str, party: str | None = None) -> list[float]:
        """Return seconds of a kind, round by round of training; None stands for all parties.

        Folders of early versions have no rounds.
        """
        return [
            sum(
                spent[number]
                for (charged, counted), spent in self._rounds.items()
                if counted == quantity and party in (None, charged)
            )
            for number in range(
                1 + max((max(spent) for spent in self._rounds.values()), default=-1)
            )
        ]

    @cached_property
    def _rounds(self) -> Mapping[tuple[str, str], Mapping[int, float]]:
        path = self.folder / "rounds.csv"
        rounds: defaultdict[tuple[str, str], defaultdict[int, float]]
        rounds = defaultdict(lambda: defaultdict(float))
        if not path.exists():
            return rounds
        with _reading(self.folder), path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            next(rows, None)
            for party, _, number, quantity, spent in rows:
                if quantity in _OF_ROUNDS:
                    rounds[party, quantity][int(number)] += float(spent)
        return rounds

    @property
    def phases(self) -> list[str]:
        """The phases that cost anything, in their order."""
        charged = {phase for _, phase in self.costs}
        return [phase for phase in folders.PHASES if phase in charged]

    @property
    def loss_name(self) -> str:
        """What the course of training measures."""
        return "Brier score" if self.settings.training.disclosure == "shared" else "log loss"

    @property
    def best_epoch(self) -> int:
        """The number of the epoch whose model was kept, from 1."""
        history = self.metrics["history"]
        return max((n for n, epoch in enumerate(history, 1) if epoch["best"]), default=1)

    @cached_property
    def flat_settings(self) -> dict[str, object]:
        """Every setting that shapes a result, as ``group.name``."""
        return flat_settings(self.settings)


def flat_settings(settings: ProtocolSettings) -> dict[str, object]:
    """Return every setting that shapes a result, as ``group.name``."""
    return _flatten(settings.model_dump(mode="json", exclude=_NOT_COMPARED))


@dataclass(frozen=True, eq=False)
class Record(Account):
    """A whole run, as the person knows it who simulated all parties."""

    settings: Scenario

    @classmethod
    def read_settings(cls, folder: Path) -> Scenario:
        """Read the scenario; raises SettingsError."""
        return folders.read_settings(folder)

    @classmethod
    def check(cls, metrics: Any) -> None:
        """Want scores, seconds and epochs; raises KeyError, TypeError or IndexError."""
        metrics["scores"][JOINT]["auc"], metrics["seconds"], metrics["history"][0]

    @property
    def roles(self) -> dict[str, Role]:
        """Everyone who takes part."""
        label = self.settings.label_party.name
        features = {party.name: Role.FEATURE for party in self.settings.feature_parties}
        return {label: Role.LABEL, COORDINATOR: Role.COORDINATOR, **features}

    @property
    def joint(self) -> Mapping[str, float | None]:
        """The joint model's scores, and those of its lists where lists were judged."""
        scores = self.metrics["scores"][JOINT]
        return {**self.metrics["rankings"].get(JOINT, {}), **scores}


@dataclass(frozen=True, eq=False)
class PartyRecord(Account):
    """One organisation's part of a run on the network: what it did, sent and received."""

    settings: Agreement

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether an organisation has written this folder, for itself alone."""
        return (folder / _RECEIVED).exists()

    @classmethod
    def read_settings(cls, folder: Path) -> Agreement:
        """Read what all agreed on; raises SettingsError."""
        try:
            return Agreement.model_validate_json(
                files.read(folder / "settings.json", files.SETTINGS_BYTES)
            )
        except (OSError, ValidationError):
            raise _damaged(folder) from None

    @classmethod
    def check(cls, metrics: Any) -> None:
        """Want the party's name and role; raises KeyError or TypeError."""
        metrics["party"], metrics["roles"][metrics["party"]]

    @property
    def party(self) -> str:
        """Whose folder it is."""
        return str(self.metrics["party"])

    @property
    def role(self) -> Role:
        """The role that the roster gives it."""
        return Role(self.metrics["roles"][self.party])

    @property
    def roles(self) -> dict[str, Role]:
        """The party, and whoever it talked to."""
        met = {self.party, *(name for step in self.steps for name in (step.sender, step.receiver))}
        order = [Role.LABEL, Role.COORDINATOR, Role.FEATURE]
        roles = {name: Role(role) for name, role in self.metrics["roles"].items() if name in met}
        return dict(sorted(roles.items(), key=lambda named: order.index(named[1])))

    @cached_property
    def steps(self) -> list[Step]:
        """The messages that it sent and received, folded."""
        with (
            _reading(self.folder),
            (self.folder / _RECEIVED).open(encoding="utf-8") as file,
        ):
            received = [Receipts(**json.loads(line)) for line in file]
        return conversation.steps(self.transcript, received)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise _damaged(folder) from None


def _damaged(folder: Path) -> SettingsError:
    return SettingsError(
        f"{folder} is missing a part or damaged; expected what 'colonnade run' wrote, or 'colonnade party' or "
        "'colonnade coordinator' of its own part"
    )


def beside_defaults(settings: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """Return each flat setting with what a scenario file gets that does not set it."""
    defaults = _flatten(ProtocolSettings().model_dump(mode="json"))
    return {name: (value, defaults.get(name)) for name, value in settings.items()}


def _flatten(group: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in group.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
