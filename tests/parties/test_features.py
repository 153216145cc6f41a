from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from parties.columns import ColumnOptions
from parties.dataset import PartyDataset
from parties.errors import DataError
from parties.features import FRACTION_BITS, HIGHEST, LOWEST, FeatureEncoder, FixedPointMatrix
from parties.recipes import Binary, OneHot, Scaled


def dataset(**columns: Any) -> PartyDataset:
    frame = pd.DataFrame(columns)
    frame.insert(0, "user", [f"u{row}" for row in range(len(frame))])
    return PartyDataset.from_frame("bank", frame, ids={"user_id": "user"})


def everything(data: PartyDataset) -> NDArray[np.int64]:
    return np.arange(data.n_rows)


def mixed(n_rows: int = 200, seed: int = 0) -> PartyDataset:
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 12, n_rows)
    age[rng.random(n_rows) < 0.1] = np.nan
    colour = rng.choice(["red", "green", "blue"], n_rows).astype(object)
    colour[rng.random(n_rows) < 0.1] = None
    return dataset(
        colour=colour,
        age=age,
        member=rng.random(n_rows) < 0.3,
        income=rng.lognormal(8, 1, n_rows),
        size=rng.choice(["s", "m", "l"], n_rows),
    )


def matrix(scaled: Any, indicators: Any) -> FixedPointMatrix:
    ones = sparse.csr_array(np.array(indicators, dtype=np.int8))
    return FixedPointMatrix(np.array(scaled, dtype=np.int16), ones, clipped=0)


def dense(data: FixedPointMatrix) -> NDArray[np.int64]:
    return np.hstack([data.scaled, data.indicators.toarray()]).astype(np.int64)


# --- encoding


def test_columns_are_those_of_scikit_learns_own_pipeline() -> None:
    data, rows = mixed(), np.arange(0, 200, 2)
    frame = data.columns
    reference = ColumnTransformer(
        [
            ("scaled", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
            (
                "first",
                make_pipeline(
                    SimpleImputer(missing_values=None, strategy="constant", fill_value="missing"),
                    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                ),
                ["colour"],
            ),
            ("as it is", "passthrough", ["member"]),
            ("last", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["size"]),
        ]
    )
    reference.fit(frame.iloc[rows])
    encoder = FeatureEncoder.fit(data, rows)
    expected = reference.transform(frame)
    exact = encoder.transform_exact(data).to_csr().toarray()
    clipped = np.clip(expected, -8, 8 - 2**-FRACTION_BITS)
    np.testing.assert_allclose(exact, clipped, rtol=1e-12, atol=1e-12)
    fixed = encoder.transform(data)
    np.testing.assert_allclose(fixed.dot(np.eye(fixed.n_columns)), clipped, atol=2**-13 + 1e-12)


def test_names_and_scales_follow_the_matrix_order() -> None:
    data = mixed()
    encoder = FeatureEncoder.fit(data, everything(data))
    assert encoder.column_names == (
        *("age", "income"),
        *("colour=blue", "colour=green", "colour=missing", "colour=red"),
        "member",
        *("size=l", "size=m", "size=s"),
    )
    fixed = encoder.transform(data)
    assert fixed.n_rows == 200
    assert fixed.n_columns == len(encoder.column_names)
    assert fixed.fraction_bits.tolist() == [12] * 2 + [0] * 8
    assert fixed.scaled.dtype == np.int16
    assert fixed.indicators.dtype == np.int8
    assert fixed.clipped == int(
        np.count_nonzero(encoder.transform_exact(data).scaled[:, 1] == HIGHEST / 2**12)
    )


def test_training_rows_alone_teach_whatever_their_order() -> None:
    data = mixed()
    changed = mixed()
    changed.columns.loc[100:, "income"] = 1e9
    changed.columns.loc[100:, "colour"] = "violet"
    rows = np.arange(100)
    encoder = FeatureEncoder.fit(data, rows)
    assert FeatureEncoder.fit(changed, rows) == encoder
    assert FeatureEncoder.fit(data, np.random.default_rng(1).permutation(rows)) == encoder
    assert FeatureEncoder.fit(data, np.arange(200)) != encoder
    first, second = encoder.transform(data), encoder.transform(data)
    assert first.scaled.tobytes() == second.scaled.tobytes()
    assert first.indicators.indices.tobytes() == second.indicators.indices.tobytes()


def test_one_hot_of_unseen_and_missing_categories() -> None:
    data = dataset(tone=["a", "b", None, "new", "a"])
    without = FeatureEncoder.fit(data, np.array([0, 1]))
    assert without.column_names == ("tone=a", "tone=b")
    assert dense(without.transform(data)).tolist() == [[1, 0], [0, 1], [0, 0], [0, 0], [1, 0]]
    with_missing = FeatureEncoder.fit(data, np.array([0, 2]))
    assert with_missing.column_names == ("tone=a", "tone=missing")
    assert dense(with_missing.transform(data))[:, 1].tolist() == [0, 0, 1, 0, 0]
    assert with_missing.transform(data).clipped == 0


def test_zero_one_column_stays_exact_and_counts_what_does_not_fit() -> None:
    data = dataset(flag=[0, 1, 1, np.nan, 5, -2, 0.4])
    encoder = FeatureEncoder.fit(data, np.array([0, 1, 2]))
    assert encoder.recipes == (Binary("flag", fill=1),)
    fixed = encoder.transform(data)
    assert dense(fixed)[:, 0].tolist() == [0, 1, 1, 1, 1, 0, 0]
    assert fixed.clipped == 3
    assert encoder.transform_exact(data).to_csr().toarray()[:, 0].tolist() == [0, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("training", [[0, 1], [2, 3]])
def test_column_constant_or_empty_in_training_becomes_zeros(training: list[int]) -> None:
    data = dataset(x=[0.1, 0.1, np.nan, np.nan, 2.1])
    encoder = FeatureEncoder.fit(data, np.array(training))
    (recipe,) = encoder.recipes
    assert isinstance(recipe, Scaled)
    assert recipe.scale == 1.0
    fixed = encoder.transform(data.take(np.array(training)))
    assert fixed.scaled.tolist() == [[0], [0]]
    assert not fixed.active().any()


def test_out_of_range_is_clipped_and_counted() -> None:
    data = dataset(x=[-1.0, 1.0, 100.0, -100.0, 1e308])
    fixed = FeatureEncoder.fit(data, np.array([0, 1])).transform(data)
    assert fixed.scaled[:, 0].tolist() == [-4096, 4096, HIGHEST, LOWEST, HIGHEST]
    assert fixed.clipped == 3
    assert [np.iinfo(np.int16).min, np.iinfo(np.int16).max] == [LOWEST, HIGHEST]


@given(st.lists(st.floats(-8, 8 - 2**-FRACTION_BITS), min_size=2, max_size=20, unique=True))
def test_fixed_point_error_is_half_a_unit(values: list[float]) -> None:
    encoder = FeatureEncoder((Scaled("x", fill=0.0, centre=0.0, scale=1.0),))
    fixed = encoder.transform(dataset(x=values))
    error = np.abs(fixed.dot(np.ones(1)) - values)
    assert error.max() <= 2**-13
    assert fixed.clipped == 0


def test_numbers_only_and_categories_only() -> None:
    numbers = dataset(x=[1.0, 2.0, 4.0])
    fixed = FeatureEncoder.fit(numbers, everything(numbers)).transform(numbers)
    assert (fixed.n_columns, fixed.indicators.shape) == (1, (3, 0))
    categories = dataset(x=["a", "b", "a"])
    fixed = FeatureEncoder.fit(categories, everything(categories)).transform(categories)
    assert (fixed.n_columns, fixed.scaled.shape) == (2, (3, 0))
    assert fixed.dot(np.array([1.0, 2.0])).tolist() == [1.0, 2.0, 1.0]


def test_many_categories_stay_sparse() -> None:
    rng = np.random.default_rng(0)
    data = PartyDataset(
        party="bank",
        ids={},
        columns=pd.DataFrame(
            {"item": pd.Series(rng.integers(0, 2000, 100_000).astype(str), dtype=object)}
        ),
        kinds=dataset(item=["a", "b"]).kinds,
        label=None,
        options={"item": ColumnOptions(max_categories=2000)},
    )
    fixed = FeatureEncoder.fit(data, everything(data)).transform(data)
    assert fixed.n_columns == 2000
    assert fixed.indicators.nnz == 100_000
    assert int(fixed.support().sum()) == 100_000


# --- what goes wrong


def test_transform_needs_the_columns_of_the_training() -> None:
    data = dataset(x=[1.5, 2.0, 4.0], tone=["a", "b", "a"])
    encoder = FeatureEncoder.fit(data, everything(data))
    with pytest.raises(
        DataError, match="bank: column 'tone' was categorical in training and is miss"
    ):
        encoder.transform(dataset(x=[1.5, 2.0]))
    with pytest.raises(DataError, match="'x' was numeric in training and is categorical here"):
        encoder.transform_exact(dataset(x=["4711", "b"], tone=["a", "b"]))


def test_fit_needs_rows_and_numbers_that_can_be_standardised() -> None:
    data = dataset(x=[1e300, -1e300, 4.0])
    with pytest.raises(DataError, match="bank: expected training rows, got none"):
        FeatureEncoder.fit(data, np.array([], dtype=np.int64))
    with pytest.raises(DataError, match="bank: the numbers of column 'x' are too large") as caught:
        FeatureEncoder.fit(data, everything(data))
    assert "300" not in str(caught.value)


# --- JSON


FINITE = st.floats(allow_nan=False, allow_infinity=False)
RECIPES = st.one_of(
    st.builds(Scaled, st.text(), FINITE, FINITE, FINITE),
    st.builds(Binary, st.text(), st.sampled_from([0, 1])),
    st.builds(OneHot, st.text(), st.lists(st.text()).map(tuple)),
)


@given(st.lists(RECIPES).map(tuple))
def test_json_round_trip_is_exact(recipes: tuple[Scaled | Binary | OneHot, ...]) -> None:
    encoder = FeatureEncoder(recipes)
    text = json.dumps(encoder.to_json(), allow_nan=False)
    again = FeatureEncoder.from_json(json.loads(text))
    assert again == encoder
    assert json.dumps(again.to_json()) == text


def test_encoder_from_json_transforms_to_the_same_bits() -> None:
    data = mixed()
    encoder = FeatureEncoder.fit(data, everything(data))
    again = FeatureEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert (
        again.transform_exact(data).scaled.tobytes()
        == encoder.transform_exact(data).scaled.tobytes()
    )


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"columns": None},
        {"columns": [{"kind": "magic", "column": "teal"}]},
        {"columns": [{"kind": "scaled", "column": "x", "fill": 0, "centre": "teal", "scale": 1}]},
        {"columns": [{"kind": "scaled", "column": "x", "fill": 0, "centre": np.inf, "scale": 1}]},
        {"columns": [{"kind": "binary", "column": "x", "fill": 4711}]},
    ],
)
def test_damaged_json_is_refused(saved: dict[str, object]) -> None:
    with pytest.raises(
        DataError, match="saved preprocessing: expected what to_json wrote"
    ) as caught:
        FeatureEncoder.from_json(saved)
    assert "teal" not in str(caught.value)
    assert "4711" not in str(caught.value)
    assert "\n" not in str(caught.value)


# --- the matrix


def integer_matrices() -> st.SearchStrategy[FixedPointMatrix]:
    def of_shape(shape: tuple[int, int, int]) -> st.SearchStrategy[FixedPointMatrix]:
        n_rows, n_scaled, n_indicators = shape
        return st.builds(
            matrix,
            hnp.arrays(np.int16, (n_rows, n_scaled)),
            hnp.arrays(np.int8, (n_rows, n_indicators), elements=st.integers(0, 1)),
        )

    sizes = st.integers(0, 4)
    return st.tuples(st.integers(1, 5), sizes, sizes).flatmap(of_shape)


@given(integer_matrices(), st.data())
def test_transposed_dot_equals_python_integers(data: FixedPointMatrix, draw: st.DataObject) -> None:
    limit = 2**44
    integers = draw.draw(
        hnp.arrays(np.int64, data.n_rows, elements=st.integers(-limit, limit)), label="integers"
    )
    expected = [
        sum(int(x) * int(d) for x, d in zip(column, integers, strict=True))
        for column in dense(data).T
    ]
    product = data.transposed_dot(integers)
    assert product.dtype == np.int64
    assert product.tolist() == expected


def test_transposed_dot_takes_several_columns_of_integers() -> None:
    data = matrix([[1], [-2], [3]], [[0, 1], [1, 1], [1, 0]])
    integers = np.array([[1, 10], [2, 20], [3, 30]])
    assert data.transposed_dot(integers).tolist() == [[6, 60], [5, 50], [3, 30]]


def test_transposed_dot_refuses_what_could_overflow() -> None:
    most = 2**46 - 1
    data = matrix([[LOWEST], [LOWEST], [LOWEST], [LOWEST]], np.zeros((4, 0)))
    assert data.transposed_dot(np.full(4, most)).tolist() == [4 * LOWEST * most]
    with pytest.raises(OverflowError, match="sums over 4 rows could need 65 bits"):
        data.transposed_dot(np.full(4, -(2**46)))
    with pytest.raises(OverflowError):
        data.transposed_dot(np.full(4, np.iinfo(np.int64).min))
    indicators = matrix(np.zeros((2, 0)), [[1], [1]])
    assert indicators.transposed_dot(np.full(2, 2**61)).tolist() == [2**62]


@given(integer_matrices())
def test_active_and_support_agree_with_the_dense_columns(data: FixedPointMatrix) -> None:
    columns = dense(data).T
    assert data.active().tolist() == [len(set(column.tolist())) > 1 for column in columns]
    assert data.support().tolist() == [int((column != 0).sum()) for column in columns]
    assert data.active().dtype == np.bool_
    assert data.support().dtype == np.int64


def test_support_ignores_stored_zeros_and_no_rows_are_inactive() -> None:
    stored = sparse.csr_array((np.array([0, 1], np.int8), [0, 0], [0, 1, 2]), shape=(2, 1))
    data = FixedPointMatrix(np.zeros((2, 1), np.int16), stored, clipped=0)
    assert data.support().tolist() == [0, 1]
    assert data.active().tolist() == [False, True]
    nothing = data.take(np.array([], dtype=np.int64))
    assert nothing.active().tolist() == [False, False]
    assert nothing.support().tolist() == [0, 0]
    assert nothing.transposed_dot(np.array([], dtype=np.int64)).tolist() == [0, 0]
    assert nothing.dot(np.ones(2)).shape == (0,)


def test_take_and_dot_agree_with_dense_arithmetic() -> None:
    data = mixed()
    fixed = FeatureEncoder.fit(data, everything(data)).transform(data)
    rows = np.array([5, 3, 5, 199])
    subset = fixed.take(rows)
    np.testing.assert_array_equal(dense(subset), dense(fixed)[rows])
    assert subset.clipped == fixed.clipped
    weights = np.random.default_rng(2).normal(size=fixed.n_columns)
    real = dense(fixed) * 0.5**fixed.fraction_bits
    np.testing.assert_allclose(fixed.dot(weights), real @ weights, rtol=1e-12, atol=1e-12)
    latents = np.stack([weights, -weights], axis=1)
    np.testing.assert_allclose(fixed.dot(latents), real @ latents, rtol=1e-12, atol=1e-12)
