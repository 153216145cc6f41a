from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from sklearn import metrics
from sklearn.preprocessing import label_binarize

from parties.errors import DataError
from parties.model import FloatArray
from scenarios.judging.scores import AmountScore, ClassScore, CountScore, LabelScore, normalised

quick = settings(max_examples=40, deadline=None)
NONE = np.array([])


def expect(value: float, reference: float) -> None:
    assert value == pytest.approx(reference, rel=1e-9, abs=1e-9)


# --- amounts


@quick
@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e9]))
def test_amounts_are_scored_as_scikit_learn_does(n: int, seed: int, unit: float) -> None:
    draw = np.random.default_rng(seed)
    labels = unit * draw.normal(3, 1, n)
    predictions = labels + unit * draw.normal(size=n)
    score = AmountScore.of(predictions, labels)
    expect(score.rmse / unit, metrics.root_mean_squared_error(labels, predictions) / unit)
    expect(score.mae / unit, metrics.mean_absolute_error(labels, predictions) / unit)
    expect(score.r2, metrics.r2_score(labels, predictions))


def test_amounts_by_hand() -> None:
    score = AmountScore.of(np.array([1.0, 2.0, 6.0]), np.array([1.0, 4.0, 4.0]))
    assert score == AmountScore(rmse=math.sqrt(8 / 3), mae=4 / 3, r2=1 - 8 / 6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7e5])
def test_amounts_that_are_all_the_same_have_no_r2(constant: float) -> None:
    labels = np.full(7, constant)
    score = AmountScore.of(labels + 2, labels)
    expect(score.rmse, 2.0)
    assert math.isnan(score.r2)
    assert score.to_json()["r2"] is None


# --- counts


@quick
@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_counts_are_scored_as_scikit_learn_does(n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = np.append(draw.poisson(0.8, n - 1).astype(float), 3.0)
    labels[0] = 0.0
    means = draw.gamma(1.0, 1.0, n) + 1e-6
    score = CountScore.of(means, labels)
    expect(score.deviance, metrics.mean_poisson_deviance(labels, means))
    expect(score.d2, metrics.d2_tweedie_score(labels, means, power=1))
    expect(score.rmse, metrics.root_mean_squared_error(labels, means))
    expect(score.mae, metrics.mean_absolute_error(labels, means))


def test_counts_by_hand() -> None:
    # Labels 0, 2 with means 1, 1: 2 (1) and 2 (2 log 2 - 1); their mean is 1 too, so nothing is explained.
    score = CountScore.of(np.ones(2), np.array([0.0, 2.0]))
    expect(score.deviance, 2 * math.log(2))
    expect(score.d2, 0.0)


def test_counts_predicted_as_impossible_have_no_deviance() -> None:
    counts = np.array([0.0, 0.0, 2.0])
    certain = CountScore.of(np.array([0.0, 0.0, 2.0]), counts)
    assert (certain.deviance, certain.d2) == (0.0, 1.0)
    for means in ([0.0, 1.0, 0.0], [-1e-9, 0.0, 2.0]):
        score = CountScore.of(np.array(means), counts)
        assert math.isnan(score.deviance)
        assert math.isnan(score.d2)
        assert math.isfinite(score.rmse)
        assert score.to_json()["deviance"] is None


def test_the_least_mean_that_a_float_holds_is_scored() -> None:
    score = CountScore.of(np.array([5e-324, 1.0]), np.array([1.0, 0.0]))
    expect(score.deviance, -math.log(5e-324))


def test_counts_that_are_all_the_same_explain_nothing() -> None:
    for count in (0.0, 3.0):
        score = CountScore.of(np.full(5, 2.0), np.full(5, count))
        assert math.isfinite(score.deviance)
        assert math.isnan(score.d2)


# --- classes


def rows_of_classes(n: int, n_classes: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Sigmoids and labels in which every class occurs."""
    draw = np.random.default_rng(seed)
    labels = np.append(np.arange(n_classes), draw.integers(0, n_classes, n - n_classes))
    logits = draw.normal(size=(n, n_classes)) + 2 * (labels[:, None] == np.arange(n_classes))
    return expit(logits), labels.astype(float)


@quick
@given(st.integers(2, 5), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_classes_are_scored_as_scikit_learn_does(n_classes: int, more: int, seed: int) -> None:
    sigmoids, labels = rows_of_classes(n_classes + more, n_classes, seed)
    score = ClassScore.of(sigmoids, labels)
    chances = sigmoids / sigmoids.sum(axis=1, keepdims=True)
    likeliest = chances.argmax(axis=1)
    if n_classes > 2:  # scikit-learn takes one column where classes are two
        ours = {"macro": score.macro_auc, "micro": score.micro_auc}
        for average, auc in ours.items():
            reference = metrics.roc_auc_score(labels, chances, multi_class="ovr", average=average)
            expect(auc, reference)
    else:
        expect(score.macro_auc, metrics.roc_auc_score(labels, chances[:, 1]))
        truth = np.column_stack([1 - labels, labels])
        expect(score.micro_auc, metrics.roc_auc_score(truth, chances, average="micro"))
    expect(score.log_loss, metrics.log_loss(labels, chances))
    expect(score.accuracy, metrics.accuracy_score(labels, likeliest))
    confusion = metrics.confusion_matrix(labels, likeliest, labels=range(n_classes))
    assert [list(row) for row in score.confusion] == confusion.tolist()
    assert score.n_skipped == 0


def test_a_class_without_rows_is_left_out_of_the_macro_auc() -> None:
    sigmoids, labels = rows_of_classes(40, 4, 1)
    kept = labels != 3
    score = ClassScore.of(sigmoids[kept], labels[kept])
    chances = normalised(sigmoids[kept])
    truth = label_binarize(labels[kept], classes=range(4))
    aucs = [metrics.roc_auc_score(truth[:, k], chances[:, k]) for k in range(3)]
    expect(score.macro_auc, float(np.mean(aucs)))
    expect(score.micro_auc, metrics.roc_auc_score(truth.ravel(), chances.ravel()))
    assert score.n_skipped == 1


def test_rows_of_one_class_have_no_macro_auc() -> None:
    sigmoids, _ = rows_of_classes(12, 3, 2)
    score = ClassScore.of(sigmoids, np.ones(12))
    assert math.isnan(score.macro_auc)
    assert score.n_skipped == 3
    assert math.isfinite(score.log_loss)
    assert math.isfinite(score.micro_auc)
    assert sum(map(sum, score.confusion)) == sum(score.confusion[1]) == 12


def test_a_true_class_of_no_chance_has_no_log_loss() -> None:
    score = ClassScore.of(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1.0, 0.0]))
    assert math.isnan(score.log_loss)
    assert score.to_json()["log_loss"] is None
    assert score.accuracy == 0.5


def test_probabilities_sum_to_one_and_keep_their_order() -> None:
    chances = normalised(np.array([[0.2, 0.6], [0.0, 0.0], [1e-300, 3e-300]]))
    np.testing.assert_allclose(chances, [[0.25, 0.75], [0.5, 0.5], [0.25, 0.75]])


# --- what they have in common


@pytest.mark.parametrize("kind", [AmountScore, CountScore, ClassScore])
def test_no_rows_score_nothing_and_the_numbers_are_json(kind: type[LabelScore]) -> None:
    score = kind.of(np.empty((0, 3)) if kind is ClassScore else NONE, NONE)
    assert all(map(math.isnan, score.values()))
    written = json.loads(json.dumps(score.to_json(), allow_nan=False))
    assert all(written[measure.name] is None for measure in kind.measures)


@pytest.mark.parametrize("kind", [AmountScore, CountScore, ClassScore])
def test_better_predictions_score_better_in_every_measure(kind: type[LabelScore]) -> None:
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 3, 60).astype(float)
    truth = np.eye(3)[labels.astype(int)] if kind is ClassScore else labels + 0.2
    noise = draw.uniform(0, 1, truth.shape)
    good, bad = (kind.of((1 - mix) * truth + mix * noise, labels) for mix in (0.1, 0.9))
    for measure, better, worse in zip(kind.measures, good.values(), bad.values(), strict=True):
        assert (better > worse) == measure.more_is_better
        assert better != worse


@pytest.mark.parametrize(
    ("kind", "predictions", "labels", "words"),
    [
        (AmountScore, [1.0, 2.0], [1.0], "differ in their number of rows"),
        (AmountScore, [np.nan], [1.0], "diverged"),
        (AmountScore, [1.0], [np.inf], "finite label"),
        (CountScore, [1.0], [0.5], "whole numbers"),
        (CountScore, [1.0], [-1.0], "whole numbers"),
        (CountScore, [np.inf], [1.0], "diverged"),
        (ClassScore, [0.2], [0.0], "2 or more"),
        (ClassScore, [[0.2]], [0.0], "2 or more"),
        (ClassScore, [[0.2, 0.3]], [2.0], "2 classes"),
        (ClassScore, [[0.2, 0.3]], [0.5], "2 classes"),
        (ClassScore, [[0.2, np.nan]], [1.0], "diverged"),
        (ClassScore, [[0.2, -0.3]], [1.0], "between 0 and 1"),
        (ClassScore, [[0.2, 0.3]], [1.0, 0.0], "differ in their number of rows"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    kind: type[LabelScore], predictions: list[float], labels: list[float], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        kind.of(np.array(predictions), np.array(labels))


@quick
@given(arrays(np.float64, (9, 3), elements=st.floats(0, 1)), st.integers(0, 2**16))
def test_confusion_and_accuracy_agree_whatever_is_predicted(
    sigmoids: FloatArray, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, 9).astype(float)
    score = ClassScore.of(sigmoids, labels)
    assert sum(map(sum, score.confusion)) == 9
    expect(score.accuracy, sum(score.confusion[k][k] for k in range(3)) / 9)
