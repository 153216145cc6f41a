"""What the training rows taught about one column: plain numbers and text that JSON carries bit for bit.

A recipe makes either standard scores or indicators, which are 0 or 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import FiniteFloat
from scipy import sparse
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from parties.columns import ColumnKind, ColumnOptions, split_values
from parties.dataset import PartyDataset
from parties.errors import DataError

Indicators = sparse.csr_array[np.int8, tuple[int, int]]
# Years go on; the others come round, so each is a point on a circle: December lies beside January.
DatePart = Literal[
    "year", "month sine", "month cosine", "weekday sine", "weekday cosine", "hour sine", "hour cosine"
]  # fmt: skip
MISSING = "missing"
REST = "(other)"


@dataclass(frozen=True)
class Scaled:
    """A numeric column, or a ``part`` of a date: missing cells filled with the mean, then its standard score."""

    column: str
    fill: FiniteFloat
    centre: FiniteFloat
    scale: FiniteFloat
    part: DatePart | None = None
    kind: Literal["scaled"] = "scaled"

    @property
    def reads(self) -> ColumnKind:
        """The kind of column that it needs."""
        return ColumnKind.NUMERIC if self.part is None else ColumnKind.DATETIME

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the one matrix column."""
        return (self.column if self.part is None else f"{self.column} {self.part}",)

    def scores(self, cells: pd.Series) -> NDArray[np.float64]:
        """Return the standard score of each cell, ``(n_rows,)``."""
        values = _values(cells, self.part)
        with np.errstate(over="ignore"):  # what is so far out is clipped anyway
            return (np.where(np.isnan(values), self.fill, values) - self.centre) / self.scale


@dataclass(frozen=True)
class Binary:
    """A numeric column of 0 and 1: kept as it is, missing cells get the commoner of the two."""

    column: str
    fill: Literal[0, 1]
    kind: Literal["binary"] = "binary"

    @property
    def reads(self) -> ColumnKind:
        """The kind of column that it needs."""
        return ColumnKind.NUMERIC

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the one matrix column."""
        return (self.column,)

    def indicators(self, cells: pd.Series) -> Indicators:
        """Return the cells as ``(n_rows, 1)``: rounded and clipped."""
        ones = cells.fillna(self.fill).to_numpy(dtype=np.float64) > 0.5
        return _indicators(
            np.flatnonzero(ones), np.zeros(np.count_nonzero(ones), np.int64), (len(cells), 1)
        )

    def misfits(self, cells: pd.Series) -> int:
        """Count the filled cells that are neither 0 nor 1."""
        return int((cells.notna() & ~cells.isin([0.0, 1.0])).sum())


@dataclass(frozen=True)
class OneHot:
    """A categorical column: one indicator a category, all zero for one unseen in training.

    With ``rest`` the training rows had rarer categories still: one more indicator takes those and all unseen ones.
    """

    column: str
    categories: tuple[str, ...]
    identifier: bool = False
    rest: bool = False
    kind: Literal["one-hot"] = "one-hot"

    @property
    def reads(self) -> ColumnKind:
        """The kind of column that it needs."""
        return ColumnKind.IDENTIFIER if self.identifier else ColumnKind.CATEGORICAL

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each indicator, such as 'colour=red'."""
        return _names(self.column, self.categories, self.rest)

    def indicators(self, cells: pd.Series) -> Indicators:
        """Return ``(n_rows, n_names)`` with at most a single one in each row."""
        codes = _codes(_named(cells), self.categories, self.rest)
        known = np.flatnonzero(codes >= 0)
        return _indicators(known, codes[known], (len(cells), len(self.names)))


@dataclass(frozen=True)
class Hashed:
    """A categorical column of too many categories to learn: each falls into one of ``buckets`` by its hash."""

    column: str
    buckets: int
    kind: Literal["hashed"] = "hashed"

    @property
    def reads(self) -> ColumnKind:
        """The kind of column that it needs."""
        return ColumnKind.CATEGORICAL

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each indicator, such as 'postcode#7'."""
        return tuple(f"{self.column}#{bucket}" for bucket in range(self.buckets))

    def indicators(self, cells: pd.Series) -> Indicators:
        """Return ``(n_rows, buckets)`` with a single one in each row."""
        code_of, categories = pd.factorize(_named(cells))
        buckets = np.array([self._bucket(category) for category in categories], dtype=np.int64)
        return _indicators(np.arange(len(cells)), buckets[code_of], (len(cells), self.buckets))

    def _bucket(self, category: str) -> int:
        # Not Python's own hash(), which differs from one process to the next.
        digest = hashlib.blake2b(category.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest) % self.buckets


@dataclass(frozen=True)
class MultiHot:
    """A multi-valued column: an indicator for each value a cell can hold; else as :class:`OneHot`."""

    column: str
    categories: tuple[str, ...]
    separator: str
    rest: bool = False
    kind: Literal["multi-hot"] = "multi-hot"

    @property
    def reads(self) -> ColumnKind:
        """The kind of column that it needs."""
        return ColumnKind.MULTI_VALUED

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each indicator, such as 'genre=comedy'."""
        return _names(self.column, self.categories, self.rest)

    def indicators(self, cells: pd.Series) -> Indicators:
        """Return ``(n_rows, n_names)``, a one for each value in the cell; none if it is missing."""
        values = split_values(cells, self.separator)
        codes = _codes(values.to_numpy(dtype=object), self.categories, self.rest)
        known, width = codes >= 0, len(self.names)
        # Several rare values of one cell are one and the same indicator.
        places = np.unique(values.index.to_numpy(dtype=np.int64)[known] * width + codes[known])
        rows, columns = np.divmod(places, max(width, 1))
        return _indicators(rows, columns, (len(cells), width))


Indicating = Binary | OneHot | Hashed | MultiHot
Recipe = Scaled | Indicating


def learn(training: PartyDataset, name: str) -> list[Recipe]:
    """Learn one column from its training rows; raises DataError if its numbers are too large to standardise."""
    cells, kind = training.columns[name], training.kinds[name]
    options = training.options.get(name, ColumnOptions())
    if kind is ColumnKind.IDENTIFIER:
        return [OneHot(name, tuple(sorted(set(_named(cells)))), identifier=True)]
    if kind is ColumnKind.CATEGORICAL:
        if options.buckets is not None:
            return [Hashed(name, options.buckets)]
        categories, rest = _commonest(pd.Series(_named(cells)), options.max_categories)
        return [OneHot(name, categories, rest=rest)]
    if kind is ColumnKind.MULTI_VALUED:
        values = split_values(cells, options.separator)
        categories, rest = _commonest(values, options.max_categories)
        return [MultiHot(name, categories, options.separator, rest)]
    if kind is ColumnKind.DATETIME:
        parts = [_standardise(training.party, name, cells, part) for part in get_args(DatePart)]
        # Dates without a time of day have no hours to learn from, those of one year no years.
        varying = [part for part in parts if len(np.unique(part.scores(cells).round(9))) > 1]
        return [*(varying or parts[:1])]
    numbers = cells.to_numpy(dtype=np.float64)
    if np.array_equal(np.unique(numbers), [0.0, 1.0]):
        return [Binary(name, fill=1 if numbers.mean() > 0.5 else 0)]
    return [_standardise(training.party, name, cells)]


def _standardise(party: str, name: str, cells: pd.Series, part: DatePart | None = None) -> Scaled:
    values = _values(cells, part).reshape(-1, 1)
    imputer, scaler = SimpleImputer(keep_empty_features=True), StandardScaler()
    with np.errstate(over="ignore", invalid="ignore"):
        scaler.fit(imputer.fit_transform(values))
    if not np.isfinite(scaler.var_).all():  # checked here as an infinite one gives a scale of 1
        raise DataError(
            f"{party}: the numbers of column {name!r} are too large to standardise; give it "
            "in a larger unit, or take its logarithm"
        )
    learned = imputer.statistics_, scaler.mean_, scaler.scale_
    fill, centre, scale = (float(value) for (value,) in learned)
    return Scaled(name, fill, centre, scale, part)


def _values(cells: pd.Series, part: DatePart | None) -> NDArray[np.float64]:
    """Return numbers, or a part of dates as years since 1970 or as a coordinate on the unit circle."""
    if part is None:
        return cells.to_numpy(dtype=np.float64)
    turns = {
        "month": (cells.dt.month - 1) / 12,
        "weekday": cells.dt.day_of_week / 7,
        "hour": (cells.dt.hour + cells.dt.minute / 60) / 24,
    }
    if part == "year":
        years = cells.dt.year - 1970 + (cells.dt.day_of_year - 1) / 366
        return np.asarray(years, dtype=np.float64)
    period, _, coordinate = part.partition(" ")
    angles = 2 * np.pi * np.asarray(turns[period], dtype=np.float64)
    return np.asarray(np.sin(angles) if coordinate == "sine" else np.cos(angles))


def _commonest(values: pd.Series, limit: int) -> tuple[tuple[str, ...], bool]:
    """Return at most ``limit`` categories in their order, and whether the last place is kept for the others."""
    counts = values.value_counts()
    if len(counts) <= limit:
        return tuple(sorted(counts.index)), False
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(sorted(str(category) for category, _ in ranked[: limit - 1])), True


def _codes(
    values: NDArray[np.object_], categories: Collection[str], rest: bool
) -> NDArray[np.int64]:
    """Return each value's number among the categories; for others that of the rest, or -1 without one."""
    index = pd.Index(list(categories), dtype=object)
    codes = index.get_indexer(pd.Index(values, dtype=object)).astype(np.int64)
    return np.where(codes < 0, len(index), codes) if rest else codes


def _names(column: str, categories: tuple[str, ...], rest: bool) -> tuple[str, ...]:
    return tuple(f"{column}={one}" for one in (*categories, *([REST] if rest else [])))


def _indicators(
    rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> Indicators:
    """Return a one at each of the places, which come row by row and from left to right."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    return sparse.csr_array((np.ones(len(rows), dtype=np.int8), columns, starts), shape=shape)


def _named(cells: pd.Series) -> NDArray[np.object_]:
    """Return categorical cells with a missing one as a category of its own."""
    return np.where(cells.notna(), cells.to_numpy(dtype=object), MISSING)
