from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from parties.dataset import PartyDataset
from parties.features import FixedPointMatrix
from protocol.errors import GuardError
from protocol.guards import Guard
from protocol.settings import TrainingSettings


def matrix(n_rows: int, n_scaled: int, indicators: object = None) -> FixedPointMatrix:
    draw = np.random.default_rng(0)
    scaled = draw.integers(-99, 99, (n_rows, n_scaled)).astype(np.int16)
    if indicators is None:
        indicators = np.zeros((n_rows, 0))
    return FixedPointMatrix(scaled, sparse.csr_array(np.asarray(indicators, dtype=np.int8)), 0)


def test_a_batch_needs_rows_for_its_active_columns() -> None:
    guard = Guard("bank", TrainingSettings(guard_ratio=8))
    guard.check_batch(matrix(24, 3))
    with pytest.raises(
        GuardError, match=r"bank has 3 columns but batches of 23 .* batch_size = 24"
    ):
        guard.check_batch(matrix(23, 3))


def test_constant_columns_do_not_count() -> None:
    guard = Guard("bank", TrainingSettings(guard_ratio=8))
    idle = np.zeros((24, 5))
    guard.check_batch(matrix(24, 3, idle))
    idle[3:, 4] = 1
    with pytest.raises(GuardError, match="4 columns"):
        guard.check_batch(matrix(24, 3, idle))


def test_warn_collects_each_sentence_once() -> None:
    guard = Guard("bank", TrainingSettings(guard="warn"))
    guard.check_batch(matrix(10, 3))
    guard.check_batch(matrix(10, 3))
    assert len(guard.warnings) == 1


def test_without_encryption_there_is_nothing_to_guard() -> None:
    Guard("bank", TrainingSettings(disclosure="none")).check_batch(matrix(3, 3))


def test_a_table_that_can_never_do_is_refused_before_anything_is_sent() -> None:
    frame = pd.DataFrame({"user": range(100), **{f"x{i}": np.arange(100.0) for i in range(20)}})
    table = PartyDataset.from_frame("bank", frame, ids={"user": "user"})
    with pytest.raises(GuardError, match="20 columns but batches of 100"):
        Guard("bank", TrainingSettings(batch_size=500)).check_table(table)
    with pytest.raises(GuardError, match="20 columns but batches of 64"):
        Guard("bank", TrainingSettings(batch_size=64)).check_table(table)
    Guard("bank", TrainingSettings(batch_size=64, guard_ratio=3)).check_table(table)


def test_entries_of_rare_indicators_stay_closed() -> None:
    indicators = np.zeros((30, 3))
    indicators[:2, 0] = indicators[:3, 1] = 1
    guard = Guard("bank", TrainingSettings(min_support=3))
    assert guard.openable(matrix(30, 1, indicators)).tolist() == [0, 2]


def test_a_known_gap_differences_of_sums_give_a_withheld_row_away() -> None:
    """docs/security.md, 'A known gap': an attack that works, kept until a guard stops it."""
    colour = np.zeros((30, 3))
    colour[0, 0] = colour[1:15, 1] = colour[15:, 2] = 1  # one row alone is of the first colour
    size = np.zeros((30, 2))
    size[:10, 0] = size[10:, 1] = 1
    rows = matrix(30, 0, np.hstack([colour, size]))
    residuals = np.random.default_rng(1).normal(size=30)
    columns = Guard("bank", TrainingSettings()).openable(rows)
    assert columns.tolist() == [1, 2, 3, 4]  # the rare colour is withheld
    opened = np.hstack([colour, size])[:, columns].T @ residuals
    of_colours, of_sizes = opened[:2].sum(), opened[2:].sum()
    assert of_sizes - of_colours == pytest.approx(residuals[0])
