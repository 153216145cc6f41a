"""The author of a scenario file: it names a function, which ran when somebody did no more than check the file.

``function = "subprocess:check_output"`` ran a shell command in ``colonnade check``; a module of the author's own ran
when it was imported. Now nothing is imported before the person has allowed the module.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from protocol.errors import SettingsError
from scenarios import consent
from scenarios.commands.main import BAD_INPUT, main
from scenarios.party import FunctionCall
from scenarios.scenario import load

Allow = Callable[..., None]


@pytest.fixture
def hostile(tmp_path: Path, allowing: Allow, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a module that leaves a mark as soon as it is imported."""
    folder = tmp_path / "project"
    folder.mkdir()
    mark = f"Path({str(folder / 'mark')!r}).touch()"
    table = (
        "def table(part):\n"
        "    import pandas as pd\n"
        "    n = 300\n"
        "    own = {'a': [0, 1] * 150} if part == 'shop' else {'b': [i % 7 for i in range(n)]}\n"
        "    return pd.DataFrame({'user': range(n), 'x': [i % 11 for i in range(n)], **own})\n"
    )
    (folder / "harvest.py").write_text(f"from pathlib import Path\n{mark}\n{table}")
    parties = "".join(
        f"""
        [[parties]]
        name = "{name}"
        role = "{role}"
        function = "harvest:table"
        arguments = {{ part = "{name}" }}
        id = "user"
        {label}
        """
        for name, role, label in (("shop", "label", 'label = "a"'), ("bank", "feature", ""))
    )
    weak = "[encryption]\nkey_bits = 512\ninsecure_key = true\n[training]\nepochs = 1\n"
    (folder / "scenario.toml").write_text(weak + parties)
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("harvest", None)
    return folder


def invoke(folder: Path, *arguments: str) -> Result:
    file = str(folder / "scenario.toml")
    places = {
        "run": ["--runs", str(folder / "runs")],
        "align": ["--folder", str(folder / "aligned")],
    }
    command, *options = arguments
    return CliRunner().invoke(main, [command, file, *places.get(command, []), *options])


COMMANDS = ("check", "run", "align", "plan", "cost")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_or_imports_what_was_not_allowed(hostile: Path, command: str) -> None:
    result = invoke(hostile, command)
    assert result.exit_code == BAD_INPUT
    assert "harvest:table' is code that would run on this machine" in result.stderr
    assert "--allow-code harvest" in result.stderr
    assert not (hostile / "mark").exists()
    assert "harvest" not in sys.modules


@pytest.mark.parametrize("processes", [False, True])
def test_what_is_allowed_runs_and_is_remembered_for_its_folder_alone(
    hostile: Path, processes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(hostile), prepend=":")
    result = invoke(hostile, "check", "--allow-code", "harvest")
    assert result.exit_code == 0, result.output + result.stderr
    assert (hostile / "mark").exists()
    assert consent.memory().stat().st_mode & 0o077 == 0
    assert json.loads(consent.memory().read_text()) == {str(hostile): ["harvest"]}

    monkeypatch.setattr(consent, "_allowed", set[str]())  # another process, another day
    result = invoke(hostile, "run", *(["--processes"] if processes else []))
    assert result.exit_code == 0, result.output + result.stderr
    monkeypatch.setattr(consent, "_allowed", set[str]())
    elsewhere = hostile.parent / "elsewhere"
    elsewhere.mkdir()
    (hostile / "scenario.toml").rename(elsewhere / "scenario.toml")
    assert invoke(elsewhere, "check").exit_code == BAD_INPUT


def test_a_shell_command_is_refused_as_any_other_module(
    scenario_file: Path, allowing: Allow, tmp_path: Path
) -> None:
    text = scenario_file.read_text()
    call = f'function = "subprocess:check_output"\narguments = {{ args = ["touch", "{tmp_path}/mark"] }}'
    scenario_file.write_text(text.replace('csv = "bank.csv"', call))
    result = CliRunner().invoke(main, ["check", str(scenario_file)])
    assert result.exit_code == BAD_INPUT
    assert not (tmp_path / "mark").exists()


def test_a_permission_beside_the_file_is_none(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought = hostile / "colonnade"
    brought.mkdir()
    (brought / "allowed-code.json").write_text(json.dumps({str(hostile): ["harvest"]}))
    assert invoke(hostile, "check").exit_code == BAD_INPUT


def test_a_plug_in_asks_as_well(scenario_file: Path, allowing: Allow) -> None:
    text = scenario_file.read_text()
    scenario_file.write_text(text.replace('csv = "bank.csv"', 'source = "warehouse"'))
    scenario = load(str(scenario_file))
    with pytest.raises(SettingsError, match="bank: 'warehouse' is code that would run"):
        scenario.dataset(scenario.parties[1])


def test_ready_made_tables_need_no_permission_and_nothing_else_of_their_modules_has_it(
    allowing: Allow, tmp_path: Path
) -> None:
    for code in consent.READY_MADE:
        assert callable(FunctionCall(function=code).find(tmp_path, "shop"))
    for code in ("scenarios.catalog.movielens:download", "scenarios.catalog.bundled:resources"):
        with pytest.raises(SettingsError, match="is code that would run"):
            FunctionCall(function=code).find(tmp_path, "shop")


def test_a_memory_that_is_damaged_remembers_nothing(allowing: Allow, tmp_path: Path) -> None:
    consent.memory().parent.mkdir(parents=True)
    for text in ("[" * 100_000, "[]", "{", ""):
        consent.memory().write_text(text)
        with pytest.raises(SettingsError):
            consent.require("harvest:table", tmp_path, "shop")
