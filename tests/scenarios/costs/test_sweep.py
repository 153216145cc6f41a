from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from finished_sweep import outcome, swept

from protocol.errors import SettingsError
from scenarios.costs import experiments, findings, sweep
from scenarios.costs.experiments import Cell, Factor
from scenarios.costs.prediction import REST
from scenarios.costs.shapes import Shapes
from scenarios.costs.sweep import Outcome


def test_designs() -> None:
    factors = [Factor.parse("key_bits=2048,1024"), Factor.parse("disclosure=shared,open,none")]
    assert len(experiments.combine(factors, "full")) == 6
    one_at_a_time = experiments.combine(factors, "one-at-a-time")
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
    weak = experiments.resolve("cost-study", {"key_bits": "1024"})
    strong = experiments.resolve("cost-study", {"key_bits": "2048"})
    assert (weak.encryption.insecure_key, strong.encryption.insecure_key) == (True, False)
    assert weak.training.patience == weak.training.epochs


def test_factors_make_a_factorization_machine() -> None:
    assert experiments.resolve("cost-study", {"factors": "3"}).training.n_factors == 3
    assert experiments.resolve("shop-bank-telco", {"factors": "0"}).training.n_factors == 0


def test_made_up_data_can_have_other_sizes() -> None:
    levels = {"rows": "40", "columns": "3", "parties": "4"}
    scenario = experiments.resolve("cost-study", levels)
    tables = [scenario.dataset(party) for party in scenario.parties]
    assert [table.n_rows for table in tables] == [40] * 4
    assert [len(table.kinds) for table in tables] == [3] * 4
    assert not tables[2].columns.equals(tables[3].columns)


def test_real_data_can_have_fewer_parties_and_columns() -> None:
    fewer = experiments.resolve("shop-bank-telco", {"parties": "2"})
    assert [party.name for party in fewer.parties] == ["shop", "bank"]
    narrow = experiments.resolve("breast-cancer", {"columns": "12"})
    columns = {name: shape.columns for name, shape in Shapes.of(narrow).parties.items()}
    assert columns == {"clinic": 10, "laboratory": 12}


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        ("rows=30", "cannot be made with other rows"),
        ("columns=21", "expected 1 to 20, the most that a table of breast-cancer has"),
        ("columns=no", "expected 1 to 20"),
        ("parties=3", "breast-cancer has 2"),
    ],
)
def test_real_data_cannot_have_more(factor: str, said: str) -> None:
    name, _, level = factor.partition("=")
    with pytest.raises(SettingsError, match=said) as refused:
        experiments.resolve("breast-cancer", {name: level})
    assert "in the scenario 'cost-study'" in str(refused.value)


def test_a_dealer_that_is_left_out_is_one_clear_line() -> None:
    with pytest.raises(SettingsError, match="expected one of the feature parties"):
        experiments.resolve("shop-bank-telco", {"parties": "2"}, ["dealer=telco"])


def test_one_party_is_too_few() -> None:
    with pytest.raises(SettingsError, match="expected two parties or more"):
        experiments.resolve("cost-study", {"parties": "1"})


def test_finished_cells_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [
        Cell({"seed": str(n)}, 0, experiments.resolve("cost-study", {"seed": str(n)})) for n in "01"
    ]
    (tmp_path / "cells").mkdir()
    for cell in cells:
        kept = Outcome({"other": "design"}, 0, cpu_seconds=2.0, predicted_cpu_seconds=1.0)
        path = tmp_path / "cells" / f"{cell.name}.json"
        path.write_bytes(sweep._OUTCOME.dump_json(kept))

    def never(*arguments: object) -> None:
        raise AssertionError("a cell was run again")

    monkeypatch.setattr(sweep, "ProcessPoolExecutor", never)
    heard: list[int] = []
    outcomes = sweep.sweep(cells, tmp_path, lambda done, outcome: heard.append(done)).outcomes
    assert heard == [1, 2]
    assert [one.ratio for one in outcomes] == [0.5, 0.5]
    assert [one.levels for one in outcomes] == [cell.levels for cell in cells]
    assert list(pd.read_csv(tmp_path / "cells.csv")["predicted_to_measured"]) == [0.5, 0.5]


def test_a_refused_cell_says_why() -> None:
    refused = sweep.measure(
        Cell({}, 0, experiments.resolve("cost-study", {"batch_size": "20", "key_bits": "512"}))
    )
    assert refused.refused is not None
    assert "batch_size = 80 or more" in refused.refused


def test_the_exponent_of_growth() -> None:
    grown = [outcome("1024", "open", 1.0, 0.5), outcome("2048", "open", 8.0, 0.5)]
    assert findings.exponent(grown, "key_bits") == pytest.approx(3)
    assert findings.exponent(grown, "disclosure") is None


def test_nothing_on_the_front_is_beaten() -> None:
    cheap, good, beaten = (
        outcome("1024", "none", 1.0, 0.7),
        outcome("1024", "open", 2.0, 0.8),
        outcome("1024", "shared", 3.0, 0.75),
    )
    assert findings.pareto([beaten, good, cheap]) == [cheap, good]


def test_seconds_and_bytes_are_told_apart() -> None:
    one = outcome("1024", "open", 4.0, 0.9)
    assert findings.seconds_by_phase(one) == {"training": 4.0, "alignment": 0.1}
    assert findings.seconds_by_operation(one) == {"encryptions": 2.0, REST: 2.0}
    assert findings.bytes_by_link(one) == {"shop → bank": 1000}


def test_a_sweep_is_read_back(tmp_path: Path) -> None:
    outcomes = swept(tmp_path)
    found = sweep.read(tmp_path)
    assert found.outcomes == outcomes
    assert found.levels == {"key_bits": ["2048", "1024", "3072"], "disclosure": ["open", "none"]}
    assert found.has_weak_keys
    assert found.scenario.name == "cost-study"
    assert findings.refusals(outcomes) == {"key_bits 3072, disclosure none": "too few rows"}
