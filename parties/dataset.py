"""A party's own table: the ids of its rows, its feature columns and, at one party, the label.

The plug-in point for data: whatever the source, hand a pandas table to
:meth:`PartyDataset.from_frame`. What would go wrong later is refused here, in words that never quote an id or a value.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypedDict, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from parties.errors import DataError


class ColumnKind(StrEnum):
    """How a feature column is to be read."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    IDENTIFIER = "identifier"


class IdKind(StrEnum):
    """How a column's ids are written: all of them whole numbers in shortest spelling ('7', never '007'), or not."""

    INTEGER = "integer"
    TEXT = "text"


class Declaration(TypedDict, total=False):
    """What a party says of its table, beside its ids: the keywords of :meth:`PartyDataset.from_frame`."""

    label: str | None
    columns: Sequence[str] | None
    ignore: Sequence[str]
    numeric: Sequence[str]
    categorical: Sequence[str]
    id_features: Sequence[str]
    id_kinds: Mapping[str, IdKind]
    time: str | None
    title: str | None
    threshold: float | None
    rating_range: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class PartyDataset:
    """One party's checked table of ``n_rows`` rows; make one with a ``from_`` method.

    Of ``columns``, the features alone, numeric ones are float64 with NaN for a missing cell and
    categorical ones are text with None.
    """

    party: str
    ids: Mapping[str, NDArray[np.object_]]  # entity type ('user_id') -> normalised ids (n_rows,)
    columns: pd.DataFrame
    kinds: Mapping[str, ColumnKind]  # in column order
    label: NDArray[np.float64] | None  # 0.0 or 1.0 (n_rows,), at the label party alone
    time: pd.Series | None = None  # when each row came about (n_rows,): orders rows, is no feature
    titles: pd.Series | None = None  # what to call each row's item (n_rows,): for people to read
    id_kinds: Mapping[str, IdKind] = field(default_factory=dict)  # entity type -> kind, as declared

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.columns)

    def id_kind(self, entity: str) -> IdKind:
        """Return how the ids of an entity type are written: as declared, else what all of them are."""
        if entity in self.id_kinds:
            return self.id_kinds[entity]
        shortest = all(map(_INTEGER.fullmatch, self.ids[entity]))
        return IdKind.INTEGER if shortest else IdKind.TEXT

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the given rows in that order, unchecked: a subset may hold constant columns."""
        return type(self)(
            party=self.party,
            ids={entity: values[rows] for entity, values in self.ids.items()},
            columns=self.columns.iloc[rows].reset_index(drop=True),
            kinds=self.kinds,
            label=None if self.label is None else self.label[rows],
            time=None if self.time is None else self.time.iloc[rows].reset_index(drop=True),
            titles=None if self.titles is None else self.titles.iloc[rows].reset_index(drop=True),
            id_kinds=self.id_kinds,
        )

    @classmethod
    def from_frame(
        cls,
        party: str,
        frame: pd.DataFrame,
        *,
        ids: Mapping[str, str],
        label: str | None = None,
        columns: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        numeric: Sequence[str] = (),
        categorical: Sequence[str] = (),
        id_features: Sequence[str] = (),
        id_kinds: Mapping[str, IdKind] = MappingProxyType({}),
        time: str | None = None,
        title: str | None = None,
        threshold: float | None = None,
        rating_range: tuple[float, float] | None = None,
    ) -> Self:
        """Check a table and take it over; its index is ignored.

        ``ids`` maps an entity type to the column that holds its ids; a feature party, which has no
        ``label``, has exactly one, with no id twice. ``columns`` are the features in order, by
        default all that are neither id nor label nor in ``ignore``. A column declared neither
        ``numeric`` nor ``categorical`` is numeric where pandas holds numbers or booleans. Entity
        types named in ``id_features`` have their ids as a feature too, one 0/1 column an id.
        Entity types in ``id_kinds`` have their ids compared as numbers, where '007' is 7, or as the
        text they are; by default they are numbers if all are, in their shortest spelling.
        ``time`` names a column that orders rows and ``title`` one that names their items; neither
        is a feature unless declared so. With a ``threshold`` the label is a rating, within
        ``rating_range`` if that is given, and counts as 1 from the threshold on.

        Raises DataError if the table cannot be trained on as it is.
        """
        _check_header(party, list(frame.columns))
        if unknown := sorted(set(id_features) - set(ids)):
            raise DataError(
                f"{party}: id_features names {_listed(unknown)}; there are {_listed(ids)}"
            )
        for role, name in (("time", time), ("title", title)):
            if name is not None and name not in frame:
                raise DataError(
                    f"{party}: no {role} column {name!r}; there are {_listed(frame.columns)}"
                )
        if columns is None:
            if missing := sorted(set(ignore) - set(frame.columns)):
                raise DataError(f"{party}: ignore names {_listed(missing)}, which is no column")
            shown_only = {time, title} - {*numeric, *categorical}
            apart = {label, *shown_only, *ids.values(), *ignore}
            columns = [name for name in frame.columns if name not in apart]
        names = _choose_features(party, list(frame.columns), ids, label, columns, id_features)
        kinds = _choose_kinds(party, {name: frame[name] for name in names}, numeric, categorical)
        if frame.empty:
            raise DataError(f"{party}: the table has no rows; check where it comes from")
        features = {name: _read_feature(party, frame[name], kind) for name, kind in kinds.items()}
        normalised = {
            entity: _read_ids(party, frame[column], label, id_kinds.get(entity))
            for entity, column in ids.items()
        }
        for entity in id_features:
            features[ids[entity]] = pd.Series(normalised[entity], dtype=object)
            kinds[ids[entity]] = ColumnKind.IDENTIFIER
        return cls(
            party=party,
            ids=normalised,
            columns=pd.DataFrame(features),
            kinds=kinds,
            label=None
            if label is None
            else _read_label(party, frame[label], threshold, rating_range),
            time=None if time is None else frame[time].reset_index(drop=True),
            titles=None if title is None else frame[title].reset_index(drop=True),
            id_kinds=id_kinds,
        )

    @classmethod
    def from_csv(
        cls,
        party: str,
        path: str | PathLike[str],
        *,
        ids: Mapping[str, str],
        **declared: Unpack[Declaration],
    ) -> Self:
        """Read a comma-separated UTF-8 file with a header; the rest is as in :meth:`from_frame`.

        Ids and declared categories stay the text they are in the file: '007' keeps its zeros.
        Raises DataError also if the file cannot be read.
        """
        frame = _read_csv(party, path, ids.values(), declared.get("categorical", ()))
        return cls.from_frame(party, frame, ids=ids, **declared)


_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_ANY_INTEGER = re.compile(r"([+-]?)0*([0-9]+)")


def normalise_id(value: object, kind: IdKind | None = None) -> str:
    """Return the text all parties must agree on for this id: Unicode NFC, without outer spaces.

    An id declared an integer is written in its shortest spelling, so that '007' is 7.
    Raises TypeError for anything but text and integers, and for text without a whole number where one is declared.
    A float is refused even if it is integral: beyond 2^53 its digits are no longer those of the id.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        raise TypeError(f"an id is text or an integer, not {type(value).__name__}")
    text = unicodedata.normalize("NFC", value).strip()
    if kind is not IdKind.INTEGER:
        return text
    number = _ANY_INTEGER.fullmatch(text)
    if number is None:
        raise TypeError("an id is declared an integer but is other text")
    sign, digits = number.groups()
    return f"-{digits}" if sign == "-" and digits != "0" else digits


def _read_csv(
    party: str, path: str | PathLike[str], ids: Iterable[str], categorical: Iterable[str]
) -> pd.DataFrame:
    where = f"{party}: {path}"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        header = _check_lines(party, where, text)
        as_text = {name: str for name in categorical if name in header}
        frame = pd.read_csv(io.StringIO(text), dtype=as_text, low_memory=False)
        if id_columns := [name for name in dict.fromkeys(ids) if name in header]:
            # Read on their own because only so is an id spelled 'NA' or 'null' not a missing cell.
            raw = pd.read_csv(io.StringIO(text), usecols=id_columns, dtype=str, na_filter=False)
            frame[id_columns] = raw[id_columns]
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise DataError(f"{where} is not UTF-8 text; save it as CSV in UTF-8") from None
    except (csv.Error, ValueError):  # the latter from pandas, whose own words may quote cells
        raise DataError(f"{where} is not well-formed CSV; check its quotes") from None
    return frame


def _check_lines(party: str, where: str, text: str) -> list[str]:
    """Return the header; pandas would rename repeated columns and fill short rows in silence."""
    lines = csv.reader(io.StringIO(text))
    header = next((line for line in lines if line), [])
    if not header:
        raise DataError(f"{where} is empty; expected a header and rows of data")
    _check_header(party, header)
    for line in lines:
        if line and len(line) != len(header):
            raise DataError(
                f"{where}, line {lines.line_num}: expected {len(header)} cells as in the header, "
                f"got {len(line)}; correct the row, or quote text that holds commas"
            )
    return header


def _check_header(party: str, header: Sequence[object]) -> None:
    for position, name in enumerate(header, start=1):
        if not (isinstance(name, str) and name.strip()):
            raise DataError(f"{party}: column {position} has no name in text; name it or drop it")
    if repeated := [str(name) for name, times in Counter(header).items() if times > 1]:
        raise DataError(f"{party}: column names must differ; rename repeats of {_listed(repeated)}")


def _choose_features(
    party: str,
    header: Sequence[str],
    ids: Mapping[str, str],
    label: str | None,
    columns: Sequence[str],
    id_features: Sequence[str],
) -> list[str]:
    if not ids or (label is None and len(ids) > 1):
        expected = "one id column, as no label is set" if label is None else "an id column"
        raise DataError(f"{party}: expected {expected}, got {len(ids)}; correct the ids setting")
    reserved = [*ids.values()] if label is None else [*ids.values(), label]
    for name, times in Counter([*reserved, *columns]).items():
        if name not in header:
            raise DataError(f"{party}: no column {name!r}; correct it. There are {_listed(header)}")
        if times > 1:
            raise DataError(f"{party}: column {name!r} must be one of id, label, feature, and once")
    if not columns and not id_features:
        raise DataError(f"{party}: no feature columns beside {_listed(reserved)}; add or name some")
    return [*columns]


def _choose_kinds(
    party: str, table: Mapping[str, pd.Series], numeric: Sequence[str], categorical: Sequence[str]
) -> dict[str, ColumnKind]:
    for name in [*numeric, *categorical]:
        where = f"{party}: column {name!r} is declared"
        if name not in table:
            raise DataError(f"{where} but is no feature; correct it. There are {_listed(table)}")
        if name in numeric and name in categorical:
            raise DataError(f"{where} both numeric and categorical; keep one of them")
    guessed = {name for name, cells in table.items() if types.is_numeric_dtype(cells)}
    numbers = guessed.union(numeric).difference(categorical)
    return {name: ColumnKind("numeric" if name in numbers else "categorical") for name in table}


def _read_ids(
    party: str, cells: pd.Series, label: str | None, kind: IdKind | None
) -> NDArray[np.object_]:
    where = f"{party}: id column {cells.name!r}"
    raw = _objects(cells)
    # Before their type is looked at: empty cells are what makes pandas hold integers as floats.
    if empty := sum(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in raw):
        raise DataError(f"{where} has {_count(empty, 'empty cell')}; fill them or drop their rows")
    try:
        values = [normalise_id(cell, kind) for cell in raw]
    except TypeError as error:
        raise DataError(f"{where}: {error}; store the ids as integers or text") from None
    repeats = [times for times in Counter(values).values() if times > 1]
    if repeats and label is None:
        raise DataError(
            f"{where} repeats {_count(len(repeats), 'id')} over {sum(repeats)} rows; a party "
            "without a label needs one row for each id, so drop or merge the others"
        )
    return np.array(values, dtype=object)


def _read_label(
    party: str,
    cells: pd.Series,
    threshold: float | None,
    rating_range: tuple[float, float] | None,
) -> NDArray[np.float64]:
    where = f"{party}: label column {cells.name!r}"
    if empty := int(cells.isna().sum()):
        raise DataError(f"{where} has {_count(empty, 'empty cell')}; drop their rows")
    values = _numbers(cells)
    if threshold is not None:
        lowest, highest = rating_range or (-np.inf, np.inf)
        if outside := int(np.count_nonzero(~((values >= lowest) & (values <= highest)))):
            raise DataError(
                f"{where} has {_count(outside, 'rating')} that are no number from {lowest:g} to "
                f"{highest:g}; correct them or rating_range"
            )
        values = (values >= threshold).astype(np.float64)
    distinct = _count(cells.astype(object).map(str).nunique(), "distinct value")
    if not np.isin(values, (0.0, 1.0)).all():
        raise DataError(f"{where}: expected only 0 and 1, got {distinct}; map them to 0 and 1")
    if values.min() == values.max():
        raise DataError(f"{where}: expected both 0 and 1, got {distinct}; add rows of both classes")
    return values


def _read_feature(party: str, cells: pd.Series, kind: ColumnKind) -> pd.Series:
    where = f"{party}: column {cells.name!r}"
    if kind is ColumnKind.NUMERIC:
        feature = pd.Series(_numbers(cells))
        if text := int(feature.isna().sum() - cells.isna().sum()):
            raise DataError(
                f"{where} is numeric but has {_count(text, 'cell')} without a number; correct or "
                "empty them, or declare the column categorical"
            )
        if infinite := int(np.isinf(feature).sum()):
            raise DataError(f"{where} has {_count(infinite, 'infinite value')}; empty those cells")
    else:
        texts = [None if cell is None else _category(cell) for cell in _objects(cells)]
        feature = pd.Series(texts, dtype=object)
    if feature.nunique() < 2:
        value = "one value in every filled cell" if feature.notna().any() else "only empty cells"
        raise DataError(f"{where} is constant ({value}): nothing to learn from; leave it out")
    return feature


def _objects(cells: pd.Series) -> list[object]:
    return list(np.where(cells.notna(), cells.to_numpy(dtype=object), np.array(None)))


def _numbers(cells: pd.Series) -> NDArray[np.float64]:
    """Return the cells as float64, NaN where one is missing or not a number."""
    # As objects, so that a date is no number: pandas would count its nanoseconds.
    numbers = pd.to_numeric(cells.astype(object), errors="coerce")
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _category(cell: object) -> str:
    # One missing cell turns a column of integers into floats; categories must keep their names.
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(names: Iterable[str]) -> str:
    quoted = [repr(name) for name in names]
    if any(name.strip("'-").replace(".", "", 1).isdigit() for name in quoted):
        return "(not shown, as some are numbers: is the header row missing?)"
    return ", ".join(quoted[:20]) + (f" and {len(quoted) - 20} more" if len(quoted) > 20 else "")
