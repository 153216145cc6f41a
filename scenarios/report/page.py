"""A run's page, or one party's: ``report.html`` in its folder, and each drawing beside it in ``plots/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from protocol.messages.message import Role
from scenarios.judging.baselines import ALONE, CONSTANT, JOINT, POOLED, SKLEARN
from scenarios.report import charts, conversation, numbers
from scenarios.report.plots import Axis, Chart, Curve, Drawing, by_name
from scenarios.report.record import Account, PartyRecord, Record, beside_defaults
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
    """Write the report of a run folder and return its path; raises SettingsError if it cannot be read or written.

    A folder of one organisation's own gives the page of that party alone.
    """
    if PartyRecord.is_in(folder):
        return _write_party(PartyRecord.read(folder))
    record = Record.read(folder)
    label, *_ = record.roles
    return _publish(
        record,
        "run.html",
        [*_charts(record), *charts.costs(record, list(record.roles), label)],
        title=record.title,
        scores=shown(record.metrics["scores"], SCORES),
        rankings=shown(record.metrics["rankings"], RANKINGS),
        joint=JOINT,
        alone=record.metrics["scores"].get(ALONE),
        foretold=record.metrics.get("prediction"),
    )


def _write_party(record: PartyRecord) -> Path:
    party, leads = record.party, record.role is Role.LABEL
    drawings = charts.costs(record, [party], party)
    scores = {JOINT: record.metrics["test"]} if leads else {}
    return _publish(
        record,
        "party.html",
        [charts.learning(record), *drawings] if leads else drawings,
        title=f"The part of {party}",
        models=scores,
        scores=shown(scores, SCORES),
        joint=JOINT,
    )


def _publish(record: Account, name: str, drawings: Sequence[Drawing], **values: object) -> Path:
    """Write a page and its drawings; the page is last, so that no page lacks any."""
    exchanges = charts.exchanges(record)
    for drawing in (*drawings, *exchanges.values()):
        save_drawing(record.folder / "plots" / f"{drawing.name}.svg", drawing.alone())
    path = record.folder / "report.html"
    page = template(name).render(
        run=record,
        metrics=record.metrics,
        drawings=by_name(drawings),
        exchanges=exchanges,
        learned={party: conversation.lessons(record.steps, party) for party in record.roles},
        settings=beside_defaults(record.flat_settings),
        **values,
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
    drawings: list[Drawing] = [charts.learning(record)]
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


def _listed(values: Mapping[str, float | None]) -> str:
    return "; ".join(f"{name} {numbers.score(value)}" for name, value in values.items()) + "."
