from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from parties.dataset import IdKind
from protocol.errors import DataError, SettingsError
from scenarios.party import PartySettings
from scenarios.scenario import Scenario, catalog, load

# Too few people for a factorization machine to keep their labels; anyone can download these.
PUBLIC_DATA = {"restaurants", "two-cinemas"}


def test_the_catalogue_loads_and_is_safe_by_default() -> None:
    scenarios = catalog()
    assert "breast-cancer" in [scenario.name for scenario in scenarios]
    for scenario in scenarios:
        assert scenario.title
        assert scenario.training.guard == "strict" or scenario.name in PUBLIC_DATA
        assert scenario.encryption.key_bits >= 2048


def test_kinds_of_ids_are_declared_for_all_or_one_by_one(scenario_file: Path) -> None:
    data = tomllib.loads(scenario_file.read_text())
    del data["parties"][0]["id"]
    party = PartySettings.model_validate(
        data["parties"][0]
        | {
            "ids": {"user": "user", "item": "x0"},
            "id_kind": "text",
            "id_kinds": {"item": "integer"},
        }
    )
    assert party.kinds_by_entity == {"user": IdKind.TEXT, "item": IdKind.INTEGER}
    assert load(str(scenario_file)).label_party.kinds_by_entity == {}


def test_changes_by_full_name_by_short_name_and_for_a_party(scenario_file: Path) -> None:
    changes = [
        "training.epochs=9",
        "batch_size=33",
        "seed=5",
        "optimizer=sgd",
        'parties.bank.categorical=["colour"]',
        "learning_rate=0.5",
    ]
    scenario = load(str(scenario_file), changes)
    assert (scenario.training.epochs, scenario.training.batch_size, scenario.seed) == (9, 33, 5)
    assert scenario.training.optimizer == "sgd"
    assert scenario.feature_parties[0].categorical == ["colour"]
    assert load(str(scenario_file), changes, seed=6).seed == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epohs=3", "there is no setting epohs; did you mean epochs?"),
        ("epochs.x=3", "there is no setting epochs; did you mean training.epochs?"),
        ("parties=[3]", "parties.number 1: input should be a valid dictionary"),
        (
            "training.lerning_rate=3",
            "there is no setting training.lerning_rate; did you mean training.learning_rate?",
        ),
        ("epochs=many", "training.epochs: input should be a valid integer, got 'many'"),
        ("epochs=0", "training.epochs: input should be greater than or equal to 1, got 0"),
        (
            "optimizer=newton",
            "training.optimizer: input should be 'auto', 'quasi-newton', 'adam' or 'sgd', got 'newton'",
        ),
        ("optimizer=quasi-newton", "leave batch_size out, or use 'adam'"),
        ("epochs", "expected key=value"),
        ("alignment.method=bloom", "input should be 'keyed-hash' or 'ecdh', got 'bloom'"),
        ("pad_to=0", "alignment.pad_to: input should be greater than or equal to 1, got 0"),
        ("parties.bank.id_kind=float", "input should be 'integer' or 'text', got 'float'"),
        ('parties.bank.id_kinds={ item = "text" }', "id_kinds names ['item']; expected entities"),
        ("parties.nobody.csv=x.csv", "there is no party 'nobody'"),
        ("parties.bank=3", "expected parties.NAME.SETTING=value"),
        (
            'parties.bank.function="a:b"',
            "parties.bank: expected exactly one of csv, parquet, sql, function, source, got 2",
        ),
        ("parties.bank.url=sqlite:///x.db", "url belongs to sql, not to csv"),
        (
            'parties.bank.arguments={path="x"}',
            "arguments belongs to function or source, not to csv",
        ),
        ('parties.bank.delimiter="::"', "parties.bank.delimiter: string should have at most 1"),
        ("parties.bank.options.colour.max_categories=1", "should be greater than or equal to 2"),
        (
            "parties.bank.options.colour.bucket=8",
            "there is no setting parties.bank.options.colour.b",
        ),
        ("parties.bank.role=label", "parties.bank: expected label, the column with the outcome"),
        ("parties.bank.label=y", "parties.bank: expected no label at a feature party"),
        ("parties.bank.name=telco", "expected party names that differ"),
        ("parties.bank.name=coordinator", "expected party names that differ"),
        ("parties.bank.entity=item", "shop holds no ids of entity ['item']"),
        ("parties.bank.nam=x", "there is no setting parties.bank.nam; did you mean"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(scenario_file: Path, change: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(str(scenario_file), [change])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "is not valid TOML"),
        ('title = "x"', "the setting parties is missing"),
        (
            '[[parties]]\nname = "a"\nrole = "label"\ncsv = "a.csv"\nid = "i"\nlabel = "y"',
            "at least 2",
        ),
    ],
)
def test_a_broken_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        load(str(file))


def test_an_unknown_name_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no scenario 'brest-cancer'"):
        load("brest-cancer")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        load(str(binary))


def test_csv_paths_start_at_the_scenario_file(
    scenario_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    scenario = load(str(scenario_file))
    assert scenario.dataset(scenario.label_party).n_rows == 300


@pytest.mark.parametrize(
    "function", ["nowhere:f", "scenarios.catalog.bundled:nothing", "scenarios.catalog.bundled"]
)
def test_a_function_that_cannot_be_found_is_explained(
    scenario_file: Path, function: str, allowing: Callable[..., None]
) -> None:
    allowing("nowhere", "scenarios.catalog.bundled")
    scenario = load("breast-cancer", [f"parties.clinic.function={function}"])
    with pytest.raises(SettingsError, match="cannot be found; expected 'module:name'"):
        scenario.dataset(scenario.label_party)


def test_a_function_must_return_a_table(allowing: Callable[..., None]) -> None:
    allowing("platform")
    scenario = load("breast-cancer", ['parties.clinic.function="platform:uname"'])
    with pytest.raises(SettingsError, match="cannot be called: got an unexpected keyword arg"):
        scenario.dataset(scenario.label_party)
    scenario = load("breast-cancer", ['parties.clinic.function="platform:uname"'])
    party = scenario.label_party.model_copy(update={"arguments": {}})
    with pytest.raises(
        DataError, match=r"platform:uname: expected a DataFrame .* got uname_result"
    ):
        scenario.dataset(party)


@pytest.mark.parametrize(
    "change",
    [
        "parties.bank.url=postgresql://bank:hunter2@localhost/bank",
        "parties.bank.url=postgresql://localhost/bank?password=hunter2",
        'parties.bank.arguments={api_key="hunter2"}',
    ],
)
def test_a_password_belongs_in_the_environment(scenario_file: Path, change: str) -> None:
    with pytest.raises(SettingsError, match=r"environment variable.* 'env:NAME'") as error:
        load(str(scenario_file), [change])
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change", ['url=["postgresql://hunter2@localhost"]', 'arguments=["hunter2"]']
)
def test_what_may_hold_a_password_is_not_shown(scenario_file: Path, change: str) -> None:
    with pytest.raises(SettingsError, match="input should be a valid") as error:
        load(str(scenario_file), [f"parties.bank.{change}"])
    assert "hunter2" not in str(error.value)


def test_settings_of_a_run_read_the_same_table_again(scenario_file: Path) -> None:
    changes = ["parties.bank.options.colour.max_categories=2", "parties.bank.missing=neutral"]
    scenario = load(str(scenario_file), changes)
    again = Scenario.model_validate_json(scenario.model_dump_json())
    assert again == scenario
    table = again.dataset(again.feature_parties[0])
    assert table.options["colour"].max_categories == 2
