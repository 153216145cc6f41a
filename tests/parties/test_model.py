from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import check_grad
from scipy.special import expit

from parties.features import ExactMatrix
from parties.model import (
    FloatArray,
    LocalModel,
    Optimizer,
    OptimizerName,
    generator,
    joint_logits,
    log_loss,
    sigmoid,
)


@given(st.lists(st.floats(-700, 700), min_size=1))
def test_sigmoid_and_loss_agree_with_scipy(logits: list[float]) -> None:
    z = np.array(logits)
    np.testing.assert_allclose(sigmoid(z), expit(z), rtol=1e-12)
    labels = (np.arange(len(z)) % 2).astype(float)
    reference = np.mean(np.logaddexp(0, -(2 * labels - 1) * z))
    assert log_loss(z, labels) == pytest.approx(reference, abs=1e-9)


@pytest.mark.parametrize("n_factors", [0, 1, 3])
def test_step_follows_the_gradient_of_the_stated_loss(n_factors: int) -> None:
    draw = np.random.default_rng(0)
    y, shape = draw.integers(0, 2, 50).astype(float), (4, 1 + n_factors)
    indicators = sparse.csr_array(draw.integers(0, 2, (50, 1)).astype(np.int8))
    X = ExactMatrix(draw.normal(size=(50, 3)), indicators)
    l2 = draw.uniform(0, 0.2, shape)

    def model_at(flat: FloatArray) -> LocalModel:
        parameters = flat[:-1].reshape(shape)
        return LocalModel(parameters, float(flat[-1]), l2, Optimizer("sgd", 1.0, 0.0))

    def loss(flat: FloatArray) -> float:
        model = model_at(flat)
        z = joint_logits(model.partial_logits(X), model.latent_sums(X))
        return log_loss(z, y) + float((l2 * model.parameters**2).sum()) / 2

    def gradient(flat: FloatArray) -> FloatArray:
        model = model_at(flat)
        S = model.latent_sums(X)
        d = sigmoid(joint_logits(model.partial_logits(X), S)) - y
        dense = X.to_csr().toarray()
        squares = (dense**2).T @ d[:, None]
        of_factors = dense.T @ (d[:, None] * S) - model.factors * squares
        model.step(np.column_stack([dense.T @ d, of_factors]) / len(y), float(d.mean()))
        assert model.bias is not None
        moved: FloatArray = flat - np.append(model.parameters.ravel(), model.bias)
        return moved

    assert check_grad(loss, gradient, draw.normal(size=4 * (1 + n_factors) + 1)) < 1e-5


def test_halves_add_up_to_a_factorization_machine() -> None:
    """Sums over two parties equal Rendle's pairwise definition over all columns."""
    draw = np.random.default_rng(1)
    X, V, w = draw.normal(size=(20, 5)), draw.normal(size=(5, 2)), draw.normal(size=5)
    pairwise = 0.7 + X @ w
    for i in range(5):
        for j in range(i + 1, 5):
            pairwise += (V[i] @ V[j]) * X[:, i] * X[:, j]
    nothing = sparse.csr_array(np.zeros((20, 0), np.int8))
    parameters = np.column_stack([w, V])
    logits, latent_sums = np.zeros(20), np.zeros((20, 2))
    for columns, bias in ((slice(0, 2), 0.7), (slice(2, 5), None)):
        part = parameters[columns]
        half = LocalModel(part, bias, np.zeros_like(part), Optimizer("sgd", 1.0))
        logits += half.partial_logits(ExactMatrix(X[:, columns], nothing))
        latent_sums += half.latent_sums(ExactMatrix(X[:, columns], nothing))
    np.testing.assert_allclose(joint_logits(logits, latent_sums), pairwise, atol=1e-12)


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
    l2 = np.zeros((3, 2))
    model = LocalModel.initialise(l2, bias=True, optimizer=optimizer, draw=generator(1, "a"))
    snapshot = model.copy()
    before = snapshot.weights.copy()
    model.step(np.ones((3, 2)), 1.0)
    np.testing.assert_array_equal(snapshot.weights, before)
    assert snapshot.optimizer.steps == 0
    assert not np.array_equal(model.weights, before)


def test_initial_weights_depend_on_seed_and_party_and_are_not_zero() -> None:
    def drawn(seed: int, party: str) -> list[float]:
        model = LocalModel.initialise(
            np.zeros((4, 3)),
            bias=False,
            optimizer=Optimizer("sgd", 0.1),
            draw=generator(seed, party),
        )
        assert model.bias is None
        values: list[float] = model.parameters.ravel().tolist()
        return values

    assert drawn(1, "shop") == drawn(1, "shop")
    assert drawn(1, "shop") != drawn(2, "shop")
    assert drawn(1, "shop") != drawn(1, "bank")
    assert all(drawn(1, "shop"))
