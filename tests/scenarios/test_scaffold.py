from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from protocol.errors import ColonnadeError, SettingsError
from scenarios.check import check
from scenarios.commands.main import main
from scenarios.scaffold import draft
from scenarios.scenario import Scenario, load


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A clinic with the outcome and a laboratory that knows most of its patients, under another name."""
    draw, n = np.random.default_rng(0), 400
    codes = np.array([f"{number:05d}" for number in range(n)])
    clinic = pd.DataFrame(
        {
            "patient": codes,
            "age": draw.integers(20, 90, n),
            "smoker": draw.choice(["yes", "no"], n),
            "postcode": draw.choice(["01067", "80331"], n),
            "relapsed": draw.integers(0, 2, n),
        }
    )
    laboratory = pd.DataFrame(
        {
            "code": draw.permutation(codes)[:300],
            "sample_id": draw.permutation(300),
            "iron": draw.normal(size=300),
            "taken": pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 900, 300), "D"),
            "town": draw.choice([f"town{k}" for k in range(80)], 300),
            "drugs": draw.choice(["a|b", "a", "b", "b|c", "c"], 300),
            "remark": [f"patient says number {k} is fine" for k in range(300)],
            "unit": "mg",
        }
    )
    clinic.to_csv(tmp_path / "Clinic 1.csv", index=False, sep=";")
    laboratory.to_parquet(tmp_path / "laboratory.parquet", index=False)
    return [tmp_path / "Clinic 1.csv", tmp_path / "laboratory.parquet"]


def drafted(files: Sequence[Path], label: str | None = None) -> Scenario:
    output = files[0].parent / "scenario.toml"
    output.write_text(draft(files, output, None, label), encoding="utf-8")
    return load(str(output))


def test_roles_ids_label_and_kinds_are_guessed(files: list[Path]) -> None:
    scenario = drafted(files)
    clinic, (laboratory,) = scenario.label_party, scenario.feature_parties
    assert (clinic.name, clinic.id, clinic.label) == ("clinic-1", "patient", "relapsed")
    assert (clinic.csv, clinic.delimiter) == ("Clinic 1.csv", ";")
    assert (clinic.numeric, clinic.categorical) == (["age"], ["smoker", "postcode"])
    assert (laboratory.parquet, laboratory.id) == ("laboratory.parquet", "code")
    assert laboratory.numeric == ["iron"]
    assert laboratory.datetime == ["taken"]
    assert laboratory.categorical == ["town"]
    assert laboratory.multi_valued == ["drugs"]
    assert laboratory.ignore == ["sample_id", "remark", "unit"]


def test_what_is_drafted_passes_the_check(files: list[Path]) -> None:
    scenario = drafted(files)
    assert check(scenario).problems == []
    assert scenario.feature_parties[0].options["town"].max_categories < 20


def test_a_label_that_is_no_0_and_1_gets_a_threshold(files: list[Path]) -> None:
    scenario = drafted(files, "age")
    assert scenario.label_party.label == "age"
    assert scenario.label_party.threshold == pytest.approx(55, abs=5)


def test_users_and_items_are_entities_of_their_own(tmp_path: Path) -> None:
    pairs = pd.DataFrame(
        [(user, 1000 + item) for user in range(120) for item in range(110)],
        columns=["customer", "product"],
    )
    pairs["bought"] = np.arange(len(pairs)) % 2
    pairs.to_csv(tmp_path / "shop.csv", index=False)
    people = pd.DataFrame({"customer": range(120), "income": np.arange(120) / 7})
    people.to_csv(tmp_path / "bank.csv.gz", index=False)
    things = pd.DataFrame({"sku": range(1000, 1110), "weight": np.arange(110) / 3})
    things.to_csv(tmp_path / "maker.csv", index=False, sep="\t")
    assert gzip.decompress((tmp_path / "bank.csv.gz").read_bytes()).startswith(b"customer")
    scenario = drafted([tmp_path / name for name in ("bank.csv.gz", "maker.csv", "shop.csv")])
    assert scenario.label_party.name == "shop"
    assert scenario.label_party.ids == {"user": "customer", "item": "product"}
    assert {party.name: party.entity for party in scenario.feature_parties} == {
        "bank": "user",
        "maker": "item",
    }
    assert check(scenario).problems == []


def test_questions_are_asked_only_where_a_guess_is_open(files: list[Path]) -> None:
    table = pd.read_csv(files[0], sep=";", dtype={"patient": str})
    table.assign(moved=table["relapsed"].to_numpy()[::-1]).to_csv(files[0], sep=";", index=False)
    output = files[0].parent / "scenario.toml"
    with pytest.raises(SettingsError, match=r"Which column is the outcome.*leave out --yes"):
        draft(files, output, None)
    arguments = ["init", *map(str, files), "--output", str(output)]
    result = CliRunner().invoke(main, arguments, input="2\n")
    assert result.exit_code == 0, result.output
    assert "2  clinic-1: moved" in result.output
    assert load(str(output)).label_party.label == "moved"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Clinic 1.csv"], "at least two parties, got 1"),
        (["Clinic 1.csv", "nowhere.csv"], "nowhere: "),
        (["Clinic 1.csv", "Clinic 1.csv", "--label", "height"], "no table has a column 'height'"),
        (["laboratory.parquet", "laboratory.parquet"], "no table has a column of 0 and 1"),
        (["Clinic 1.csv", "laboratory.parquet", "--label", "smoker"], "is no outcome to learn"),
        (["Clinic 1.csv", "other.csv"], "other has no column of different ids"),
        (["Clinic 1.csv", "laboratory.parquet", "--output", "."], "exists; move it"),
        (["Clinic 1.csv", "laboratory.parquet", "--output", "no/a.toml"], "cannot be written"),
    ],
)
def test_what_cannot_be_drafted_is_one_line(
    arguments: list[str], words: str, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files[0].parent)
    pd.DataFrame({"who": ["x", "y"], "z": [1.5, 2]}).to_csv("other.csv", index=False)
    result = CliRunner().invoke(main, ["init", "--yes", *arguments])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert words in line
    assert not Path("scenario.toml").exists()


def test_an_empty_table_is_one_line(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("id,y\n", encoding="utf-8")
    with pytest.raises(ColonnadeError) as error:
        draft([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "s.toml", None)
    assert len(str(error.value).splitlines()) == 1
