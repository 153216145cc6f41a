"""What a run leaves behind: ``runs/<scenario>/<time>/``, written whole or not at all.

settings.json           the resolved settings
metrics.json            scores, baselines, the course of training, seconds, what they were predicted to be, warnings
costs.csv               party, phase, quantity, number; links.csv and rounds.csv the same by link and by round
transcript.jsonl        who sent what kind of message to whom, its size, what it discloses; never contents
report.html, plots/     all that for people, made from these files alone (scenarios/report)
parties/<name>/model.json    that party's weights and preprocessing, and nothing of anyone else

Until then ``runs/<scenario>/<time>.checkpoints/<name>/`` has what each data party keeps at the end of every epoch.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from parties.dataset import PartyDataset
from parties.features import FeatureEncoder
from parties.model import LocalModel, Optimizer
from protocol.batches import Split
from protocol.errors import SettingsError
from protocol.ledger import Ledger, MessageRecord, Receipts
from protocol.trained import TrainedHalf
from scenarios import environment
from scenarios.baselines import Comparison
from scenarios.costs import Prediction
from scenarios.runner import Run
from scenarios.scenario import Scenario

TRAINING = "training"
PHASES = ("setup", "alignment", TRAINING, "scoring")
_CHECKPOINTS = ".checkpoints"


def write(
    run: Run, comparison: Comparison, runs: Path, predicted: Prediction | None = None
) -> Path:
    """Write the folder of a finished run and return it; raises SettingsError if it cannot be written.

    ``predicted`` is what its training was to cost, where that is known.
    """
    return write_whole(
        runs / run.scenario.name, lambda folder: _write_files(run, comparison, predicted, folder)
    )


def write_whole(parent: Path, write_files: Callable[[Path], None]) -> Path:
    """Make a folder named after the time and fill it, or leave nothing; raises SettingsError if that cannot be."""
    folder = parent / _now()
    with written_whole(folder) as unfinished:
        write_files(unfinished)
    return folder


def checkpoints(parent: Path, *, resume: bool) -> Path:
    """Return where a training keeps checkpoints: beside its results, or where the newest that broke has left some."""
    left = sorted(parent.glob(f"*{_CHECKPOINTS}"))
    return left[-1] if resume and left else parent / (_now() + _CHECKPOINTS)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give a place to write to, which becomes ``folder`` if all goes well and vanishes if not; raises SettingsError."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        unfinished.rename(folder)
    except OSError as error:
        raise SettingsError(
            f"the folder {folder.parent} cannot be written: {error.strerror}"
        ) from None


def check_writable(runs: Path) -> None:
    """Refuse, before hours of work, a place where the results could not be kept; raises SettingsError."""
    existing = next(folder for folder in (runs, *runs.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise SettingsError(f"the folder {runs} cannot be written; choose another")


def _write_files(
    run: Run, comparison: Comparison, predicted: Prediction | None, folder: Path
) -> None:
    foretold = None if predicted is None else prediction(run, predicted)
    write_json(folder / "settings.json", run.scenario.model_dump(mode="json"))
    write_json(folder / "metrics.json", {**metrics(run, comparison), "prediction": foretold})
    write_ledgers(folder, list(run.ledgers.values()))
    for name, half in run.halves.items():
        write_half(folder / "parties" / name, half)


def write_ledgers(folder: Path, ledgers: Sequence[Ledger]) -> None:
    """Write what was spent and what was sent, in the order of sending."""
    written: dict[str, tuple[list[str], Callable[[Ledger], Iterable[Sequence[object]]]]] = {
        "costs": (["party", "phase", "quantity", "number"], Ledger.rows),
        "rounds": (["party", "phase", "round", "quantity", "number"], Ledger.round_rows),
        "links": (
            ["sender", "receiver", "phase", "messages", "bytes", "ciphertexts"],
            Ledger.link_rows,
        ),
    }
    for name, (headings, rows_of) in written.items():
        write_csv(
            folder / f"{name}.csv", headings, (row for one in ledgers for row in rows_of(one))
        )
    sent = sorted(
        (record for ledger in ledgers for record in ledger.sent), key=lambda record: record.time
    )
    write_lines(folder / "transcript.jsonl", sent)


def write_lines(path: Path, records: Iterable[MessageRecord | Receipts]) -> None:
    """Write what was sent or received, a line of JSON each."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(record)) + "\n" for record in records)


def write_csv(path: Path, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with headings."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(headings)
        table.writerows(rows)


def metrics(run: Run, comparison: Comparison) -> dict[str, Any]:
    """Return a run's results as plain JSON values."""
    split = run.label_party.trained.split
    return {
        "scores": {name: finite(asdict(score)) for name, score in comparison.scores.items()},
        "rankings": {name: finite(asdict(one)) for name, one in comparison.rankings.items()},
        "curves": {name: asdict(curves) for name, curves in comparison.curves.items()},
        "weight_distance_to_pooled": comparison.weight_distance,
        "history": [asdict(epoch) for epoch in run.label_party.trained.history],
        "rows": {"shared": dict(run.shared), **rows_in_use(split)},
        "tables": {
            name: table_size(dataset, run.halves[name]) for name, dataset in run.datasets.items()
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
        "own_processes": run.apart,
        "warnings": run.warnings,
        "environment": environment.describe(),
    }


def rows_in_use(split: Split) -> dict[str, int]:
    """Return how many of the label party's rows were used for what, and in how many batches."""
    return {
        "training": len(split.training_samples),
        "batches": len(split.batches),
        "validation": len(split.validation),
        "test": len(split.test),
    }


def table_size(dataset: PartyDataset, half: TrainedHalf) -> dict[str, int]:
    """Return how large a party's table is, as it came and as it was trained on."""
    return {
        "rows": dataset.n_rows,
        "columns": len(dataset.columns.columns),
        "encoded_columns": len(half.encoder.column_names),
    }


def prediction(run: Run, predicted: Prediction) -> dict[str, Any]:
    """Return what training was predicted to cost beside what it did cost, as plain JSON values."""
    ledgers = run.ledgers.values()
    spent = {ledger.party: ledger.cpu_seconds[TRAINING] for ledger in ledgers}
    sent = sum(ledger.counts[TRAINING, "bytes sent"] for ledger in ledgers)
    memory = sum(predicted.peak_memory.values()) if run.apart else predicted.peak_memory_together

    def beside(expected: float, measured: float) -> dict[str, float]:
        return {"predicted": expected, "measured": measured}

    return {
        "epochs": predicted.epochs,
        "cpu_seconds": beside(predicted.total_cpu_seconds, sum(spent.values())),
        "bytes_sent": beside(predicted.total_size, sent),
        "peak_memory_bytes": beside(memory, run.peak_memory),
        "cpu_seconds_by_party": {
            party: beside(predicted.of_party(party), seconds) for party, seconds in spent.items()
        },
    }


def summary(folder: Path) -> dict[str, Any]:
    """Return what a script wants to know of a run folder: where it is, scores, rankings, seconds, warnings."""
    written = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    kept = ("scores", "rankings", "seconds", "seconds_per_epoch", "peak_memory_bytes", "warnings")
    return {
        "scenario": folder.parent.name,
        "folder": str(folder),
        **{name: written[name] for name in kept},
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


def read_half(folder: Path) -> SavedHalf:
    """Return the trained half in a party's own folder; raises SettingsError if its file is missing or damaged."""
    path = folder / "model.json"
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


def finite(numbers: dict[str, float]) -> dict[str, float | None]:
    """Write what is undefined, such as an AUC of one class, as null: JSON has no NaN."""
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


def write_half(folder: Path, half: TrainedHalf) -> None:
    """Write a party's trained half, ``model.json``, to its own folder."""
    folder.mkdir(parents=True, exist_ok=True)
    local_model = {
        "version": 1,
        "columns": list(half.encoder.column_names),
        "weights": half.model.weights.tolist(),
        "factors": half.model.factors.tolist(),
        "bias": half.model.bias,
        "preprocessing": half.encoder.to_json(),
    }
    write_json(folder / "model.json", local_model)


def write_json(path: Path, value: object) -> None:
    """Write plain values as JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
