"""The author of a scenario file: it names a function, which ran when somebody did no more than check the file.

``function = "subprocess:check_output"`` ran a shell command in ``colonnade check``; a module of the author's own ran
when it was imported. It named any file, by an absolute path or a link, and its sql dropped tables. Now nothing is
imported, read outside the file's own folder or connected to before the person has allowed it by name; sql only reads.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from parties import files
from parties.errors import DataError
from parties.sources import SqlSource
from protocol.errors import SettingsError
from scenarios import consent
from scenarios.commands.main import BAD_INPUT, main
from scenarios.party import FunctionCall
from scenarios.running import processes
from scenarios.running.organisation import Organisation
from scenarios.running.recommend import recommend
from scenarios.scenario import Scenario, load

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
    assert "--allow harvest" in result.stderr
    assert not (hostile / "mark").exists()
    assert "harvest" not in sys.modules


@pytest.mark.parametrize("processes", [False, True])
def test_what_is_allowed_runs_and_is_remembered_for_its_folder_alone(
    hostile: Path, processes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(hostile), prepend=":")
    result = invoke(hostile, "check", "--allow", "harvest")
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
            consent.require([consent.Request.code("harvest:table")], tmp_path, "shop")


def test_an_allowed_module_lends_nobody_what_it_has_imported(
    hostile: Path, allowing: Allow
) -> None:
    (hostile / "harvest.py").write_text("from subprocess import check_output\n")
    allowing("harvest")
    call = FunctionCall(function="harvest:check_output", arguments={"args": ["true"]})
    with pytest.raises(SettingsError, match="cannot be found"):
        call(hostile, "shop")


# Files of other people's business.


@pytest.fixture
def elsewhere(tmp_path: Path, tables: dict[str, pd.DataFrame]) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    tables["bank"].to_csv(folder / "bank.csv", index=False)
    tables["bank"].to_parquet(folder / "bank.parquet")
    (folder / "bank.parquets").mkdir()
    for part in ("1", "2"):
        half = tables["bank"].iloc[int(part) - 1 :: 2]
        half.to_parquet(folder / "bank.parquets" / f"part-{part}.parquet")
    with sqlite3.connect(folder / "bank.db") as database:
        tables["bank"].to_sql("bank", database, index=False)
    database.close()
    return folder


@pytest.fixture
def project(scenario_file: Path, tmp_path: Path) -> Path:
    """A folder with the three tables, a party of which names something else."""
    folder = tmp_path / "project"
    folder.mkdir()
    for path in (scenario_file, *tmp_path.glob("*.csv")):
        path.rename(folder / path.name)
    return folder


def name_for_the_bank(project: Path, source: str) -> Path:
    file = project / "three.toml"
    file.write_text(file.read_text().replace('csv = "bank.csv"', source))
    return file


def by_spelling(paths: list[Path], folder: Path) -> list[Path]:
    """The weaker variant: a path that does not say that it leads elsewhere does not."""
    spelled = [(path, os.path.normpath(path)) for path in paths]
    return [path for path, text in spelled if not text.startswith(os.path.normpath(folder))]


ELSEWHERE = {
    "an absolute path": 'csv = "{elsewhere}/bank.csv"',
    "a way up": 'csv = "../elsewhere/bank.csv"',
    "a way up and down": 'csv = "../project/../elsewhere/bank.csv"',
    "a link": 'csv = "link.csv"',
    "a folder that is a link": 'csv = "linked/bank.csv"',
    "a Parquet file": 'parquet = "{elsewhere}/bank.parquet"',
    "a link in a folder of Parquet files": 'parquet = "parts"',
    "a folder of Parquet files": 'parquet = "{elsewhere}/bank.parquets"',
    "a database": 'sql = "SELECT * FROM bank"\nurl = "sqlite:///{elsewhere}/bank.db"',
    "a database, by a way up": 'sql = "SELECT * FROM bank"\nurl = "sqlite:///../elsewhere/bank.db"',
}


@pytest.mark.parametrize("way", ELSEWHERE)
@pytest.mark.parametrize("weaker", [False, True])
def test_a_file_elsewhere_is_not_read_unless_it_is_allowed(
    project: Path, elsewhere: Path, way: str, weaker: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "link.csv").symlink_to(elsewhere / "bank.csv")
    (project / "linked").symlink_to(elsewhere)
    (project / "parts").mkdir()
    (project / "parts" / "part-1.parquet").symlink_to(elsewhere / "bank.parquet")
    file = name_for_the_bank(project, ELSEWHERE[way].format(elsewhere=elsewhere))
    if weaker:
        monkeypatch.setattr(consent, "outside", by_spelling)
    result = CliRunner().invoke(main, ["check", str(file)])
    if weaker and "link" in way:
        assert result.exit_code == 0
        return
    assert result.exit_code == BAD_INPUT
    (line,) = result.stderr.splitlines()
    assert "would be read, outside the folder of the file that names it" in line
    assert f"--allow {elsewhere}/bank." in line
    for granted in (str(elsewhere), line.split("--allow ")[1].split(",")[0]):
        monkeypatch.setattr(consent, "_allowed", set[str]())
        result = CliRunner().invoke(main, ["check", str(file), "--allow", granted])
        assert result.exit_code == 0, result.output + result.stderr
        consent.memory().unlink()


def test_a_ready_made_function_reads_no_folder_that_the_file_names(project: Path) -> None:
    source = 'function = "scenarios.catalog.restaurants:restaurants"\narguments = { part = "profiles", path = "/etc" }'
    result = CliRunner().invoke(main, ["check", str(name_for_the_bank(project, source))])
    assert result.exit_code == BAD_INPUT
    assert "'/etc' would be read" in result.stderr


def test_what_is_named_on_the_command_line_needs_no_second_word(
    project: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = f"parties.bank.csv={elsewhere}/bank.csv"
    invoked = CliRunner().invoke(main, ["check", str(project / "three.toml"), "--set", change])
    assert invoked.exit_code == 0, invoked.output + invoked.stderr
    monkeypatch.chdir(project)
    tables = ["shop.csv", str(elsewhere / "bank.csv")]
    drafted = ["--yes", "--label", "bought", "--output", "drafted.toml"]
    assert CliRunner().invoke(main, ["init", *tables, *drafted]).exit_code == 0
    monkeypatch.setattr(consent, "_allowed", set[str]())
    checked = CliRunner().invoke(main, ["check", "drafted.toml"])
    assert checked.exit_code == 0, checked.output + checked.stderr


def test_all_that_a_party_asks_for_is_asked_at_once(project: Path) -> None:
    source = 'sql = "SELECT 1"\nurl = "postgresql+psycopg://bank.example.org/bank?sslcert=x"'
    result = CliRunner().invoke(main, ["check", str(name_for_the_bank(project, source))])
    assert result.exit_code == BAD_INPUT
    assert "would be connected to and asked with the file's own sql" in result.stderr
    assert "--allow 'postgresql+psycopg://bank.example.org/bank?sslcert=x'" in result.stderr


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://zoe@db/bank", "postgresql://db/bank"),
        ("mssql+pyodbc://?odbc_connect=DRIVER=x.so", "mssql+pyodbc://?odbc_connect=DRIVER%3Dx.so"),
        ("sqlite+pysqlcipher:///bank.db", "sqlite+pysqlcipher:///bank.db"),
        ("postgresql://db/bank?plugin=harvest", "postgresql://db/bank?plugin=harvest"),
        ("env:BANK_DB", "env:BANK_DB"),
    ],
)
def test_no_driver_is_loaded_and_nobody_connected_to_unless_it_is_allowed(
    project: Path, url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("sqlalchemy.create_engine", connect)
    monkeypatch.setenv("BANK_DB", "postgresql://bank:hunter2@db/bank")
    scenario = load(str(name_for_the_bank(project, f'sql = "SELECT 1"\nurl = "{url}"')))
    with pytest.raises(SettingsError) as refused:
        scenario.dataset(scenario.parties[1])
    assert f"bank: '{name}' would be connected to" in str(refused.value)
    assert "hunter2" not in str(refused.value)


# What sql may do.


HARMS = {
    "drop": "DROP TABLE bank",
    "delete": "DELETE FROM bank RETURNING *",
    "attach": "ATTACH '{folder}/other.db' AS other",
    "vacuum": "VACUUM INTO '{folder}/copy.db'",
    "two statements": "SELECT 1; DROP TABLE bank",
    "a comment first": "/* SELECT */ DROP TABLE bank",
    "a pragma": "PRAGMA writable_schema = 1",
    "a library": "SELECT load_extension('{folder}/evil.so')",
}


@pytest.mark.parametrize("harm", HARMS)
def test_sql_only_reads(elsewhere: Path, harm: str) -> None:
    before = {path: path.read_bytes() for path in elsewhere.glob("*.db")}
    query = HARMS[harm].format(folder=elsewhere)
    with pytest.raises(DataError, match=r"is only read|was asked for no rows"):
        SqlSource("sqlite:///bank.db", query, elsewhere).read()
    assert {path: path.read_bytes() for path in elsewhere.glob("*.db")} == before


def test_the_weaker_variant_drops_a_table(elsewhere: Path) -> None:
    with sqlite3.connect(elsewhere / "bank.db") as database:
        database.execute(HARMS["drop"])
    database.close()
    with pytest.raises(DataError, match="has no table that sql names"):
        SqlSource("sqlite:///bank.db", "SELECT * FROM bank", elsewhere).read()


def test_an_sqlite_url_opens_no_other_file_and_in_no_other_way(elsewhere: Path) -> None:
    before = set(elsewhere.iterdir())
    for url in (
        "sqlite:///file:bank.db?mode=rwc&uri=true",
        "sqlite:///bank.db?mode=rwc",
        "sqlite:///new.db",
        "sqlite:///bank.db%3Fmode=rwc",
    ):
        with pytest.raises(DataError):
            SqlSource(url, "SELECT 1", elsewhere).read()
    assert set(elsewhere.iterdir()) == before


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
            "answers with more than 1 MB",
        ),
        (
            "SELECT zeroblob(900000) UNION ALL SELECT zeroblob(900001)",
            "answers with more than 1 MB",
        ),
        ("SELECT zeroblob(999999999)", "has a cell of more than 16 MB"),
    ],
)
def test_an_answer_without_end_is_cut_off(
    query: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "TABLE_BYTES", 1_000_000)
    with pytest.raises(DataError, match=says):
        SqlSource("sqlite://", query).read()


# Modules that lie about.


@pytest.mark.parametrize("weaker", [False, True])
def test_a_module_in_the_current_folder_takes_no_library_s_place(
    tmp_path: Path, weaker: bool
) -> None:
    (tmp_path / "click.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    command = [part for part in processes.COLONNADE if not (weaker and part == "-P")]
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [*command, "--help"], cwd=tmp_path, env=usual, capture_output=True, check=False
    )
    assert (tmp_path / "mark").exists() == weaker
    assert (done.returncode == 0) != weaker


def test_what_a_command_starts_takes_none_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert CliRunner().invoke(main, ["scenarios"]).exit_code == 0
    code = "import sys; print(sys.flags.safe_path)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "True\n"


def test_a_run_folder_that_was_sent_has_no_rights_of_another(
    finished: Path, project: Path, allowing: Allow
) -> None:
    settings = json.loads((finished / "settings.json").read_text())
    settings |= {"folder": str(project)}
    settings["parties"][0] |= {"function": "harvest:table"}
    (finished / "settings.json").write_text(json.dumps(settings))
    allowing("harvest")
    consent.require([consent.Request.code("harvest:table")], project, "shop")
    consent._allowed.clear()  # another day
    with pytest.raises(SettingsError, match="would be read, outside the folder"):
        recommend(finished, "1", 5)
    shutil.rmtree(project)


def test_the_configuration_of_a_party_is_its_own_and_names_any_file(
    load_scenario: Callable[..., Scenario], elsewhere: Path, tmp_path: Path
) -> None:
    configurations = processes.prepare(load_scenario(), tmp_path)
    bank = configurations["bank"]
    bank.write_text(bank.read_text().replace("bank.csv", f"{elsewhere}/bank.csv"))
    assert Organisation.read(bank).table().n_rows == 300
    code = re.sub(r'"?csv"? = "[^"]*"', 'function = "h:t"', bank.read_text())
    bank.write_text(code)
    with pytest.raises(SettingsError, match="'h:t' is code that would run"):
        Organisation.read(bank).table()
