from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.columns import ColumnKind
from parties.dataset import IdKind, PartyDataset, normalise_id
from parties.errors import DataError
from parties.sources import CsvSource

IDS = {"user_id": "user"}
# No part of any of these may turn up in an error.
SECRETS = ("zoe@", "4711", "teal", "31.25")


def table(**changes: Any) -> pd.DataFrame:
    """Return a good table with some columns replaced, added or (None) removed."""
    columns = {
        "user": ["zoe@1", "zoe@2", "zoe@3", "zoe@4"],
        "age": [31.25, 18.0, None, 54.0],
        "colour": ["teal", "red", None, "teal"],
        "bought": [0, 1, 1, 0],
    } | changes
    return pd.DataFrame({name: cells for name, cells in columns.items() if cells is not None})


def feature_table(**changes: Any) -> pd.DataFrame:
    return table(**({"bought": None} | changes))


def read(frame: pd.DataFrame, **settings: Any) -> PartyDataset:
    return PartyDataset.from_frame("shop", frame, **({"ids": IDS} | settings))


def read_file(path: Path, **settings: Any) -> PartyDataset:
    text = tuple(settings.get("categorical", ()))
    source = CsvSource(path, verbatim=tuple(IDS.values()), text=text)
    return PartyDataset.from_source("shop", source, ids=IDS, **settings)


def csv(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- a good table


def test_label_party_reads_ids_label_and_features() -> None:
    dataset = read(table(), label="bought")
    assert dataset.party == "shop"
    assert dataset.n_rows == 4
    assert dataset.ids["user_id"].tolist() == ["zoe@1", "zoe@2", "zoe@3", "zoe@4"]
    assert dataset.ids["user_id"].dtype == object
    assert dataset.label is not None
    assert dataset.label.dtype == np.float64
    assert dataset.label.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert dict(dataset.kinds) == {"age": ColumnKind.NUMERIC, "colour": ColumnKind.CATEGORICAL}
    assert list(dataset.columns) == ["age", "colour"]


def test_missing_cells_are_nan_in_numbers_and_none_in_categories() -> None:
    columns = read(table(), label="bought").columns
    assert columns["age"].dtype == np.float64
    assert np.isnan(columns["age"][2])
    assert columns["colour"].dtype == object
    assert columns["colour"].tolist() == ["teal", "red", None, "teal"]


def test_index_of_the_frame_is_ignored() -> None:
    frame = table().set_index(pd.Index([7, 7, 3, 0]))
    columns = read(frame, label="bought").columns
    pd.testing.assert_frame_equal(columns, read(table(), label="bought").columns)
    assert columns.index.equals(pd.RangeIndex(4))


def test_columns_choose_and_order_the_features() -> None:
    frame = feature_table(height=[1, 2, 3, 4], note=["same"] * 4)
    dataset = read(frame, columns=["height", "age"])
    assert list(dataset.columns) == list(dataset.kinds) == ["height", "age"]


def test_label_party_may_hold_many_rows_and_several_entity_types() -> None:
    frame = table(user=["a", "a", "b", "b"], item=[7, 8, 7, 8])
    dataset = read(frame, ids={"user_id": "user", "item_id": "item"}, label="bought")
    assert dataset.ids["user_id"].tolist() == ["a", "a", "b", "b"]
    assert dataset.ids["item_id"].tolist() == ["7", "8", "7", "8"]


def test_take_gives_rows_in_the_order_asked_for() -> None:
    subset = read(table(), label="bought").take(np.array([3, 0, 3]))
    assert subset.n_rows == 3
    assert subset.ids["user_id"].tolist() == ["zoe@4", "zoe@1", "zoe@4"]
    assert subset.columns["age"].tolist() == [54.0, 31.25, 54.0]
    assert subset.columns.index.equals(pd.RangeIndex(3))
    assert subset.columns["colour"].dtype == object
    assert subset.label is not None
    assert subset.label.tolist() == [0.0, 0.0, 0.0]
    assert read(feature_table()).take(np.array([1])).label is None


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([True, False, True, True], [1, 0, 1, 1]),
        (pd.array([1, 2, None, 4], dtype="Int64"), [1, 2, np.nan, 4]),
        (pd.array([True, False, None, True], dtype="boolean"), [1, 0, np.nan, 1]),
        (np.array([1, 2, 3, 4], dtype=np.uint8), [1, 2, 3, 4]),
        (np.array([1, 2, 3, 4], dtype=np.float32), [1, 2, 3, 4]),
    ],
)
def test_numbers_of_every_dtype_become_float64(cells: Any, expected: list[float]) -> None:
    dataset = read(feature_table(age=cells))
    assert dataset.kinds["age"] is ColumnKind.NUMERIC
    assert dataset.columns["age"].dtype == np.float64
    np.testing.assert_array_equal(dataset.columns["age"], expected)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([1, 2, 3, 4], ["1", "2", "3", "4"]),
        ([1, None, 3, 4], ["1", None, "3", "4"]),
        ([1.5, 2, 3, 4], ["1.5", "2", "3", "4"]),
        ([True, False, None, True], ["True", "False", None, "True"]),
        (pd.array([1, None, 3, 4], dtype="Int64"), ["1", None, "3", "4"]),
        (pd.Categorical(["x", "y", None, "x"]), ["x", "y", None, "x"]),
    ],
)
def test_declared_categories_become_text(cells: Any, expected: list[str | None]) -> None:
    dataset = read(feature_table(age=cells), categorical=["age"])
    assert dataset.kinds["age"] is ColumnKind.CATEGORICAL
    assert dataset.columns["age"].tolist() == expected


def test_text_declared_numeric_is_parsed() -> None:
    dataset = read(feature_table(age=["1", " 2.5", None, "-3e2"]), numeric=["age"])
    np.testing.assert_array_equal(dataset.columns["age"], [1.0, 2.5, np.nan, -300.0])


@pytest.mark.parametrize(
    "cells",
    [[True, False, True, True], [1, 0, 1, 1], [1.0, 0.0, 1.0, 1.0], ["1", "0", "1", "1"]],
)
def test_label_is_accepted_as_booleans_numbers_and_text(cells: list[object]) -> None:
    label = read(table(bought=cells), label="bought").label
    assert label is not None
    assert label.tolist() == [1.0, 0.0, 1.0, 1.0]


# --- ids


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" zoe ", "zoe"),
        ("Zoe\u0301", "Zo\u00e9"),
        ("007", "007"),
        (7, "7"),
        (np.int64(-7), "-7"),
        (2**80, str(2**80)),
    ],
)
def test_normalise_id(value: object, expected: str) -> None:
    assert normalise_id(value) == expected


@given(st.text())
def test_normalise_id_is_idempotent_and_ignores_unicode_form(text: str) -> None:
    once = normalise_id(text)
    assert normalise_id(once) == once
    assert normalise_id(unicodedata.normalize("NFD", text)) == once
    assert normalise_id(f" {text}\t") == once


@pytest.mark.parametrize("value", [4711.0, True, None, b"4711", 47.11])
def test_normalise_id_refuses_what_has_no_one_text(value: object) -> None:
    with pytest.raises(TypeError, match="an id is text or an integer") as caught:
        normalise_id(value)
    assert "47" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("007", "7"), ("+12", "12"), ("-0", "0"), ("-03 ", "-3"), ("000", "0"), (7, "7")],
)
def test_an_integer_has_one_spelling(value: object, expected: str) -> None:
    assert normalise_id(value, IdKind.INTEGER) == expected


@pytest.mark.parametrize(
    ("ids", "declared", "kind"),
    [
        ([7, 12, 0, -3], None, IdKind.INTEGER),
        (["7", "12", "0", "-3"], None, IdKind.INTEGER),
        (["7", "12", "0", "zoe"], None, IdKind.TEXT),
        (["07", "12", "00", "-3"], None, IdKind.TEXT),
        (["7", "7.0", "8", "9"], None, IdKind.TEXT),
        (["+7", "8", "9", "-0"], None, IdKind.TEXT),
        (["7", "٨", "9", "1"], None, IdKind.TEXT),
        (["07", "12", "00", "-3"], IdKind.INTEGER, IdKind.INTEGER),
        ([7, 12, 0, -3], IdKind.TEXT, IdKind.TEXT),
    ],
)
def test_the_kind_of_ids_is_declared_or_what_all_of_them_are(
    ids: list[object], declared: IdKind | None, kind: IdKind
) -> None:
    kinds = {} if declared is None else {"user_id": declared}
    dataset = read(feature_table(user=ids), id_kinds=kinds)
    assert dataset.id_kind("user_id") is kind
    assert dataset.take(np.array([0])).id_kinds == kinds


def test_declared_integers_are_numbers_and_each_there_once() -> None:
    declared = {"user_id": IdKind.INTEGER}
    dataset = read(feature_table(user=["007", "12", "0", "9"]), id_kinds=declared)
    assert dataset.ids["user_id"].tolist() == ["7", "12", "0", "9"]
    with pytest.raises(DataError, match="'user': an id is declared an integer but is other text"):
        read(feature_table(), id_kinds=declared)
    with pytest.raises(DataError, match="repeats 1 id over 2 rows"):
        read(feature_table(user=["007", "7", "0", "9"]), id_kinds=declared)


# --- bad tables


BAD: dict[str, tuple[pd.DataFrame, dict[str, Any], str]] = {
    "no id column": (
        feature_table(),
        {"ids": {"user_id": "uid"}},
        "shop: no column 'uid'; correct it. There are 'user', 'age', 'colour'",
    ),
    "no header": (
        feature_table().set_axis(["zoe@1", "31.25", "teal"], axis=1),
        {},
        "no column 'user'; correct it. There are (not shown, as some are numbers",
    ),
    "no label column": (table(), {"label": "clicked"}, "no column 'clicked'"),
    "no feature column": (table(), {"columns": ["age", "height"]}, "no column 'height'"),
    "no ids setting": (table(), {"ids": {}, "label": "bought"}, "expected an id column, got 0"),
    "two entity types without label": (
        table(),
        {"ids": {"user_id": "user", "item_id": "bought"}},
        "expected one id column, as no label is set, got 2",
    ),
    "label as feature": (
        table(),
        {"label": "bought", "columns": ["age", "bought"]},
        "column 'bought' must be one of id, label, feature, and once",
    ),
    "id as label": (table(), {"label": "user"}, "column 'user' must be one of"),
    "feature named twice": (table(), {"columns": ["age", "age"]}, "column 'age' must be one of"),
    "no features": (table()[["user"]], {}, "no feature columns beside 'user'"),
    "no features chosen": (table(), {"columns": []}, "no feature columns beside 'user'"),
    "unknown declared numeric": (
        table(),
        {"numeric": ["height"]},
        "column 'height' is declared but is no feature; correct it. There are 'age', 'colour', 'bou",
    ),
    "unknown declared categorical": (table(), {"categorical": ["user"]}, "'user' is declared but"),
    "declared twice": (
        table(),
        {"numeric": ["age"], "categorical": ["age"]},
        "column 'age' is declared both numeric and categorical",
    ),
    "repeated column": (
        table().set_axis(["user", "age", "age", "bought"], axis=1),
        {},
        "column names must differ; rename repeats of 'age'",
    ),
    "nameless column": (
        table().set_axis(["user", "age", "", "bought"], axis=1),
        {},
        "column 3 has no name",
    ),
    "numbered columns": (table().set_axis([0, 1, 2, 3], axis=1), {}, "column 1 has no name"),
    "no rows": (table().iloc[:0], {}, "the table has no rows"),
    "one empty id": (
        table(user=["zoe@1", " ", "zoe@3", "zoe@4"]),
        {},
        "id column 'user' has 1 empty cell;",
    ),
    "empty and missing ids": (table(user=["zoe@1", "", None, "zoe@4"]), {}, "has 2 empty cells"),
    "missing integer ids": (table(user=[4711, None, 4712, None]), {}, "has 2 empty cells"),
    "float ids": (
        table(user=[4711.0, 4712.0, 4713.0, 4714.0]),
        {},
        "an id is text or an integer, not float; store the ids as integers or text",
    ),
    "repeated ids": (
        table(user=["zoe@1", "zoe@2", " zoe@1", "zoe@1"]),
        {},
        "id column 'user' repeats 1 id over 3 rows",
    ),
    "missing label": (
        table(bought=[0, 1, None, None]),
        {"label": "bought"},
        "label column 'bought' has 2 empty cells",
    ),
    "label of three values": (
        table(bought=[0, 1, 4711, 0]),
        {"label": "bought"},
        "expected only 0 and 1, got 3 distinct values",
    ),
    "label of text": (
        table(bought=["teal", "red", "red", "teal"]),
        {"label": "bought"},
        "expected only 0 and 1, got 2 distinct values",
    ),
    "label of one class": (
        table(bought=[1, 1, 1, 1]),
        {"label": "bought"},
        "expected both 0 and 1, got 1 distinct value;",
    ),
    "constant number": (
        table(age=[31.25, 31.25, None, 31.25]),
        {},
        "column 'age' is constant (one value in every filled cell)",
    ),
    "constant category": (table(colour=["teal"] * 4), {}, "column 'colour' is constant"),
    "empty column": (table(age=[None] * 4), {}, "column 'age' is constant (only empty cells)"),
    "text for numbers": (
        table(age=[31.25, "teal", "x4711", None]),
        {"numeric": ["age"]},
        "column 'age' is numeric but has 2 cells without a number",
    ),
    "dates for numbers": (
        table(age=pd.date_range("2020", periods=4)),
        {"numeric": ["age"]},
        "column 'age' is numeric but has 4 cells without a number",
    ),
    "infinite": (table(age=[31.25, np.inf, -np.inf, 1]), {}, "column 'age' has 2 infinite values"),
}


def assert_is_one_discreet_line(message: str) -> None:
    assert message.startswith("shop: ")
    assert "\n" not in message
    assert not [secret for secret in SECRETS if secret in message]


@pytest.mark.parametrize("case", BAD)
def test_bad_table_is_refused(case: str) -> None:
    frame, settings, expected = BAD[case]
    with pytest.raises(DataError) as caught:
        read(frame, **settings)
    assert expected in str(caught.value)
    assert_is_one_discreet_line(str(caught.value))
    assert caught.value.__cause__ is None


def test_long_lists_of_columns_are_cut() -> None:
    frame = pd.DataFrame({f"c{k}": [0, 1] for k in range(25)})
    with pytest.raises(DataError, match="'c19' and 5 more"):
        read(frame)


# --- files


def test_csv_reads_as_the_same_frame(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    table().to_csv(path, index=False)
    dataset = read_file(path, label="bought")
    expected = read(table(), label="bought")
    pd.testing.assert_frame_equal(dataset.columns, expected.columns)
    assert dataset.kinds == expected.kinds
    np.testing.assert_array_equal(dataset.ids["user_id"], expected.ids["user_id"])
    np.testing.assert_array_equal(dataset.label, expected.label)


def test_csv_keeps_ids_and_categories_as_text(tmp_path: Path) -> None:
    path = csv(tmp_path, "user,zip\n007,01234\nNA,99999\nnull,\n1e3,01234\n")
    dataset = read_file(path, categorical=["zip"])
    assert dataset.ids["user_id"].tolist() == ["007", "NA", "null", "1e3"]
    assert dataset.columns["zip"].tolist() == ["01234", "99999", None, "01234"]


def test_csv_treats_conventional_blanks_as_missing(tmp_path: Path) -> None:
    path = csv(tmp_path, "user,age,tone\na,NA,none\nb,1,-\nc,2,n/a\n")
    columns = read_file(path).columns
    np.testing.assert_array_equal(columns["age"], [np.nan, 1, 2])
    assert columns["tone"].tolist() == ["none", "-", None]


def test_csv_may_have_a_byte_order_mark_blank_lines_quotes_and_windows_ends(tmp_path: Path) -> None:
    path = csv(tmp_path, b'\xef\xbb\xbfuser,tone\r\n\r\nz\xc3\xa9,"a,b"\r\n\r\ny,"c\r\nd"\r\n')
    dataset = read_file(path)
    assert dataset.ids["user_id"].tolist() == ["z\u00e9", "y"]
    assert dataset.columns["tone"].tolist() == ["a,b", "c\nd"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty; expected a header"),
        ("\n\n", "is empty; expected a header"),
        ("user,age\n", "the table has no rows"),
        (b"user,age\nzoe@\xff,1\n", "is not UTF-8 text"),
        ("user,age\nzoe@1,1\nzoe@2,4711,3\n", "line 3: expected 2 cells as in the header, got 3"),
        ("user,age\nzoe@1,1\nzoe@2\n", "line 3: expected 2 cells as in the header, got 1"),
        ("user,age\nzoe@1,31.25,\nzoe@2,1,\n", "line 2: expected 2 cells as in the header, got 3"),
        ('user,age\nzoe@1,1\nzoe@2,"31.25', "is not well-formed CSV"),
        ("user,age,age\nzoe@1,1,2\n", "rename repeats of 'age'"),
        (",user,age\n0,zoe@1,1\n", "column 1 has no name"),
        ("zoe@1,31.25\nzoe@2,4\n", "no column 'user'"),
        ("user,age\n,1\n  ,2\nzoe@3,3\n", "id column 'user' has 2 empty cells"),
        ("user,age\n" + "x" * 200_000 + ",1\n", "is not well-formed CSV"),
    ],
)
def test_bad_csv_is_refused(tmp_path: Path, text: str | bytes, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        read_file(csv(tmp_path, text))
    assert expected in str(caught.value)
    assert_is_one_discreet_line(str(caught.value))


def test_unreadable_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shop: .*nowhere.csv cannot be read: No such file"):
        read_file(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_file(tmp_path)


def test_further_rows_are_read_as_those_before() -> None:
    before = read(table(code=["1", "2", "x", "1"]), label="bought", categorical=["code"])
    one = table(code=["2", "1", "1", "2"], bought=None, extra=[1, 2, 3, 4])[:1]
    further = read(one, categorical=["code"], like=before)
    assert further.kinds == before.kinds
    assert further.columns.columns.tolist() == before.columns.columns.tolist()
    assert further.label is None
    only_ones = read(table(code=["1"] * 4)[1:3], label="bought", like=before)
    assert only_ones.label is not None
    assert only_ones.label.tolist() == [1.0, 1.0]
    with pytest.raises(DataError, match="no column 'age'"):
        read(table(age=None, code=["1"] * 4), like=before)


def test_further_rows_of_the_label_party_may_repeat_ids_without_a_label() -> None:
    before = read(table(), label="bought")
    twice = table(bought=None, user=["zoe@1", "zoe@1", "zoe@2", "zoe@3"])
    assert read(twice, like=before).n_rows == 4
    with pytest.raises(DataError, match="repeats 1 id over 2 rows"):
        read(twice, like=read(feature_table()))


def test_a_few_further_ids_that_look_like_numbers_are_still_text() -> None:
    before = read(feature_table(user=["007", "8", "9", "10"]))
    further = read(feature_table(user=["8", "9", "11", "12"])[:2], like=before)
    assert before.id_kind("user_id") is further.id_kind("user_id") is IdKind.TEXT
