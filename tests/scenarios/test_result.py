from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from scenarios.judging.baselines import JOINT, compare
from scenarios.result import Result
from scenarios.running import runner
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


@pytest.fixture
def result(load_scenario: LoadScenario) -> Result:
    return Result(runner.run(load_scenario("epochs=2")))


def test_scores_are_those_of_the_comparison(result: Result) -> None:
    expected = compare(result.run).scores
    assert result.scores.index.tolist() == list(expected)
    assert result.scores.loc[JOINT, "auc"] == expected[JOINT].auc
    assert result.rankings.empty


def test_it_prints_scores_and_no_table_of_anyones(result: Result) -> None:
    assert JOINT in repr(result)
    assert "example.org" not in repr(result) + repr(result.run)


def test_costs_are_those_of_the_ledgers(result: Result) -> None:
    costs = result.costs.groupby(level="party").sum()
    for name, ledger in result.run.ledgers.items():
        assert costs.loc[name, "messages sent"] == len(ledger.sent)
        sizes = sum(record.size for record in ledger.sent)
        assert costs.loc[name, "kB sent"] == pytest.approx(sizes / 1000)
        assert costs.loc[name, "ciphertexts sent"] == ledger.total("ciphertexts sent")


def test_everyone_sees_what_was_learned_from_whose_messages(result: Result) -> None:
    table = result.disclosures
    sent = sum(len(ledger.sent) for ledger in result.run.ledgers.values())
    assert table["messages"].sum() == sent
    assert table["party"].unique().tolist() == list(result.run.ledgers)
    assert not table.duplicated(["party", "kind"]).any()


def test_a_notebook_shows_it_escaped(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    text = result._repr_html_()
    for said in (
        "260 shared users; 2 epochs",
        "Paillier keys of 512 bits",
        JOINT,
        "Who learned what",
    ):
        assert said in text
    assert "Warning:" not in text
    costs = pd.DataFrame({"seconds": [1.0]}, index=pd.Index(["<b>bank</b>"], name="party"))
    monkeypatch.setattr(Result, "costs", costs)
    monkeypatch.setattr(runner.Run, "warnings", ["<script>"])
    text = result._repr_html_()
    assert "&lt;b&gt;bank" in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
