"""What a run leaves behind: ``runs/<scenario>/<time>/``, written whole or not at all.

settings.json           the resolved settings
metrics.json            scores, baselines, the course of training, seconds, warnings
costs.csv               party, phase, quantity, number
transcript.jsonl        who sent what kind of message to whom, its size, what it discloses; never contents
parties/<name>/model.json    that party's weights and preprocessing, and nothing of anyone else
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from parties.features import FeatureEncoder
from parties.model import LocalModel, Optimizer
from protocol.errors import SettingsError
from protocol.ledger import MessageRecord
from protocol.trained import TrainedHalf
from scenarios.baselines import Comparison
from scenarios.runner import Run
from scenarios.scenario import Scenario


def write(run: Run, comparison: Comparison, runs: Path) -> Path:
    """Write the folder of a finished run and return it; raises SettingsError if it cannot be written."""
    return write_whole(
        runs / run.scenario.name, lambda folder: _write_files(run, comparison, folder)
    )


def write_whole(parent: Path, write_files: Callable[[Path], None]) -> Path:
    """Make a folder named after the time and fill it, or leave nothing; raises SettingsError if that cannot be."""
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    unfinished = parent / f".{name}.unfinished"
    try:
        unfinished.mkdir(parents=True)
        try:
            write_files(unfinished)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return unfinished.rename(parent / name)
    except OSError as error:
        raise SettingsError(f"the folder {parent} cannot be written: {error.strerror}") from None


def check_writable(runs: Path) -> None:
    """Refuse, before hours of work, a place where the results could not be kept; raises SettingsError."""
    existing = next(folder for folder in (runs, *runs.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise SettingsError(f"the folder {runs} cannot be written; choose another")


def _write_files(run: Run, comparison: Comparison, folder: Path) -> None:
    _write_json(folder / "settings.json", run.scenario.model_dump(mode="json"))
    _write_json(folder / "metrics.json", metrics(run, comparison))
    with (folder / "costs.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["party", "phase", "quantity", "number"])
        for ledger in run.ledgers.values():
            rows.writerows(ledger.rows())
    with (folder / "transcript.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(record)) + "\n" for record in transcript(run))
    for name, half in run.halves.items():
        (folder / "parties" / name).mkdir(parents=True)
        _write_json(folder / "parties" / name / "model.json", _local_model(half))


def transcript(run: Run) -> list[MessageRecord]:
    """Return every message of a run in the order of sending."""
    sent: Iterable[MessageRecord] = (
        record for ledger in run.ledgers.values() for record in ledger.sent
    )
    return sorted(sent, key=lambda record: record.time)


def metrics(run: Run, comparison: Comparison) -> dict[str, Any]:
    """Return a run's results as plain JSON values."""
    split = run.label_party.trained.split
    return {
        "scores": {name: _finite(asdict(score)) for name, score in comparison.scores.items()},
        "rankings": {name: _finite(asdict(one)) for name, one in comparison.rankings.items()},
        "weight_distance_to_pooled": comparison.weight_distance,
        "history": [asdict(epoch) for epoch in run.label_party.trained.history],
        "rows": {
            "shared": dict(run.shared),
            "training": len(split.training_samples),
            "batches": len(split.batches),
            "validation": len(split.validation),
            "test": len(split.test),
        },
        "opened_gradients": {
            name: {
                "entries_opened": half.guard.opened,
                "entries_withheld": half.guard.withheld,
                "entries_opened_per_training_row": half.guard.opened / len(split.training_samples),
                "cells_clipped": half.matrix.clipped,
            }
            for name, half in run.halves.items()
        },
        "contributions_clipped": {name: clipped for name, (clipped, _) in run.clipped.items()},
        "rounds_repeated": run.label_party.trained.repeated,
        "seconds": run.seconds,
        "seconds_per_epoch": run.seconds_per_epoch,
        "peak_memory_bytes": run.peak_memory,
        "warnings": run.warnings,
    }


@dataclass(frozen=True, eq=False)
class SavedHalf:
    """One party's trained half, read back from its own folder."""

    encoder: FeatureEncoder
    model: LocalModel


def read_settings(folder: Path) -> Scenario:
    """Return the resolved settings of a finished run; raises SettingsError if the folder holds none."""
    try:
        return Scenario.model_validate_json((folder / "settings.json").read_bytes())
    except (OSError, ValidationError):
        raise SettingsError(
            f"{folder} is not the folder of a finished run; expected what 'colonnade run' wrote"
        ) from None


def read_half(folder: Path, party: str) -> SavedHalf:
    """Return a party's trained half; raises SettingsError if its file is missing or damaged."""
    path = folder / "parties" / party / "model.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        columns = [np.array(saved["weights"])[:, None], np.array(saved["factors"])]
        parameters = np.hstack(columns).astype(np.float64)
        encoder = FeatureEncoder.from_json(saved["preprocessing"])
        bias = None if saved["bias"] is None else float(saved["bias"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(f"{path} is missing or damaged; train again") from None
    unused = Optimizer("sgd", 0.0)
    return SavedHalf(encoder, LocalModel(parameters, bias, np.zeros_like(parameters), unused))


def _finite(numbers: dict[str, float]) -> dict[str, float | None]:
    """Write what is undefined, such as an AUC of one class, as null: JSON has no NaN."""
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


def _local_model(half: TrainedHalf) -> dict[str, Any]:
    return {
        "version": 1,
        "columns": list(half.encoder.column_names),
        "weights": half.model.weights.tolist(),
        "factors": half.model.factors.tolist(),
        "bias": half.model.bias,
        "preprocessing": half.encoder.to_json(),
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
