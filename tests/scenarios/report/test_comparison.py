from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import SettingsError
from scenarios import report
from scenarios.judging.baselines import JOINT

ReadPage = Callable[[Path], Any]


@pytest.fixture
def other(finished: Path, tmp_path: Path) -> Path:
    """The same run again, as if it had been open, longer and better."""
    copy = Path(shutil.copytree(finished, tmp_path / "other"))
    settings = json.loads((copy / "settings.json").read_text(encoding="utf-8"))
    settings["training"] |= {"disclosure": "open", "epochs": 9}
    (copy / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    metrics = json.loads((copy / "metrics.json").read_text(encoding="utf-8"))
    metrics["scores"][JOINT]["auc"] = 0.9876
    metrics["seconds"] = 61.0
    (copy / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return copy


def test_what_differs_is_marked(
    finished: Path, other: Path, tmp_path: Path, read_page: ReadPage
) -> None:
    path = report.compare([finished, other], tmp_path / "new" / "comparison.html")
    page = read_page(path)
    differing = page.table("Settings that differ")
    assert differing == {
        "Setting": ["A", "B"],
        "training.disclosure": ["shared", "open"],
        "training.epochs": ["3", "9"],
    }
    assert (
        len([tag for tag, attributes in page.tags if "differs" in (attributes.get("class") or "")])
        == 2
    )
    overview = page.table("The joint model")
    assert overview["B"][0] == "0.9876"
    assert "61 s" in overview["B"]
    assert page.table("AUC")[JOINT][1] == "0.9876"
    assert {"Validation Brier score", "Validation log loss"} <= {
        line.strip() for line in page.text.splitlines()
    }
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    assert (path.parent / "plots" / "comparison-accuracy.svg").exists()


def test_equal_runs_have_no_table_of_differences(
    finished: Path, tmp_path: Path, read_page: ReadPage
) -> None:
    page = read_page(report.compare(30 * [finished], tmp_path / "comparison.html"))
    assert "All runs had the same settings." in page.text
    assert page.table("AUC")["Model"][-1] == "D1"


def test_one_run_is_no_comparison(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="two or more"):
        report.compare([finished], tmp_path / "comparison.html")
