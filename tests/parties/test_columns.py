from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from parties.columns import ColumnKind, ColumnOptions, guess_kind, read_feature, split_values
from parties.dataset import PartyDataset, looks_like_another
from parties.errors import DataError


def column(cells: Any) -> pd.Series:
    return pd.Series(cells, name="x")


def objects(*cells: object) -> pd.Series:
    return pd.Series(list(cells), name="x", dtype=object)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (column([1, 2]), "numeric"),
        (column([1.5, None]), "numeric"),
        (column([True, False]), "numeric"),
        (objects(True, None, False), "numeric"),
        (objects(Decimal("1.5"), None), "numeric"),
        (objects(2**80, 1), "numeric"),
        (column(["a", "b"]), "categorical"),
        (column(["yes", "no"]), "categorical"),
        (column(["1", "2"]), "categorical"),
        (objects(None, None), "categorical"),
        (column(pd.Categorical(["a", "b"])), "categorical"),
        (objects(1, "a"), "categorical"),
        (column(["2020-01-31", "2021-12-01"]), "datetime"),
        (column(["2020-01-31 10:00", "2021-12-01T23:59:59Z", None]), "datetime"),
        (column(pd.Series(["2020-01-31", None], dtype="datetime64[s]")), "datetime"),
        (objects(date(2020, 1, 31), datetime(2021, 1, 1, 12)), "datetime"),
        (column(["a|b", "a", "b", "b|c", "c"]), "multi-valued"),
        (column(["a|b", "c|d"]), "categorical"),
    ],
)
def test_kinds_are_guessed_from_cells(cells: pd.Series, kind: str) -> None:
    assert guess_kind("column 'x'", cells) is ColumnKind(kind)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (column([f"{n} words about the matter" for n in range(9)]), "free text"),
        (column([f"code{n}" for n in range(60)]), "60 different values in 60 cells"),
        (column(["1", "2", "three"]), "mixes numbers with 1 cell of text"),
        (column(["31.12.2020", "1.2.2021"]), "dates that are not ISO 8601; declare it datetime"),
        (column(["12/31/20 10:00", "1/2/21 11:30"]), "such as format ="),
        (column(["1,5", "2", "1.000,25"]), "decimal commas"),
        (objects(b"a", b"b"), "holds bytes"),
        (objects([1], (2,)), "holds list, tuple"),
        (column(pd.to_timedelta([1, 2], unit="h")), "holds Timedelta"),
    ],
)
def test_what_no_guess_does_justice_to_is_refused_with_advice(cells: pd.Series, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        guess_kind("bank: column 'x'", cells)
    assert str(error.value).startswith("bank: column 'x' ")
    assert ";" in str(error.value) or ", so " in str(error.value)


def test_a_declared_category_may_be_anything() -> None:
    frame = pd.DataFrame({"user": range(60), "x": [f"code{n}" for n in range(60)]})
    dataset = PartyDataset.from_frame("bank", frame, ids={"user": "user"}, categorical=["x"])
    assert dataset.kinds["x"] is ColumnKind.CATEGORICAL


def test_words_declared_boolean_become_numbers() -> None:
    frame = pd.DataFrame({"user": range(5), "x": ["yes", " No", "TRUE", None, "0"]})
    dataset = PartyDataset.from_frame("bank", frame, ids={"user": "user"}, boolean=["x"])
    assert dataset.kinds["x"] is ColumnKind.NUMERIC
    np.testing.assert_array_equal(dataset.columns["x"], [1, 0, 1, np.nan, 0])


@pytest.mark.parametrize(
    ("cells", "written", "expected"),
    [
        (column(["2020-01-31", None, "2020-02-01"]), None, ["2020-01-31", "NaT", "2020-02-01"]),
        (column(["31.1.2020", "1.2.2020"]), "%d.%m.%Y", ["2020-01-31", "2020-02-01"]),
        (column([20200131, 20200201]), "%Y%m%d", ["2020-01-31", "2020-02-01"]),
        (objects(date(2020, 1, 31), date(2020, 2, 1)), "%d.%m.%Y", ["2020-01-31", "2020-02-01"]),
        (
            column(["2020-01-31T23:00-02:00", "2020-02-01T00:00Z"]),
            None,
            ["2020-02-01 01:00", "2020-02-01"],
        ),
    ],
)
def test_dates_are_read_as_they_are_written(
    cells: pd.Series, written: str | None, expected: list[str]
) -> None:
    read = read_feature("bank", cells, ColumnKind.DATETIME, ColumnOptions(format=written))
    assert read.tolist() == pd.to_datetime(pd.Series(expected), format="ISO8601").tolist()


def test_values_of_a_cell_count_once_and_without_spaces() -> None:
    values = split_values(column(["b| a|b", None, "", "|a|", "c"]), "|")
    assert list(values.items()) == [(0, "b"), (0, "a"), (3, "a"), (4, "c")]


@pytest.mark.parametrize("value", ["４7", "a\u00a0b", "a\u200bb", "zоe", "ﬁx", "αbc"])
def test_ids_that_look_like_others_are_known(value: str) -> None:
    assert looks_like_another(value)


@pytest.mark.parametrize("value", ["zoé", "Зоя", "Зоя-A12", "李雷", "ζωή", "007", "Müller x"])
def test_ids_of_any_one_script_are_fine(value: str) -> None:
    assert not looks_like_another(value)
