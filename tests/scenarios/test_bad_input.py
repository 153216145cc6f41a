"""What people get wrong in their tables: one row a mistake, one line an answer, and never a cell in it."""

from __future__ import annotations

import builtins
import gzip
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parties import files
from protocol.errors import ColonnadeError
from scenarios.scenario import load

SECRETS = ("zoe@", "4711", "teal", "31.25", "hunter2")
GOOD = (
    "user,age,colour,bought\nzoe@1,31.25,teal,0\nzoe@2,18,red,1\nzoe@3,4711,teal,0\nzoe@4,4,red,1\n"
)


@dataclass(frozen=True)
class Bad:
    """A mistake: what is in the file, or how to make it; further settings; what the line must say."""

    says: str
    content: str | bytes | Callable[[Path], object] = GOOD
    settings: dict[str, Any] = field(default_factory=dict)


def rows(**columns: list[Any]) -> str:
    """Return a CSV of the good columns with some replaced or added."""
    frame = pd.DataFrame(
        {
            "user": [f"zoe@{n}" for n in range(4)],
            "age": [31.25, 18, 4711, 4],
            "bought": [0, 1, 0, 1],
        }
        | columns
    )
    text: str = frame.to_csv(index=False)
    return text


def many(cells: Callable[[int], object]) -> str:
    """Return a CSV of 200 rows with a column of these cells."""
    users = [f"zoe@{n}" for n in range(200)]
    table = pd.DataFrame({"user": users, "note": [cells(n) for n in range(200)]})
    text: str = table.assign(bought=[n % 2 for n in range(200)]).to_csv(index=False)
    return text


def database(folder: Path) -> sqlite3.Connection:
    opened = sqlite3.connect(folder / "bank.db")
    opened.execute("CREATE TABLE people (user TEXT, age REAL, bought INTEGER)")
    opened.execute("INSERT INTO people VALUES ('zoe@1', 31.25, 1)")
    opened.commit()
    return opened


HELD: list[sqlite3.Connection] = []


def make_database(folder: Path) -> None:
    database(folder).close()


def make_locked_database(folder: Path) -> None:
    HELD.append(database(folder))
    HELD[-1].execute("BEGIN EXCLUSIVE")


def make_parquet(folder: Path, keep: int = -40) -> None:
    path = folder / "table.parquet"
    pd.DataFrame({"user": ["zoe@1"], "age": [4711]}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:keep])


def query(text: str, url: str = "sqlite:///bank.db?timeout=0.01") -> dict[str, Any]:
    return {"csv": None, "sql": text, "url": url}


PARQUET = {"csv": None, "parquet": "table.parquet"}

BAD = {
    # files
    "no such file": Bad("nowhere.csv cannot be read: No such file", settings={"csv": "nowhere.csv"}),
    "a directory": Bad("cannot be read: Is a directory; check the path", settings={"csv": "."}),
    "empty file": Bad("table.csv is empty; expected a header and rows", ""),
    "blank lines alone": Bad("table.csv is empty; expected a header and rows", "\n\n\n"),
    "header alone": Bad("the table has no rows", "user,age,bought\n"),
    "no header": Bad("no column 'user'; correct it", "zoe@1,31.25,1\nzoe@2,4711,0\n"),
    "Windows encoding": Bad("is not UTF-8 text; save it", GOOD.replace("red", "rös").encode("cp1252")),
    "UTF-16": Bad("is not UTF-8 text; save it", GOOD.encode("utf-16")),
    "UTF-16 without a mark": Bad("holds zero bytes", GOOD.encode("utf-16-le")),
    "unknown encoding": Bad("there is no encoding 'utf-9'", settings={"encoding": "utf-9"}),
    "ASCII in name only": Bad(
        "is not ASCII text", GOOD.replace("red", "rös"), {"encoding": "ascii"}
    ),
    "Excel": Bad("is a ZIP or Excel file; export", b"PK\x03\x04zoe@"),
    "Parquet called CSV": Bad("is a Parquet file; use parquet =", b"PAR1zoe@"),
    "bad gzip": Bad("is no whole gzip file", b"\x1f\x8bzoe@"),
    "truncated gzip": Bad("is no whole gzip file", gzip.compress(GOOD.encode())[:-9]),
    # lines
    "wrong delimiter": Bad("set delimiter = ';'", GOOD.replace(",", ";")),
    "tabs": Bad(r"set delimiter = '\t'", GOOD.replace(",", "\t")),
    "a long line": Bad("line 3: expected 4 cells", GOOD.replace("red", "red,teal", 1)),
    "a short line": Bad("line 3: expected 4 cells", GOOD.replace(",red", "", 1)),
    "an open quote": Bad("is not well-formed CSV", 'user,age,bought\nzoe@1,1,0\nzoe@2,4,"teal'),
    "duplicate headers": Bad("rename repeats of 'age'", GOOD.replace("colour", "age")),
    "a nameless column": Bad("column 2 has no name", GOOD.replace("age", " ")),
    # ids
    "no id column": Bad("no column 'customer'", settings={"id": "customer"}),
    "empty ids": Bad("id column 'user' has 2 empty cells", rows(user=["zoe@1", "", " ", "zoe@2"])),
    "wide digits in ids": Bad("has 1 id with characters that only look", rows(user=[*"abc", "４7"])),
    "Cyrillic in Latin ids": Bad("has 1 id with characters that only", rows(user=["zоe@", *"abc"])),
    "an invisible space in ids": Bad("has 2 ids with char", rows(user=["a\u200b", "b\u2060c", *"de"])),
    "a hard space in ids": Bad("has 1 id with characters that", rows(user=["zoe@\u00a01", *"bcd"])),
    "fractional ids": Bad("an id is text or an integer, not float", lambda f: pd.DataFrame(
        {"user": [1.5, 4711.0], "age": [1, 2], "bought": [0, 1]}).to_parquet(f / "table.parquet"), PARQUET),
    "trailing spaces hide duplicates": Bad(
        "id column 'user' repeats 1 id over 2 rows",
        rows(user=["zoe@1", "zoe@1 ", "zoe@2", "zoe@3"]),
        {"role": "feature"},
    ),
    "duplicate ids": Bad(
        "repeats 2 ids over 4 rows; a party", rows(user=list("aabb")), {"role": "feature"}
    ),
    # labels
    "a label of three values": Bad("only 0 and 1, got 3 distinct", rows(bought=[0, 1, 4711, 1])),
    "a label of words": Bad("only 0 and 1, got 2 distinct", rows(bought=["teal", "red"] * 2)),
    "a constant label": Bad("both 0 and 1, got 1 distinct", rows(bought=[1] * 4)),
    "empty labels": Bad("label column 'bought' has 2 empty", rows(bought=[0, 1, None, None])),
    "no label column": Bad("no column 'clicked'", settings={"label": "clicked"}),
    # columns
    "an unknown column": Bad("no column 'height'", settings={"columns": ["age", "height"]}),
    "an unknown ignored column": Bad("ignore names 'height'", settings={"ignore": ["height"]}),
    "a column declared twice": Bad(
        "'age' is declared both numeric and categorical",
        settings={"numeric": ["age"], "categorical": ["age"]},
    ),
    "a declared column that is none": Bad("'height' is declared but", settings={"boolean": ["height"]}),
    "the label as a feature": Bad("must be one of id, label", settings={"columns": ["age", "bought"]}),
    "options of no column": Bad("options names 'height'", settings={"options": {"height": {}}}),
    "options of another kind": Bad(
        "column 'age' is numeric, for which there is no option 'buckets'",
        settings={"options": {"age": {"buckets": 8}}},
    ),
    "mixed types": Bad("'age' mixes numbers with 1 cell of text", rows(age=[1, 2, "teal", 31.25])),
    "decimal commas": Bad("'age' has decimal commas", rows(age=["31,25", "1,5", "2", "4711,0"])),
    "infinity": Bad("column 'age' has 2 infinite values", rows(age=["inf", "-inf", 31.25, 2])),
    "text declared numeric": Bad("has 4 cells without a number", settings={"numeric": ["colour"]}),
    "words declared boolean": Bad("4 cells other than yes/no", settings={"boolean": ["colour"]}),
    "dates that are not ISO": Bad(
        "has 4 cells that are no ISO date; correct or empty them, or set its format option",
        rows(age=["31.12.2020", "1.2.2021", "4.7.2011", "3.2.2020"]),
        {"datetime": ["age"]},
    ),
    "a date format that is none": Bad(
        "format option is none of strptime's",
        settings={"datetime": ["colour"], "options": {"colour": {"format": "%q"}}},
    ),
    "free text": Bad("is free text or too many", many(lambda n: f"the teal one at {n} is fine")),
    "too many categories": Bad("200 different values in 200 cells", many(lambda n: f"teal{n:x}z")),
    "a constant column": Bad("column 'age' is constant (one", rows(age=[31.25] * 4)),
    "an empty column": Bad("column 'age' is constant (only empty", rows(age=[None] * 4)),
    # other sources
    "a Parquet file that is missing": Bad("no such file; check", settings=PARQUET),
    "a truncated Parquet file": Bad("is no whole Parquet file", make_parquet, PARQUET),
    "CSV called Parquet": Bad(
        "no whole Parquet file", lambda f: (f / "table.parquet").write_text(GOOD), PARQUET
    ),
    "lists in a Parquet file": Bad("column 'age' holds ndarray; expected numbers", lambda f: pd.DataFrame(
        {"user": list("ab"), "age": [[1], [4711]], "bought": [0, 1]}).to_parquet(f / "table.parquet"), PARQUET),
    "no such database": Bad("cannot be read: no such file", settings=query("SELECT 1")),
    "no database": Bad("is no readable database", lambda f: (f / "bank.db").write_text(GOOD * 9),
                       query("SELECT * FROM people")),
    "a locked database": Bad("is locked by another", make_locked_database, query("SELECT * FROM people")),
    "a missing table": Bad("has no table that sql names", make_database, query("SELECT * FROM teal")),
    "a missing SQL column": Bad("has no column that sql", make_database, query("SELECT teal FROM people")),
    "bad SQL": Bad("does not understand sql", make_database, query("SELEKT 4711 FROM people")),
    "SQL that returns nothing": Bad("must be one SELECT", make_database, query("DROP TABLE people")),
    "columns twice in SQL": Bad("rename repeats", make_database, query("SELECT *, age FROM people")),
    "no URL": Bad("is no database URL", settings=query("SELECT 1", "bank.db")),
    "an unknown database": Bad("is no database URL", settings=query("SELECT 1", "abacus://bank")),
    "a variable that is not set": Bad("NO_BANK is not set", settings=query("SELECT 1", "env:NO_BANK")),
    "a password in the open": Bad(
        "expected no password", settings=query("SELECT 1", "postgresql://zoe:hunter2@localhost/x")
    ),
    "sql without url": Bad("expected url", settings={"csv": None, "sql": "SELECT 1"}),
    "two sources": Bad("expected exactly one of csv, parquet", settings={"parquet": "table.parquet"}),
    "no source": Bad("expected exactly one of csv, parquet", settings={"csv": None}),
    "an unknown plug-in": Bad(
        "no installed package offers source = 'lake'", settings={"csv": None, "source": "lake"}
    ),
    "a function that fails": Bad(
        "json:loads failed with JSONDecodeError",
        settings={"csv": None, "function": "json:loads", "arguments": {"s": "4711 teal"}},
    ),
}  # fmt: skip


def refusal(folder: Path, bad: Bad) -> str:
    """Read the party with the mistake; return what it was told."""
    if callable(bad.content):
        bad.content(folder)
    else:
        raw = bad.content if isinstance(bad.content, bytes) else bad.content.encode()
        (folder / "table.csv").write_bytes(raw)
    file = folder / "bad.toml"
    file.write_text(
        '[[parties]]\nname = "shop"\n[[parties]]\nname = "other"\ncsv = "other.csv"\nid = "user"\n',
        encoding="utf-8",
    )
    settings: dict[str, Any] = {"role": "label", "csv": "table.csv", "id": "user"} | bad.settings
    if settings["role"] == "label":
        settings = {"label": "bought"} | settings
    other = "feature" if settings["role"] == "label" else "label"
    changes = [
        f"parties.other.role={other}",
        *(['parties.other.label="y"'] if other == "label" else []),
    ]
    for key, value in settings.items():
        if value is not None:
            changes.append(f"parties.shop.{key}={_toml(value)}")

    def read() -> None:
        scenario = load(str(file), changes)
        scenario.dataset(scenario.parties[0])

    with pytest.raises(ColonnadeError) as error:
        read()
    assert error.value.__cause__ is None
    return str(error.value).removeprefix(f"{file}: parties.")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return repr(value)


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_line_that_says_what_to_do(
    mistake: str, tmp_path: Path, allowing: Callable[..., None]
) -> None:
    allowing("json", "lake", "abacus://bank", "env:NO_BANK")
    try:
        message = refusal(tmp_path, BAD[mistake])
    finally:
        while HELD:
            HELD.pop().close()
    assert BAD[mistake].says in message
    assert message.startswith("shop")
    assert len(message.splitlines()) == 1
    assert not [secret for secret in SECRETS if secret in message]


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = files.read

    def forbid(path: Path, most: int) -> bytes:
        if path.name == "table.csv":
            raise PermissionError(13, "Permission denied")
        return read(path, most)

    monkeypatch.setattr(files, "read", forbid)
    assert "table.csv cannot be read: Permission denied" in refusal(tmp_path, Bad(""))


@pytest.mark.parametrize(
    ("module", "extra", "settings"),
    [("pyarrow", "parquet", PARQUET), ("sqlalchemy", "sql", query("SELECT 1"))],
)
def test_a_missing_extra_is_named(
    module: str,
    extra: str,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = refusal(tmp_path, Bad("", settings=settings))
    assert f"needs {module}: pip install 'colonnade[{extra}]'" in message


def test_a_missing_driver_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowing: Callable[..., None]
) -> None:
    whole = builtins.__import__

    def without_driver(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError(f"No module named '{name}'", name="psycopg")
        return whole(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_driver)
    allowing("postgresql+psycopg://localhost/bank")
    settings = query("SELECT 1", "postgresql+psycopg://localhost/bank")
    assert "needs the driver psycopg; install it" in refusal(tmp_path, Bad("", settings=settings))
