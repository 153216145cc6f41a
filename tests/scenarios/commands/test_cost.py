from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from finished_sweep import swept

from scenarios.commands import cost as cost_commands
from scenarios.commands.main import main
from scenarios.costs import calibration, sweep


@pytest.fixture(autouse=True)
def _quick_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(calibration.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(calibration, "_seconds", lambda kind, work: 1e-3)
    monkeypatch.setattr(calibration, "calibrate_rest", lambda: (1e-6,) * 11)
    monkeypatch.setattr(calibration, "_fresh_process_memory", lambda: 100_000_000)


def test_a_plan_answers_for_longer_tables(scenario_file: Path) -> None:
    arguments = ["plan", str(scenario_file), "--rows", "1e5", "--link", "10Mbit"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    for words in ("CPU time of training, predicted", "masks", "at 10Mbit", "Memory of each party"):
        assert words in result.output


def test_a_check_predicts_what_a_run_costs_if_asked(scenario_file: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(scenario_file), "--cost"])
    assert result.exit_code == 0, result.output
    for words in ("Nothing stands in the way", "CPU time of training, predicted", "at 100Mbit"):
        assert words in result.output


@pytest.mark.parametrize("link", ["fast", "0Mbit", "1.2.3Gbit"])
def test_a_link_that_is_none_is_one_clear_line(scenario_file: Path, link: str) -> None:
    result = CliRunner().invoke(main, ["plan", str(scenario_file), "--link", link])
    assert result.exit_code == 2
    assert "expected a number of kbit, Mbit or Gbit" in result.stderr


@pytest.mark.parametrize("rows", ["nan", "inf", "-5", "0"])
def test_rows_that_are_none_are_one_clear_line(scenario_file: Path, rows: str) -> None:
    result = CliRunner().invoke(main, ["plan", str(scenario_file), "--rows", rows])
    assert result.exit_code == 2
    assert "expected a number of rows, 10 or more" in result.stderr


def test_sweeps_are_not_compared_as_runs(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    swept(folder)
    written = CliRunner().invoke(main, ["report", str(folder)])
    assert written.output.strip() == str(folder / "report.html")
    result = CliRunner().invoke(main, ["report", str(folder), str(folder)])
    assert result.exit_code == 2
    assert "is a sweep; give it alone" in result.stderr


def test_a_calibration_ends_with_a_table() -> None:
    result = CliRunner().invoke(main, ["calibrate", "--key-bits", "512"])
    assert result.exit_code == 0, result.output
    assert "512 bits, colonnade" in result.output
    assert "encryptions by the key holder" in result.output


def test_a_sweep_ends_with_its_table_and_json(
    scenario_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_apart", lambda work: work())
    vary = ["--vary", "key_bits=512,640", "--vary", "batch_size=80,10"]
    arguments = ["cost", str(scenario_file), *vary, "--set", "epochs=1", "--design=one-at-a-time"]
    folder = tmp_path / "sweep"
    result = CliRunner().invoke(main, [*arguments, "--folder", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    assert "CPU seconds grow as key_bits^" in result.output
    assert "refused: key_bits 512, batch_size 10" in result.output.replace("\n", " ")
    assert "insecure_key = true was set" in result.output.replace("\n", " ")
    cells = json.loads(result.output.splitlines()[-1])
    assert [one["refused"] is None for one in cells] == [True, True, False]
    assert cells[0]["size"] == pytest.approx(cells[0]["predicted_size"], rel=0.05)
    assert (folder / "report.html").is_file()
    assert (folder / "costs.csv").is_file()


def test_times_and_sizes_are_said_as_people_do() -> None:
    assert [cost_commands._time(s) for s in (0.002, 5, 600, 8000, 1e6)] == [
        "2.0 ms",
        "5.00 s",
        "10.0 min",
        "2.2 h",
        "11.6 days",
    ]
    assert [cost_commands._size(s) for s in (500, 2e6, 3e9, 4e12)] == [
        "0.5 kB",
        "2.0 MB",
        "3.0 GB",
        "4.0 TB",
    ]
