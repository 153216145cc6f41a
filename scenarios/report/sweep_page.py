"""The page of a sweep: what every cell cost, how well that was predicted, and cost against each factor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pandas as pd

from protocol.encryption.keys import SECURE_KEY_BITS
from scenarios.costs import findings, sweep
from scenarios.costs.sweep import Outcome
from scenarios.report import numbers
from scenarios.report.plots import LOOKS, Axis, Bars, Chart, Curve, Drawing, by_name, largest_parts
from scenarios.report.record import beside_defaults, flat_settings
from scenarios.report.rendering import save, save_drawing, template

TOLERANCE = 0.25  # of a measurement: how far a prediction may be off


def write_sweep(folder: Path) -> Path:
    """Write the report of a sweep's folder and return its path; raises SettingsError if that cannot be."""
    study = sweep.read(folder)
    cells = {n: one for n, one in enumerate(study.outcomes, 1) if one.refused is None}
    done = list(cells.values())
    overview: list[Drawing] = [_accuracy(cells), _predictions(done)] if done else []
    by_factor = {factor: _against(done, factor) for factor in study.levels}
    for drawing in sum(by_factor.values(), overview):
        save_drawing(folder / "plots" / f"{drawing.name}.svg", drawing.alone())
    path = folder / "report.html"
    page = template("sweep.html").render(
        title=f"What training costs: {study.scenario.title or study.scenario.name}",
        study=study,
        cells=cells,
        refused=[f"{cell}. {reason}" for cell, reason in findings.refusals(study.outcomes).items()],
        best=findings.pareto(done),
        off={n for n, one in cells.items() if abs(one.ratio - 1) > TOLERANCE},
        tolerance=TOLERANCE,
        secure_key_bits=SECURE_KEY_BITS,
        overview=by_name(overview),
        by_factor={factor: by_name(drawings) for factor, drawings in by_factor.items()},
        growth=findings.growth(study.outcomes),
        settings=beside_defaults(flat_settings(study.scenario)),
    )
    save(path, page)
    return path


def _against(done: Sequence[Outcome], factor: str) -> list[Drawing]:
    """Draw cost and bytes against one factor, all else as in the first cell; nothing if it was not varied there."""
    chosen = findings.one_factor(done, factor) if done else []
    if len({one.levels[factor] for one in chosen}) < 2:
        return []
    return [
        *_growth(chosen, factor),
        _bars("cost", "CPU seconds by phase", done, factor, findings.seconds_by_phase),
        _bars(
            "operations",
            "CPU seconds of training by operation",
            done,
            factor,
            findings.seconds_by_operation,
        ),
        _bars("bytes", "Bytes sent by link", done, factor, findings.bytes_by_link, numbers.size),
    ]


def _growth(chosen: Sequence[Outcome], factor: str) -> list[Chart]:
    """Draw how seconds grow with a factor that has three numbers or more for levels."""
    levels = findings.numbers_of(chosen, factor)
    if levels is None or len(set(levels)) < 3:
        return []
    measured, predicted = (
        sorted(zip(levels, seconds, strict=True))
        for seconds in (
            [one.cpu_seconds for one in chosen],
            [one.predicted_cpu_seconds for one in chosen],
        )
    )
    far = min(levels) > 0 and max(levels) >= 10 * min(levels)
    spent = [seconds for _, seconds in measured + predicted]
    return [
        Chart(
            f"growth-{factor}",
            f"Growth with {factor}",
            "CPU seconds of training, measured: "
            + "; ".join(f"{numbers.plain(x)}: {numbers.seconds(y)}" for x, y in measured)
            + ".",
            Axis.of(factor, levels, logarithmic=far),
            Axis.of("CPU seconds of training", spent if far else [0.0, *spent], logarithmic=far),
            [Curve("measured", measured, 1, dots=True), Curve("predicted", predicted, 2)],
        )
    ]


def _bars(
    name: str,
    title: str,
    done: Sequence[Outcome],
    factor: str,
    parts_of: Callable[[Outcome], Mapping[str, float]],
    write: Callable[[float], str] = numbers.seconds,
) -> Bars:
    """Draw a bar a level, the mean of its repeats; parts that are small in the whole sweep are drawn as one."""
    chosen = findings.one_factor(done, factor)
    stacks = largest_parts([parts_of(one) for one in done])
    parts = pd.DataFrame([stack for stack, one in zip(stacks, done, strict=True) if one in chosen])
    means = parts.groupby([one.levels[factor] for one in chosen], sort=False).mean()
    bars = {
        f"{factor} {level}": {str(part): float(amount) for part, amount in row.items()}
        for level, row in means.iterrows()
    }
    others = {other: level for other, level in chosen[0].levels.items() if other != factor}
    totals = (f"{label}: {write(sum(row.values()))}" for label, row in bars.items())
    return Bars(
        f"{name}-{factor}",
        title,
        f"All parties together{', ' if others else ''}{findings.describe(others)}. {'; '.join(totals)}.",
        bars,
        write,
    )


def _accuracy(cells: Mapping[int, Outcome]) -> Chart:
    """Draw accuracy against cost, with a line through the cells than which none is both cheaper and better."""
    points = {n: (one.cpu_seconds, one.auc) for n, one in cells.items() if one.auc is not None}
    best = findings.pareto(list(cells.values()))
    front = {n: point for n, point in points.items() if cells[n] in best}
    reached = sorted(front.values())
    steps = [at for (x, y), (later, _) in pairwise(reached) for at in ((x, y), (later, y))]
    said = (f"cell {n} {auc:.4f} for {numbers.seconds(x)}" for n, (x, auc) in points.items())
    return Chart(
        "accuracy-cost",
        "Accuracy against cost",
        "AUC on test rows against CPU seconds of training, by the number of the cell. On the line no cell is both "
        f"cheaper and better: {'; '.join(said)}.",
        Axis.of("CPU seconds of training", [x for x, _ in points.values()], logarithmic=True),
        Axis.of("AUC", [auc for _, auc in points.values()]),
        [
            Curve("none is cheaper and better", [*steps, *reached[-1:]], 1),
            *(Curve(str(n), [point], 1, dots=True, line=False) for n, point in front.items()),
            *(
                Curve("", [point], LOOKS, dots=True, line=False)
                for n, point in points.items()
                if n not in front
            ),
        ],
    )


def _predictions(done: Sequence[Outcome]) -> Chart:
    """Draw predicted against measured seconds, between two lines that are the tolerance off."""
    points = [(one.cpu_seconds, one.predicted_cpu_seconds) for one in done]
    ratios = [one.ratio for one in done]
    axis = Axis.of("Measured CPU seconds", [n for point in points for n in point], logarithmic=True)
    low, high, less, more = axis.low, axis.high, 1 - TOLERANCE, 1 + TOLERANCE
    return Chart(
        "predicted-measured",
        "Predicted against measured",
        f"CPU seconds of training in {len(done)} cells: predicted are {min(ratios):.2f} to {max(ratios):.2f} times "
        "what was measured.",
        axis,
        replace(axis, label="Predicted CPU seconds"),
        [
            Curve("", points, 1, dots=True, line=False),
            Curve(f"{TOLERANCE:.0%} off", [(low / less, low), (high, high * less)], 2),
            Curve("", [(low, low * more), (high / more, high)], 2),
        ],
        diagonal="As measured",
    )
