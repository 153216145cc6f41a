from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, sparse
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.multiclass import OneVsRestClassifier

from parties.errors import DataError
from parties.model import FloatArray, log_loss
from protocol.errors import SettingsError
from scenarios.judging.pooled import L2_PATH, Link, Pooled, fit, fit_path, objective
from scenarios.judging.scores import AmountScore, ClassScore, CountScore

FATE = Path(__file__).parents[4] / "shared" / "data" / "fate"
needs_data = pytest.mark.skipif(
    not FATE.is_dir(), reason="the folder shared/data is not beside the project"
)

LINKS: tuple[Link, ...] = ("logistic", "linear", "poisson", "multiclass", "multinomial")
OF_CLASSES: tuple[Link, ...] = ("multiclass", "multinomial")


def table(link: Link, n: int = 200, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Columns of unlike spread, the last of them 0 or 1, and labels of the link that depend on them."""
    draw = np.random.default_rng(seed)
    columns = np.column_stack([draw.normal(size=(n, 3)) * [1.0, 0.3, 2.0], draw.random(n) < 0.2])
    z = columns @ [0.8, -1.0, 0.2, 0.5] - 0.3
    if link in OF_CLASSES:
        chances = softmax(np.column_stack([z, -z, 0.5 * columns[:, 2]]), axis=1)
        return columns, np.array([float(draw.choice(3, p=row)) for row in chances])
    labels = {
        "logistic": draw.random(n) < expit(z),
        "linear": 40 + 5 * z + draw.normal(size=n),
        "poisson": draw.poisson(np.exp(z)),
    }
    return columns, labels[link].astype(np.float64)


def loss_by_loops(
    link: Link, weights: FloatArray, intercept: FloatArray, columns: FloatArray, labels: FloatArray
) -> float:
    """The mean loss from likelihoods, a row at a time."""
    total = 0.0
    for row, y in zip(columns, labels.tolist(), strict=True):
        z = row @ weights + intercept
        if link == "linear":
            total += float((y - z) ** 2) / 2
        elif link == "poisson":
            total += float(np.exp(z) - y * z)
        elif link == "multinomial":
            total -= float(np.log(softmax(z)[int(y)]))
        else:
            chances, truth = np.atleast_1d(expit(z)), np.arange(np.size(z)) == y
            truth = np.array([y == 1]) if link == "logistic" else truth
            total -= float(np.log(np.where(truth, chances, 1 - chances)).sum())
    return total / len(labels)


def flat_objective(
    model: Pooled, columns: FloatArray, labels: FloatArray, l2: float | FloatArray
) -> tuple[FloatArray, Callable[[FloatArray], float]]:
    """Return the model's parameters in one line, and the objective of any others in line."""
    size, shape = model.weights.size, model.weights.shape

    def of(flat: FloatArray) -> float:
        weights, intercept = flat[:size].reshape(shape), flat[size:].reshape(model.intercept.shape)
        return objective(model.link, weights, intercept, columns, labels, l2)

    return np.append(model.weights.ravel(), model.intercept.ravel()), of


# --- the objective


@pytest.mark.parametrize("link", LINKS)
def test_the_objective_is_the_mean_loss_and_the_penalty_of_weights(link: Link) -> None:
    columns, labels = table(link, 60)
    draw = np.random.default_rng(1)
    classes = (3,) if link in OF_CLASSES else ()
    weights, intercept = draw.normal(size=(4, *classes)), draw.normal(size=classes)
    l2 = np.array([0.1, 0.0, 0.02, 0.3])
    loss = loss_by_loops(link, weights, intercept, columns, labels)
    penalty = sum(l2[j] * np.sum(weights[j] ** 2) / 2 for j in range(4))
    ours = objective(link, weights, intercept, columns, labels, l2)
    assert ours == pytest.approx(loss + penalty)
    as_sparse = objective(link, weights, intercept, sparse.csr_array(columns), labels, l2)
    assert as_sparse == pytest.approx(ours)
    if link == "logistic":
        plain = objective(link, weights, intercept, columns, labels, 0.0)
        assert plain == pytest.approx(log_loss(columns @ weights + intercept, labels))


def test_an_objective_beyond_floats_is_infinite() -> None:
    columns = np.full((2, 1), 8.0)
    assert objective("poisson", np.array([1e3]), 0.0, columns, np.ones(2), 0.0) == np.inf


# --- the optimum


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("l2", [0.0, 1e-3, 1.0])
def test_the_fit_is_where_the_objective_is_flat_and_least(link: Link, l2: float) -> None:
    columns, labels = table(link)
    model = fit(link, columns, labels, l2)
    best, of = flat_objective(model, columns, labels, l2)
    assert model.objective == pytest.approx(of(best))
    slope = optimize.approx_fprime(best, of, 1e-6)
    curvature = 20.0 if link in ("linear", "poisson") else 2.0
    assert np.abs(slope).max() < 2e-6 * curvature
    draw = np.random.default_rng(2)
    for size in (1e-3, 0.1, 1.0):
        assert of(best + size * draw.normal(size=len(best))) > model.objective


@pytest.mark.parametrize("link", LINKS)
def test_another_optimizer_finds_the_same_optimum(link: Link) -> None:
    """L-BFGS of our own objective, with an l2 a column: from zero, and knowing nothing of scikit-learn."""
    columns, labels = table(link, 120)
    l2 = np.array([1e-3, 1e-2, 0.1, 1.0])
    model = fit(link, columns, labels, l2)
    flat, of = flat_objective(model, columns, labels, l2)
    start = np.zeros_like(flat)
    found = optimize.minimize(of, start, method="BFGS", options={"gtol": 1e-7})
    assert model.objective <= found.fun + 1e-9
    assert model.objective == pytest.approx(found.fun, abs=1e-7)
    weights = found.x[: model.weights.size].reshape(model.weights.shape)
    np.testing.assert_allclose(model.weights, weights, atol=2e-3)


@pytest.mark.parametrize("l2", [1e-3, 0.05])
def test_l2_translates_to_scikit_learns_own_strengths(l2: float) -> None:
    strict = {"tol": 1e-9, "max_iter": 5000}
    inverse = LogisticRegression(C=1 / (200 * l2), **strict)
    libraries = {
        "logistic": inverse,
        "linear": Ridge(alpha=200 * l2),
        "poisson": PoissonRegressor(alpha=l2, **strict),
        "multiclass": OneVsRestClassifier(inverse),
        "multinomial": LogisticRegression(C=1 / (200 * l2), **strict),
    }
    for link in LINKS:
        columns, labels = table(link)
        library = libraries[link].fit(columns, labels)
        probable = {"logistic", *OF_CLASSES}
        theirs = (library.predict_proba if link in probable else library.predict)(columns)
        ours = fit(link, columns, labels, l2).predict(columns)
        theirs = theirs[:, 1] if link == "logistic" else theirs
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("link", LINKS)
def test_sparse_columns_are_as_good(link: Link) -> None:
    columns, labels = table(link)
    l2 = np.array([1e-3, 1e-3, 1e-3, 1e-1])
    dense, thin = (fit(link, one, labels, l2) for one in (columns, sparse.csr_array(columns)))
    assert thin.objective == pytest.approx(dense.objective, abs=1e-9)
    predicted = thin.predict(sparse.csr_array(columns))
    np.testing.assert_allclose(predicted, dense.predict(columns), rtol=1e-5, atol=1e-6)


def test_amounts_in_another_unit_have_the_same_optimum() -> None:
    columns, labels = table("linear")
    model, scaled = (fit("linear", columns, y, 0.01) for y in (labels, (labels - 40) / 7))
    np.testing.assert_allclose(scaled.weights * 7, model.weights)
    np.testing.assert_allclose(scaled.predict(columns) * 7 + 40, model.predict(columns))


def test_counts_in_another_unit_have_not() -> None:
    columns, labels = table("poisson")
    model, scaled = (fit("poisson", columns, y, 0.1) for y in (labels, labels / 5))
    assert np.abs(scaled.weights - model.weights).max() > 0.05
    same = fit("poisson", columns, labels / 5, 0.1 / 5)
    np.testing.assert_allclose(same.weights, model.weights, atol=1e-4)


def test_two_classes_are_a_logistic_model_of_half_the_penalty() -> None:
    columns, labels = table("logistic")
    model = fit("multinomial", columns, labels, 0.02)
    np.testing.assert_allclose(model.weights[:, 0], -model.weights[:, 1])
    logistic = fit("logistic", columns, labels, 0.01)
    np.testing.assert_allclose(model.predict(columns)[:, 1], logistic.predict(columns), atol=1e-6)
    flat, of = flat_objective(model, columns, labels, 0.02)
    assert np.abs(optimize.approx_fprime(flat, of, 1e-6)).max() < 4e-6


# --- labels that leave nothing to learn


@pytest.mark.parametrize("link", ["logistic", "poisson"])
def test_rows_without_an_event_make_a_small_rate(link: Link) -> None:
    columns, _ = table(link, 50)
    model = fit(link, columns, np.zeros(50), 1e-3)
    np.testing.assert_allclose(model.predict(columns), 0.01)
    assert np.isfinite(model.objective)
    assert model.objective < 0.02


def test_rows_that_are_all_positive_make_a_large_chance() -> None:
    columns, _ = table("logistic", 50)
    np.testing.assert_allclose(fit("logistic", columns, np.ones(50), 0.1).predict(columns), 0.99)


@pytest.mark.parametrize("link", OF_CLASSES)
def test_a_class_without_training_rows_is_thought_unlikely(link: Link) -> None:
    columns, labels = table(link)
    labels[labels == 1] = 2
    model = fit(link, columns, labels, 1e-3, n_classes=4)
    chances = model.predict(columns)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    assert 0 < chances[:, [1, 3]].max() < 0.02
    assert model.objective < objective(link, 0 * model.weights, 0.0, columns, labels, 0.0)
    only = fit(link, columns, np.full(200, 2.0), 1e-3, n_classes=3)
    np.testing.assert_allclose(only.predict(columns)[:, 2], 1.0, atol=0.006)


# --- a path of l2


@pytest.mark.parametrize("link", LINKS)
def test_a_path_ends_at_each_values_own_optimum_and_keeps_the_best(link: Link) -> None:
    columns, labels = table(link, 120)
    held_out = table(link, 120, seed=9)
    best, path = fit_path(link, (columns, labels), held_out)
    assert [tried.l2 for tried in path] == sorted(L2_PATH, reverse=True)
    for tried in path:
        alone = fit(link, columns, labels, tried.l2)
        assert tried.model.objective == pytest.approx(alone.objective, abs=1e-8)
        loss = loss_by_loops(link, tried.model.weights, tried.model.intercept, *held_out)
        assert tried.validation_loss == pytest.approx(loss)
    assert best.validation_loss == min(tried.validation_loss for tried in path)
    objectives = [tried.model.objective for tried in path]
    assert objectives == sorted(objectives, reverse=True)


def test_noise_is_regularised_and_signal_is_not() -> None:
    draw = np.random.default_rng(3)
    columns = draw.normal(size=(60, 30))
    held_out = draw.normal(size=(400, 30))
    for strength, expected in ((0.0, 1e-1), (3.0, 1e-5)):
        labels, others = (
            x[:, 0] * strength + draw.normal(size=len(x)) / 9 for x in (columns, held_out)
        )
        best, _ = fit_path("linear", (columns, labels), (held_out, others), (1e-5, 1e-3, 1e-1))
        assert best.l2 == expected


def test_a_path_weighs_columns_as_it_is_told_and_prefers_the_larger_of_equals() -> None:
    columns, labels = table("logistic")
    relative = np.array([1.0, 1.0, 1.0, 10.0])
    best, path = fit_path(
        "logistic", (columns, labels), (columns, labels), (0.1, 0.01), relative=relative
    )
    alone = fit("logistic", columns, labels, 0.01 * relative)
    np.testing.assert_allclose(path[1].model.weights, alone.weights, atol=1e-5)
    assert best.l2 == 0.01
    nothing = np.zeros((len(labels), 1))
    equal, _ = fit_path("logistic", (nothing, labels), (nothing, labels), (0.01, 0.1))
    assert equal.l2 == 0.1


# --- real data


@needs_data
def test_real_data_reach_their_optimum_and_score_as_the_reference_does() -> None:
    def numbers(file: str, *without: str) -> FloatArray:
        table = pd.read_csv(FATE / f"{file}.csv").drop(columns=list(without))
        return table.to_numpy(dtype=np.float64)

    sides = numbers("breast_hetero_guest", "id"), numbers("breast_hetero_host", "id")
    labels, columns = sides[0][:, 0], np.hstack([sides[0][:, 1:], sides[1]])
    model = fit("logistic", columns, labels, 1e-3)
    flat, of = flat_objective(model, columns, labels, 1e-3)
    assert np.abs(optimize.approx_fprime(flat, of, 1e-6)).max() < 2e-5
    columns, speed = numbers("motor_hetero_host", "idx"), numbers("motor_hetero_guest")[:, 1]
    amounts = fit("linear", columns, speed, 1e-3).predict(columns)
    assert AmountScore.of(amounts, speed).r2 > 0.9
    counts = np.floor(np.exp(speed))
    expected = fit("poisson", columns, counts, 1e-3).predict(columns)
    assert CountScore.of(expected, counts).d2 > 0.5
    classes = np.digitize(speed, np.quantile(speed, [1 / 3, 2 / 3])).astype(np.float64)
    for link in OF_CLASSES:
        chances = fit(link, columns, classes, 1e-3).predict(columns)
        assert ClassScore.of(chances, classes).macro_auc > 0.85


# --- what is refused


@pytest.mark.parametrize(
    ("link", "labels", "words"),
    [
        ("logistic", [0.0, 2.0], "labels of 0 and 1"),
        ("poisson", [0.0, -1.0], "0 or more"),
        ("multiclass", [0.0, 0.5], "number classes"),
        ("multinomial", [0.0, -1.0], "number classes"),
        ("multiclass", [0.0, 3.0], "3 classes"),
        ("linear", [0.0, np.nan], "finite label"),
        ("linear", [0.0], "number of rows"),
    ],
)
def test_labels_of_another_link_are_refused(link: Link, labels: list[float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit(link, np.eye(2), np.array(labels), 0.1, n_classes=3)


def test_no_rows_and_an_impossible_l2_are_refused() -> None:
    with pytest.raises(DataError, match="at least one row"):
        fit("linear", np.empty((0, 2)), np.empty(0), 0.1)
    columns, labels = table("logistic")
    for l2 in (-0.1, np.array([0.0, 0.1, 0.1, 0.1])):
        with pytest.raises(SettingsError, match="l2 is expected"):
            fit("logistic", columns, labels, l2)
    with pytest.raises(SettingsError, match="at least one value"):
        fit_path("logistic", (columns, labels), (columns, labels), ())
    with pytest.raises(SettingsError, match="the link is 'probit'"):
        fit("probit", columns, labels, 0.1)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 classes"):
        fit_path("multiclass", (columns, labels), (columns, labels + 1), n_classes=2)
