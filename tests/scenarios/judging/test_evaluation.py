from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import sparse
from sklearn import metrics
from sklearn.calibration import calibration_curve

from protocol.errors import DataError, SettingsError
from protocol.numbers import FloatArray, IntArray
from scenarios.judging import evaluation
from scenarios.judging.evaluation import (
    Curves,
    Ranking,
    Score,
    constant_logit,
    popularity,
    rank,
    top_k,
)

MEANS = ("ndcg", "precision", "recall", "hit_rate", "mrr", "map")
quick = settings(max_examples=40, deadline=None)


def matrix(rows: Any) -> sparse.csr_array[Any]:
    return sparse.csr_array(np.asarray(rows, dtype=np.int8))


def logit(probabilities: list[float]) -> FloatArray:
    return np.array([math.log(p / (1 - p)) for p in probabilities])


# --- one score a row


def auc_by_pairs(logits: FloatArray, labels: FloatArray) -> float | None:
    """The definition: the share of (positive, negative) pairs in order, ties counting one half."""
    pairs = [
        1.0 if positive > negative else 0.5 if positive == negative else 0.0
        for positive, p in zip(logits, labels, strict=True)
        for negative, n in zip(logits, labels, strict=True)
        if p == 1 and n == 0
    ]
    return sum(pairs) / len(pairs) if pairs else None


def gauc_by_loops(
    logits: FloatArray, labels: FloatArray, users: IntArray
) -> tuple[float, int, int]:
    total = weight = 0.0
    skipped = 0
    for user in set(users.tolist()):
        own = users == user
        auc = auc_by_pairs(logits[own], labels[own])
        if auc is None:
            skipped += 1
        else:
            total, weight = total + auc * own.sum(), weight + own.sum()
    return (
        total / weight if weight else math.nan,
        len(set(users.tolist())) - skipped,
        skipped,
    )


@st.composite
def predictions(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, IntArray]:
    """Few distinct logits, so that ties are common."""
    n = draw(st.integers(1, 30))
    logits = draw(arrays(np.float64, n, elements=st.integers(-4, 4).map(lambda z: z / 2)))
    labels = draw(arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0])))
    return logits, labels, draw(arrays(np.int64, n, elements=st.integers(0, 5)))


@quick
@given(predictions())
def test_scores_follow_their_definitions(rows: tuple[FloatArray, FloatArray, IntArray]) -> None:
    logits, labels, users = rows
    score = Score.of(logits, labels, users)
    auc = auc_by_pairs(logits, labels)
    assert score.auc == pytest.approx(math.nan if auc is None else auc, nan_ok=True)
    gauc, n_users, n_skipped = gauc_by_loops(logits, labels, users)
    assert score.gauc == pytest.approx(gauc, nan_ok=True)
    assert (score.n_users, score.n_skipped) == (n_users, n_skipped)
    n, loss, right, squares = len(labels), 0.0, 0, 0.0
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        loss -= math.log(p if y else 1 - p)
        right += (z > 0) == (y == 1)
        squares += (p - y) ** 2
    assert score.log_loss == pytest.approx(loss / n)
    assert score.accuracy == pytest.approx(right / n)
    assert score.brier == pytest.approx(squares / n)
    assert 0 <= score.calibration_error <= 1


def test_scores_are_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(0, 2, 500).astype(float), draw.normal(size=500)
    users = draw.integers(0, 40, 500)
    probabilities = 1 / (1 + np.exp(-logits))
    score = Score.of(logits, labels, users)
    assert score.auc == pytest.approx(metrics.roc_auc_score(labels, logits))
    assert score.log_loss == pytest.approx(metrics.log_loss(labels, probabilities))
    assert score.accuracy == pytest.approx(metrics.accuracy_score(labels, probabilities > 0.5))
    assert score.brier == pytest.approx(metrics.brier_score_loss(labels, probabilities))
    own = [users == user for user in np.unique(users)]
    aucs = [metrics.roc_auc_score(labels[rows], logits[rows]) for rows in own]
    assert score.gauc == pytest.approx(np.average(aucs, weights=[rows.sum() for rows in own]))
    observed, predicted = calibration_curve(labels, probabilities, n_bins=10, strategy="quantile")
    assert score.calibration_error == pytest.approx(np.mean(np.abs(observed - predicted)))


def test_gauc_by_hand() -> None:
    # ann: 3 rows, both pairs in order; bob: 2 rows, his pair reversed; eve: one class, skipped.
    users = pd.Series(["ann", "bob", "eve", "ann", "bob", "ann"])
    labels = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    logits = np.array([2.0, -1.0, 9.0, 1.0, 3.0, 0.0])
    score = Score.of(logits, labels, users)
    assert score.gauc == pytest.approx((3 * 1.0 + 2 * 0.0) / 5)
    assert (score.n_users, score.n_skipped) == (2, 1)
    without = Score.of(logits, labels)
    assert math.isnan(without.gauc)
    assert (without.n_users, without.n_skipped) == (0, 0)
    assert astuple(without)[:6] == astuple(score)[:6]


def test_calibration_by_hand() -> None:
    # 20 distinct predictions make 10 bins of 2; the error is 1/10 of the gaps' sum.
    probabilities = [(i + 1) / 21 for i in range(20)]
    labels = np.array([0.0] * 12 + [1.0] * 8)
    gaps = [
        abs(sum(probabilities[2 * b : 2 * b + 2]) / 2 - labels[2 * b : 2 * b + 2].mean())
        for b in range(10)
    ]
    order = np.random.default_rng(1).permutation(20)
    score = Score.of(logit(probabilities)[order], labels[order])
    assert score.calibration_error == pytest.approx(sum(gaps) / 10)
    assert score.calibration_ratio == pytest.approx(sum(probabilities) / 8)


@pytest.mark.parametrize("n_positive", [1, 7, 25])
def test_a_constant_is_one_bin_whatever_the_order(n_positive: int) -> None:
    labels = np.repeat([1.0, 0.0], [n_positive, 30 - n_positive])
    score = Score.of(np.full(30, constant_logit(labels)), labels)
    assert score.calibration_error == pytest.approx(0, abs=1e-12)
    assert score.calibration_ratio == pytest.approx(1)
    assert score.auc == 0.5
    base = n_positive / 30
    assert score.log_loss == pytest.approx(-base * math.log(base) - (1 - base) * math.log(1 - base))
    wrong = Score.of(np.zeros(30), labels)
    assert wrong.calibration_error == pytest.approx(abs(0.5 - base))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_leaves_what_needs_two_undefined(label: float) -> None:
    score = Score.of(np.array([0.0, 1000.0, -1000.0]), np.full(3, label), np.array([0, 0, 1]))
    assert math.isnan(score.auc)
    assert math.isnan(score.gauc)
    assert (score.n_users, score.n_skipped) == (0, 2)
    assert math.isnan(score.calibration_ratio) == (label == 0)
    assert score.log_loss == pytest.approx((math.log(2) + 1000) / 3)
    assert score.brier == pytest.approx(1.25 / 3)


@pytest.mark.parametrize(
    ("logits", "labels", "users", "message"),
    [
        ([], [], None, "at least one row"),
        ([0.0], [0.0, 1.0], None, "number of rows"),
        ([[0.0], [1.0]], [0.0, 1.0], None, "number of rows"),
        ([0.0, 1.0], [0.0, 1.0], [0.0], "number of rows"),
        ([0.0, np.nan], [0.0, 1.0], None, "not finite"),
        ([0.0, np.inf], [0.0, 1.0], None, "not finite"),
        ([0.0, 1.0], [0.0, 2.0], None, "0 and 1 only"),
        ([0.0, 1.0], [0.0, np.nan], None, "0 and 1 only"),
        ([0.0, 1.0], [0.0, 1.0], [0.0, np.nan], "1 rows have no user"),
    ],
)
def test_rows_that_cannot_be_scored(logits: Any, labels: Any, users: Any, message: str) -> None:
    of_users = None if users is None else np.array(users)
    with pytest.raises(DataError, match=message):
        Score.of(np.array(logits), np.array(labels), of_users)


# --- a list a user


def rank_by_loops(
    scores: FloatArray,
    relevant: NDArray[np.int8],
    excluded: NDArray[np.int8],
    k: int,
    candidates: NDArray[np.int8] | None = None,
) -> tuple[dict[str, float], int]:
    """Each definition as written on the module page, for scores without ties."""
    judged: list[dict[str, float]] = []
    for user in range(len(scores)):
        items = [
            item
            for item in range(scores.shape[1])
            if not excluded[user, item] and (candidates is None or candidates[user, item])
        ]
        wanted = {item for item in items if relevant[user, item]}
        if not wanted:
            continue
        best = sorted(items, key=lambda item: -scores[user, item])[:k]
        found = 0
        value = dict.fromkeys(MEANS, 0.0)
        for r, item in enumerate(best, start=1):
            if item in wanted:
                found += 1
                value["ndcg"] += 1 / math.log2(r + 1)
                value["map"] += found / r
                value["mrr"] = value["mrr"] or 1 / r
        ideal = sum(1 / math.log2(r + 1) for r in range(1, min(k, len(wanted)) + 1))
        value["ndcg"] /= ideal
        value["map"] /= min(k, len(wanted))
        value["precision"] = found / k
        value["recall"] = found / len(wanted)
        value["hit_rate"] = float(found > 0)
        judged.append(value)
    if not judged:
        return dict.fromkeys(MEANS, math.nan), 0
    return {name: sum(value[name] for value in judged) / len(judged) for name in MEANS}, len(judged)


def means(ranking: Ranking) -> dict[str, float]:
    return {name: getattr(ranking, name) for name in MEANS}


@st.composite
def tables(
    draw: st.DrawFn,
) -> tuple[FloatArray, NDArray[np.int8], NDArray[np.int8], NDArray[np.int8] | None, int]:
    """Scores without ties, relevant, excluded, candidates or None, and k; item 0 of user 0 can be ranked."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 12)))
    bits = arrays(np.int8, shape, elements=st.integers(0, 1))
    relevant, excluded = draw(bits), draw(bits)
    candidates = draw(st.none() | bits)
    excluded[0, 0] = 0
    if candidates is not None:
        candidates[0, 0] = 1
    cells = shape[0] * shape[1]
    scores = np.array(draw(st.permutations(range(cells))), dtype=np.float64).reshape(shape)
    return scores, relevant, excluded, candidates, draw(st.integers(1, 14))


@quick
@given(tables(), st.integers(0, 99))
def test_rankings_follow_their_definitions(
    table: tuple[Any, Any, Any, Any, int], seed: int
) -> None:
    scores, relevant, excluded, candidates, k = table
    sparse_candidates = None if candidates is None else matrix(candidates)
    ranking = rank(scores, matrix(relevant), matrix(excluded), k, seed, sparse_candidates)
    expected, n_users = rank_by_loops(scores, relevant, excluded, k, candidates)
    assert means(ranking) == pytest.approx(expected, nan_ok=True)
    assert (ranking.k, ranking.n_users, ranking.n_skipped) == (k, n_users, len(scores) - n_users)
    if n_users:
        assert all(0 <= value <= 1 + 1e-12 for value in means(ranking).values())
        assert ranking.precision <= ranking.hit_rate
        assert ranking.mrr <= ranking.hit_rate


@quick
@given(tables())
def test_only_the_order_of_scores_counts(table: tuple[Any, Any, Any, Any, int]) -> None:
    scores, relevant, excluded, _, k = table
    relevant, excluded = matrix(relevant), matrix(excluded)
    expected = astuple(rank(scores, relevant, excluded, k, 0))
    stretched = rank(np.exp(scores / 10) - 5, relevant, excluded, k, 1)
    assert astuple(stretched) == pytest.approx(expected, nan_ok=True)
    reversed_items = rank(scores[:, ::-1], relevant[:, ::-1], excluded[:, ::-1], k, 2)
    assert astuple(reversed_items) == pytest.approx(expected, nan_ok=True)


def test_a_ranking_by_hand() -> None:
    # Best first: 4 (training, not ranked), 0, 1, 2, 3. Relevant: 1, 3; so hits at ranks 2 and 4.
    scores = np.array([[4.0, 3.0, 2.0, 1.0, 5.0]])
    relevant, excluded = matrix([[0, 1, 0, 1, 0]]), matrix([[0, 0, 0, 0, 1]])
    log2_3 = math.log2(3)
    ideal = 1 + 1 / log2_3
    at_3 = {
        "ndcg": (1 / log2_3) / ideal,
        "precision": 1 / 3,
        "recall": 1 / 2,
        "hit_rate": 1,
        "mrr": 1 / 2,
        "map": (1 / 2) / 2,
    }
    assert means(rank(scores, relevant, excluded, 3, 0)) == pytest.approx(at_3)
    at_4 = {
        "ndcg": (1 / log2_3 + 1 / math.log2(5)) / ideal,
        "precision": 2 / 4,
        "recall": 1,
        "hit_rate": 1,
        "mrr": 1 / 2,
        "map": (1 / 2 + 2 / 4) / 2,
    }
    assert means(rank(scores, relevant, excluded, 4, 0)) == pytest.approx(at_4)
    assert means(rank(scores, relevant, excluded, 1, 0)) == dict.fromkeys(MEANS, 0.0)
    # Lists longer than the four items that can be ranked gain nothing but a larger denominator.
    at_20 = at_4 | {"precision": 2 / 20}
    assert means(rank(scores, relevant, excluded, 20, 0)) == pytest.approx(at_20)


def test_ndcg_is_scikit_learns() -> None:
    draw = np.random.default_rng(2)
    scores, relevant = draw.normal(size=(50, 30)), (draw.random((50, 30)) < 0.2).astype(np.int8)
    relevant[:, 0] = 1
    for k in (1, 5, 30):
        ranking = rank(scores, matrix(relevant), matrix(np.zeros((50, 30))), k, 0)
        assert ranking.ndcg == pytest.approx(metrics.ndcg_score(relevant, scores, k=k))
    average_precision = [
        metrics.average_precision_score(*pair) for pair in zip(relevant, scores, strict=True)
    ]
    assert ranking.map == pytest.approx(np.mean(average_precision))


def test_perfect_and_worst_lists() -> None:
    relevant = matrix([[1, 1, 0, 0, 0, 0]])
    nothing = matrix(np.zeros((1, 6)))
    perfect = rank(relevant.toarray().astype(float), relevant, nothing, 2, 0)
    assert set(means(perfect).values()) == {1.0}
    worst = rank(-relevant.toarray().astype(float), relevant, nothing, 4, 0)
    assert set(means(worst).values()) == {0.0}


def test_a_constant_scorer_ranks_at_random_whatever_the_order_of_items() -> None:
    n_users, n_items, n_relevant, k = 20_000, 20, 3, 5
    relevant = np.zeros((n_users, n_items))
    relevant[:, :n_relevant] = 1
    constant = np.broadcast_to(np.zeros(n_items), relevant.shape)
    nothing = matrix(np.zeros_like(relevant))
    # Each rank holds a relevant item with chance 3/20.
    chance = n_relevant / n_items
    discounts = [1 / math.log2(r + 1) for r in range(1, k + 1)]
    first_at = [
        math.comb(n_items - r, n_relevant - 1) / math.comb(n_items, n_relevant)
        for r in range(1, k + 1)
    ]
    for of_items in (relevant, relevant[:, ::-1]):
        ranking = rank(constant, matrix(of_items), nothing, k, 3)
        assert ranking.precision == pytest.approx(chance, abs=0.004)
        assert ranking.recall == pytest.approx(k / n_items, abs=0.007)
        assert ranking.hit_rate == pytest.approx(sum(first_at), abs=0.014)
        assert ranking.ndcg == pytest.approx(
            chance * sum(discounts) / sum(discounts[:n_relevant]), abs=0.008
        )
        assert ranking.mrr == pytest.approx(
            sum(p / r for r, p in enumerate(first_at, start=1)), abs=0.01
        )
    seeds = [rank(constant, matrix(relevant), nothing, k, seed) for seed in (3, 3, 4)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_users_without_positives_or_candidates_are_skipped_and_counted() -> None:
    scores = np.tile([3.0, 2.0, 1.0], (4, 1))
    relevant = matrix([[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]])
    # The third user's only relevant item and all of the fourth's are known from training.
    excluded = matrix([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 1]])
    ranking = rank(scores, relevant, excluded, 1, 0)
    assert set(means(ranking).values()) == {1.0}
    assert (ranking.n_users, ranking.n_skipped) == (1, 3)
    nobody = rank(scores, matrix(np.zeros((4, 3))), excluded, 1, 0)
    assert np.isnan(list(means(nobody).values())).all()
    assert (nobody.n_users, nobody.n_skipped) == (0, 4)


def test_test_items_only() -> None:
    scores = np.array([[9.0, 8.0, 1.0, 2.0]])
    relevant, tested = matrix([[0, 0, 1, 0]]), matrix([[0, 0, 1, 1]])
    nothing = matrix([[0, 0, 0, 0]])
    assert rank(scores, relevant, nothing, 4, 0).mrr == pytest.approx(1 / 4)
    assert rank(scores, relevant, nothing, 4, 0, tested).mrr == pytest.approx(1 / 2)
    assert rank(scores, relevant, matrix([[0, 0, 0, 1]]), 4, 0, tested).mrr == 1


def test_blocks_and_functions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(4)
    scores = draw.integers(0, 3, (40, 25)).astype(float)
    relevant, excluded = (matrix(draw.random((40, 25)) < share) for share in (0.05, 0.3))
    whole = rank(scores, relevant, excluded, 5, 7)
    asked: list[int] = []

    def of_users(rows: IntArray) -> FloatArray:
        asked.extend(rows.tolist())
        return scores[rows]

    for cells in (1, 60, 25 * 7):
        asked.clear()
        monkeypatch.setattr(evaluation, "_BLOCK_CELLS", cells)
        assert rank(of_users, relevant, excluded, 5, 7) == whole
        assert len(asked) == len(set(asked)) == whole.n_users < 40


def test_what_cannot_be_ranked() -> None:
    scores, relevant, excluded = np.zeros((2, 3)), matrix(np.eye(2, 3)), matrix(np.zeros((2, 3)))
    with pytest.raises(SettingsError, match="k is 0"):
        rank(scores, relevant, excluded, 0, 0)
    with pytest.raises(DataError, match="no user has an item left"):
        rank(scores, relevant, matrix(np.ones((2, 3))), 1, 0)
    with pytest.raises(DataError, match="no user has an item left"):
        rank(scores, relevant, excluded, 1, 0, excluded)
    with pytest.raises(DataError, match="numbers of users or items"):
        rank(scores, relevant, matrix(np.zeros((2, 4))), 1, 0)
    with pytest.raises(DataError, match="numbers of users or items"):
        rank(scores[:, :2], relevant, excluded, 1, 0)
    with pytest.raises(DataError, match="one score for each"):
        rank(lambda rows: np.zeros(len(rows)), relevant, excluded, 1, 0)
    with pytest.raises(DataError, match="not finite"):
        rank(scores * np.nan, relevant, excluded, 1, 0)
    # What is not ranked need not have a score.
    scores[:, 2] = np.nan
    assert rank(scores, relevant, matrix([[0, 0, 1], [0, 0, 1]]), 2, 0).hit_rate == 1


# --- one user's list


@quick
@given(
    arrays(np.float64, 9, elements=st.integers(0, 3).map(float)),
    arrays(np.bool_, 9).filter(lambda excluded: not excluded.all()),
    st.integers(1, 12),
    st.integers(0, 99),
)
def test_a_list_holds_the_best_items_that_are_left(
    scores: FloatArray, excluded: NDArray[np.bool_], k: int, seed: int
) -> None:
    best = top_k(scores, excluded, k, seed)
    left = np.flatnonzero(~excluded)
    assert len(set(best.tolist())) == len(best) == min(k, len(left))
    assert set(best) <= set(left)
    assert scores[best].tolist() == sorted(scores[left], reverse=True)[: len(best)]
    assert best.tolist() == top_k(scores, excluded, k, seed).tolist()


def test_equal_items_come_first_equally_often() -> None:
    scores, excluded = np.array([5.0, 5.0, 1.0, 5.0, 9.0]), np.arange(5) == 4
    first = [int(top_k(scores, excluded, 1, seed)[0]) for seed in range(900)]
    assert set(first) == {0, 1, 3}
    assert min(first.count(item) for item in (0, 1, 3)) > 240


def test_no_list_without_items() -> None:
    with pytest.raises(DataError, match="no item is left"):
        top_k(np.zeros(3), np.ones(3, dtype=bool), 2, 0)
    with pytest.raises(SettingsError, match="k is -1"):
        top_k(np.zeros(3), np.zeros(3, dtype=bool), -1, 0)
    with pytest.raises(DataError, match="one score for each"):
        top_k(np.zeros(3), np.zeros(4, dtype=bool), 1, 0)


# --- baselines


def test_popularity_counts_and_ranks_alike_for_all() -> None:
    train = matrix([[1, 0, 1], [1, 0, 0], [1, 0, 1]])
    scores = popularity(train)
    assert scores.dtype == np.float64
    assert scores.tolist() == [3, 0, 2]
    relevant = matrix([[0, 1, 0], [0, 0, 1], [0, 1, 0]])
    ranking = rank(np.broadcast_to(scores, train.shape), relevant, train, 1, 0)
    assert ranking.hit_rate == 1  # each user's best item not yet seen


def test_the_constant_is_the_base_rate_and_finite() -> None:
    assert constant_logit(np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(math.log(1 / 3))
    assert constant_logit(np.ones(10)) == pytest.approx(math.log(19))
    assert constant_logit(np.zeros(10)) == pytest.approx(-math.log(19))
    with pytest.raises(DataError, match="at least one training row"):
        constant_logit(np.zeros(0))


@quick
@given(st.integers(2, 3000), st.integers(0, 2**32 - 1))
def test_a_thinned_roc_curve_stays_on_the_whole_one(n_rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = np.r_[0.0, 1.0, draw.integers(0, 2, n_rows - 2)]
    logits = draw.normal(size=n_rows).round(1) + labels
    roc = np.array(Curves.of(logits, labels).roc)
    assert roc[0].tolist() == [0, 0]
    assert roc[-1].tolist() == [1, 1]
    assert len(roc) - 1 <= max(1, min(100, n_rows // 5))
    rows = roc @ [np.sum(labels == 0), np.sum(labels == 1)]
    assert np.diff(rows).min() >= min(5, n_rows) - 1e-9
    false, true, _ = metrics.roc_curve(labels, logits, drop_intermediate=False)
    along = false + true
    assert roc[:, 1] == pytest.approx(np.interp(roc.sum(axis=1), along, true))


def test_a_thinned_roc_curve_keeps_its_area() -> None:
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 2000).astype(float)
    logits = draw.normal(size=2000) + labels
    false, true = np.array(Curves.of(logits, labels).roc).T
    assert metrics.auc(false, true) == pytest.approx(Score.of(logits, labels).auc, abs=2e-3)


def test_no_point_of_a_roc_curve_tells_a_rows_label() -> None:
    """Labels that change places within a block leave the curve as it is; points between rows gave them away."""
    draw = np.random.default_rng(6)
    labels = draw.integers(0, 2, 1000).astype(float)
    logits = -np.arange(1000.0)
    roc = Curves.of(logits, labels).roc
    shuffled = labels.copy()
    for start in range(0, 1000, 10):
        draw.shuffle(shuffled[start : start + 10])
    assert not np.array_equal(shuffled, labels)
    assert Curves.of(logits, shuffled).roc == roc

    # The weaker variant: even steps along the curve. The slope there is the label of the row at a known rank.
    false, true, _ = metrics.roc_curve(labels, logits, drop_intermediate=False)
    along = np.linspace(0, 2, 101)
    rates = [np.interp(along, false + true, rate) for rate in (false, true)]
    n_negative, n_positive = np.sum(labels == 0), np.sum(labels == 1)
    counts = rates[0] * n_negative, rates[1] * n_positive
    fractional = [np.abs(count - np.rint(count)) > 1e-6 for count in counts]
    told = (
        fractional[0] ^ fractional[1]
    )  # a point within one step: sideways for a 0, upwards for a 1
    ranks = np.floor(counts[0] + counts[1]).astype(int)
    assert told.sum() > 80
    assert (labels[ranks[told]] == fractional[1][told]).all()


def test_one_class_has_no_roc_curve() -> None:
    assert Curves.of(np.zeros(9), np.ones(9)).roc == []


def test_calibration_bins_are_scikit_learns_and_hold_several_rows() -> None:
    draw = np.random.default_rng(2)
    logits = draw.normal(size=1000)
    labels = (draw.logistic(size=1000) < logits).astype(float)
    observed, predicted = calibration_curve(
        labels, 1 / (1 + np.exp(-logits)), n_bins=10, strategy="quantile"
    )
    found = np.array(Curves.of(logits, labels).calibration)
    assert found[:, 0] == pytest.approx(predicted)
    assert found[:, 1] == pytest.approx(observed)
    assert found[:, 2].tolist() == 10 * [100]
    few = Curves.of(logits[:23], labels[:23]).calibration
    assert len(few) == 4
    assert min(rows for *_, rows in few) >= 5
    (one,) = Curves.of(np.zeros(50), labels[:50]).calibration
    assert one == pytest.approx((0.5, labels[:50].mean(), 50))
