from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from parties.dataset import PartyDataset
from parties.features import FixedPointMatrix
from protocol.errors import GuardError
from protocol.settings import TrainingSettings
from protocol.training.guards import Guard, Span, openable


def matrix(n_rows: int, n_scaled: int, indicators: object = None) -> FixedPointMatrix:
    draw = np.random.default_rng(0)
    scaled = draw.integers(-99, 99, (n_rows, n_scaled)).astype(np.int16)
    if indicators is None:
        indicators = np.zeros((n_rows, 0))
    return FixedPointMatrix(scaled, sparse.csr_array(np.asarray(indicators, dtype=np.int8)), 0)


def test_a_batch_needs_rows_for_its_active_columns() -> None:
    guard = Guard("bank", TrainingSettings(guard_ratio=8, batch_size=256))
    guard.admit(matrix(80, 10))
    with pytest.raises(
        GuardError, match=r"bank has 10 columns but batches of 79 .* batch_size = 80"
    ):
        guard.admit(matrix(79, 10))


def test_factors_count_as_columns() -> None:
    machine = TrainingSettings(model="factorization-machine", factors=4)
    Guard("bank", machine).admit(matrix(80, 2))
    with pytest.raises(GuardError, match=r"2 columns of 5 gradient entries .* batch_size = 80"):
        Guard("bank", machine).admit(matrix(79, 2))


def test_small_batches_are_refused_however_few_the_columns() -> None:
    Guard("bank", TrainingSettings()).admit(matrix(64, 1))
    with pytest.raises(GuardError, match="batch_size = 64 or more"):
        Guard("bank", TrainingSettings(optimizer="adam")).admit(matrix(63, 1))
    # All rows in one batch: a larger one there is not.
    with pytest.raises(GuardError, match="Use tables that share 64 training rows or more"):
        Guard("bank", TrainingSettings()).admit(matrix(63, 1))
    Guard("bank", TrainingSettings()).admit(matrix(5, 0))  # without columns nothing is opened


def test_constant_columns_do_not_count() -> None:
    guard = Guard("bank", TrainingSettings(guard_ratio=8))
    idle = np.zeros((80, 5))
    guard.admit(matrix(80, 10, idle))
    idle[3:, 4] = 1
    with pytest.raises(GuardError, match="11 columns"):
        guard.admit(matrix(80, 10, idle))


def test_warn_collects_each_sentence_once() -> None:
    guard = Guard("bank", TrainingSettings(guard="warn"))
    guard.admit(matrix(10, 3))
    guard.admit(matrix(10, 3))
    assert len(guard.warnings) == 1
    guard.check("telco", 10, 4)
    assert [line.split(" but")[0] for line in guard.warnings] == [
        "bank has 3 columns",
        "telco has 4 columns",
    ]


def test_without_encryption_there_is_nothing_to_guard() -> None:
    Guard("bank", TrainingSettings(disclosure="none")).admit(matrix(3, 3))


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
    guard = Guard("bank", TrainingSettings(min_support=3, guard="warn"))
    guard.admit(matrix(30, 1, indicators))
    assert guard.columns[0].tolist() == [0, 2]
    guard.count(0, 4)
    assert (guard.opened, guard.withheld) == (2, 2)
    assert openable(matrix(30, 1, indicators), 1).tolist() == [0, 1, 2]


def test_leverages_are_those_of_the_projection() -> None:
    draw = np.random.default_rng(2)
    dense = draw.normal(size=(50, 8)) * (draw.random((50, 8)) < 0.4)
    X = sparse.csr_array(dense)
    projection = dense @ np.linalg.pinv(dense)
    np.testing.assert_allclose(Span.of(X).leverages(), np.diag(projection), atol=1e-6)
    doubled = sparse.csr_array(
        sparse.hstack([X, X])
    )  # columns that others add up to change nothing
    np.testing.assert_allclose(Span.of(doubled).leverages(), np.diag(projection), atol=1e-6)
    rows = np.array([3, 8])
    nearest = dense @ Span.of(X).combinations(rows).T
    np.testing.assert_allclose(nearest, projection[:, rows], atol=1e-6)


def colour_and_size() -> FixedPointMatrix:
    colour = np.zeros((30, 3))
    colour[0, 0] = colour[1:15, 1] = colour[15:, 2] = 1  # one row alone is of the first colour
    size = np.zeros((30, 2))
    size[:10, 0] = size[10:, 1] = 1
    return matrix(30, 0, np.hstack([colour, size]))


def test_differences_of_opened_sums_leave_no_row_alone() -> None:
    """All colours but the rare one, taken from all sizes, would be the rare colour's only row."""
    rows = colour_and_size()
    by_support = np.array([1, 2, 3, 4])
    unit = np.eye(30)[0]
    ones = rows.indicators.toarray().astype(float)

    def distance(columns: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        """How far the nearest combination of opened sums is from the first row's residual."""
        fitted = np.linalg.lstsq(ones[:, columns], unit, rcond=None)[0]
        return float(np.linalg.norm(ones[:, columns] @ fitted - unit))

    assert distance(by_support) < 1e-9  # support alone would let the attack succeed
    assert distance(openable(rows, 3)) > 0.7
    assert len(openable(rows, 3)) == 3


def test_the_sum_of_all_residuals_is_taken_into_account() -> None:
    """All of it, less all colours but the rare one, would be the rare colour's only row."""
    rows = matrix(30, 0, colour_and_size().indicators.toarray()[:, :3])
    assert openable(rows, 3).tolist() == [1, 2]
    assert openable(rows, 3, with_total=True).tolist() == [2]


@given(st.integers(0, 2**32), st.integers(2, 4), st.integers(2, 4), st.booleans())
def test_no_combination_of_opened_sums_leaves_fewer_rows_than_agreed(
    seed: int, features: int, min_support: int, with_total: bool
) -> None:
    draw = np.random.default_rng(seed)
    codes = draw.geometric(0.4, (40, features)).clip(max=6) - 1
    ones = np.hstack([np.eye(6)[codes[:, feature]] for feature in range(features)])
    columns = openable(matrix(40, 0, ones), min_support, with_total=with_total)
    opened = np.hstack([ones[:, columns], np.ones((40, int(with_total)))])
    projection = opened @ np.linalg.pinv(opened)
    # A combination that leaves m rows alone projects onto itself; one of these then has leverage 1/m.
    assert np.diag(projection).max(initial=0) < 1 / (min_support - 1)
