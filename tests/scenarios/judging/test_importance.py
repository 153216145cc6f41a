from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from parties.dataset import PartyDataset
from parties.errors import DataError
from parties.features import ExactMatrix, FeatureEncoder
from parties.model import FloatArray
from parties.splits import IntArray
from scenarios.judging.importance import column_sizes, parts_of_variance

quick = settings(max_examples=40, deadline=None)


def matrix(scaled: FloatArray, indicators: FloatArray | IntArray) -> ExactMatrix:
    return ExactMatrix(scaled, sparse.csr_array(indicators.astype(np.int8)))


# --- weights and columns


def test_sizes_of_a_table_that_a_party_has_encoded() -> None:
    draw = np.random.default_rng(0)
    cells = pd.DataFrame(
        {
            "id": np.arange(400),
            "income": draw.lognormal(size=400),
            "city": draw.choice(["Oslo", "Rome", "Lima"], 400, p=[0.6, 0.3, 0.1]),
            "member": draw.integers(0, 2, 400),
        }
    )
    dataset = PartyDataset.from_frame("shop", cells, ids={"id": "id"})
    encoder = FeatureEncoder.fit(dataset, np.arange(400))
    rows = encoder.transform_exact(dataset)
    weights = draw.normal(size=rows.n_columns)
    dense = rows.to_csr().toarray()
    sizes = column_sizes(encoder.column_names, encoder.sources, weights, rows)
    assert {one.name for one in sizes} == {"income", "city", "member"}
    assert [one.size for one in sizes] == sorted((one.size for one in sizes), reverse=True)
    for one in sizes:
        own = [k for k, source in enumerate(encoder.sources) if source == one.name]
        covariance = np.atleast_2d(np.cov(dense[:, own].T, ddof=0))
        assert one.size == pytest.approx(math.sqrt(weights[own] @ covariance @ weights[own]))
        assert {part.name for part in one.weights} == {encoder.column_names[k] for k in own}
        for part in one.weights:
            k = encoder.column_names.index(part.name)
            assert part.weight == weights[k]
            assert part.size == pytest.approx(weights[k] * dense[:, k].std())


def test_a_column_of_one_weight_is_as_large_as_that() -> None:
    draw = np.random.default_rng(1)
    rows = matrix(draw.normal(size=(50, 1)) * 3, draw.integers(0, 2, (50, 1)))
    for one in column_sizes(["a", "b"], ["a", "b"], np.array([-2.0, 0.5]), rows):
        assert one.size == pytest.approx(abs(one.weights[0].size))


def test_categories_compared_with_another_one_are_as_large_together() -> None:
    """Adding a constant to all weights of a one-hot column moves each weight's size and not the column's."""
    draw = np.random.default_rng(2)
    indicators = np.eye(3)[draw.integers(0, 3, 90)]
    rows = matrix(np.empty((90, 0)), indicators)
    weights, names = np.array([1.0, -1.0, 0.3]), ["is x", "is y", "is z"]
    one, other = (column_sizes(names, ["c"] * 3, w, rows)[0] for w in (weights, weights + 5))
    assert one.size == pytest.approx(other.size)
    assert one.weights[0].size != pytest.approx(other.weights[0].size)


def test_a_constant_column_moves_nothing() -> None:
    rows = matrix(np.full((9, 1), 0.1), np.ones((9, 1)))
    for one in column_sizes(["a", "b"], ["a", "b"], np.array([2.0, 3.0]), rows):
        assert one.size == pytest.approx(0.0, abs=1e-12)


def test_columns_that_do_not_belong_together_are_refused() -> None:
    rows = matrix(np.ones((3, 1)), np.ones((3, 1)))
    with pytest.raises(DataError, match="number of columns"):
        column_sizes(["a"], ["a"], np.ones(1), rows)
    with pytest.raises(DataError, match="at least one row"):
        column_sizes(["a", "b"], ["a", "b"], np.ones(2), rows.take(np.empty(0, dtype=np.int64)))


# --- parties


@quick
@given(st.integers(1, 5), st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_parts_are_covariances_and_add_up(n_parties: int, n_rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    common = draw.normal(size=n_rows)
    partial = {
        f"party {k}": draw.normal() * common + draw.normal(size=n_rows) + k
        for k in range(n_parties)
    }
    parts = parts_of_variance(partial)
    z = np.sum(list(partial.values()), axis=0)
    for name, own in partial.items():
        covariance = np.cov(own, z)
        assert parts[name] == pytest.approx(covariance[0, 1] / covariance[1, 1])
    assert sum(parts.values()) == pytest.approx(1.0)


def test_parties_by_hand() -> None:
    """Independent parts of variances 4 and 1; then a party that halves what the other says."""
    signs = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    apart = parts_of_variance({"shop": 2 * signs[:, 0], "bank": signs[:, 1]})
    assert apart == pytest.approx({"shop": 0.8, "bank": 0.2})
    offset = parts_of_variance({"shop": 2 * signs[:, 0], "bank": -signs[:, 0]})
    assert offset == pytest.approx({"shop": 2.0, "bank": -1.0})


def test_what_belongs_to_no_party_is_what_is_missing_from_one() -> None:
    signs = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    together = signs.sum(axis=1) + signs.prod(axis=1)  # an interaction, of as much variance
    parts = parts_of_variance({"shop": signs[:, 0], "bank": signs[:, 1]}, together)
    assert parts == pytest.approx({"shop": 1 / 3, "bank": 1 / 3})


def test_the_label_party_finds_its_only_partner_s_part_from_logits_alone() -> None:
    """Under ``shared``, on rows that it had scored: what is not its own part is the other's."""
    draw = np.random.default_rng(7)
    own, other = draw.normal(size=80), draw.normal(size=80)
    everything = parts_of_variance({"label": own, "feature": other})
    alone = parts_of_variance({"label": own}, own + other)
    assert 1 - alone["label"] == pytest.approx(everything["feature"])


def test_logits_that_do_not_vary_have_no_parts() -> None:
    parts = parts_of_variance({"shop": np.full(5, 0.1), "bank": np.full(5, 0.2)})
    assert all(map(math.isnan, parts.values()))


def test_rows_that_do_not_belong_together_are_refused() -> None:
    for partial, words in (
        ({}, "at least one party"),
        ({"shop": np.ones(2), "bank": np.ones(3)}, "number of rows"),
        ({"shop": np.empty(0)}, "at least one row"),
    ):
        with pytest.raises(DataError, match=words):
            parts_of_variance(partial)
