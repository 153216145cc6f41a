"""Which of the label party's rows are held out for testing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.errors import DataError
from parties.model import generator

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Permute = Callable[[int], IntArray]  # n -> 0 to n - 1 in some order


def by_seed(seed: int) -> Permute:
    """Return the orders that a public seed decides, for rows whose own order is public too."""
    return lambda n: generator(seed, "split").permutation(n).astype(np.int64)


def split_random(n_rows: int, fraction: float, permute: Permute) -> BoolArray:
    """Return which of the rows are for testing (n_rows,): a ``fraction`` drawn at random.

    Every split raises DataError for a fraction outside (0, 1), and where it leaves no training
    or no test row or (in a column that it reads) a value is missing. Sizes are rounded to the nearest row.
    """
    test = np.zeros(n_rows, dtype=bool)
    test[permute(n_rows)[: _n_test(n_rows, fraction)]] = True
    return test


def split_per_user_by_time(
    users: NDArray[Any] | pd.Series[Any], times: NDArray[Any] | pd.Series[Any], fraction: float
) -> BoolArray:
    """Return which rows are for testing (n_rows,): the last ``fraction`` of each user's own rows.

    Every user keeps a training row; users of few rows may have no test row. Equal times keep the order of rows.
    """
    _check_fraction(fraction)
    user_of, time_of = codes(users, "user"), codes(times, "time")
    check_lengths(user_of, time_of)
    order = np.lexsort((time_of, user_of))
    sizes = np.bincount(user_of)
    starts = np.cumsum(sizes) - sizes
    n_training = sizes - np.minimum(np.rint(fraction * sizes), sizes - 1)
    test = np.zeros(len(user_of), dtype=bool)
    sorted_users = user_of[order]
    test[order] = np.arange(len(order)) - starts[sorted_users] >= n_training[sorted_users]
    if not test.any():
        raise DataError(f"no user has enough rows to hold out a fraction of {fraction}")
    return test


def split_global_time(times: NDArray[Any] | pd.Series[Any], fraction: float) -> BoolArray:
    """Return which rows are for testing (n_rows,): the last ``fraction`` of all. Equal times keep the order of rows."""
    time_of = codes(times, "time")
    n_test = _n_test(len(time_of), fraction)
    test = np.zeros(len(time_of), dtype=bool)
    test[np.argsort(time_of, kind="stable")[-n_test:]] = True
    return test


def split_cold_users(
    users: NDArray[Any] | pd.Series[Any], fraction: float, permute: Permute
) -> BoolArray:
    """Return which rows are for testing (n_rows,): all those of a ``fraction`` of the users, drawn at random.

    Which users those are does not depend on the order of rows.
    """
    user_of = codes(users, "user")
    return split_random(len(np.unique(user_of)), fraction, permute)[user_of]


def _n_test(n: int, fraction: float) -> int:
    _check_fraction(fraction)
    n_test = round(fraction * n)
    if not 0 < n_test < n:
        raise DataError(f"{n} rows or users are too few to hold out a fraction of {fraction}")
    return n_test


def codes(values: NDArray[Any] | pd.Series[Any], column: str) -> IntArray:
    """Number the distinct values in their order; raises DataError where one is missing."""
    codes, _ = pd.factorize(values, sort=True)
    if (codes < 0).any():
        raise DataError(f"{np.count_nonzero(codes < 0)} rows have no {column}")
    return codes.astype(np.int64)


def check_lengths(*columns: NDArray[Any]) -> None:
    """Raise DataError unless the columns have one length."""
    if len({column.shape for column in columns}) > 1:
        raise DataError("columns that belong together differ in their number of rows")


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise DataError(f"the test fraction is {fraction}; expected one between 0 and 1")
