from __future__ import annotations

import gzip
import sqlite3
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars
import pytest

from parties import sources
from parties.dataset import PartyDataset
from parties.errors import DataError
from parties.source_contract import DataSourceContract
from parties.sources import (
    CallableSource,
    CsvSource,
    DataSource,
    ParquetSource,
    SqlSource,
    from_environment,
    plug_in,
    read_table,
)


class TestCsv(DataSourceContract):
    def make_source(self, folder: Path) -> DataSource:
        self.table().to_csv(folder / "table.csv", index=False)
        return CsvSource(folder / "table.csv", verbatim=["customer"])

    def make_broken_source(self, folder: Path) -> DataSource:
        return CsvSource(folder / "nowhere.csv")


class TestCsvOfAnotherKind(DataSourceContract):
    def make_source(self, folder: Path) -> DataSource:
        path = folder / "table.csv.gz"
        self.table().to_csv(path, index=False, sep=";", encoding="cp1252")
        return CsvSource(path, ";", "cp1252", verbatim=["customer"])

    def make_broken_source(self, folder: Path) -> DataSource:
        (folder / "table.csv.gz").write_bytes(gzip.compress(b"customer;income\n1;2\n")[:-9])
        return CsvSource(folder / "table.csv.gz", ";")


class TestParquet(DataSourceContract):
    def make_source(self, folder: Path) -> DataSource:
        self.table().to_parquet(folder / "table.parquet", index=False)
        return ParquetSource(folder / "table.parquet")

    def make_broken_source(self, folder: Path) -> DataSource:
        self.make_source(folder)
        path = folder / "table.parquet"
        path.write_bytes(path.read_bytes()[:-20])
        return ParquetSource(path)


class TestSqlite(DataSourceContract):
    def make_source(self, folder: Path) -> DataSource:
        with sqlite3.connect(folder / "bank.db") as database:
            self.table().to_sql("customers", database, index=False)
        database.close()
        return SqlSource("sqlite:///bank.db", "SELECT * FROM customers", folder)

    def make_broken_source(self, folder: Path) -> DataSource:
        return SqlSource("sqlite:///nowhere.db", "SELECT 1", folder)


class TestPolarsFromAFunction(DataSourceContract):
    def make_source(self, folder: Path) -> DataSource:
        def load() -> polars.DataFrame:
            return polars.from_pandas(self.table())

        return CallableSource(load, "bank:load")

    def make_broken_source(self, folder: Path) -> DataSource:
        def load() -> None:
            raise DataError("bank:load has moved; ask for the new name")

        return CallableSource(load, "bank:load")


def test_polars_and_pandas_frames_make_the_same_dataset() -> None:
    columns = {"user": [1, 2, 3], "tags": ["a|b", "a", "b"], "on": [True, False, None]}
    one = PartyDataset.from_frame("shop", polars.DataFrame(columns), ids={"user": "user"})
    other = PartyDataset.from_frame("shop", pd.DataFrame(columns), ids={"user": "user"})
    assert one.kinds == other.kinds
    pd.testing.assert_frame_equal(one.columns, other.columns)


def test_an_sqlite_file_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        SqlSource("sqlite:///nowhere.db", "SELECT 1", tmp_path).read()
    assert not list(tmp_path.iterdir())


def test_a_percent_sign_and_a_colon_are_plain_sql(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "bank.db").close()
    query = "SELECT '12:30' AS time, 'a%b' AS percent WHERE 'ab' LIKE 'a%'"
    assert SqlSource("sqlite:///bank.db", query, tmp_path).read().to_numpy().tolist() == [
        ["12:30", "a%b"]
    ]


def test_a_url_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "bank.db").close()
    monkeypatch.setenv("BANK_DB", f"sqlite:///{tmp_path}/bank.db")
    source = SqlSource("env:BANK_DB", "SELECT 3 AS x")
    assert source.read()["x"].tolist() == [3]
    assert str(tmp_path) not in source.description
    monkeypatch.delenv("BANK_DB")
    with pytest.raises(DataError, match="environment variable BANK_DB is not set"):
        source.read()
    assert from_environment("plain") == "plain"


def test_a_description_shows_no_user_and_no_password() -> None:
    source = SqlSource("postgresql://bank:hunter2@db.example.org/bank?password=hunter2", "SELECT 1")
    assert source.description == "the database postgresql://db.example.org/bank"


class Warehouse(DataSource):
    """What a plug-in author writes."""

    description = "the warehouse"

    def __init__(self, rows: int = 4) -> None:
        self.rows = rows

    def read(self) -> pd.DataFrame:
        if self.rows > 99:
            raise KeyError("4711")
        return pd.DataFrame({"customer": range(self.rows), "x": np.arange(self.rows) / 2})


def no_source() -> str:
    return "teal"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"warehouse": Warehouse, "text": no_source}

    def found(group: str) -> list[Any]:
        assert group == "colonnade.sources"
        points = [EntryPoint("broken", "nowhere:source", group)]
        for name, made in here.items():
            point = EntryPoint(name, "somewhere:source", group)
            object.__setattr__(point, "load", lambda made=made: made)
            points.append(point)
        return points

    monkeypatch.setattr(sources, "entry_points", found)


@pytest.mark.usefixtures("installed")
def test_a_plug_in_is_found_by_its_name() -> None:
    assert read_table(plug_in("warehouse", {"rows": 7})).shape == (7, 2)
    for name, arguments, words in (
        ("lake", {}, "offers source = 'lake'; there are 'broken', 'text', 'warehouse'"),
        ("broken", {}, "is installed but broken"),
        ("text", {}, "made str; expected a DataSource"),
        ("warehouse", {"path": 3}, "got an unexpected keyword argument 'path'"),
    ):
        with pytest.raises(DataError, match=words) as error:
            plug_in(name, arguments)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.usefixtures("installed")
def test_whatever_a_plug_in_raises_is_one_line_without_its_words() -> None:
    with pytest.raises(DataError) as error:
        read_table(plug_in("warehouse", {"rows": 100}))
    assert "the warehouse failed with KeyError in test_sources.py, line " in str(error.value)
    assert "4711" not in str(error.value)
