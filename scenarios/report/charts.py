"""What is drawn of a run, or of one party's part in it: its messages, its course of training, its costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from scenarios.costs.prediction import REST
from scenarios.report import conversation, numbers
from scenarios.report.conversation import STAGES
from scenarios.report.plots import Axis, Bars, Chart, Curve, Drawing, Exchange, largest_parts
from scenarios.report.record import Account
from scenarios.running.folders import TRAINING

_LEAST_SHARE = 0.01
_MOST_POINTS = 150


def learning(record: Account) -> Chart:
    """Draw the losses after each epoch."""
    history = record.metrics["history"]
    lines = {"validation": [epoch["validation_loss"] for epoch in history]}
    if all(epoch["training_loss"] is not None for epoch in history):
        lines["training"] = [epoch["training_loss"] for epoch in history]
    return Chart(
        "learning",
        "Course of training",
        f"Validation {record.loss_name} after each of {len(history)} epochs, from {lines['validation'][0]:.4f} to "
        f"{lines['validation'][-1]:.4f}; the model of epoch {record.best_epoch} was kept.",
        Axis.of("Epoch", [1, max(2, len(history))], whole=True),
        Axis.of(
            record.loss_name.capitalize(), [value for line in lines.values() for value in line]
        ),
        [
            Curve(name, list(enumerate(line, 1)), look)
            for look, (name, line) in enumerate(lines.items(), 1)
        ],
        mark=(record.best_epoch, f"kept: {record.best_epoch}"),
    )


def costs(record: Account, parties: Sequence[str], clock: str) -> list[Drawing]:
    """Draw where the seconds of some parties went, and the bytes; how long a round is, the party ``clock`` says."""
    drawings: list[Drawing] = [
        phase_bars(
            "seconds",
            "Computing time by party and phase",
            {party: (record, party) for party in parties},
        )
    ]
    if record.cost("cpu seconds", phase=TRAINING):
        drawings.append(_operation_bars(record, parties))
    if record.per_round("cpu seconds"):
        drawings.append(_rounds(record, parties, clock))
    links = {
        f"{sender} → {receiver}": {"": float(size)}
        for sender, receiver, _, size in conversation.links(record.steps)
    }
    words = "Bytes sent from each party to each other, the busiest link first."
    return [*drawings, Bars("links", "Bytes by link", words, links, numbers.size)]


def phase_bars(name: str, title: str, bars: Mapping[str, tuple[Account, str | None]]) -> Bars:
    """Stack computing seconds by phase; a bar is a run's party, or all of them where the party is None."""
    seconds = {
        label: {phase: record.cost("seconds", party, phase) for phase in record.phases}
        for label, (record, party) in bars.items()
    }
    totals = {label: sum(parts.values()) for label, parts in seconds.items()}
    return Bars(
        name,
        title,
        "Seconds of computing, without waiting. "
        + "; ".join(f"{label} {numbers.seconds(total)}" for label, total in totals.items()),
        seconds,
        numbers.seconds,
    )


def _operation_bars(record: Account, parties: Sequence[str]) -> Bars:
    """Stack each party's CPU seconds of training by kind of operation, the kinds that take least together."""
    spent = {}
    for party in parties:
        kinds = {kind: seconds for kind, (_, seconds) in record.operations(party, TRAINING).items()}
        rest = record.cost("cpu seconds", party, TRAINING) - sum(kinds.values())
        spent[party] = {**kinds, REST: max(rest, 0.0)}
    bars = dict(zip(spent, largest_parts(list(spent.values()), _LEAST_SHARE), strict=True))
    totals = {
        kind: sum(kinds[kind] for kinds in bars.values()) for kind in next(iter(bars.values()))
    }
    shares = ", ".join(
        f"{kind} {seconds / (sum(totals.values()) or 1.0):.0%}" for kind, seconds in totals.items()
    )
    return Bars(
        "operations",
        "CPU time of training by operation",
        f"CPU seconds of training: {shares}. In the clear is whatever is no encrypted operation.",
        bars,
        numbers.seconds,
    )


def _rounds(record: Account, parties: Sequence[str], clock: str) -> Chart:
    """Draw how long the rounds were, in means of neighbours where they are many."""
    waited, computed = (record.per_round(what, clock) for what in ("waiting seconds", "seconds"))
    wall = [sum(both) for both in zip(waited, computed, strict=True)]
    cpu = record.per_round("cpu seconds")
    size = -(-len(wall) // _MOST_POINTS)
    last = max(2, len(wall))
    middles = [start + (size + 1) / 2 for start in range(0, len(wall), size)]
    lines = {
        "on the wall": _grouped(wall, size, _mean),
        "CPU, all parties" if len(parties) > 1 else "CPU": _grouped(cpu, size, _mean),
    }
    words = f"From {numbers.seconds(min(wall))} to {numbers.seconds(max(wall))} on the wall"
    if size > 1:
        lines["longest on the wall"] = _grouped(wall, size, max)
        words += f"; each point is of {size} rounds, their mean and the longest of them"
    return Chart(
        "rounds",
        "Seconds a round of training",
        f"{words}. {len(wall):,} rounds, {numbers.seconds(_mean(wall))} on the wall and {numbers.seconds(_mean(cpu))} "
        "of CPU time on average.",
        replace(Axis.of("Round", [1, last], whole=True), low=1, high=last),
        Axis.of("Seconds", [0.0, *(value for line in lines.values() for value in line)]),
        [
            Curve(name, list(zip(middles, line, strict=True)), look)
            for look, (name, line) in enumerate(lines.items(), 1)
        ],
    )


def _grouped(
    values: Sequence[float], size: int, fold: Callable[[Sequence[float]], float]
) -> list[float]:
    return [fold(values[start : start + size]) for start in range(0, len(values), size)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def exchanges(record: Account) -> dict[str, Exchange]:
    """Draw each stage that has any messages."""
    drawn = {}
    for stage in STAGES:
        own = [step for step in record.steps if step.stage == stage]
        if own:
            sent = sum(step.count for step in own)
            drawn[stage] = Exchange(
                "exchange-" + stage.lower().replace(" ", "-"),
                f"Messages: {stage.lower()}",
                f"{len(own)} kinds of messages between {', '.join(record.roles)}; {numbers.count(sent)} messages of "
                f"{numbers.size(sum(step.size for step in own))} in all. The table of messages has every number.",
                list(record.roles),
                own,
            )
    return drawn
