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

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scenarios.costs.prediction import Prediction
from scenarios.judging.baselines import Comparison
from scenarios.running import environment
from scenarios.running.folders import (
    TRAINING,
    finite,
    rows_in_use,
    table_size,
    write_half,
    write_json,
    write_ledgers,
    write_whole,
)
from scenarios.running.runner import Run


def write(
    run: Run, comparison: Comparison, runs: Path, predicted: Prediction | None = None
) -> Path:
    """Write the folder of a finished run and return it; raises SettingsError if it cannot be written.

    ``predicted`` is what its training was to cost, where that is known.
    """
    return write_whole(
        runs / run.scenario.name, lambda folder: _write_files(run, comparison, predicted, folder)
    )


def _write_files(
    run: Run, comparison: Comparison, predicted: Prediction | None, folder: Path
) -> None:
    foretold = None if predicted is None else prediction(run, predicted)
    write_json(folder / "settings.json", run.scenario.model_dump(mode="json"))
    write_json(folder / "metrics.json", {**metrics(run, comparison), "prediction": foretold})
    write_ledgers(folder, list(run.ledgers.values()))
    for name, half in run.halves.items():
        write_half(folder / "parties" / name, half)


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
