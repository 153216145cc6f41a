from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.columns import ColumnOptions
from parties.dataset import PartyDataset
from parties.features import FeatureEncoder
from parties.recipes import Hashed, MultiHot, OneHot, Scaled


def fit(
    cells: Any, training: int, options: ColumnOptions | None = None, **declared: Any
) -> tuple[FeatureEncoder, PartyDataset]:
    """Learn a column 'x' from its first rows."""
    frame = pd.DataFrame({"user": range(len(cells)), "x": cells})
    given_options = {"x": options} if options else {}
    dataset = PartyDataset.from_frame(
        "bank", frame, ids={"user": "user"}, options=given_options, **declared
    )
    encoder = FeatureEncoder.fit(dataset, np.arange(training))
    again = FeatureEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again == encoder
    return again, dataset


def ones(encoder: FeatureEncoder, dataset: PartyDataset) -> list[list[int]]:
    return encoder.transform(dataset).indicators.toarray().tolist()


def test_the_rarest_categories_are_taken_together_with_those_unseen() -> None:
    cells = ["a", "a", "b", "b", "c", "d", "new", None]
    encoder, dataset = fit(cells, 6, ColumnOptions(max_categories=3))
    assert encoder.recipes == (OneHot("x", ("a", "b"), rest=True),)
    assert encoder.column_names == ("x=a", "x=b", "x=(other)")
    codes = np.argmax(ones(encoder, dataset), axis=1)
    assert codes.tolist() == [0, 0, 1, 1, 2, 2, 2, 2]


def test_as_many_categories_as_allowed_are_all_kept() -> None:
    encoder, _ = fit(["b", "a", "c", "a"], 4, ColumnOptions(max_categories=3))
    assert encoder.recipes == (OneHot("x", ("a", "b", "c")),)


def test_ties_between_rare_categories_are_decided_by_name() -> None:
    options = ColumnOptions(max_categories=3)
    one, _ = fit(["d", "c", "b", "a"], 4, options)
    other, _ = fit(["a", "b", "c", "d"], 4, options)
    assert one == other


def test_ids_are_never_taken_together() -> None:
    frame = pd.DataFrame({"user": range(200), "x": np.arange(200) % 7})
    dataset = PartyDataset.from_frame(
        "bank", frame, ids={"user": "user"}, label=None, id_features=["user"]
    )
    encoder = FeatureEncoder.fit(dataset, np.arange(200))
    assert int(encoder.identifiers.sum()) == 200


def test_hashing_needs_no_learning_and_is_the_same_everywhere() -> None:
    cells = [f"town{n % 40}" for n in range(80)] + [None]
    encoder, dataset = fit(cells, 1, ColumnOptions(buckets=8), categorical=["x"])
    assert encoder.recipes == (Hashed("x", 8),)
    table = np.array(ones(encoder, dataset))
    assert table.shape == (81, 8)
    assert (table.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(table[:40], table[40:80])
    assert len(set(np.argmax(table, axis=1))) == 8
    # Pinned: a saved model must find its buckets again on another machine.
    assert np.argmax(table[:4], axis=1).tolist() == [3, 4, 5, 4]


def test_multi_valued_cells_have_an_indicator_for_each_value() -> None:
    cells = ["a;b", "b", None, "c;a", "new;b", "new"]
    options = ColumnOptions(separator=";")
    encoder, dataset = fit(cells, 4, options, multi_valued=["x"])
    assert encoder.recipes == (MultiHot("x", ("a", "b", "c"), ";"),)
    assert encoder.sources == ("x", "x", "x")
    assert ones(encoder, dataset) == [
        *([1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]),
        *([0, 1, 0], [0, 0, 0]),
    ]


def test_rare_values_of_one_cell_are_one_indicator() -> None:
    cells = ["a|b", "a|b", "a|c|d", "new|e"]
    encoder, dataset = fit(cells, 3, ColumnOptions(max_categories=3), multi_valued=["x"])
    assert encoder.column_names == ("x=a", "x=b", "x=(other)")
    assert ones(encoder, dataset) == [[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1]]


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=2, max_size=12))
def test_multi_valued_agrees_with_sets(cells: list[list[str]]) -> None:
    recipe = MultiHot("x", ("a", "b", "c"), "|", rest=True)
    table = recipe.indicators(pd.Series(["|".join(cell) or None for cell in cells], dtype=object))
    expected = [
        [int(one in cell) for one in "abc"] + [int(bool(set(cell) - set("abc")))] for cell in cells
    ]
    assert table.toarray().tolist() == expected
    assert table.has_sorted_indices
    assert table.dtype == np.int8


def test_dates_become_a_trend_and_circles() -> None:
    cells = pd.date_range("2020-01-01", periods=800, freq="D")
    encoder, dataset = fit(cells, 800)
    assert encoder.column_names == (
        "x year",
        *("x month sine", "x month cosine", "x weekday sine", "x weekday cosine"),
    )
    exact = encoder.transform_exact(dataset).scaled
    assert np.all(np.diff(exact[:, 0]) >= 0)
    np.testing.assert_allclose(exact[0, 3:], exact[7, 3:])
    assert not np.allclose(exact[0, 3:], exact[1, 3:])
    assert encoder.transform(dataset).clipped == 0


def test_hours_of_one_day_are_what_varies() -> None:
    cells = pd.date_range("2020-01-01", periods=24, freq="h")
    encoder, _ = fit(cells, 24)
    assert encoder.column_names == ("x hour sine", "x hour cosine")
    constant, _ = fit(cells, 1)
    assert constant.column_names == ("x year",)


def test_missing_dates_are_the_mean_of_the_others() -> None:
    cells = pd.to_datetime(pd.Series(["2020-01-01", "2022-01-01", None]))
    encoder, dataset = fit(cells, 2)
    assert encoder.column_names[0] == "x year"
    np.testing.assert_allclose(encoder.transform_exact(dataset).scaled[2], 0, atol=1e-12)


@pytest.mark.parametrize("part", ["year", "hour sine"])
def test_a_part_of_a_date_needs_dates(part: Any) -> None:
    recipe = Scaled("x", 0.0, 0.0, 1.0, part)
    assert recipe.reads == "datetime"
    assert recipe.names == (f"x {part}",)
