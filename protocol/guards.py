"""Configurations that are known to leak, refused with the reason and the remedy.

``guard = "strict"`` raises, ``guard = "warn"`` collects the same sentences for the final table.
What each guard is against is told in docs/security.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from parties.columns import ColumnKind
from parties.dataset import PartyDataset
from parties.features import FixedPointMatrix
from protocol.errors import GuardError
from protocol.messages import FloatArray, IntArray
from protocol.settings import TrainingSettings

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
        self._check_rows(min(self.settings.batch_size, dataset.n_rows), numeric)

    def admit(self, rows: FixedPointMatrix) -> None:
        """Check one batch, a row an entity, and note the columns that may be opened; raises GuardError."""
        self._check_rows(rows.n_rows, int(np.count_nonzero(rows.active())))
        self.columns.append(openable(rows, self.settings.min_support))

    def count(self, number: int, n_columns: int) -> None:
        """Note that the gradient of a batch, of ``n_columns`` columns, has been opened."""
        entries = 1 + self.settings.n_factors
        self.opened += entries * len(self.columns[number])
        self.withheld += entries * (n_columns - len(self.columns[number]))

    def _check_rows(self, n_rows: int, n_columns: int) -> None:
        needed = self.settings.guard_ratio * n_columns
        if self.settings.disclosure == "none" or n_rows >= needed:
            return
        sentence = (
            f"{self.party} has {n_columns} columns but batches of {n_rows} distinct rows: from so few rows a "
            f"column its gradients can be solved for the labels. Use batch_size = {needed} or more "
            f'(guard_ratio = {self.settings.guard_ratio} rows a column), fewer columns, or guard = "warn"'
        )
        if self.settings.guard == "strict":
            raise GuardError(sentence)
        if not self.warnings:  # one batch stands for all that are as small
            self.warnings.append(sentence)


def openable(rows: FixedPointMatrix, min_support: int) -> IntArray:
    """Return the columns whose gradient entries may be opened.

    An entry of a 0/1 column is a sum over the rows that have it: of one or two rows it would be their residuals. Such
    a sum also follows where opened ones, combined, leave one or two rows. Whatever the combination, if it leaves m
    rows then one of them has a leverage of 1/m or more in the opened columns (Hoaglin and Welsch, The American
    Statistician 1978). So columns are closed, of each row that stands out its rarest, until no row has a leverage of
    ``1 / (min_support - 1)``.
    """
    n_scaled = rows.scaled.shape[1]
    support = rows.support()[n_scaled:]
    may_open = support >= min_support
    while min_support > 1 and may_open.any():
        columns = np.flatnonzero(may_open)
        ones = rows.indicators[:, columns].astype(np.float64)
        exposed = leverages(ones) > 1 / (min_support - 1) - _TOLERANCE
        if not exposed.any():
            break
        rarest = (ones[exposed] @ sparse.diags_array(1 / support[columns])).argmax(axis=1)
        may_open[columns[np.unique(rarest)]] = False
    return np.concatenate([np.arange(n_scaled), n_scaled + np.flatnonzero(may_open)])


def leverages(X: sparse.csr_array[np.float64]) -> FloatArray:
    """Return the leverage of each row (n_rows,): how much of its residual the sums ``X^T d`` determine, 0 to 1."""
    lengths = np.sqrt(np.asarray(X.multiply(X).sum(axis=0)).ravel())
    X = sparse.csr_array(X @ sparse.diags_array(1 / np.maximum(lengths, _TOLERANCE)))
    inverse = np.linalg.inv((X.T @ X).toarray() + _RIDGE * np.eye(X.shape[1]))
    step = max(1, _BLOCK_CELLS // X.shape[1])
    blocks = [X[start : start + step] for start in range(0, X.shape[0], step)]
    return np.concatenate(
        [np.asarray(block.multiply(block @ inverse).sum(axis=1)).ravel() for block in blocks]
    )
