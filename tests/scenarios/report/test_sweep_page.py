from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from finished_sweep import swept

from protocol.errors import SettingsError
from scenarios import report
from scenarios.costs import sweep

ReadPage = Callable[[Path], Any]


def test_a_page_has_every_cell(tmp_path: Path, read_page: ReadPage) -> None:
    outcomes = swept(tmp_path)
    page = read_page(report.write_sweep(tmp_path))
    cells = page.table("All parties together")
    assert cells["1"][:2] == ["2048", "open"]
    assert cells["1"][4] == "6.14 s"
    predictions = page.table("Predicted and measured")
    assert predictions["Cell"][4] == "ratio"
    assert [row[4] for name, row in predictions.items() if name != "Cell"] == ["1.10"] * 5
    assert "Refused: key_bits 3072, disclosure none. too few rows" in page.text
    assert f"{len(outcomes) - 1} of {len(outcomes) - 1} cells within 25 %" in page.text
    assert "Every cell is within 25 %" in page.text
    assert "Keys under 2,048 bits can be broken" in page.text
    assert {"cells", "predictions", "by-key_bits", "by-disclosure", "settings"} <= set(
        page.all("id")
    )
    ids = page.all("id")
    assert len(ids) == len(set(ids))


def test_a_prediction_that_is_off_is_marked(tmp_path: Path, read_page: ReadPage) -> None:
    swept(tmp_path)
    for path in (tmp_path / "cells").iterdir():
        cell = json.loads(path.read_text(encoding="utf-8"))
        if cell["levels"] == {"key_bits": "2048", "disclosure": "open"}:
            cell["predicted_cpu_seconds"] = 2 * cell["cpu_seconds"]
            path.write_text(json.dumps(cell), encoding="utf-8")
    page = read_page(report.write_sweep(tmp_path))
    assert "Marked is what is more than 25 % off" in page.text
    marked = [tag for tag, found in page.tags if "differs" in (found.get("class") or "")]
    assert marked == ["td"]


def test_drawings_stand_beside_the_page(tmp_path: Path) -> None:
    swept(tmp_path)
    report.write_sweep(tmp_path)
    by_factor = {
        f"{kind}-{factor}"
        for kind in ("cost", "operations", "bytes")
        for factor in ("key_bits", "disclosure")
    }
    drawn = {"accuracy-cost", "predicted-measured", "growth-key_bits", *by_factor}
    plots = tmp_path / "plots"
    assert {path.name for path in plots.iterdir()} == {
        f"{name}{ending}" for name in drawn for ending in (".svg", ".png")
    }
    bars = ElementTree.parse(plots / "cost-disclosure.svg").getroot()
    assert "disclosure open: 6.24 s; disclosure none: 2.15 s" in (bars.findtext("{*}desc") or "")


def test_where_all_cells_are_refused_there_is_a_page(tmp_path: Path, read_page: ReadPage) -> None:
    swept(tmp_path)
    for path in (tmp_path / "cells").iterdir():
        cell = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(cell | {"refused": "too few rows"}), encoding="utf-8")
    page = read_page(report.write_sweep(tmp_path))
    assert "too few rows" in page.text


@pytest.mark.parametrize("part", ["sweep.json", "settings.json"])
def test_a_damaged_sweep_is_one_clear_line(tmp_path: Path, part: str) -> None:
    swept(tmp_path)
    assert sweep.is_sweep(tmp_path)
    (tmp_path / part).write_text("{}", encoding="utf-8")
    with pytest.raises(SettingsError, match="expected what"):
        report.write_sweep(tmp_path)


def test_a_sweep_without_a_cell_is_damaged(tmp_path: Path) -> None:
    swept(tmp_path)
    next((tmp_path / "cells").iterdir()).unlink()
    with pytest.raises(SettingsError, match="missing a part or damaged"):
        report.write_sweep(tmp_path)
