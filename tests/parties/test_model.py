from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.special import expit

from parties.model import LocalModel, Optimizer, OptimizerName, log_loss, sigmoid


@given(st.lists(st.floats(-700, 700), min_size=1))
def test_sigmoid_and_loss_agree_with_scipy(logits: list[float]) -> None:
    z = np.array(logits)
    np.testing.assert_allclose(sigmoid(z), expit(z), rtol=1e-12)
    labels = (np.arange(len(z)) % 2).astype(float)
    reference = np.mean(np.logaddexp(0, -(2 * labels - 1) * z))
    assert log_loss(z, labels) == pytest.approx(reference, abs=1e-9)


def test_step_follows_the_gradient_of_the_stated_loss() -> None:
    draw = np.random.default_rng(0)
    X, y, l2 = draw.normal(size=(50, 3)), draw.integers(0, 2, 50).astype(float), 0.1

    def loss(parameters: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        w, b = parameters[:-1], parameters[-1]
        return log_loss(X @ w + b, y) + l2 / 2 * float(w @ w)

    def gradient(
        parameters: np.ndarray[tuple[int], np.dtype[np.float64]],
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        model = LocalModel(parameters[:-1], float(parameters[-1]), l2, Optimizer("sgd", 1.0, 0.0))
        d = sigmoid(X @ model.weights + parameters[-1]) - y
        model.step(X.T @ d / len(y), float(d.mean()))
        assert model.bias is not None
        change: np.ndarray[tuple[int], np.dtype[np.float64]] = parameters - np.append(
            model.weights, model.bias
        )
        return change

    assert check_grad(loss, gradient, draw.normal(size=4)) < 1e-6


def test_sgd_accumulates_momentum() -> None:
    optimizer = Optimizer("sgd", 0.1, momentum=0.5)
    gradient = np.array([1.0, -2.0])
    np.testing.assert_allclose(optimizer.update(gradient), -0.1 * gradient)
    np.testing.assert_allclose(optimizer.update(gradient), -0.1 * 1.5 * gradient)


def test_adam_takes_steps_of_the_learning_rate_first() -> None:
    # Kingma and Ba, section 2.1: the first steps are about the learning rate, whatever the gradient's size.
    update = Optimizer("adam", 0.01).update(np.array([1e-3, -50.0]))
    np.testing.assert_allclose(update, [-0.01, 0.01], rtol=1e-4)


def test_adam_matches_the_published_recursion() -> None:
    optimizer, m, v = Optimizer("adam", 0.05), 0.0, 0.0
    for t, g in enumerate([0.3, -0.1, 0.7, 0.0], start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected = -0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert optimizer.update(np.array([g]))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_copy_is_not_moved_by_later_steps(name: OptimizerName) -> None:
    optimizer = Optimizer(name, 0.1)
    model = LocalModel.initialise(3, bias=True, l2=0.0, optimizer=optimizer, seed=1, party="a")
    snapshot = model.copy()
    before = snapshot.weights.copy()
    model.step(np.ones(3), 1.0)
    np.testing.assert_array_equal(snapshot.weights, before)
    assert snapshot.optimizer.steps == 0
    assert not np.array_equal(model.weights, before)


def test_initial_weights_depend_on_seed_and_party_and_are_not_zero() -> None:
    def drawn(seed: int, party: str) -> list[float]:
        model = LocalModel.initialise(
            4, bias=False, l2=0.0, optimizer=Optimizer("sgd", 0.1), seed=seed, party=party
        )
        assert model.bias is None
        return list(model.weights)

    assert drawn(1, "shop") == drawn(1, "shop")
    assert drawn(1, "shop") != drawn(2, "shop")
    assert drawn(1, "shop") != drawn(1, "bank")
    assert all(drawn(1, "shop"))
