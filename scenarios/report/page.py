"""A run's page: ``report.html`` in its folder, and each drawing beside it in ``plots/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scenarios.baselines import ALONE, CONSTANT, JOINT, POOLED, SKLEARN
from scenarios.report import conversation, numbers
from scenarios.report.conversation import STAGES, Step
from scenarios.report.plots import Axis, Bars, Chart, Curve, Drawing, Exchange
from scenarios.report.record import Record, default_settings
from scenarios.report.rendering import save, save_drawing, template

SCORES = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "Log loss",
    "accuracy": "Accuracy",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
    "calibration_ratio": "Calibration ratio",
}
RANKINGS = {
    "ndcg": "NDCG",
    "precision": "Precision",
    "recall": "Recall",
    "hit_rate": "Hit rate",
    "mrr": "MRR",
    "map": "MAP",
}
_LOOKS = {name: look for look, name in enumerate((JOINT, ALONE, POOLED, SKLEARN), 1)}
_OTHER_LOOK = 5


def write(folder: Path) -> Path:
    """Write the report of a run folder and return its path; raises SettingsError if it cannot be read or written."""
    record = Record.read(folder)
    steps = conversation.steps(record.transcript)
    exchanges = _exchanges(record, steps)
    drawings = {drawing.name: drawing for drawing in _charts(record) + _costs(record)}
    for drawing in (*drawings.values(), *exchanges.values()):
        save_drawing(folder / "plots" / f"{drawing.name}.svg", drawing.alone())
    defaults = default_settings()
    path = folder / "report.html"
    page = template("run.html").render(
        title=record.title,
        run=record,
        metrics=record.metrics,
        scores=shown(record.metrics["scores"], SCORES),
        rankings=shown(record.metrics["rankings"], RANKINGS),
        joint=JOINT,
        alone=record.metrics["scores"].get(ALONE),
        drawings=drawings,
        exchanges=exchanges,
        steps=steps,
        learned={party: conversation.lessons(steps, party) for party in record.roles},
        settings={
            name: (value, defaults.get(name)) for name, value in record.flat_settings.items()
        },
    )
    save(path, page)
    return path


def shown(table: Mapping[str, Mapping[str, object]], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the columns of which any row has a number, with their headings."""
    return {
        key: heading
        for key, heading in columns.items()
        if any(row.get(key) is not None for row in table.values())
    }


def _charts(record: Record) -> list[Drawing]:
    """Return the course of training and, where the run noted them, ROC and calibration."""
    curves = record.metrics.get("curves", {})
    ordered = sorted(curves, key=lambda name: _LOOKS.get(name, _OTHER_LOOK))
    drawings: list[Drawing] = [_learning(record)]
    roc = [
        Curve(name, curves[name]["roc"], _LOOKS.get(name, _OTHER_LOOK))
        for name in ordered
        if name != CONSTANT and curves[name]["roc"]
    ]
    rates = "True positive rate", "False positive rate"
    if roc:
        drawings.append(
            Chart(
                "roc",
                "ROC curves",
                "True against false positive rate on the test rows; the area under a curve is its AUC. "
                + _listed({c.name: record.metrics["scores"][c.name]["auc"] for c in roc}),
                Axis(rates[1], 0, 1),
                Axis(rates[0], 0, 1),
                roc,
                diagonal="Guessing",
            )
        )
    calibration = [
        Curve(name, [point[:2] for point in curves[name]["calibration"]], _LOOKS[name], dots=True)
        for name in ordered
        if name in (JOINT, ALONE)
    ]
    if calibration:
        drawings.append(
            Chart(
                "calibration",
                "Calibration",
                "Observed share of positives against the mean predicted probability, in equally filled bins of test "
                "rows; on the diagonal predictions can be taken at their word. Calibration error: "
                + _listed(
                    {
                        c.name: record.metrics["scores"][c.name]["calibration_error"]
                        for c in calibration
                    }
                ),
                Axis("Mean predicted probability", 0, 1),
                Axis("Observed share", 0, 1),
                calibration,
                diagonal="Perfect calibration",
            )
        )
    return drawings


def _learning(record: Record) -> Chart:
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


def _costs(record: Record) -> list[Drawing]:
    return [
        phase_bars(
            "seconds",
            "Computing time by party and phase",
            {party: (record, party) for party in record.roles},
        ),
        Bars(
            "links",
            "Bytes by link",
            "Bytes sent from each party to each other, the busiest link first.",
            {
                f"{sender} → {receiver}": {"": float(size)}
                for sender, receiver, _, size in conversation.links(record.transcript)
            },
            numbers.size,
        ),
    ]


def phase_bars(name: str, title: str, bars: Mapping[str, tuple[Record, str | None]]) -> Bars:
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


def _exchanges(record: Record, steps: list[Step]) -> dict[str, Exchange]:
    """Draw each stage that has any messages."""
    drawn = {}
    for stage in STAGES:
        own = [step for step in steps if step.stage == stage]
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


def _listed(values: Mapping[str, float | None]) -> str:
    return "; ".join(f"{name} {numbers.score(value)}" for name, value in values.items()) + "."
