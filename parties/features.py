"""A table to a matrix of 16-bit fixed-point columns, by what the training rows alone teach.

What was learned is kept as small recipes (:mod:`parties.recipes`) that JSON carries bit for bit, so that a
saved model needs neither pickle nor the scikit-learn it was made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from scipy import sparse

from parties.dataset import PartyDataset
from parties.errors import DataError
from parties.recipes import Binary, Indicating, Indicators, OneHot, Recipe, Scaled, learn

FRACTION_BITS = 12
LOWEST, HIGHEST = -(8 << FRACTION_BITS), (8 << FRACTION_BITS) - 1
SQUARE_BITS = 8  # fractional bits of a squared column: 64 * 2^8 still fits 16 bits


@dataclass(frozen=True, eq=False)
class FixedPointMatrix:
    """Columns at a public scale: first the scaled ones, then the indicators, which are 0 or 1."""

    scaled: NDArray[np.int16]  # (n_rows, n_scaled), value = integer / 2^12
    indicators: sparse.csr_array[np.int8]  # (n_rows, n_indicators), value = integer
    clipped: int  # cells that did not fit, in all rows of the transform this came from

    @classmethod
    def of_scaled(cls, scaled: NDArray[np.int16]) -> Self:
        """Return columns at the scale (n_rows, n_columns) alone: no indicators, nothing clipped."""
        return cls(scaled, sparse.csr_array(np.zeros((len(scaled), 0), dtype=np.int8)), 0)

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.scaled)

    @property
    def n_columns(self) -> int:
        """The number of columns, scaled ones and indicators together."""
        return len(self.fraction_bits)

    @property
    def fraction_bits(self) -> NDArray[np.int64]:
        """The fractional bits of each column ``(n_columns,)``: 12 if scaled, 0 if an indicator."""
        return np.repeat([FRACTION_BITS, 0], [self.scaled.shape[1], self.indicators.shape[1]])

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the given rows in that order; ``clipped`` stays that of the whole transform."""
        return type(self)(self.scaled[rows], self.indicators[rows], self.clipped)

    def dot(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the real-valued product ``(n_rows, ...)`` with weights ``(n_columns, ...)``."""
        n_scaled = self.scaled.shape[1]
        scaled = self.scaled @ np.ldexp(weights[:n_scaled], -FRACTION_BITS)
        return np.asarray(scaled + self.indicators @ weights[n_scaled:])

    def squares_dot(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the real-valued product of the squared entries with weights ``(n_columns, ...)``."""
        n_scaled = self.scaled.shape[1]
        squares = np.square(np.ldexp(self.scaled.astype(np.float64), -FRACTION_BITS))
        return np.asarray(squares @ weights[:n_scaled] + self.indicators @ weights[n_scaled:])

    def scaled_squares(self) -> Self:
        """Return the squares of the scaled columns alone, as 16-bit integers with 8 fractional bits."""
        surplus = 2 * FRACTION_BITS - SQUARE_BITS
        squares = np.square(self.scaled.astype(np.int64)) + (1 << (surplus - 1)) >> surplus
        return self.of_scaled(squares.astype(np.int16))

    def transposed_dot(self, integers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the exact sums ``(n_columns, ...)`` of raw columns times integers ``(n_rows, ...)``.

        A scaled column counts in units of 2^-12, an indicator in ones. Raises OverflowError if the
        sum over so many rows of so large integers could leave 64 bits.
        """
        total = int(np.abs(integers.astype(np.float64)).sum(axis=0).max(initial=0))
        bound = total * (-LOWEST if self.scaled.size else 1)
        if bound >= 2**63:
            raise OverflowError(
                f"sums over {self.n_rows} rows could need {bound.bit_length() + 1} bits, expected at "
                "most 64; use smaller batches or fewer fractional bits"
            )
        return np.concatenate([self.scaled.T @ integers, self.indicators.T @ integers])

    def active(self) -> NDArray[np.bool_]:
        """Tell which columns ``(n_columns,)`` are not constant over these rows."""
        if not self.n_rows:
            return np.zeros(self.n_columns, dtype=np.bool_)
        ones = self.support()[self.scaled.shape[1] :]
        varied = self.scaled.max(axis=0) != self.scaled.min(axis=0)
        return np.concatenate([varied, (ones > 0) & (ones < self.n_rows)])

    def select(self, columns: NDArray[np.int64]) -> Self:
        """Return the given columns alone, in ascending order."""
        n_scaled = self.scaled.shape[1]
        ones = columns[columns >= n_scaled] - n_scaled
        return replace(
            self,
            scaled=self.scaled[:, columns[columns < n_scaled]],
            indicators=self.indicators[:, ones],
        )

    def support(self) -> NDArray[np.int64]:
        """Return the number of rows with a non-zero entry in each column, ``(n_columns,)``."""
        nonzero = self.indicators.indices[self.indicators.data != 0]
        ones = np.bincount(nonzero, minlength=self.indicators.shape[1])
        return np.concatenate([np.count_nonzero(self.scaled, axis=0), ones]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ExactMatrix:
    """The columns of a :class:`FixedPointMatrix` as floats, for plaintext baselines."""

    scaled: NDArray[np.float64]  # (n_rows, n_scaled)
    indicators: sparse.csr_array[np.int8]  # (n_rows, n_indicators)

    @property
    def n_columns(self) -> int:
        """The number of columns, scaled ones and indicators together."""
        return int(self.scaled.shape[1] + self.indicators.shape[1])

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the given rows in that order."""
        return type(self)(self.scaled[rows], self.indicators[rows])

    def dot(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the product ``(n_rows, ...)`` with weights ``(n_columns, ...)``."""
        n_scaled = self.scaled.shape[1]
        return np.asarray(self.scaled @ weights[:n_scaled] + self.indicators @ weights[n_scaled:])

    def squares(self) -> Self:
        """Return the squared entries."""
        return type(self)(self.scaled**2, self.indicators)

    def squares_dot(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the product of the squared entries with weights ``(n_columns, ...)``."""
        return self.squares().dot(weights)

    def transposed_dot(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the product of the transpose with ``values`` (n_rows, ...)."""
        return np.concatenate([self.scaled.T @ values, self.indicators.T @ values])

    def to_csr(self) -> sparse.csr_array[np.float64]:
        """Return one sparse matrix, for libraries that take no other."""
        indicators = self.indicators.astype(np.float64)
        return sparse.csr_array(sparse.hstack([sparse.csr_array(self.scaled), indicators]))


_JSON = TypeAdapter[tuple[Recipe, ...]](tuple[Annotated[Recipe, Field(discriminator="kind")], ...])


@dataclass(frozen=True)
class FeatureEncoder:
    """What the training rows taught about each column, to be applied to any rows."""

    recipes: tuple[Recipe, ...]

    @classmethod
    def fit(cls, dataset: PartyDataset, rows: NDArray[np.int64]) -> Self:
        """Learn from the given rows alone, whatever their order.

        Raises DataError if there are none, or if a column's numbers are too large to standardise.
        """
        if not len(rows):
            raise DataError(f"{dataset.party}: expected training rows, got none; check the split")
        training = dataset.take(np.sort(rows))
        return cls(tuple(recipe for name in training.kinds for recipe in learn(training, name)))

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names ``(n_columns,)`` in matrix order: scaled columns first, then indicators."""
        recipes = [*self._scaled, *self._indicators]
        return tuple(name for recipe in recipes for name in recipe.names)

    @property
    def sources(self) -> tuple[str, ...]:
        """The table's column that each matrix column comes from, ``(n_columns,)``."""
        recipes = [*self._scaled, *self._indicators]
        return tuple(recipe.column for recipe in recipes for _ in recipe.names)

    @property
    def identifiers(self) -> NDArray[np.bool_]:
        """Tell which columns ``(n_columns,)`` stand for one id each."""
        recipes = [*self._scaled, *self._indicators]
        are = [isinstance(recipe, OneHot) and recipe.identifier for recipe in recipes]
        return np.repeat(are, [len(recipe.names) for recipe in recipes]).astype(np.bool_)

    def transform(self, dataset: PartyDataset) -> FixedPointMatrix:
        """Return the rows as a fixed-point matrix ``(n_rows, n_columns)``.

        Raises DataError if a column of the training is missing or has become of the other kind.
        """
        scaled, indicators, misfits = self._apply(dataset)
        with np.errstate(over="ignore"):
            integers = np.rint(np.ldexp(scaled, FRACTION_BITS))
        fitting = np.clip(integers, LOWEST, HIGHEST)
        clipped = misfits + int(np.count_nonzero(fitting != integers))
        return FixedPointMatrix(fitting.astype(np.int16), indicators, clipped)

    def transform_exact(self, dataset: PartyDataset) -> ExactMatrix:
        """Return the same columns without fixed point: clipped alike, not rounded.

        For plaintext baselines: against a model of these a federated one shows what rounding and
        encryption cost. Raises as :meth:`transform`.
        """
        scaled, indicators, _ = self._apply(dataset)
        clipped = np.clip(
            scaled, np.ldexp(LOWEST, -FRACTION_BITS), np.ldexp(HIGHEST, -FRACTION_BITS)
        )
        return ExactMatrix(clipped, indicators)

    def to_json(self) -> dict[str, object]:
        """Return what was learned as plain JSON values, from which it comes back bit for bit."""
        return {"columns": _JSON.dump_python(self.recipes, mode="json")}

    @classmethod
    def from_json(cls, saved: Mapping[str, object]) -> Self:
        """Return the encoder that :meth:`to_json` described; raises DataError if it is damaged."""
        try:
            return cls(_JSON.validate_python(saved.get("columns")))
        except ValidationError as error:  # its own text would quote values
            raise DataError(
                f"saved preprocessing: expected what to_json wrote, got {error.error_count()} invalid "
                "entries; the file is damaged or of another version, so train again"
            ) from None

    @property
    def _scaled(self) -> list[Scaled]:
        return [recipe for recipe in self.recipes if isinstance(recipe, Scaled)]

    @property
    def _indicators(self) -> list[Indicating]:
        return [recipe for recipe in self.recipes if not isinstance(recipe, Scaled)]

    def _apply(
        self, dataset: PartyDataset
    ) -> tuple[NDArray[np.float64], sparse.csr_array[np.int8], int]:
        """Return standard scores, indicators and the number of cells that had to be bent to 0/1."""
        for recipe in self.recipes:
            got = dataset.kinds.get(recipe.column, "missing")
            if got != recipe.reads:
                raise DataError(
                    f"{dataset.party}: column {recipe.column!r} was {recipe.reads} in training and is "
                    f"{got} here; provide it and declare it {recipe.reads}"
                )
        scores = np.empty((dataset.n_rows, len(self._scaled)))
        for k, scaled in enumerate(self._scaled):
            scores[:, k] = scaled.scores(dataset.columns[scaled.column])
        blocks: list[Indicators] = [sparse.csr_array(np.zeros((dataset.n_rows, 0), dtype=np.int8))]
        misfits = 0
        for recipe in self._indicators:
            cells = dataset.columns[recipe.column]
            blocks.append(recipe.indicators(cells))
            misfits += recipe.misfits(cells) if isinstance(recipe, Binary) else 0
        return scores, sparse.csr_array(sparse.hstack(blocks, format="csr")), misfits
