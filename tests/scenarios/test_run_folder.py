from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parties.features import FeatureEncoder
from protocol.errors import SettingsError
from scenarios import run_folder
from scenarios.costs.counting import Memory
from scenarios.costs.prediction import REST, Prediction
from scenarios.judging import baselines
from scenarios.running import folders, runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


@pytest.fixture
def run(load_scenario: LoadScenario) -> Run:
    return runner.run(load_scenario("epochs=1"))


def test_a_run_leaves_what_the_page_says(run: Run, tmp_path: Path) -> None:
    comparison = baselines.compare(run)
    folder = run_folder.write(run, comparison, tmp_path)
    assert folder.parent == tmp_path / "three"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "costs.csv",
        "links.csv",
        "metrics.json",
        "parties/bank/model.json",
        "parties/shop/model.json",
        "parties/telco/model.json",
        "rounds.csv",
        "settings.json",
        "transcript.jsonl",
    ]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["scores"][baselines.JOINT]["auc"] == comparison.scores[baselines.JOINT].auc
    assert metrics["rows"]["shared"] == dict(run.shared)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    assert settings["training"]["epochs"] == 1
    with (folder / "costs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["party"] for row in rows} == {"coordinator", "shop", "bank", "telco"}
    sent = sum(float(row["number"]) for row in rows if row["quantity"] == "bytes sent")
    transcript = (folder / "transcript.jsonl").read_text(encoding="utf-8").splitlines()
    assert sent == sum(json.loads(line)["size"] for line in transcript)
    assert [path for path in (tmp_path / "three").iterdir() if path != folder] == []


@pytest.mark.parametrize("apart", [False, True])
def test_a_prediction_stands_beside_what_was_measured(
    apart: bool, run: Run, tmp_path: Path
) -> None:
    seconds = {("shop", "masks"): 2.0, ("shop", REST): 1.0, ("bank", "masks"): 4.0}
    memory = {"shop": Memory(lasting=20, working=10), "bank": Memory(lasting=10, working=40)}
    predicted = Prediction(1, seconds, {("shop", "bank"): 1000}, {}, memory, 100)
    folder = run_folder.write(
        replace(run, apart=apart), baselines.compare(run), tmp_path, predicted
    )
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    foretold, ledgers = metrics["prediction"], run.ledgers
    assert foretold["cpu_seconds"] == {
        "predicted": 7.0,
        "measured": sum(ledger.cpu_seconds["training"] for ledger in ledgers.values()),
    }
    assert foretold["cpu_seconds_by_party"]["shop"]["predicted"] == 3.0
    assert foretold["bytes_sent"]["predicted"] == 1000
    assert foretold["peak_memory_bytes"]["predicted"] == (280 if apart else 170)
    assert metrics["own_processes"] is apart


def test_a_local_model_holds_one_partys_own_and_scores_again(run: Run, tmp_path: Path) -> None:
    folder = run_folder.write(run, baselines.compare(run), tmp_path)
    saved = json.loads((folder / "parties" / "bank" / "model.json").read_text(encoding="utf-8"))
    assert saved["bias"] is None
    assert [name.partition("=")[0] for name in saved["columns"]] == ["x2", "x3", "x4"] + [
        "colour"
    ] * 3
    encoder = FeatureEncoder.from_json(saved["preprocessing"])
    dataset, half = run.datasets["bank"], run.feature_parties["bank"]
    again = encoder.transform(dataset).dot(np.array(saved["weights"]))
    expected = half.encoder.transform(dataset).dot(half.model.weights)
    assert again.tobytes() == expected.tobytes()


def test_nothing_is_left_half_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = baselines.compare(run)

    def full_disk(path: Path, value: object) -> None:
        if path.name == "metrics.json":
            raise OSError(28, "No space left on device")
        path.write_text("{}", encoding="utf-8")

    monkeypatch.setattr(run_folder, "write_json", full_disk)
    with pytest.raises(SettingsError, match="cannot be written: No space left"):
        run_folder.write(run, comparison, tmp_path)
    assert list((tmp_path / "three").iterdir()) == []


def test_an_unwritable_place_is_refused_beforehand(tmp_path: Path) -> None:
    folders.check_writable(tmp_path / "new" / "runs")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SettingsError, match="cannot be written; choose another"):
        folders.check_writable(file / "runs")
