from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from protocol.errors import SettingsError
from scenarios.check import check
from scenarios.commands.main import main
from scenarios.running import runner
from scenarios.scenario import Scenario, load

Load = Callable[..., Scenario]


def numbers(scenario: Scenario, title: str) -> dict[str, list[str]]:
    (section,) = [one for one in check(scenario).sections if one.title.startswith(title)]
    return {row[0]: list(row[1:]) for row in section.rows}


def test_the_rehearsal_foretells_the_run(load_scenario: Load) -> None:
    scenario = load_scenario("epochs=1", "disclosure=none")
    run = runner.run(scenario)
    split = run.label_party.trained.split
    used = numbers(scenario, "Rows in use")
    assert used["training"] == [f"{len(split.training_samples)}", f"{len(split.batches)}"]
    assert used["validation"][0] == f"{len(split.validation)}"
    guards = numbers(scenario, "Guards")
    for name, party in run.feature_parties.items():
        assert guards[name][0] == f"{party.matrix.n_columns}"
    assert numbers(scenario, "Shared")["bank"][0] == "280 of 300"


def test_tables_and_columns_are_described(load_scenario: Load) -> None:
    report = check(load_scenario())
    assert report.problems == []
    columns = next(one for one in report.sections if one.title == "Columns")
    assert ["", "colour", "categorical", "0%", "3"] in [list(row) for row in columns.rows]


def test_every_bad_table_is_named_at_once(scenario_file: Path) -> None:
    changes = ["parties.bank.csv=nowhere.csv", 'parties.telco.numeric=["x9"]', "insecure_key=false"]
    first, second, third = check(load(str(scenario_file), changes)).problems
    assert "nowhere.csv cannot be read" in first
    assert "telco: column 'x9' is declared" in second
    assert "insecure_key = true" in third


def test_one_party_checks_its_own_side_alone(scenario_file: Path) -> None:
    scenario = load(str(scenario_file), ["parties.bank.csv=nowhere.csv"])
    report = check(scenario, "telco")
    assert report.problems == []
    assert [row[0] for row in report.sections[0].rows] == ["telco"]
    with pytest.raises(SettingsError, match="there is no party 'bnk'"):
        check(scenario, "bnk")


def test_what_the_guards_would_refuse_is_a_problem(load_scenario: Load) -> None:
    (problem, *_) = check(load_scenario("batch_size=16")).problems
    assert "batch_size = 64 or more" in problem
    report = check(load_scenario("batch_size=16", "guard=warn"))
    assert not report.problems
    assert "batch_size = 64 or more" in report.warnings[0]


def test_what_a_run_refuses_from_one_table_alone_is_a_problem_of_that_side(
    load_scenario: Load,
) -> None:
    (problem,) = check(load_scenario("batch_size=16"), "telco").problems
    assert "telco has 2 columns but batches of 16" in problem
    for party in (None, "shop"):
        (problem,) = check(load_scenario("ranking.k=5"), party).problems
        assert "recommending needs ids of the entities 'user' and 'item'" in problem
    too_wide = ["disclosure=shared", "logit_bound=1000"]
    (problem,) = check(load_scenario(*too_wide), "telco").problems
    assert "lower logit_bound" in problem


def test_the_command_ends_with_yes_or_with_lines_to_act_on(scenario_file: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(scenario_file)])
    assert result.exit_code == 0, result.output
    assert "Nothing stands in the way" in result.output
    bad = ["--set", "batch_size=16", "--set", "parties.bank.csv=nowhere.csv"]
    result = CliRunner().invoke(main, ["check", str(scenario_file), *bad])
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert "nowhere.csv" in first
    assert "telco has 2 columns but batches of 16" in second
