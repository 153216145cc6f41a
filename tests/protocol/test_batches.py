from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.batches import Batch, draw_split
from protocol.errors import AlignmentError
from protocol.settings import ProtocolSettings, TrainingSettings


def settings(batch_size: int, seed: int = 0) -> ProtocolSettings:
    return ProtocolSettings(seed=seed, training=TrainingSettings(batch_size=batch_size))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_sums_and_expansion_follow_the_entities(of_row: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(of_row) - 1), min_size=1))
    batch = Batch.of(np.array(chosen), {"bank": np.array(of_row)})
    numbers = np.array(
        data.draw(
            st.lists(st.integers(-(2**40), 2**40), min_size=len(chosen), max_size=len(chosen))
        )
    )
    entities = batch.entities["bank"].tolist()
    assert len(set(entities)) == len(entities)
    sums = dict.fromkeys(entities, 0)
    for row, number in zip(chosen, numbers.tolist(), strict=True):
        sums[of_row[row]] += number
    assert batch.sum_by_entity("bank", numbers).tolist() == list(sums.values())
    values = np.array(entities, dtype=float)
    assert batch.to_samples("bank", values).tolist() == [of_row[row] for row in chosen]


@given(st.integers(10, 300), st.integers(1, 120))
def test_a_split_uses_every_known_row_once_in_batches_that_are_large_enough(
    n_rows: int, batch_size: int
) -> None:
    of_row = np.arange(n_rows)
    of_row[::7] = -1
    split = draw_split({"bank": of_row}, settings(batch_size))
    parts = [*split.batches, split.validation, split.test]
    rows = np.concatenate([part.samples for part in parts])
    assert sorted(rows.tolist()) == np.flatnonzero(of_row >= 0).tolist()
    sizes = [len(batch) for batch in split.batches]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(batch_size, len(split.training_samples))


def test_order_depends_on_the_seed_and_not_on_the_agreed_order() -> None:
    draw = np.random.default_rng(0)
    first = draw_split({"bank": draw.permutation(100)}, settings(20))
    second = draw_split({"bank": draw.permutation(100)}, settings(20))
    other = draw_split({"bank": draw.permutation(100)}, settings(20, seed=1))
    assert first.training_samples.tolist() == second.training_samples.tolist()
    assert first.training_samples.tolist() != other.training_samples.tolist()
    # One entity a sample: then entities stand in the order of the samples.
    assert first.batches[0].entity_of["bank"].tolist() == list(range(len(first.batches[0])))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(AlignmentError, match="only 2 rows are known to all parties"):
        draw_split({"bank": np.array([0, 1, -1]), "telco": np.array([0, 1, 2])}, settings(8))
