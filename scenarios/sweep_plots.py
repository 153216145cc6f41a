"""Plots of a sweep, as PNG and SVG: needs matplotlib, the extra colonnade[plots]."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from protocol.errors import SettingsError
from scenarios.sweep import Outcome, describe, one_factor, pareto

_OPERATIONS = "cpu seconds of "
_FEW = 0.01  # of all seconds: kinds below are drawn as one


def draw(outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """Draw cost and bytes against every factor, accuracy against cost, and prediction against measurement.

    Returns the PNG files; raises SettingsError where matplotlib is missing.
    """
    try:
        import_module("matplotlib").use("agg")
        pyplot = import_module("matplotlib.pyplot")
    except ImportError:
        raise SettingsError(
            "plots need matplotlib; install colonnade[plots]. The tables are written"
        ) from None
    done = [one for one in outcomes if one.refused is None]
    drawn = []
    for name, figure in _figures(pyplot, done) if done else ():
        figure.tight_layout()
        figure.savefig(folder / f"{name}.png", dpi=150)
        # Without a date and random names, the same numbers give the same file.
        with pyplot.rc_context({"svg.hashsalt": name}):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)
        drawn.append(folder / f"{name}.png")
    return drawn


def _figures(pyplot: Any, done: Sequence[Outcome]) -> Iterator[tuple[str, Any]]:
    for factor in done[0].levels:
        chosen = one_factor(done, factor)
        if len({one.levels[factor] for one in chosen}) > 1:
            yield f"cost-{factor}", _bars(pyplot, chosen, factor, "CPU seconds", _seconds)
            yield f"bytes-{factor}", _bars(pyplot, chosen, factor, "MB sent", _megabytes)
    yield "accuracy-cost", _accuracy(pyplot, done)
    yield "predicted-measured", _predictions(pyplot, done)


def _bars(pyplot: Any, chosen: Sequence[Outcome], factor: str, unit: str, parts_of: Any) -> Any:
    """Draw one bar a level, the mean of its repeats, stacked by what ``parts_of`` an outcome gives."""
    levels = list(dict.fromkeys(one.levels[factor] for one in chosen))
    stacks: defaultdict[str, Any] = defaultdict(lambda: np.zeros(len(levels)))
    for place, level in enumerate(levels):
        repeats = [one for one in chosen if one.levels[factor] == level]
        for one in repeats:
            for part, number in parts_of(one).items():
                stacks[part][place] += number / len(repeats)
    total = sum(stacks.values())
    few = [part for part, heights in stacks.items() if heights.max() < _FEW * total.max()]
    if few:
        stacks["all others"] = sum(stacks.pop(part) for part in few)
    figure, axis = pyplot.subplots(figsize=(8, 5))
    bottom = np.zeros(len(levels))
    for place, (part, heights) in enumerate(stacks.items()):
        axis.bar(levels, heights, bottom=bottom, label=part, color=pyplot.cm.tab20(place % 20))
        bottom += heights
    others = {name: value for name, value in chosen[0].levels.items() if name != factor}
    axis.set_title(describe(others), fontsize="medium")
    axis.set_xlabel(factor)
    axis.set_ylabel(unit)
    axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _seconds(one: Outcome) -> dict[str, float]:
    """Return CPU seconds by phase, and those of training by kind of operation."""
    parts = defaultdict[str, float](float)
    for _, phase, quantity, number in one.costs:
        if quantity == "cpu seconds":
            parts[phase if phase != "training" else "training: everything else"] += number
        elif phase == "training" and quantity.startswith(_OPERATIONS):
            parts[f"training: {quantity.removeprefix(_OPERATIONS)}"] += number
            parts["training: everything else"] -= number
    return dict(sorted(parts.items()))


def _megabytes(one: Outcome) -> dict[str, float]:
    parts = defaultdict[str, float](float)
    for sender, receiver, _, _, size, _ in one.links:
        parts[f"{sender} to {receiver}"] += size / 1e6
    return parts


def _accuracy(pyplot: Any, done: Sequence[Outcome]) -> Any:
    figure, axis = pyplot.subplots(figsize=(8, 5))
    scored = [one for one in done if one.auc is not None]
    axis.scatter([one.cpu_seconds for one in scored], [one.auc for one in scored], color="tab:gray")
    front = pareto(scored)
    axis.step(
        [one.cpu_seconds for one in front],
        [one.auc for one in front],
        where="post",
        marker="o",
        label="none is cheaper and more accurate",
    )
    for one in front:
        point = (one.cpu_seconds, one.auc)
        axis.annotate(
            describe(one.levels),
            point,
            xytext=(4, 4),
            textcoords="offset points",
            fontsize="x-small",
        )
    axis.set_xscale("log")
    axis.set_xlabel("CPU seconds of training")
    axis.set_ylabel("AUC on test rows")
    axis.legend()
    return figure


def _predictions(pyplot: Any, done: Sequence[Outcome]) -> Any:
    figure, axis = pyplot.subplots(figsize=(6, 5))
    measured = np.array([one.cpu_seconds for one in done])
    axis.scatter(measured, [one.predicted_cpu_seconds for one in done])
    ends = np.array([measured.min() / 1.5, measured.max() * 1.5])
    axis.plot(ends, ends, color="tab:gray", label="as measured")
    axis.fill_between(ends, 0.75 * ends, 1.25 * ends, color="tab:gray", alpha=0.2, label="25 %")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("CPU seconds of training, measured")
    axis.set_ylabel("predicted")
    axis.legend()
    return figure
