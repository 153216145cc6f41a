"""Configurations that are known to leak, refused with the reason and the remedy.

``guard = "strict"`` raises, ``guard = "warn"`` collects the same sentences for the final table.
What each guard is against is told in docs/security.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy import sparse

from parties.columns import ColumnKind
from parties.dataset import PartyDataset
from parties.features import FixedPointMatrix
from protocol.errors import GuardError
from protocol.numbers import FloatArray, IntArray
from protocol.settings import TrainingSettings

_FEWEST_ROWS = 64  # lattice reduction finds labels in smaller batches, however few the columns
_TOLERANCE = 1e-6
_RIDGE = 1e-9  # columns that add up to others have no inverse without it
_BLOCK_CELLS = 1 << 22


@dataclass
class Guard:
    """One data party's checks on what its own gradients would give away about the labels.

    ``columns`` lists, for each batch, the columns whose gradient is opened; ``opened`` and ``withheld`` count gradient
    entries over the run.
    """

    party: str
    settings: TrainingSettings
    warnings: list[str] = field(default_factory=list)
    columns: list[IntArray] = field(default_factory=list)
    opened: int = 0
    withheld: int = 0

    def check_table(self, dataset: PartyDataset) -> None:
        """Refuse, before anything is sent, what no alignment could make right.

        Raises GuardError if the batch size, or the whole table, has too few rows for its numeric
        columns alone.
        """
        numeric = sum(kind is ColumnKind.NUMERIC for kind in dataset.kinds.values())
        self.check(self.party, self.settings.rows_of_batch(dataset.n_rows), numeric)

    def admit(self, rows: FixedPointMatrix, *, with_total: bool = False) -> None:
        """Check one batch, a row an entity, and note the columns that may be opened; raises GuardError.

        The label party learns the sum of all residuals besides, ``with_total``: it is the gradient of its bias.
        """
        self.check(self.party, rows.n_rows, int(np.count_nonzero(rows.active())))
        self.columns.append(openable(rows, self.settings.min_support, with_total=with_total))

    def count(self, number: int, n_columns: int) -> None:
        """Note that the gradient of a batch, of ``n_columns`` columns, has been opened."""
        entries = 1 + self.settings.n_factors
        self.opened += entries * len(self.columns[number])
        self.withheld += entries * (n_columns - len(self.columns[number]))

    def check(self, party: str, n_rows: int, n_columns: int) -> None:
        """Hold so many columns of any party against a batch of so many distinct rows; raises GuardError."""
        entries, ratio = 1 + self.settings.n_factors, self.settings.guard_ratio
        needed = max(_FEWEST_ROWS, ratio * entries * n_columns)
        if self.settings.disclosure == "none" or not n_columns or n_rows >= needed:
            return
        each, fewer = (
            (f" of {entries} gradient entries", " or factors") if entries > 1 else ("", "")
        )
        batches = (
            f"tables that share {needed} training rows or more"
            if self.settings.second_order
            else f"batch_size = {needed} or more"
        )
        sentence = (
            f"{party} has {n_columns} columns{each} but batches of {n_rows} distinct rows: from so few its "
            f"gradients can be solved for the labels. Use {batches} (guard_ratio = {ratio} rows an entry, and "
            f'{_FEWEST_ROWS} at least), fewer columns{fewer}, or guard = "warn"'
        )
        if self.settings.guard == "strict":
            raise GuardError(sentence)
        # One batch stands for all of a party's that are as small.
        if not any(line.startswith(f"{party} has ") for line in self.warnings):
            self.warnings.append(sentence)


def most_columns(n_rows: int, settings: TrainingSettings) -> int:
    """Return of how many columns the guard lets a gradient be opened in a batch of so many distinct rows."""
    entries = 1 + settings.n_factors
    return n_rows // (settings.guard_ratio * entries) if n_rows >= _FEWEST_ROWS else 0


def openable(rows: FixedPointMatrix, min_support: int, *, with_total: bool = False) -> IntArray:
    """Return the columns whose gradient entries may be opened, ``with_total`` if the sum of all rows is opened besides.

    A column that is constant over the rows stays closed: its entry is the sum of all residuals, and says nothing of it.

    An entry of a 0/1 column is a sum over the rows that have it: of one or two rows it would be their residuals. Such
    a sum also follows where opened ones, combined, leave one or two rows. Whatever the combination, if it leaves m
    rows then one of them has a leverage of 1/m or more in the opened columns (Hoaglin and Welsch, The American
    Statistician 1978). So columns are closed until no row has a leverage of ``1 / (min_support - 1)``: of those that
    the combination nearest to a row cannot do without, the rarest.
    """
    n_scaled = rows.scaled.shape[1]
    support = rows.support()[n_scaled:]
    varied = rows.active()
    may_open = varied[n_scaled:] & (support >= min_support)
    total = sparse.csr_array(np.ones((rows.n_rows, int(with_total))))
    while min_support > 1 and may_open.any():
        columns = np.flatnonzero(may_open)
        ones = rows.indicators[:, columns].astype(np.float64)
        span = Span.of(sparse.csr_array(sparse.hstack([ones, total])))
        exposed = np.flatnonzero(span.leverages() > 1 / (min_support - 1) - _TOLERANCE)
        if not len(exposed):
            break
        weights = np.abs(span.combinations(exposed)[:, : len(columns)])
        needed = weights >= weights.max(axis=1, keepdims=True) / 2
        rarest = np.where(needed, support[columns], np.inf).argmin(axis=1)
        may_open[columns[np.unique(rarest)]] = False
    return np.concatenate([np.flatnonzero(varied[:n_scaled]), n_scaled + np.flatnonzero(may_open)])


@dataclass(frozen=True, eq=False)
class Span:
    """What the sums ``X^T d`` of opened columns, ``X`` (n_rows, n_columns), tell about single residuals together."""

    X: sparse.csr_array[np.float64]  # columns of length 1
    lengths: FloatArray
    inverse: FloatArray  # of X^T X

    @classmethod
    def of(cls, X: sparse.csr_array[np.float64]) -> Self:
        """Take the columns as they are."""
        lengths = np.sqrt(np.asarray(X.multiply(X).sum(axis=0)).ravel())
        X = sparse.csr_array(X @ sparse.diags_array(1 / np.maximum(lengths, _TOLERANCE)))
        gram = (X.T @ X).toarray() + _RIDGE * np.eye(X.shape[1])
        inverse = np.linalg.inv(gram).astype(np.float64)
        return cls(X, lengths, inverse)

    def leverages(self) -> FloatArray:
        """Return how much of each row's residual (n_rows,) the sums determine, from 0 to 1."""
        step = max(1, _BLOCK_CELLS // self.X.shape[1])
        found = []
        for start in range(0, self.X.shape[0], step):
            block = self.X[start : start + step]
            parts = sparse.csr_array(block.multiply(block @ self.inverse))
            found.append(np.asarray(parts.sum(axis=1)).ravel())
        return np.concatenate(found)

    def combinations(self, rows: IntArray) -> FloatArray:
        """Return the weights (n, n_columns) with which the sums come nearest to each row's residual."""
        nearest: FloatArray = self.X[rows] @ self.inverse / np.maximum(self.lengths, _TOLERANCE)
        return nearest
