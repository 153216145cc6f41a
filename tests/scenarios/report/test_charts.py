from __future__ import annotations

import csv
from pathlib import Path

import pytest

from scenarios.costs.prediction import REST
from scenarios.report import charts
from scenarios.report.plots import Bars, Chart
from scenarios.report.record import Record


@pytest.fixture
def record(finished: Path) -> Record:
    """A run in which four rounds took a second of clinic each, and waiting; the third more."""
    with (finished / "rounds.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["party", "phase", "round", "quantity", "number"])
        for number, waited in enumerate((1, 1, 6, 1)):
            table.writerow(["clinic", "training", number, "seconds", 1.0])
            table.writerow(["clinic", "training", number, "waiting seconds", waited])
            table.writerow(["clinic", "training", number, "masks", 1000])
            for party in ("clinic", "laboratory"):
                table.writerow([party, "training", number, "cpu seconds", 0.5])
    return Record.read(finished)


def drawn(record: Record) -> dict[str, Bars | Chart]:
    found = charts.costs(record, list(record.roles), "clinic")
    return {one.name: one for one in found if isinstance(one, Bars | Chart)}


def test_rounds_are_as_long_as_computing_and_waiting(record: Record) -> None:
    chart = drawn(record)["rounds"]
    assert isinstance(chart, Chart)
    assert {curve.name: list(curve.points) for curve in chart.curves} == {
        "on the wall": [(1, 2), (2, 2), (3, 7), (4, 2)],
        "CPU, all parties": [(1, 1), (2, 1), (3, 1), (4, 1)],
    }
    assert "From 2 s to 7 s on the wall" in chart.description


def test_many_rounds_are_drawn_together(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "_MOST_POINTS", 3)
    chart = drawn(record)["rounds"]
    assert isinstance(chart, Chart)
    points = {curve.name: list(curve.points) for curve in chart.curves}
    assert points["on the wall"] == [(1.5, 2), (3.5, 4.5)]
    assert points["longest on the wall"] == [(1.5, 2), (3.5, 7)]


def test_small_kinds_of_operations_stand_together(record: Record) -> None:
    spent = {"products": 60, "masks": 20, "packings": 12, "checks": 0.4, "writes": 0.6}
    costs = {
        ("laboratory", "training"): {
            "cpu seconds": 100.0,
            **{f"cpu seconds of {kind}": seconds for kind, seconds in spent.items()},
        }
    }
    record = Record(record.folder, record.settings, record.metrics, costs, [])
    bars = drawn(record)["operations"]
    assert isinstance(bars, Bars)
    assert bars.bars["laboratory"] == pytest.approx(
        {"products": 60, "masks": 20, "packings": 12, REST: 7, "all others": 1}
    )
    assert sum(bars.bars["clinic"].values()) == 0
    assert len(bars.parts) <= 6
