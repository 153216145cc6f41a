from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from protocol.errors import PartyUnavailableError, SettingsError
from protocol.ledger import Progress
from scenarios.commands.main import main
from scenarios.judging import baselines
from scenarios.running import processes, runner
from scenarios.running.organisation import Organisation, Say
from scenarios.running.runner import Run
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


def weights(run: Run) -> list[bytes]:
    halves = [run.label_party.trained, *run.feature_parties.values()]
    return [half.model.parameters.tobytes() for half in halves]


@pytest.mark.parametrize("disclosure", ["open", "none"])
def test_processes_end_with_the_weights_of_one_process(
    disclosure: str, load_scenario: LoadScenario
) -> None:
    scenario = load_scenario(f"disclosure={disclosure}", "epochs=2", "n_jobs=1")
    heard: list[tuple[int, int]] = []
    apart = processes.run(scenario, lambda *done: heard.append(done))
    together = runner.run(scenario)
    assert weights(apart) == weights(together)
    assert apart.label_party.trained.model.bias == together.label_party.trained.model.bias
    np.testing.assert_array_equal(apart.label_party.test_logits, together.label_party.test_logits)
    assert baselines.compare(apart).scores == baselines.compare(together).scores
    assert apart.shared == together.shared
    assert apart.warnings == together.warnings
    assert heard[-1] == (4, 4)
    assert sum(epoch.best for epoch in apart.label_party.trained.history) >= 1
    for name, ledger in together.ledgers.items():
        kinds = [(one.receiver, one.kind, one.size) for one in apart.ledgers[name].sent]
        assert kinds == [(one.receiver, one.kind, one.size) for one in ledger.sent]
        assert apart.ledgers[name].counts == ledger.counts
        assert len(apart.ledgers[name].rounds) == len(ledger.rounds) == 4
    for name, party in together.feature_parties.items():
        other = apart.feature_parties[name]
        assert other.guard.opened == party.guard.opened
        assert other.guard.withheld == party.guard.withheld
        assert other.matrix.clipped == party.matrix.clipped


@pytest.mark.parametrize("kind", ["csv", "parquet", "sql", "an environment variable"])
def test_every_source_is_found_from_a_process(
    kind: str,
    load_scenario: LoadScenario,
    tables: dict[str, pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowing: Callable[..., None],
) -> None:
    allowing("env:BANK_DB")
    scenario = load_scenario()
    bank = scenario.feature_parties[0]
    if kind == "parquet":
        tables["bank"].to_parquet(scenario.folder / "bank.parquet")
        bank = bank.model_copy(update={"csv": None, "parquet": "bank.parquet"})
    elif kind != "csv":
        with closing(sqlite3.connect(scenario.folder / "bank.db")) as database:
            tables["bank"].to_sql("people", database, index=False)
        url = "sqlite:///bank.db"
        monkeypatch.setenv("BANK_DB", url)
        url = url if kind == "sql" else "env:BANK_DB"
        bank = bank.model_copy(update={"csv": None, "sql": "SELECT * FROM people", "url": url})
    parties = [scenario.parties[0], bank, scenario.parties[2]]
    scenario = scenario.model_copy(update={"parties": parties})
    (tmp_path / "apart").mkdir()
    configurations = processes.prepare(scenario, tmp_path / "apart")
    found = Organisation.read(configurations["bank"]).table()
    pd.testing.assert_frame_equal(found.columns, scenario.dataset(bank).columns)


# The bank's process dies when it is about to keep its half after the third epoch.
DYING = """
import os, sys
from protocol.training.checkpoints import Checkpoints
def dies(self, state, save=Checkpoints.save):
    if state.done == 3 and "bank" in sys.argv[2]:
        os.kill(os.getpid(), 9)
    save(self, state)
Checkpoints.save = dies
"""


def test_processes_take_up_a_training_that_broke_and_begin_a_new_one_clean(
    load_scenario: LoadScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_STOP_SECONDS", 0.2)
    scenario, folder = load_scenario("epochs=4", "n_jobs=1"), tmp_path / "kept"
    *python, entry = processes.COLONNADE
    heard: list[int] = []
    for _ in range(2):  # the second time without resume, where there is what the first one left
        heard.clear()
        with pytest.raises(PartyUnavailableError, match=r"^bank stopped: its process .* --resume"):
            processes.run(
                scenario,
                lambda done, total: heard.append(done),
                command=(*python, DYING + entry),
                keep_in=folder,
            )
        assert heard[0] == 1
        assert sorted(path.name for path in (folder / "bank").iterdir())[:2] == [
            "epoch-000001",
            "epoch-000002",
        ]
    heard.clear()
    taken_up = processes.run(
        scenario, lambda done, total: heard.append(done), keep_in=folder, resume=True
    )
    assert heard[0] == 5
    assert weights(taken_up) == weights(runner.run(scenario))
    assert list(folder.iterdir()) == []


def test_a_party_that_stops_is_named(load_scenario: LoadScenario, tmp_path: Path) -> None:
    scenario = load_scenario("parties.telco.id=user", "epochs=1")
    folder = tmp_path / "deployed"
    folder.mkdir()
    configurations = processes.prepare(scenario, folder)
    telco = scenario.folder / "telco.csv"
    text = (
        telco.read_text(encoding="utf-8").replace("user", "nobody").replace("nobody,", "user,", 1)
    )
    telco.write_text(text, encoding="utf-8")
    with pytest.raises(PartyUnavailableError, match=r"\w+ stopped: \w+ shares no 'user'"):
        asyncio.run(
            processes.supervise(
                configurations, processes.COLONNADE, lambda *_: None, lambda _: None
            )
        )


def test_what_can_be_refused_is_refused_before_any_process(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "prepare", lambda *_: pytest.fail("a process was prepared"))
    with pytest.raises(SettingsError, match="key_bits is 77"):
        processes.run(load_scenario("key_bits=77"))


def test_the_command_shows_their_lines_and_the_same_table(
    scenario_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(scenario: Scenario, progress: Progress, say: Say, **_: object) -> Run:
        say("bank: connected")
        return runner.run(scenario, progress)

    monkeypatch.setattr(processes, "run", run)
    runs = ["--runs", str(tmp_path / "runs"), "--set", "epochs=1"]
    result = CliRunner().invoke(main, ["run", str(scenario_file), "--processes", *runs])
    assert result.exit_code == 0, result.output
    for words in ("joint, federated", "pooled plaintext", "bank: connected", "1 epoch of"):
        assert words in result.output
