"""Feature columns: of which kind each is, and its cells in the one form that encoding expects.

A kind that is not declared is guessed, and what no guess can do justice to (free text, numbers mixed with
words, decimal commas) is refused with advice. No message quotes a cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types
from pydantic import BaseModel, ConfigDict, Field

from parties.errors import DataError


class ColumnKind(StrEnum):
    """How a feature column is to be read. A boolean one, once read, is numeric: 0 and 1."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"
    MULTI_VALUED = "multi-valued"
    DATETIME = "datetime"
    IDENTIFIER = "identifier"


class ColumnOptions(BaseModel):
    """How one column departs from the rule for its kind.

    Of more than ``max_categories`` in the training rows the rarest are taken together as one; with ``buckets`` a
    category is hashed to one of so many columns instead. ``separator`` stands between the values of a multi-valued
    cell. ``format`` is how dates that are not ISO 8601 are written, in the terms of ``strptime``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_categories: Annotated[int, Field(ge=2)] = 100
    buckets: Annotated[int, Field(ge=2, le=65536)] | None = None
    separator: Annotated[str, Field(min_length=1)] = "|"
    format: str | None = None


_OPTIONS_OF = {
    ColumnKind.CATEGORICAL: {"max_categories", "buckets"},
    ColumnKind.MULTI_VALUED: {"max_categories", "separator"},
    ColumnKind.DATETIME: {"format"},
}
_BOOLEAN_WORDS = dict.fromkeys(("1", "1.0", "true", "t", "yes", "y"), 1.0) | dict.fromkeys(
    ("0", "0.0", "false", "f", "no", "n"), 0.0
)
_ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"
_OTHER_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}( .*)?"
_DECIMAL_COMMA = r"[+-]?\d+(\.\d{3})*(,\d+)?"
_FEW_VALUES = 50  # no column of at most so many different values is taken for free text
_MANY_WORDS = 5


def check_header(where: str, header: Sequence[object]) -> None:
    """Raise DataError unless every column has a name of its own; the sentence is about ``where``."""
    for position, name in enumerate(header, start=1):
        if not (isinstance(name, str) and name.strip()):
            raise DataError(f"{where}: column {position} has no name in text; name it or drop it")
    if repeated := [str(name) for name, times in Counter(header).items() if times > 1]:
        raise DataError(f"{where}: column names must differ; rename repeats of {listed(repeated)}")


def choose_kinds(
    party: str,
    table: Mapping[str, pd.Series],
    declared: Mapping[ColumnKind, Collection[str]],
    options: Mapping[str, ColumnOptions],
    known: Mapping[str, ColumnKind],
) -> dict[str, ColumnKind]:
    """Return each feature column's kind, declared, ``known`` or guessed; raises DataError where none makes sense."""
    kinds: dict[str, ColumnKind] = {}
    for kind, names in declared.items():
        for name in names:
            where = f"{party}: column {name!r} is declared"
            if name not in table:
                raise DataError(f"{where} but is no feature; correct it. There are {listed(table)}")
            if kinds.setdefault(name, kind) is not kind:
                raise DataError(f"{where} both {kinds[name]} and {kind}; keep one of them")
    for name in options:
        if name not in table:
            raise DataError(
                f"{party}: options names {name!r}, which is no feature; there are {listed(table)}"
            )
    chosen = {
        name: kinds.get(name) or known.get(name) or guess_kind(f"{party}: column {name!r}", cells)
        for name, cells in table.items()
    }
    for name, given in options.items():
        changed = {key for key, value in given if value != getattr(ColumnOptions(), key)}
        if strange := sorted(changed - _OPTIONS_OF.get(chosen[name], set())):
            raise DataError(
                f"{party}: column {name!r} is {chosen[name]}, for which there is no option "
                f"{listed(strange)}; declare its kind or drop the option"
            )
    return chosen


def guess_kind(where: str, cells: pd.Series) -> ColumnKind:
    """Return the kind of a column from its cells; raises DataError, in a sentence about ``where``."""
    if types.is_numeric_dtype(cells):  # booleans too
        return ColumnKind.NUMERIC
    if types.is_datetime64_any_dtype(cells):
        return ColumnKind.DATETIME
    filled = cells.dropna()
    if filled.empty or isinstance(cells.dtype, pd.CategoricalDtype):
        return ColumnKind.CATEGORICAL
    held = {type(cell) for cell in filled}
    if all(issubclass(one, bool | int | float | Decimal | np.number | np.bool_) for one in held):
        return ColumnKind.NUMERIC
    if all(issubclass(one, date) for one in held):
        return ColumnKind.DATETIME
    if not all(issubclass(one, str | bool | int | float) for one in held):
        raise DataError(
            f"{where} holds {', '.join(sorted(one.__name__ for one in held))}; expected numbers, text, "
            "dates or booleans, so convert it or list it in ignore"
        )
    return _guess_from_text(where, filled.astype(str).str.strip())


def _guess_from_text(where: str, texts: pd.Series) -> ColumnKind:
    distinct = pd.Series(texts.unique(), dtype=str)
    if distinct.str.fullmatch(_ISO_DATE).all():
        return ColumnKind.DATETIME
    if distinct.str.fullmatch(_DECIMAL_COMMA).all() and distinct.str.contains(",").any():
        raise DataError(
            f"{where} has decimal commas; write them as points, or declare the column categorical"
        )
    if distinct.str.fullmatch(_OTHER_DATE).all():
        raise DataError(
            f"{where} has dates that are not ISO 8601; declare it datetime and say in options how they are "
            'written, such as format = "%d.%m.%Y"'
        )
    numbers = pd.to_numeric(distinct, errors="coerce").notna()
    if 0.5 < numbers.mean() < 1:
        odd = int((~texts.isin(distinct[numbers])).sum())
        raise DataError(
            f"{where} mixes numbers with {counted(odd, 'cell')} of text; empty or correct them, or "
            "declare the column categorical"
        )
    if distinct.str.contains("|", regex=False).any():
        values = split_values(distinct, ColumnOptions().separator)
        if values.nunique() <= len(distinct):
            return ColumnKind.MULTI_VALUED
    in_most_rows_another = len(distinct) > len(texts) / 2
    wordy = len(distinct) > 3 and (distinct.str.count(r"\s+").mean() + 1) >= _MANY_WORDS
    if in_most_rows_another and (wordy or len(distinct) > _FEW_VALUES):
        raise DataError(
            f"{where} is free text or too many categories: {len(distinct)} different values in "
            f"{len(texts)} cells; list it in ignore, or declare it numeric, datetime or categorical "
            "(rare categories are then taken together)"
        )
    return ColumnKind.CATEGORICAL


def read_feature(
    party: str,
    cells: pd.Series,
    kind: ColumnKind,
    options: ColumnOptions,
    *,
    may_be_constant: bool = False,
) -> pd.Series:
    """Return checked cells: float64 of numbers and booleans, datetime64 of dates, else text with None.

    Raises DataError if a cell is not of the kind, or the column is constant and may not be.
    """
    where = f"{party}: column {cells.name!r}"
    if kind is ColumnKind.NUMERIC:
        feature = pd.Series(numbers_of(cells))
        _refuse_others(where, cells, feature, kind, "without a number")
        if infinite := int(np.isinf(feature).sum()):
            raise DataError(f"{where} has {counted(infinite, 'infinite value')}; empty those cells")
    elif kind is ColumnKind.BOOLEAN:
        words = cells.astype(object).map(lambda cell: str(cell).strip().lower(), na_action="ignore")
        feature = words.map(_BOOLEAN_WORDS).astype(np.float64).reset_index(drop=True)
        _refuse_others(where, cells, feature, kind, "other than yes/no, true/false, 1/0")
    elif kind is ColumnKind.DATETIME:
        feature = _dates(where, cells, options.format)
        written = f"not written as {options.format}" if options.format else "that are no ISO date"
        remedy = 'or set its format option, such as format = "%d.%m.%Y"'
        _refuse_others(where, cells, feature, kind, written, remedy)
    else:
        texts = [None if cell is None else _category(cell) for cell in objects(cells)]
        feature = pd.Series(texts, dtype=object)
    if not may_be_constant and feature.nunique() < 2:
        value = "one value in every filled cell" if feature.notna().any() else "only empty cells"
        raise DataError(f"{where} is constant ({value}): nothing to learn from; leave it out")
    return feature


def _refuse_others(
    where: str,
    cells: pd.Series,
    feature: pd.Series,
    kind: ColumnKind,
    fault: str,
    remedy: str = "or declare the column categorical",
) -> None:
    if lost := int(feature.isna().sum() - cells.isna().sum()):
        raise DataError(
            f"{where} is {kind} but has {counted(lost, 'cell')} {fault}; correct or empty them, {remedy}"
        )


def split_values(cells: pd.Series, separator: str) -> pd.Series:
    """Return every value of multi-valued cells, once a cell, under the number of its row."""
    filled = cells.reset_index(drop=True).dropna()
    values = filled.astype(str).str.split(separator, regex=False).explode().str.strip()
    values = values[values != ""]
    twice = pd.DataFrame({"row": values.index, "value": values.to_numpy()}).duplicated()
    return values[~twice.to_numpy()]


def _dates(where: str, cells: pd.Series, date_format: str | None) -> pd.Series:
    """Return naive timestamps; those with an offset in UTC."""
    if types.is_datetime64_any_dtype(cells):
        aware: pd.Series[Any] = pd.to_datetime(cells, utc=True)
    else:
        raw = objects(cells)
        texts = pd.Series([None if cell is None else _category(cell) for cell in raw], dtype=object)
        if date_format is None or any(isinstance(cell, date) for cell in raw):
            date_format = "ISO8601"
        try:
            aware = pd.to_datetime(texts, format=date_format, errors="coerce", utc=True)
        except ValueError:
            raise DataError(
                f"{where}: its format option is none of strptime's; expected such as '%d.%m.%Y'"
            ) from None
    naive: pd.Series[Any] = aware.dt.tz_localize(None)
    return naive.reset_index(drop=True)


def objects(cells: pd.Series) -> list[object]:
    """Return the cells as Python objects, None where one is missing."""
    return list(np.where(cells.notna(), cells.to_numpy(dtype=object), np.array(None)))


def numbers_of(cells: pd.Series) -> NDArray[np.float64]:
    """Return the cells as float64, NaN where one is missing or not a number."""
    # As objects, so that a date is no number: pandas would count its nanoseconds.
    numbers = pd.to_numeric(cells.astype(object), errors="coerce")
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _category(cell: object) -> str:
    # One missing cell turns a column of integers into floats; categories must keep their names.
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def counted(number: int, noun: str) -> str:
    """Return such as '1 cell' and '3 cells'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Iterable[str]) -> str:
    """Return column names for a message, unless they look like the cells of a table without a header."""
    quoted = [repr(name) for name in names]
    if any(name.strip("'-").replace(".", "", 1).isdigit() for name in quoted):
        return "(not shown, as some are numbers: is the header row missing?)"
    return ", ".join(quoted[:20]) + (f" and {len(quoted) - 20} more" if len(quoted) > 20 else "")
