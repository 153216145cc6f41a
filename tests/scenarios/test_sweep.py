from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from protocol.errors import SettingsError
from scenarios import sweep, sweep_plots
from scenarios.sweep import Cell, Factor, Outcome


def outcome(key_bits: str, disclosure: str, cpu_seconds: float, auc: float) -> Outcome:
    return Outcome(
        {"key_bits": key_bits, "disclosure": disclosure},
        0,
        cpu_seconds=cpu_seconds,
        predicted_cpu_seconds=1.1 * cpu_seconds,
        size=1000,
        auc=auc,
        costs=(
            ("shop", "training", "cpu seconds", cpu_seconds),
            ("shop", "training", "cpu seconds of encryptions", cpu_seconds / 2),
            ("shop", "alignment", "cpu seconds", 0.1),
        ),
        links=(("shop", "bank", "training", 1, 1000, 3),),
    )


def test_designs() -> None:
    factors = [Factor.parse("key_bits=2048,1024"), Factor.parse("disclosure=shared,open,none")]
    assert len(sweep.combine(factors, "full")) == 6
    one_at_a_time = sweep.combine(factors, "one-at-a-time")
    assert one_at_a_time[0] == {"key_bits": "2048", "disclosure": "shared"}
    assert [list(levels.values()) for levels in one_at_a_time[1:]] == [
        ["1024", "shared"],
        ["2048", "open"],
        ["2048", "none"],
    ]


@pytest.mark.parametrize("text", ["key_bits", "key_bits=", "key_bits=1024,", "key_bits=1,1"])
def test_what_is_no_factor_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="expected a setting and different values"):
        Factor.parse(text)


def test_weak_keys_are_allowed_and_no_training_stops_early() -> None:
    weak = sweep.resolve("cost-study", {"key_bits": "1024"})
    strong = sweep.resolve("cost-study", {"key_bits": "2048"})
    assert (weak.encryption.insecure_key, strong.encryption.insecure_key) == (True, False)
    assert weak.training.patience == weak.training.epochs


def test_factors_make_a_factorization_machine() -> None:
    assert sweep.resolve("cost-study", {"factors": "3"}).training.n_factors == 3
    assert sweep.resolve("shop-bank-telco", {"factors": "0"}).training.n_factors == 0


def test_made_up_data_can_have_other_sizes() -> None:
    levels = {"rows": "40", "columns": "3", "parties": "4"}
    scenario = sweep.resolve("cost-study", levels)
    tables = [scenario.dataset(party) for party in scenario.parties]
    assert [table.n_rows for table in tables] == [40] * 4
    assert [len(table.kinds) for table in tables] == [3] * 4
    assert not tables[2].columns.equals(tables[3].columns)


@pytest.mark.parametrize("factor", ["rows", "columns", "parties"])
def test_real_data_cannot(factor: str) -> None:
    with pytest.raises(SettingsError, match="vary it in the scenario 'cost-study'"):
        sweep.resolve("breast-cancer", {factor: "30"})


def test_one_party_is_too_few() -> None:
    with pytest.raises(SettingsError, match="expected two parties or more"):
        sweep.resolve("cost-study", {"parties": "1"})


def test_finished_cells_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [Cell({"seed": str(n)}, 0, sweep.resolve("cost-study", {"seed": str(n)})) for n in "01"]
    (tmp_path / "cells").mkdir()
    for cell in cells:
        kept = Outcome(cell.levels, 0, cpu_seconds=2.0, predicted_cpu_seconds=1.0)
        path = tmp_path / "cells" / f"{cell.name}.json"
        path.write_bytes(sweep._OUTCOME.dump_json(kept))

    def never(*arguments: object) -> None:
        raise AssertionError("a cell was run again")

    monkeypatch.setattr(sweep, "ProcessPoolExecutor", never)
    heard: list[int] = []
    outcomes = sweep.sweep(cells, tmp_path, lambda done, outcome: heard.append(done))
    assert heard == [1, 2]
    assert [one.ratio for one in outcomes] == [0.5, 0.5]
    assert list(pd.read_csv(tmp_path / "cells.csv")["predicted_to_measured"]) == [0.5, 0.5]


def test_a_refused_cell_says_why() -> None:
    refused = sweep.measure(
        Cell({}, 0, sweep.resolve("cost-study", {"batch_size": "20", "key_bits": "512"}))
    )
    assert refused.refused is not None
    assert "batch_size = 80 or more" in refused.refused


def test_the_exponent_of_growth() -> None:
    grown = [outcome("1024", "open", 1.0, 0.5), outcome("2048", "open", 8.0, 0.5)]
    assert sweep.exponent(grown, "key_bits") == pytest.approx(3)
    assert sweep.exponent(grown, "disclosure") is None


def test_nothing_on_the_front_is_beaten() -> None:
    cheap, good, beaten = (
        outcome("1024", "none", 1.0, 0.7),
        outcome("1024", "open", 2.0, 0.8),
        outcome("1024", "shared", 3.0, 0.75),
    )
    assert sweep.pareto([beaten, good, cheap]) == [cheap, good]


def test_plots_are_drawn_of_every_factor(tmp_path: Path) -> None:
    outcomes = [
        outcome(bits, disclosure, float(bits) / 1000 * place, 0.9)
        for bits in ("1024", "2048")
        for place, disclosure in enumerate(("open", "shared"), 1)
    ]
    drawn = {path.name for path in sweep_plots.draw(outcomes, tmp_path)}
    assert drawn == {
        "cost-key_bits.png",
        "bytes-key_bits.png",
        "cost-disclosure.png",
        "bytes-disclosure.png",
        "accuracy-cost.png",
        "predicted-measured.png",
    }
    assert all((tmp_path / name).with_suffix(".svg").stat().st_size for name in drawn)


def test_seconds_of_a_stack_add_up() -> None:
    parts = sweep_plots._seconds(outcome("1024", "open", 4.0, 0.9))
    assert parts == {
        "alignment": 0.1,
        "training: encryptions": 2.0,
        "training: everything else": 2.0,
    }
