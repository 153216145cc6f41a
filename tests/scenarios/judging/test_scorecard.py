from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.special import expit
from sklearn import metrics

from parties.errors import DataError
from parties.model import FloatArray
from scenarios.judging.scorecard import Scorecard, population_stability

quick = settings(max_examples=60, deadline=None)
NONE = np.array([])


@st.composite
def rows(draw: st.DrawFn, least: int = 1, most: int = 80) -> tuple[FloatArray, FloatArray]:
    """Few distinct logits, so that ties are common."""
    n = draw(st.integers(least, most))
    logits = draw(arrays(np.float64, n, elements=st.integers(-9, 9).map(lambda z: z / 2)))
    return logits, draw(arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0])))


def by_random_orders(logits: FloatArray, labels: FloatArray, n_bins: int) -> FloatArray:
    """Return the mean gains over many orders that keep the scores falling: equal scores in any order."""
    draw = np.random.default_rng(0)
    gains = []
    for _ in range(3000):
        order = np.lexsort((draw.random(len(logits)), -logits))
        parts = np.split(labels[order], n_bins)
        gains.append(np.cumsum([part.sum() for part in parts]) / labels.sum())
    return np.asarray(np.mean(gains, axis=0))


@quick
@given(rows())
def test_kolmogorov_smirnov_is_the_widest_gap_at_any_threshold(
    sample: tuple[FloatArray, FloatArray],
) -> None:
    logits, labels = sample
    card = Scorecard.of(logits, labels)
    if not 0 < labels.sum() < len(labels):
        assert math.isnan(card.ks)
        return
    gaps = [
        abs(float(np.mean(logits[labels == 1] >= t) - np.mean(logits[labels == 0] >= t)))
        for t in logits
    ]
    assert card.ks == pytest.approx(max(gaps))


def test_kolmogorov_smirnov_is_that_of_two_samples() -> None:
    draw = np.random.default_rng(8)
    labels = draw.integers(0, 2, 300).astype(float)
    logits = draw.normal(size=300) + labels
    reference = stats.ks_2samp(logits[labels == 1], logits[labels == 0])
    assert Scorecard.of(logits, labels).ks == pytest.approx(reference.statistic)


def test_a_model_that_is_right_and_one_that_is_backwards_have_the_same_ks() -> None:
    labels = np.repeat([0.0, 1.0], 30)
    for sign in (1.0, -1.0):
        assert Scorecard.of(sign * np.arange(60.0), labels).ks == pytest.approx(1.0)


# --- lift and gain


def test_deciles_of_a_hundred_rows_by_hand() -> None:
    """The first ten rows hold 8 of 20 positives, the next ten 6, the fifth ten 6: no two scores are equal."""
    labels = np.zeros(100)
    labels[[0, 1, 2, 3, 4, 5, 6, 9]] = 1
    labels[[10, 12, 14, 16, 18, 19]] = 1
    labels[40:46] = 1
    deciles = Scorecard.of(np.arange(100.0, 0.0, -1), labels).deciles
    assert [one.share for one in deciles] == pytest.approx(np.arange(1, 11) / 10)
    gains = [8, 14, 14, 14, 20, 20, 20, 20, 20, 20]
    assert [one.gain for one in deciles] == pytest.approx(np.array(gains) / 20)
    lifts = [8, 6, 0, 0, 6, 0, 0, 0, 0, 0]
    assert [one.lift for one in deciles] == pytest.approx(np.array(lifts) / 10 / 0.2)


def test_equal_scores_share_out_what_a_random_order_would_find() -> None:
    draw = np.random.default_rng(5)
    logits = draw.choice([2.0, 1.0, 0.5, -1.0], 100, p=[0.17, 0.26, 0.24, 0.33])
    labels = (draw.random(100) < expit(logits)).astype(float)
    deciles = Scorecard.of(logits, labels).deciles
    ours = np.array([one.gain for one in deciles])
    np.testing.assert_allclose(ours, by_random_orders(logits, labels, 10), atol=0.004)


def test_a_constant_score_finds_as_much_as_chance() -> None:
    labels = np.tile([1.0, 0.0, 0.0], 40)
    card = Scorecard.of(np.zeros(120), labels)
    assert card.ks == 0
    for one in card.deciles:
        assert one.gain == pytest.approx(one.share)
        assert one.lift == pytest.approx(1.0)


@quick
@given(rows())
def test_deciles_have_five_rows_each_and_find_everything(
    sample: tuple[FloatArray, FloatArray],
) -> None:
    logits, labels = sample
    deciles = Scorecard.of(logits, labels).deciles
    if not 0 < labels.sum() < len(labels):
        assert deciles == ()
        return
    assert len(deciles) == max(1, min(10, len(labels) // 5))
    gains = [0.0, *(one.gain for one in deciles)]
    assert gains == sorted(gains)
    assert gains[-1] == pytest.approx(1.0)
    assert np.mean([one.lift for one in deciles]) == pytest.approx(1.0)


# --- what is flagged


@pytest.mark.parametrize("n", [37, 100, 1003])
def test_what_is_flagged_at_half_is_scikit_learns(n: int) -> None:
    draw = np.random.default_rng(n)
    logits = draw.normal(-0.5, 1.5, n)
    labels = (draw.random(n) < expit(logits)).astype(float)
    at_half = Scorecard.of(logits, labels).at_half
    flagged = expit(logits) > 0.5
    assert at_half.share == pytest.approx(flagged.mean())
    assert at_half.precision == pytest.approx(metrics.precision_score(labels, flagged))
    assert at_half.recall == pytest.approx(metrics.recall_score(labels, flagged))


def test_the_base_rate_is_flagged_at_the_break_even_point() -> None:
    draw = np.random.default_rng(4)
    labels = np.repeat([1.0, 0.0], [40, 160])
    logits = draw.normal(size=200) + labels
    at_base_rate = Scorecard.of(logits, labels).at_base_rate
    assert at_base_rate.share == pytest.approx(0.2)
    assert at_base_rate.precision == pytest.approx(at_base_rate.recall)
    best = np.argsort(-logits)[:40]
    assert at_base_rate.precision == pytest.approx(labels[best].mean(), abs=2.5 / 40)


def test_nobody_flagged_and_everybody_flagged() -> None:
    labels = np.tile([1.0, 0.0, 0.0, 0.0], 5)
    nobody, everybody = (Scorecard.of(np.full(20, z), labels).at_half for z in (-1.0, 1.0))
    assert (nobody.share, nobody.recall) == (0, 0)
    assert math.isnan(nobody.precision)
    assert (everybody.share, everybody.recall, everybody.precision) == (1, 1, 0.25)


def test_where_few_rows_are_flagged_nothing_is_said_of_them() -> None:
    labels = np.tile([1.0, 0.0], 10)
    for n_flagged, said in ((4, False), (5, True), (15, True), (16, False)):
        logits = np.where(np.arange(20) < n_flagged, 1.0, -1.0)
        at_half = Scorecard.of(logits, labels).at_half
        assert all(map(math.isfinite, vars(at_half).values())) == said


# --- stability


def test_scores_that_stay_are_stable_and_scores_that_move_are_not() -> None:
    draw = np.random.default_rng(0)
    training = draw.normal(size=20_000)
    assert population_stability(training, training) == pytest.approx(0.0, abs=1e-6)
    assert population_stability(training, draw.normal(size=20_000)) < 0.005
    moved = population_stability(training, draw.normal(0.5, 1, 20_000))
    # Of two normal densities half a deviation apart the symmetrised divergence is 1/4; ten bins see most of it.
    assert 0.22 < moved < 0.25


def test_stability_by_hand() -> None:
    """Training: ten bins of two; scored: everything in the first two bins, equally. Eight bins count half a row."""
    training = np.repeat(np.arange(10.0), 10)
    scored = np.repeat([0.0, 1.0], 50)
    expected = 2 * (0.5 - 0.1) * math.log(5) + 8 * (0.005 - 0.1) * math.log(0.05)
    assert population_stability(training, scored) == pytest.approx(expected)


@quick
@given(rows(10), rows())
def test_stability_is_never_negative_and_the_same_of_probabilities(
    first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray]
) -> None:
    training, scored = first[0], second[0]
    index = population_stability(training, scored)
    assert math.isnan(index) == (len(np.unique(training)) == 1)
    of_probabilities = population_stability(expit(training), expit(scored))
    assert of_probabilities == pytest.approx(index, nan_ok=True)
    assert not index < 0


def test_no_stability_without_rows_to_compare() -> None:
    some = np.arange(30.0)
    for training, scored in ((NONE, some), (some, NONE), (some[:9], some), (np.ones(30), some)):
        assert math.isnan(population_stability(training, scored))


# --- what a reader of the published numbers learns of single rows


def blocks_by_loops(logits: FloatArray) -> list[list[int]]:
    """Return the rows of each block, by the module page's words and not its code."""
    above = [i for i in range(len(logits)) if logits[i] > 0]
    below = [i for i in range(len(logits)) if logits[i] <= 0]
    few = any(0 < len(side) < 5 for side in (above, below))
    blocks: list[list[int]] = []
    for side in [above + below] if few else [above, below]:
        own: list[list[int]] = []
        for _, equal in itertools.groupby(
            sorted(side, key=lambda i: -logits[i]), key=lambda i: float(logits[i])
        ):
            if own and len(own[-1]) < 5:
                own[-1].extend(equal)
            else:
                own.append(list(equal))
        if len(own) > 1 and len(own[-1]) < 5:
            own[-2].extend(own.pop())
        blocks += own
    return blocks


def published(logits: FloatArray, labels: FloatArray) -> Scorecard:
    """What a report says, but for the one number that is an extreme over all rows."""
    return replace(Scorecard.of(logits, labels), ks=0.0)


@quick
@given(rows(5))
def test_labels_that_change_places_within_a_block_change_nothing_published(
    sample: tuple[FloatArray, FloatArray],
) -> None:
    logits, labels = sample
    blocks = blocks_by_loops(logits)
    assert min(map(len, blocks)) >= 5
    moved = labels.copy()
    draw = np.random.default_rng(len(labels))
    for block in blocks:
        moved[block] = draw.permutation(labels[block])
    before, after = (json.dumps(published(logits, y).to_json()) for y in (labels, moved))
    assert before == after


def naive_gains(logits: FloatArray, labels: FloatArray) -> Sequence[float]:
    """The weaker variant: deciles cut at ``n / 10`` rows on the straight line between single rows."""
    found = np.append(0, np.cumsum(labels[np.argsort(-logits)]))
    return list(np.interp(np.linspace(0, len(labels), 11), np.arange(len(labels) + 1), found))


def test_cuts_between_rows_would_tell_a_row_s_label_and_ours_do_not() -> None:
    """With 52 rows a naive decile ends at 5.2: the fraction .2 is there if the sixth row is positive, else not."""
    logits = np.arange(52.0, 0.0, -1) - 100
    draw = np.random.default_rng(1)
    for _ in range(20):
        labels = draw.integers(0, 2, 52).astype(float)
        assert (naive_gains(logits, labels)[1] % 1 > 0.1) == (labels[5] == 1)
        swapped = labels.copy()
        swapped[[5, 6, 7, 8, 9]] = labels[[9, 8, 7, 6, 5]]
        assert published(logits, labels).deciles == published(logits, swapped).deciles


# --- what cannot be judged


def test_no_rows_and_one_class_are_judged_by_nothing() -> None:
    empty = Scorecard.of(NONE, NONE)
    assert empty.deciles == ()
    numbers = [empty.ks, empty.base_rate, empty.stability, *vars(empty.at_half).values()]
    assert all(map(math.isnan, numbers))
    for label in (0.0, 1.0):
        card = Scorecard.of(np.linspace(-2, 2, 30), np.full(30, label))
        assert math.isnan(card.ks)
        assert card.base_rate == label
        written = json.loads(json.dumps(card.to_json(), allow_nan=False))
        assert written["ks"] is None
        assert written["deciles"] == []
        assert (written["at_half"]["recall"] is None) == (label == 0)


@pytest.mark.parametrize(
    ("logits", "labels", "training", "words"),
    [
        ([1.0, 2.0], [1.0], None, "differ in their number of rows"),
        ([1.0], [2.0], None, "labels of 0 and 1"),
        ([np.nan], [1.0], None, "diverged"),
        ([1.0], [1.0], [np.inf], "diverged"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    logits: list[float], labels: list[float], training: list[float] | None, words: str
) -> None:
    before = None if training is None else np.array(training)
    with pytest.raises(DataError, match=words):
        Scorecard.of(np.array(logits), np.array(labels), before)
