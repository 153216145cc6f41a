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

from parties import quasi_newton
from parties.quasi_newton import (
    LONGEST_GRADIENT,
    LONGEST_STEP,
    MEMORY,
    Plan,
    Preconditioner,
    Recursion,
    Vectors,
)

FloatArray = NDArray[np.float64]
L2 = 1e-3


def nothing(n: int) -> sparse.csr_array[np.int8]:
    return sparse.csr_array(np.zeros((n, 0), dtype=np.int8))


@dataclass
class Joint:
    """Several parties in the clear, the first with a bias.

    Residuals are off by waves of the logit, as a series makes them, and by random numbers: ``noise`` either. Sums of
    products have 40 fractional bits.
    """

    parts: list[FloatArray]
    y: FloatArray
    noise: float = 0.0
    tolerance: float = 0.0
    bias: float = 0.0
    l2: float = L2
    weights: list[FloatArray] = field(default_factory=list)
    largest: float = 0.0
    lengths: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(0)
        self.weights = [np.asarray(self.draw.normal(0, 0.1, X.shape[1])) for X in self.parts]
        self.preconditioners = [
            Preconditioner.of(
                X, nothing(len(X)), np.full(X.shape[1], self.l2), 0.25, bias=not number
            )
            for number, X in enumerate(self.parts)
        ]
        self.vectors = [Vectors() for _ in self.parts]
        noise = self.noise / np.sqrt(0.25 * len(self.y))
        self.recursion = Recursion.among(len(self.parts), self.tolerance, noise=noise)

    def objective(self) -> float:
        z = sum(X @ w for X, w in zip(self.parts, self.weights, strict=True)) + self.bias
        penalty = self.l2 / 2 * sum(w @ w for w in self.weights)
        return float(np.mean(np.logaddexp(0, z) - self.y * z) + penalty)

    def optimum(self) -> float:
        whole = np.hstack(self.parts)
        strength = 1 / (len(self.y) * self.l2)
        library = LogisticRegression(C=strength, tol=1e-9, solver="newton-cholesky")
        library.fit(whole, self.y)
        z = library.decision_function(whole)
        penalty = self.l2 / 2 * (library.coef_**2).sum()
        return float(np.mean(np.logaddexp(0, z) - self.y * z) + penalty)

    def play(self) -> Plan:
        z = sum(X @ w for X, w in zip(self.parts, self.weights, strict=True)) + self.bias
        error = self.noise * (np.sin(np.asarray(z) * np.pi) + self.draw.normal(size=len(self.y)))
        d = expit(z) - self.y + error
        gradients: list[FloatArray] = []
        for X, w in zip(self.parts, self.weights, strict=True):
            gradients.append(np.asarray(X.T @ d) / len(d) + self.l2 * w)
        gradients[0] = np.append(gradients[0], d.mean())
        whitened = [one.whiten(g) for one, g in zip(self.preconditioners, gradients, strict=True)]
        pairs = list(zip(self.vectors, whitened, strict=True))
        products = np.array([v.products(g) for v, g in pairs])
        self.largest = max(self.largest, float(np.abs(products).max()))
        plan = self.recursion.plan(np.rint(products * 2.0**40).sum(axis=0) / 2.0**40)
        assert all(v.n_coefficients(plan) == len(plan.coefficients) for v in self.vectors)
        if not plan.done:
            for number, (vectors, gradient) in enumerate(pairs):
                step = self.preconditioners[number].restore(vectors.follow(gradient, plan))
                size = len(self.weights[number])
                self.weights[number] = self.weights[number] + step[:size]
                self.bias += float(step[size:].sum())
            steps = [v.step for v in self.vectors if v.step is not None]
            self.lengths.append(float(np.linalg.norm(np.concatenate(steps))))
        return plan


def made_up(kind: str, n: int = 3000, l2: float = L2) -> Joint:
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
    elif kind == "one-hot":
        groups = [draw.choice(30, n, p=np.arange(30, 0, -1) / 465) for _ in range(8)]
        X, weights = np.hstack([np.eye(30)[group] for group in groups]), draw.normal(size=240)
    y = (draw.random(n) < expit(np.tanh(X) @ weights + shift)).astype(float)
    if kind == "separable":
        y = (X @ weights > 0).astype(float)
    if kind == "four parties":
        return Joint([X[:, :2], X[:, 2:4], X[:, 4:6], X[:, 6:]], y, noise=3e-4, l2=l2)
    half = X.shape[1] // 2
    return Joint([X[:, :half], X[:, half:]], y, noise=3e-4, l2=l2)


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [
        ("plain", 9),
        ("nearly the same at both", 15),
        ("separable", 18),
        ("few ones", 12),
        ("one-hot", 15),
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
    assert joint.largest < 32


KINDS = ["plain", "nearly the same at both", "collinear", "separable", "few ones", "one-hot"]


@pytest.mark.parametrize("kind", [*KINDS, "heavy tails", "four parties"])
@pytest.mark.parametrize("l2", [1e-3, 1e-5])
def test_with_errors_of_a_series_it_ends_by_itself_at_the_optimum(kind: str, l2: float) -> None:
    joint = made_up(kind, l2=l2)
    joint.recursion.tolerance = 1e-6
    rounds = 0
    while not joint.play().done:
        rounds += 1
    assert rounds < 30
    assert joint.objective() - joint.optimum() < 1e-3


@pytest.mark.parametrize("kind", ["separable", "few ones", "heavy tails"])
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_products_fit_and_steps_grow_slowly_whatever_the_columns(kind: str, scale: float) -> None:
    """Nothing that penalises, few rows, columns in units of their own, and it never stops."""
    whole = made_up(kind, 120, l2=0.0)
    joint = Joint([whole.parts[0] * scale, whole.parts[1]], whole.y, noise=3e-4, l2=0.0)
    joint.bias = 30.0  # all residuals are 0 or 1
    for _ in range(80):
        joint.play()
    assert joint.largest < 2.0**12
    assert max(joint.lengths) <= LONGEST_STEP * (1 + 1e-6)
    assert joint.lengths[0] <= 2.0 + 1e-6
    longest = np.maximum.accumulate(np.maximum(joint.lengths, 1.0))
    assert np.all(joint.lengths[1:] <= 2 * longest[:-1] * (1 + 1e-6))
    assert np.isfinite(joint.objective())


@pytest.mark.parametrize("seed", range(4))
def test_it_ends_where_a_bound_does_not_hold_at_all(seed: int) -> None:
    """A party that cannot know how many samples are of each of its rows, where a column tells it: exp(3 x)."""
    draw = np.random.default_rng(seed)
    n, rows = 6000, draw.normal(size=(300, 6))
    chances = np.exp(3 * rows[:, 0] + draw.normal(size=300))
    of_row = draw.choice(300, n, p=chances / chances.sum())
    own = draw.normal(size=(n, 5))
    z = own @ draw.normal(size=5) + rows[of_row] @ draw.normal(size=6)
    y = (draw.random(n) < expit(z)).astype(float)
    joint = Joint([own, rows[of_row]], y, noise=3e-4, tolerance=1e-6)
    met = rows[np.unique(of_row)]
    joint.preconditioners[1] = Preconditioner.of(met, nothing(len(met)), np.full(6, L2), 0.25)
    rounds = 0
    while not joint.play().done:
        rounds += 1
    assert rounds < 30
    assert joint.objective() - joint.optimum() < 1e-4


def test_what_others_send_moves_nobody_further_than_a_step_may() -> None:
    """A coefficient of 1e30, from a label party that deviates: the products that follow are in bounds all the same."""
    one = Vectors()
    gradient = np.array([LONGEST_GRADIENT, 0.0])
    one.products(gradient)
    step = one.follow(gradient, Plan((-1e30,), False, False, False))
    assert np.linalg.norm(step) == pytest.approx(LONGEST_STEP)
    one.follow(-gradient, Plan((0.0, 1e30, 0.0), True, False, False))
    assert np.abs(one.products(gradient)).max() <= 2.0**12
    huge = Preconditioner.of(np.ones((3, 1)), nothing(3), np.zeros(1), 0.25).whiten(np.array([1e9]))
    assert np.linalg.norm(huge) == pytest.approx(LONGEST_GRADIENT)


def sums(gradient: FloatArray, *basis: FloatArray) -> FloatArray:
    return np.array([float(one @ gradient) for one in (*basis, gradient)])


@pytest.mark.parametrize(
    ("change", "noise", "kept"),
    [
        (np.array([0.01, 0.0]), 0.0, True),
        (np.array([0.01, 0.0]), 1e-3, True),
        (np.array([0.01, 0.0]), 1e-2, False),  # noise may have made all of it
        (np.array([1e-2, 30.0]), 0.0, False),  # across the step: a condition of 3e7
        (np.array([-0.01, 0.0]), 0.0, False),
        (np.array([1e-7, 0.0]), 0.0, False),  # what rounding has left
    ],
)
def test_pairs_that_tell_nothing_of_the_curvature_are_left_out(
    change: FloatArray, noise: float, kept: bool
) -> None:
    recursion = Recursion.among(2, 0.0, noise=noise)
    gradient = np.array([-1.0, 0.0])
    recursion.plan(sums(gradient))  # a step of (1, 0)
    assert recursion.plan(sums(gradient + change, gradient)).keep is kept


def test_one_quiet_round_is_not_the_end() -> None:
    recursion = Recursion.among(2, 1e-6)
    short, long = np.array([1e-4, 0.0]), np.array([0.0, 1e-1])
    vectors, done = Vectors(), []
    for gradient in (short, long, short, short):
        plan = recursion.plan(vectors.products(gradient))
        vectors.follow(gradient, plan)
        done.append(plan.done)
    assert done == [False, False, False, True]


@pytest.mark.parametrize(
    ("parties", "curvature", "length"),
    [(2, 0.25, 2.0), (8, 0.25, 2.0), (2, 1.0, 4.0), (2, 0.01, 0.4), (2, 1e6, 10.0), (4, 1e6, 5.0)],
)
def test_the_first_step_is_as_long_as_parties_and_curvature_allow(
    parties: int, curvature: float, length: float
) -> None:
    gradient = np.array([6.0, 8.0])
    plan = Recursion.among(parties, 0.0, curvature).plan(sums(gradient))
    step = Vectors().follow(gradient, plan)
    assert np.linalg.norm(step) == pytest.approx(length)


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
    assert 3 < rounds < 13
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


def test_outputs_side_by_side_go_as_each_alone_until_none_moves() -> None:
    """Quadratic losses of different shape and size: the same steps as alone, and done when the last one is."""
    draw = np.random.default_rng(5)
    hessians = [np.diag(draw.uniform(0.2, 2, 6)), np.eye(6), np.diag([0.01, 1, 1, 1, 1, 1.5])]
    starts = draw.normal(size=(6, 3))

    def go(outputs: list[int]) -> tuple[list[FloatArray], int]:
        place = starts[:, outputs]
        vectors = [[Vectors() for _ in outputs] for _ in range(2)]
        recursions = [Recursion.among(2, 1e-9) for _ in outputs]
        places = list[FloatArray]()
        while True:
            columns = [hessians[o] @ x for o, x in zip(outputs, place.T, strict=True)]
            halves = np.split(np.column_stack(columns), 2)
            pairs = list(zip(vectors, halves, strict=True))
            sums = np.sum([quasi_newton.products(*pair) for pair in pairs], axis=0)
            plans = quasi_newton.plan(recursions, sums)
            if plans[0].done:
                assert all(plan.done for plan in plans)
                return places, len(places)
            place = place + np.vstack([quasi_newton.follow(*pair, plans) for pair in pairs])
            places.append(place)

    together, rounds = go([0, 1, 2])
    alone = [go([output]) for output in range(3)]
    assert rounds >= max(own for _, own in alone)
    assert len({own for _, own in alone}) > 1
    for output, (places, own) in enumerate(alone):
        for number in range(own):
            np.testing.assert_allclose(
                together[number][:, output], places[number][:, 0], atol=1e-12
            )


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
    several = np.column_stack([gradient, np.ones(8), -gradient])
    np.testing.assert_allclose(made.restore(made.whiten(several))[:, 0], step, rtol=1e-9)
    np.testing.assert_allclose(made.whiten(several)[:, 1], made.whiten(np.ones(8)), rtol=1e-9)


@pytest.mark.parametrize("exact", [True, False])
def test_rows_may_stand_for_several_samples(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exact:
        monkeypatch.setattr("parties.quasi_newton.MOST_EXACT_COLUMNS", 3)
    draw = np.random.default_rng(2)
    scaled, ones = draw.normal(size=(40, 3)), (draw.random((40, 4)) < 0.3).astype(np.int8)
    samples, l2, gradient = draw.integers(0, 9, 40), np.full(7, 0.01), draw.normal(size=7)
    rows = np.repeat(np.arange(40), samples)

    def of(rows: NDArray[np.int64], samples: NDArray[np.int64] | None) -> FloatArray:
        own = scaled[rows], sparse.csr_array(ones[rows])
        made = Preconditioner.of(*own, l2, 0.25, samples=samples)
        return made.restore(made.whiten(gradient))

    np.testing.assert_allclose(of(np.arange(40), samples), of(rows, None), rtol=1e-9)


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
