"""Configurations that are known to leak, refused with the reason and the remedy.

``guard = "strict"`` raises, ``guard = "warn"`` collects the same sentences for the final table.
What each guard is against is told in docs/security.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from parties.dataset import ColumnKind, PartyDataset
from parties.features import FixedPointMatrix
from protocol.errors import GuardError
from protocol.settings import TrainingSettings


@dataclass
class Guard:
    """One feature party's checks on what its own gradients would give away about the labels."""

    party: str
    settings: TrainingSettings
    warnings: list[str] = field(default_factory=list)

    def check_table(self, dataset: PartyDataset) -> None:
        """Refuse, before anything is sent, what no alignment could make right.

        Raises GuardError if the batch size, or the whole table, has too few rows for its numeric
        columns alone.
        """
        numeric = sum(kind is ColumnKind.NUMERIC for kind in dataset.kinds.values())
        self._check_rows(min(self.settings.batch_size, dataset.n_rows), numeric)

    def check_batch(self, matrix: FixedPointMatrix) -> None:
        """Check one batch, a row an entity, against the columns that vary in it; raises GuardError."""
        self._check_rows(matrix.n_rows, int(np.count_nonzero(matrix.active())))

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

    def openable(self, matrix: FixedPointMatrix) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the columns whose gradient entry may be opened this round.

        An entry of a 0/1 column is a sum over the rows that have it: of one or two rows it would be
        their residuals.
        """
        sparse = matrix.fraction_bits == 0
        return np.flatnonzero(~sparse | (matrix.support() >= self.settings.min_support))
