"""A finished run as its folder tells it: settings, metrics, costs and transcript, never a party's model."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from protocol.errors import SettingsError
from protocol.ledger import MessageRecord
from protocol.messages import Role
from protocol.settings import ProtocolSettings
from scenarios import run_folder
from scenarios.baselines import JOINT
from scenarios.scenario import COORDINATOR, Scenario

# What says where data come from, or what to call a run, is no setting that results depend on.
_NOT_COMPARED = {"name", "title", "description", "folder", "parties", "truth"}


@dataclass(frozen=True, eq=False)
class Record:
    """One run. ``costs`` maps (party, phase) to quantities, as costs.csv names them."""

    folder: Path
    settings: Scenario
    metrics: Mapping[str, Any]
    costs: Mapping[tuple[str, str], Mapping[str, float]]
    transcript: list[MessageRecord]

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read a run folder; raises SettingsError if it holds no finished run or is damaged."""
        settings = run_folder.read_settings(folder)
        try:
            metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            metrics["scores"][JOINT]["auc"], metrics["seconds"], metrics["history"][0]
            costs: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
            with (folder / "costs.csv").open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    costs[row["party"], row["phase"]][row["quantity"]] = float(row["number"])
            with (folder / "transcript.jsonl").open(encoding="utf-8") as file:
                transcript = [MessageRecord(**json.loads(line)) for line in file]
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            raise SettingsError(
                f"{folder} is missing a part or damaged; expected what 'colonnade run' wrote"
            ) from None
        return cls(folder, settings, metrics, dict(costs), transcript)

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

    @property
    def roles(self) -> dict[str, Role]:
        """Everyone who takes part: the label party first, the coordinator in the middle of the star."""
        label = self.settings.label_party.name
        features = {party.name: Role.FEATURE for party in self.settings.feature_parties}
        return {label: Role.LABEL, COORDINATOR: Role.COORDINATOR, **features}

    @property
    def joint(self) -> Mapping[str, float | None]:
        """The joint model's scores, and those of its lists where lists were judged."""
        scores = self.metrics["scores"][JOINT]
        return {**self.metrics["rankings"].get(JOINT, {}), **scores}

    def cost(self, quantity: str, party: str | None = None, phase: str | None = None) -> float:
        """Return how much of a quantity a party's phase took; None stands for all."""
        return sum(
            numbers.get(quantity, 0.0)
            for (charged, during), numbers in self.costs.items()
            if party in (None, charged) and phase in (None, during)
        )

    @property
    def phases(self) -> list[str]:
        """The phases that cost anything, in their order."""
        charged = {phase for _, phase in self.costs}
        return [phase for phase in run_folder.PHASES if phase in charged]

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


def flat_settings(scenario: Scenario) -> dict[str, object]:
    """Return every setting of a scenario that shapes a result, as ``group.name``."""
    return _flatten(scenario.model_dump(mode="json", exclude=_NOT_COMPARED))


def default_settings() -> dict[str, object]:
    """Return what a scenario file gets that sets nothing, as ``group.name``."""
    return _flatten(ProtocolSettings().model_dump(mode="json"))


def _flatten(group: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in group.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
