from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from parties.errors import DataError
from parties.splits import (
    IntArray,
    by_seed,
    split_cold_users,
    split_global_time,
    split_per_user_by_time,
    split_random,
)

quick = settings(max_examples=40, deadline=None)
fractions = st.floats(0.05, 0.95)
interactions = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        arrays(np.int64, n, elements=st.integers(0, 6)),
        arrays(np.int64, n, elements=st.integers(0, 9)),
    )
)


@quick
@given(st.integers(20, 200), fractions, st.integers(0, 99))
def test_a_random_split_holds_out_the_fraction(n: int, fraction: float, seed: int) -> None:
    test = split_random(n, fraction, by_seed(seed))
    assert test.shape == (n,)
    assert test.sum() == round(fraction * n)
    assert np.array_equal(test, split_random(n, fraction, by_seed(seed)))


@quick
@given(interactions, fractions)
def test_each_users_last_rows_are_held_out(
    rows: tuple[IntArray, IntArray], fraction: float
) -> None:
    users, times = rows
    expected = np.zeros(len(users), dtype=bool)
    for user in range(7):
        own = sorted(np.flatnonzero(users == user), key=lambda row: (times[row], row))
        n_test = min(round(fraction * len(own)), len(own) - 1)
        expected[own[len(own) - n_test :] if n_test > 0 else []] = True
    if not expected.any():
        with pytest.raises(DataError, match="no user has enough rows"):
            split_per_user_by_time(users, times, fraction)
        return
    assert np.array_equal(split_per_user_by_time(users, times, fraction), expected)
    assert set(users) == set(users[~expected])


@quick
@given(interactions, fractions)
def test_the_last_rows_of_all_are_held_out(
    rows: tuple[IntArray, IntArray], fraction: float
) -> None:
    times = rows[1]
    n_test = round(fraction * len(times))
    if n_test in (0, len(times)):
        with pytest.raises(DataError, match="too few"):
            split_global_time(times, fraction)
        return
    test = split_global_time(times, fraction)
    in_order = sorted(range(len(times)), key=lambda row: (times[row], row))
    assert sorted(in_order[-n_test:]) == np.flatnonzero(test).tolist()
    assert times[~test].max() <= times[test].min()


@quick
@given(interactions, fractions, st.integers(0, 99), st.randoms(use_true_random=False))
def test_cold_users_are_held_out_entirely(
    rows: tuple[IntArray, IntArray], fraction: float, seed: int, random: Any
) -> None:
    users = rows[0]
    n_users = len(set(users.tolist()))
    if round(fraction * n_users) in (0, n_users):
        with pytest.raises(DataError, match="too few"):
            split_cold_users(users, fraction, by_seed(seed))
        return
    test = split_cold_users(users, fraction, by_seed(seed))
    cold = set(users[test].tolist())
    assert len(cold) == round(fraction * n_users)
    assert not cold & set(users[~test].tolist())
    shuffled = users[random.sample(range(len(users)), len(users))]
    assert set(shuffled[split_cold_users(shuffled, fraction, by_seed(seed))].tolist()) == cold


def test_splits_by_hand_on_a_frame() -> None:
    frame = pd.DataFrame(
        {
            "user": ["ann", "ann", "bob", "ann", "bob", "eve", "ann"],
            "at": pd.to_datetime(
                [f"2024-0{month}-01" for month in (3, 1, 5, 3, 2, 9, 2)],
            ),
        }
    )
    by_user = split_per_user_by_time(frame["user"], frame["at"], 0.25)
    assert np.flatnonzero(by_user).tolist() == [3]  # ann's latest, and of two equal the later row
    by_time = split_global_time(frame["at"], 0.4)
    assert np.flatnonzero(by_time).tolist() == [2, 3, 5]
    cold = split_cold_users(frame["user"], 0.34, by_seed(0))
    assert frame.loc[cold, "user"].nunique() == 1
    draws = {tuple(split_cold_users(frame["user"], 0.34, by_seed(seed))) for seed in range(20)}
    assert len(draws) == 3


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 1.5, math.nan])
def test_an_impossible_fraction(fraction: float) -> None:
    users = times = np.arange(10) // 2
    refused = pytest.raises(DataError, match="expected one between 0 and 1")
    with refused:
        split_random(10, fraction, by_seed(0))
    with refused:
        split_per_user_by_time(users, times, fraction)
    with refused:
        split_global_time(times, fraction)
    with refused:
        split_cold_users(users, fraction, by_seed(0))


def test_tables_that_cannot_be_split() -> None:
    with pytest.raises(DataError, match="too few"):
        split_random(3, 0.1, by_seed(0))
    with pytest.raises(DataError, match="too few"):
        split_cold_users(np.zeros(9), 0.5, by_seed(0))
    with pytest.raises(DataError, match="no user has enough rows"):
        split_per_user_by_time(np.arange(9), np.arange(9), 0.2)
    with pytest.raises(DataError, match="number of rows"):
        split_per_user_by_time(np.arange(9), np.arange(8), 0.2)
    with pytest.raises(DataError, match="2 rows have no time"):
        split_global_time(pd.Series([pd.Timestamp("2024-01-01"), pd.NaT, pd.NaT]), 0.5)
    with pytest.raises(DataError, match="1 rows have no user"):
        split_cold_users(np.array(["ann", None, "bob"], dtype=object), 0.5, by_seed(0))
