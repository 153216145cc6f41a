from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from parties.quasi_newton import MEMORY, Plan, Preconditioner, Recursion, Vectors

FloatArray = NDArray[np.float64]
L2 = 1e-3


def nothing(n: int) -> sparse.csr_array[np.int8]:
    return sparse.csr_array(np.zeros((n, 0), dtype=np.int8))


@dataclass
class Joint:
    """Several parties in the clear, the first with a bias; ``noise`` is what a series is off by, a row."""

    parts: list[FloatArray]
    y: FloatArray
    noise: float = 0.0
    tolerance: float = 0.0
    bias: float = 0.0
    weights: list[FloatArray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(0)
        self.weights = [np.asarray(self.draw.normal(0, 0.1, X.shape[1])) for X in self.parts]
        self.preconditioners = [
            Preconditioner.of(X, nothing(len(X)), np.full(X.shape[1], L2), 0.25, bias=not number)
            for number, X in enumerate(self.parts)
        ]
        self.vectors = [Vectors() for _ in self.parts]
        self.recursion = Recursion.among(len(self.parts), self.tolerance)

    def objective(self) -> float:
        z = sum(X @ w for X, w in zip(self.parts, self.weights, strict=True)) + self.bias
        penalty = L2 / 2 * sum(w @ w for w in self.weights)
        return float(np.mean(np.logaddexp(0, z) - self.y * z) + penalty)

    def optimum(self) -> float:
        whole = np.hstack(self.parts)
        library = LogisticRegression(C=1 / (len(self.y) * L2), tol=1e-9, max_iter=10_000)
        library.fit(whole, self.y)
        z = library.decision_function(whole)
        penalty = L2 / 2 * (library.coef_**2).sum()
        return float(np.mean(np.logaddexp(0, z) - self.y * z) + penalty)

    def play(self) -> Plan:
        z = sum(X @ w for X, w in zip(self.parts, self.weights, strict=True)) + self.bias
        d = expit(z) - self.y + self.draw.normal(0, self.noise, len(self.y))
        gradients: list[FloatArray] = []
        for X, w in zip(self.parts, self.weights, strict=True):
            gradients.append(np.asarray(X.T @ d) / len(d) + L2 * w)
        gradients[0] = np.append(gradients[0], d.mean())
        whitened = [one.whiten(g) for one, g in zip(self.preconditioners, gradients, strict=True)]
        pairs = list(zip(self.vectors, whitened, strict=True))
        plan = self.recursion.plan(np.sum([v.products(g) for v, g in pairs], axis=0))
        if not plan.done:
            for number, (vectors, gradient) in enumerate(pairs):
                step = self.preconditioners[number].restore(vectors.follow(gradient, plan))
                size = len(self.weights[number])
                self.weights[number] = self.weights[number] + step[:size]
                self.bias += float(step[size:].sum())
        return plan


def made_up(kind: str, n: int = 3000) -> Joint:
    draw = np.random.default_rng(4)
    X = draw.normal(size=(n, 8))
    weights, shift = draw.normal(size=8), 0.0
    if kind == "nearly the same at both":
        X[:, 4:] = X[:, :4] + 0.03 * draw.normal(size=(n, 4))
    elif kind == "collinear":
        X = draw.normal(size=(n, 1)) + 0.1 * X
    elif kind == "heavy tails":
        X = draw.standard_t(2, size=(n, 8))
        X /= X.std(axis=0)
    elif kind == "few ones":
        shift = -5.0
    y = (draw.random(n) < expit(np.tanh(X) @ weights + shift)).astype(float)
    if kind == "separable":
        y = (X @ weights > 0).astype(float)
    if kind == "four parties":
        return Joint([X[:, :2], X[:, 2:4], X[:, 4:6], X[:, 6:]], y, noise=3e-4)
    return Joint([X[:, :4], X[:, 4:]], y, noise=3e-4)


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [
        ("plain", 9),
        ("nearly the same at both", 15),
        ("separable", 18),
        ("few ones", 12),
        ("heavy tails", 9),
        ("collinear", 20),
        ("four parties", 12),
    ],
)
def test_few_rounds_reach_the_optimum_of_scikit_learn(kind: str, rounds: int) -> None:
    joint = made_up(kind)
    best = joint.optimum()
    for _ in range(rounds):
        joint.play()
    assert joint.objective() - best < 1e-5


def test_it_stays_at_the_optimum_however_long_it_goes_on() -> None:
    joint = made_up("plain")
    best = joint.optimum()
    for _ in range(60):
        joint.play()
    assert abs(joint.objective() - best) < 1e-7


def test_it_says_when_the_loss_would_hardly_fall() -> None:
    joint = made_up("plain")
    joint.tolerance = joint.recursion.tolerance = 1e-5
    best = joint.optimum()
    rounds, before = 0, joint.weights
    while not joint.play().done:
        rounds, before = rounds + 1, [one.copy() for one in joint.weights]
    assert 3 < rounds < 12
    assert all(np.array_equal(a, b) for a, b in zip(before, joint.weights, strict=True))
    assert 0 <= joint.objective() - best < 3e-5


@given(st.integers(0, 1000), st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_products_followed_by_coefficients_are_those_of_the_vectors(seed: int, rounds: int) -> None:
    """The recursion never sees a vector: its matrix must be that of the vectors all the same."""
    draw = np.random.default_rng(seed)
    n, d = 60, 5
    X = draw.normal(size=(n, d))
    joint = Joint([X[:, :2], X[:, 2:]], draw.integers(0, 2, n).astype(float))
    for _ in range(rounds):
        joint.play()
    basis = [
        np.concatenate(parts)
        for parts in zip(
            *(
                [
                    *one.steps,
                    *one.changes,
                    one.gradient if one.gradient is not None else np.zeros(0),
                ]
                for one in joint.vectors
            ),
            strict=True,
        )
    ]
    expected = np.array([[float(a @ b) for b in basis] for a in basis])
    np.testing.assert_allclose(joint.recursion.matrix, expected, atol=1e-9)
    assert len(joint.vectors[0].steps) <= MEMORY


@pytest.mark.parametrize("exact", [True, False])
def test_a_preconditioner_is_the_root_of_the_bound(
    exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exact:
        monkeypatch.setattr("parties.quasi_newton.MOST_EXACT_COLUMNS", 3)
    draw = np.random.default_rng(2)
    n = 50
    scaled = draw.normal(size=(n, 3))
    ones = (draw.random((n, 4)) < 0.3).astype(np.int8)
    l2 = np.linspace(0.01, 0.07, 7)
    made = Preconditioner.of(scaled, sparse.csr_array(ones), l2, 0.25, bias=True)
    whole = np.hstack([scaled, ones, np.ones((n, 1))])
    bound = 0.25 * whole.T @ whole / n + np.diag(np.append(l2, 0.0))
    if not exact:  # indicators and the bias go alone
        bound[3:, :] = np.diag(np.diag(bound))[3:, :]
        bound[:, 3:] = np.diag(np.diag(bound))[:, 3:]
    gradient = draw.normal(size=8)
    step = made.restore(made.whiten(gradient))
    np.testing.assert_allclose(step, np.linalg.solve(bound, gradient), rtol=1e-5)


def test_columns_of_nothing_and_no_columns_do_no_harm() -> None:
    made = Preconditioner.of(np.zeros((5, 2)), nothing(5), np.zeros(2), 0.25, bias=True)
    assert np.isfinite(made.restore(made.whiten(np.ones(3)))).all()
    none = Preconditioner.of(np.zeros((5, 0)), nothing(5), np.zeros(0), 0.25)
    assert none.restore(none.whiten(np.zeros(0))).shape == (0,)


def test_vectors_come_back_from_a_checkpoint() -> None:
    joint = made_up("plain", 200)
    for _ in range(4):
        joint.play()
    kept = joint.vectors[0]
    again = Vectors.from_fields(kept.to_fields())
    gradient = np.ones(5)
    assert again.products(gradient).tolist() == kept.products(gradient).tolist()
    fresh = Vectors.from_fields(Vectors().to_fields())
    assert fresh.gradient is None
    assert fresh.n_products == 1
