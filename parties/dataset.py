"""A party's own table: the ids of its rows, its feature columns and, at one party, the label.

Whatever the source (:mod:`parties.sources`), what would go wrong later is refused here, in words that never quote an
id or a value.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self, TypedDict, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.columns import (
    ColumnKind,
    ColumnOptions,
    check_header,
    choose_kinds,
    counted,
    listed,
    numbers_of,
    objects,
    read_feature,
)
from parties.errors import DataError
from parties.sources import DataSource, read_table, to_pandas


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
    boolean: Sequence[str]
    multi_valued: Sequence[str]
    datetime: Sequence[str]
    options: Mapping[str, ColumnOptions]
    id_features: Sequence[str]
    id_kinds: Mapping[str, IdKind]
    time: str | None
    title: str | None
    threshold: float | None
    rating_range: tuple[float, float] | None
    like: PartyDataset | None


@dataclass(frozen=True, eq=False)
class PartyDataset:
    """One party's checked table of ``n_rows`` rows; make one with a ``from_`` method.

    Of ``columns``, the features alone, numeric ones are float64 with NaN for a missing cell, dates are datetime64
    with NaT, and all others are text with None.
    """

    party: str
    ids: Mapping[str, NDArray[np.object_]]  # entity type ('user_id') -> normalised ids (n_rows,)
    columns: pd.DataFrame
    kinds: Mapping[str, ColumnKind]  # in column order
    label: NDArray[np.float64] | None  # 0.0 or 1.0 (n_rows,), at the label party alone
    time: pd.Series | None = None  # when each row came about (n_rows,): orders rows, is no feature
    titles: pd.Series | None = None  # what to call each row's item (n_rows,): for people to read
    options: Mapping[str, ColumnOptions] = field(default_factory=dict)  # of columns that have any
    id_kinds: Mapping[str, IdKind] = field(default_factory=dict)  # entity type -> kind, as declared

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.columns)

    @property
    def feature_columns(self) -> list[str]:
        """The columns that are features, in order, without ids that are features of their own."""
        return [name for name, kind in self.kinds.items() if kind is not ColumnKind.IDENTIFIER]

    def id_kind(self, entity: str) -> IdKind:
        """Return how the ids of an entity type are written: as declared, else what all of them are."""
        if entity in self.id_kinds:
            return self.id_kinds[entity]
        shortest = all(map(_INTEGER.fullmatch, self.ids[entity]))
        return IdKind.INTEGER if shortest else IdKind.TEXT

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the given rows in that order, unchecked: a subset may hold constant columns."""
        return replace(
            self,
            ids={entity: values[rows] for entity, values in self.ids.items()},
            columns=self.columns.iloc[rows].reset_index(drop=True),
            label=None if self.label is None else self.label[rows],
            time=None if self.time is None else self.time.iloc[rows].reset_index(drop=True),
            titles=None if self.titles is None else self.titles.iloc[rows].reset_index(drop=True),
        )

    @classmethod
    def from_frame(
        cls,
        party: str,
        frame: Any,
        *,
        ids: Mapping[str, str],
        label: str | None = None,
        columns: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        numeric: Sequence[str] = (),
        categorical: Sequence[str] = (),
        boolean: Sequence[str] = (),
        multi_valued: Sequence[str] = (),
        datetime: Sequence[str] = (),
        options: Mapping[str, ColumnOptions] | None = None,
        id_features: Sequence[str] = (),
        id_kinds: Mapping[str, IdKind] = MappingProxyType({}),
        time: str | None = None,
        title: str | None = None,
        threshold: float | None = None,
        rating_range: tuple[float, float] | None = None,
        like: PartyDataset | None = None,
    ) -> Self:
        """Check a table of pandas or polars and take it over; its index is ignored.

        ``ids`` maps an entity type to the column that holds its ids; a feature party, which has no
        ``label``, has exactly one, with no id twice. ``columns`` are the features in order, by
        default all that are neither id nor label nor in ``ignore``. Of what kind a column is that is
        not declared (``numeric`` to ``datetime``) is guessed from its cells. ``options`` are of
        single columns. Entity types named in ``id_features`` have their ids as a feature too, one 0/1 column an id.
        Entity types in ``id_kinds`` have their ids compared as numbers, where '007' is 7, or as the
        text they are; by default they are numbers if all are, in their shortest spelling.
        ``time`` names a column that orders rows and ``title`` one that names their items; neither
        is a feature unless declared so. With a ``threshold`` the label is a rating, within
        ``rating_range`` if that is given, and counts as 1 from the threshold on.
        The table may hold further rows of one that was checked before, ``like`` it: then it has the
        same features of the same kinds, may be too small for two values in each, and needs no label.

        Raises DataError if the table cannot be trained on as it is.
        """
        frame = to_pandas(frame, f"{party}: the table")
        check_header(party, list(frame.columns))
        if unknown := sorted(set(id_features) - set(ids)):
            raise DataError(
                f"{party}: id_features names {listed(unknown)}; there are {listed(ids)}"
            )
        for role, name in (("time", time), ("title", title)):
            if name is not None and name not in frame:
                raise DataError(
                    f"{party}: no {role} column {name!r}; there are {listed(frame.columns)}"
                )
        if like is not None:
            columns = like.feature_columns
        if columns is None:
            if missing := sorted(set(ignore) - set(frame.columns)):
                raise DataError(f"{party}: ignore names {listed(missing)}, which is no column")
            shown_only = {time, title} - {*numeric, *categorical, *datetime}
            apart = {label, *shown_only, *ids.values(), *ignore}
            columns = [name for name in frame.columns if name not in apart]
        leads = label is not None or (like is not None and like.label is not None)
        names = _choose_features(
            party, list(frame.columns), ids, label, columns, id_features, leads=leads
        )
        declared = {
            ColumnKind.NUMERIC: numeric,
            ColumnKind.CATEGORICAL: categorical,
            ColumnKind.BOOLEAN: boolean,
            ColumnKind.MULTI_VALUED: multi_valued,
            ColumnKind.DATETIME: datetime,
        }
        options = options or {}
        known = {} if like is None else like.kinds
        kinds = choose_kinds(party, {name: frame[name] for name in names}, declared, options, known)
        if frame.empty:
            raise DataError(f"{party}: the table has no rows; check where it comes from")
        features = {
            name: read_feature(
                party,
                frame[name],
                kind,
                options.get(name, ColumnOptions()),
                may_be_constant=like is not None,
            )
            for name, kind in kinds.items()
        }
        for name in boolean:
            kinds[name] = ColumnKind.NUMERIC
        normalised = {
            entity: _read_ids(party, frame[column], id_kinds.get(entity), leads=leads)
            for entity, column in ids.items()
        }
        if like is not None:  # of a few ids that are text all may happen to look like numbers
            text = [entity for entity in ids if like.id_kind(entity) is IdKind.TEXT]
            id_kinds = {**dict.fromkeys(text, IdKind.TEXT), **id_kinds}
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
            else _read_label(
                party, frame[label], threshold, rating_range, both_classes=like is None
            ),
            time=None if time is None else frame[time].reset_index(drop=True),
            titles=None if title is None else frame[title].reset_index(drop=True),
            options=options,
            id_kinds=id_kinds,
        )

    @classmethod
    def from_source(
        cls,
        party: str,
        source: DataSource,
        *,
        ids: Mapping[str, str],
        **declared: Unpack[Declaration],
    ) -> Self:
        """Read any source; the rest is as in :meth:`from_frame`. Raises DataError also if it cannot be read."""
        try:
            frame = read_table(source)
        except DataError as error:  # which knows no party
            raise DataError(f"{party}: {error}") from None
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


def looks_like_another(value: str) -> bool:
    """Tell whether an id in Unicode NFC has compatibility or invisible characters, or words of mixed scripts."""
    if unicodedata.normalize("NFKC", value) != value:
        return True
    if any(unicodedata.category(character) == "Cf" for character in value):
        return True
    words: list[str] = re.findall(r"[^\W\d_]+", value)
    return any(len(_CONFUSABLE_SCRIPTS & {_script(one) for one in word}) > 1 for word in words)


_CONFUSABLE_SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK"})


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _choose_features(
    party: str,
    header: Sequence[str],
    ids: Mapping[str, str],
    label: str | None,
    columns: Sequence[str],
    id_features: Sequence[str],
    *,
    leads: bool,
) -> list[str]:
    if not ids or (len(ids) > 1 and not leads):
        expected = "an id column" if leads else "one id column, as no label is set"
        raise DataError(f"{party}: expected {expected}, got {len(ids)}; correct the ids setting")
    reserved = [*ids.values()] if label is None else [*ids.values(), label]
    for name, times in Counter([*reserved, *columns]).items():
        if name not in header:
            raise DataError(f"{party}: no column {name!r}; correct it. There are {listed(header)}")
        if times > 1:
            raise DataError(f"{party}: column {name!r} must be one of id, label, feature, and once")
    if not columns and not id_features:
        raise DataError(f"{party}: no feature columns beside {listed(reserved)}; add or name some")
    return [*columns]


def _read_ids(
    party: str, cells: pd.Series, kind: IdKind | None, *, leads: bool
) -> NDArray[np.object_]:
    where = f"{party}: id column {cells.name!r}"
    raw = objects(cells)
    # Before their type is looked at: empty cells are what makes pandas hold integers as floats.
    if empty := sum(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in raw):
        raise DataError(f"{where} has {counted(empty, 'empty cell')}; fill them or drop their rows")
    try:
        values = [normalise_id(cell, kind) for cell in raw]
    except TypeError as error:
        raise DataError(f"{where}: {error}; store the ids as integers or text") from None
    if odd := sum(not value.isascii() and looks_like_another(value) for value in values):
        raise DataError(
            f"{where} has {counted(odd, 'id')} with characters that only look like others, such as wide "
            "digits, invisible spaces or a Cyrillic letter in a Latin word: another party will not "
            "write them so; correct them"
        )
    repeats = [times for times in Counter(values).values() if times > 1]
    if repeats and not leads:
        raise DataError(
            f"{where} repeats {counted(len(repeats), 'id')} over {sum(repeats)} rows; a party "
            "without a label needs one row for each id, so drop or merge the others"
        )
    return np.array(values, dtype=object)


def _read_label(
    party: str,
    cells: pd.Series,
    threshold: float | None,
    rating_range: tuple[float, float] | None,
    *,
    both_classes: bool,
) -> NDArray[np.float64]:
    where = f"{party}: label column {cells.name!r}"
    if empty := int(cells.isna().sum()):
        raise DataError(f"{where} has {counted(empty, 'empty cell')}; drop their rows")
    values = numbers_of(cells)
    if threshold is not None:
        lowest, highest = rating_range or (-np.inf, np.inf)
        if outside := int(np.count_nonzero(~((values >= lowest) & (values <= highest)))):
            raise DataError(
                f"{where} has {counted(outside, 'rating')} that are no number from {lowest:g} to "
                f"{highest:g}; correct them or rating_range"
            )
        values = (values >= threshold).astype(np.float64)
    distinct = counted(cells.astype(object).map(str).nunique(), "distinct value")
    if not np.isin(values, (0.0, 1.0)).all():
        raise DataError(f"{where}: expected only 0 and 1, got {distinct}; map them to 0 and 1")
    if both_classes and values.min() == values.max():
        raise DataError(f"{where}: expected both 0 and 1, got {distinct}; add rows of both classes")
    return values
