"""The page of several runs: what they were set to, what came out and what it cost, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import SettingsError
from scenarios.judging.baselines import JOINT
from scenarios.report import numbers
from scenarios.report.charts import phase_bars
from scenarios.report.page import RANKINGS, SCORES, shown
from scenarios.report.plots import LOOKS, Axis, Chart, Curve, Drawing, by_name
from scenarios.report.record import Record
from scenarios.report.rendering import save, save_drawing, template

_OVERVIEW = ("auc", "gauc", "log_loss", "ndcg")  # the other metrics have their tables below


@dataclass(frozen=True)
class MetricTable:
    """One metric: ``rows`` maps a model to its value in each run, None where a run has none."""

    heading: str
    rows: Mapping[str, Sequence[float | None]]


def compare(folders: Sequence[Path], path: Path) -> Path:
    """Write a page at ``path`` that compares the runs of two or more folders, and return the path.

    Raises SettingsError if a folder holds no finished run, or the page cannot be written.
    """
    if len(folders) < 2:
        raise SettingsError("a comparison expects the folders of two or more runs")
    runs = dict(zip(_names(len(folders)), map(Record.read, folders), strict=True))
    drawings = _drawings(runs)
    for drawing in drawings:
        save_drawing(path.parent / "plots" / f"{path.stem}-{drawing.name}.svg", drawing.alone())
    titles = dict.fromkeys(run.title for run in runs.values())
    differing, common = _settings(runs)
    page = template("comparison.html").render(
        title=next(iter(titles)) if len(titles) == 1 else f"{len(runs)} runs compared",
        runs=runs,
        joint=JOINT,
        differing=differing,
        common=common,
        results=[
            (key, heading)
            for key, heading in shown(
                {name: run.joint for name, run in runs.items()}, SCORES | RANKINGS
            ).items()
            if key in _OVERVIEW
        ],
        tables=_tables(runs, "scores", SCORES) + _tables(runs, "rankings", RANKINGS),
        drawings=by_name(drawings),
    )
    save(path, page)
    return path


def _names(number: int) -> list[str]:
    """Name runs A, B, ... Z, A1, B1, ..."""
    return [
        chr(65 + index % 26) + (str(index // 26) if index >= 26 else "") for index in range(number)
    ]


def _settings(runs: Mapping[str, Record]) -> tuple[dict[str, list[object]], dict[str, object]]:
    """Return the settings that differ, run by run, and those that do not."""
    all_settings = [{"scenario": run.settings.name, **run.flat_settings} for run in runs.values()]
    names = dict.fromkeys(name for settings in all_settings for name in settings)
    values = {name: [settings.get(name) for settings in all_settings] for name in names}
    differing = {name: row for name, row in values.items() if any(one != row[0] for one in row)}
    return differing, {name: row[0] for name, row in values.items() if name not in differing}


def _tables(
    runs: Mapping[str, Record], group: str, columns: Mapping[str, str]
) -> list[MetricTable]:
    """Return a table for each metric that any run has: models down, runs across."""
    found = [run.metrics[group] for run in runs.values()]
    models = dict.fromkeys(model for scores in found for model in scores)
    keys = shown(
        {f"{n} {model}": one for n, s in enumerate(found) for model, one in s.items()}, columns
    )
    return [
        MetricTable(
            heading,
            {model: [scores.get(model, {}).get(key) for scores in found] for model in models},
        )
        for key, heading in keys.items()
    ]


def _drawings(runs: Mapping[str, Record]) -> list[Drawing]:
    """Draw accuracy against cost, the courses of training, and where the time went."""
    drawings: list[Drawing] = []
    scored = {name: run for name, run in runs.items() if run.joint["auc"] is not None}
    if scored:
        points = {
            name: (run.metrics["seconds"], run.joint["auc"] or 0.0) for name, run in scored.items()
        }
        drawings.append(
            Chart(
                "accuracy",
                "AUC against seconds",
                "The joint model's AUC on the test rows against the wall clock of the whole run. "
                + "; ".join(
                    f"{name} {numbers.score(auc)} in {numbers.seconds(taken)}"
                    for name, (taken, auc) in points.items()
                ),
                Axis.of("Seconds", [0.0, *(taken for taken, _ in points.values())]),
                Axis.of("AUC", [auc for _, auc in points.values()]),
                [
                    Curve(name, [point], index % LOOKS + 1, dots=True, line=False)
                    for index, (name, point) in enumerate(points.items())
                ],
            )
        )
    for loss in dict.fromkeys(run.loss_name for run in runs.values()):
        lines = {
            name: [epoch["validation_loss"] for epoch in run.metrics["history"]]
            for name, run in runs.items()
            if run.loss_name == loss
        }
        drawings.append(
            Chart(
                "learning-" + loss.lower().replace(" ", "-"),
                f"Validation {loss}",
                "After each epoch; the last: "
                + "; ".join(f"{name} {line[-1]:.4f}" for name, line in lines.items()),
                Axis.of("Epoch", [1, max(2, *map(len, lines.values()))], whole=True),
                Axis.of(
                    loss[0].upper() + loss[1:], [value for line in lines.values() for value in line]
                ),
                [
                    Curve(name, list(enumerate(line, 1)), list(runs).index(name) % LOOKS + 1)
                    for name, line in lines.items()
                ],
            )
        )
    everyone = {name: (run, None) for name, run in runs.items()}
    drawings.append(phase_bars("seconds", "Computing time of all parties by phase", everyone))
    return drawings
