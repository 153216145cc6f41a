"""What a cost study shows: one factor at a time, growth, the cheapest for its accuracy, parts by phase and link."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from scenarios.costs.prediction import REST
from scenarios.costs.sweep import Outcome

_CPU_SECONDS = "cpu seconds"


def one_factor(outcomes: Sequence[Outcome], factor: str) -> list[Outcome]:
    """Return the outcomes in which all other factors are as in the first cell."""
    usual = {name: value for name, value in outcomes[0].levels.items() if name != factor}
    return [one for one in outcomes if one.refused is None and usual.items() <= one.levels.items()]


def refusals(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return the reason of each cell that was refused, by its levels."""
    return {describe(one.levels): one.refused for one in outcomes if one.refused is not None}


def numbers_of(outcomes: Sequence[Outcome], factor: str) -> list[float] | None:
    """Return the level of each outcome as a number; None if one is none."""
    try:
        return [float(one.levels[factor]) for one in outcomes]
    except ValueError:
        return None


def exponent(outcomes: Sequence[Outcome], factor: str) -> float | None:
    """Return ``b`` of ``cpu seconds = a level^b``, fitted by least squares of logarithms; None unless levels differ."""
    levels = numbers_of(outcomes, factor)
    if levels is None or len(set(levels)) < 2 or min(levels) <= 0:
        return None
    spent = np.array([one.cpu_seconds for one in outcomes])
    return float(np.polyfit(np.log(levels), np.log(spent), 1)[0])


def growth(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the exponent of each factor for which one can be fitted."""
    fitted = {
        factor: exponent(one_factor(outcomes, factor), factor) for factor in outcomes[0].levels
    }
    return {factor: power for factor, power in fitted.items() if power is not None}


def pareto(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes than which none is both cheaper and more accurate, the cheapest first."""
    best: list[Outcome] = []
    for one in sorted(outcomes, key=lambda one: (one.cpu_seconds, -(one.auc or 0.0))):
        if one.auc is not None and (not best or one.auc > (best[-1].auc or 0.0)):
            best.append(one)
    return best


def seconds_by_phase(one: Outcome) -> dict[str, float]:
    """Return the CPU seconds of each phase, all parties together."""
    parts = defaultdict[str, float](float)
    for _, phase, quantity, number in one.costs:
        if quantity == _CPU_SECONDS:
            parts[phase] += number
    return parts


def seconds_by_operation(one: Outcome) -> dict[str, float]:
    """Return the CPU seconds of training by kind of operation, all parties together; the rest is Python's."""
    parts = defaultdict[str, float](float)
    for _, phase, quantity, number in one.costs:
        kind = quantity.removeprefix(f"{_CPU_SECONDS} of ")
        if phase == "training" and kind != quantity:
            parts[kind] += number
    parts[REST] = one.cpu_seconds - sum(parts.values())
    return parts


def bytes_by_link(one: Outcome) -> dict[str, float]:
    """Return the bytes that each party sent to each other."""
    parts = defaultdict[str, float](float)
    for sender, receiver, _, _, size, _ in one.links:
        parts[f"{sender} → {receiver}"] += size
    return parts


def figures(one: Outcome) -> dict[str, str]:
    """Return what a table shows of an outcome, by its headings."""
    return {
        "epoch s": f"{one.seconds_per_epoch:.3f}",
        "CPU s": f"{one.cpu_seconds:.3f}",
        "predicted": f"{one.predicted_cpu_seconds:.3f}",
        "ratio": f"{one.ratio:.2f}",
        "MB sent": f"{one.size / 1e6:,.2f}",
        "MB held": f"{one.peak_memory / 1e6:,.0f}",
        "AUC": "" if one.auc is None else f"{one.auc:.4f}",
    }


def describe(levels: Mapping[str, str]) -> str:
    """Return a cell's levels as a line of text."""
    return ", ".join(f"{name} {value}" for name, value in levels.items())


def to_json(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes without their ledgers as one line of JSON, for scripts."""
    plain = []
    for one in outcomes:
        fields = asdict(one) | {"predicted_to_measured": None if one.refused else one.ratio}
        del fields["costs"], fields["links"]
        plain.append(fields)
    return json.dumps(plain)
