"""Second-order steps of one party among several: a preconditioner of its own, and L-BFGS over summed inner products.

Each party knows the curvature along its own columns. With ``c`` a bound of the loss' second derivative in the logit
(1/4 for the logistic loss, Böhning 1992), ``X`` (n, n_columns) its training rows and ``D`` its L2 penalties,

    A = c X^T X / n + D = R R^T            (Cholesky)

bounds its block of the Hessian. In *whitened* coordinates ``v = R^T w`` that bound is the identity, gradients are
``R^-1 g``, and what parties have to learn of each other's curvature is little. That is left to L-BFGS (Liu and
Nocedal 1989) in its vector-free form (Chen, Wang and Zhou, NIPS 2014): the direction is a combination of

    b = [s_1 ... s_k | y_1 ... y_k | g]    steps, changes of the gradient they made, and the gradient

whose coefficients follow from the inner products ``D_ij = b_i . b_j``. Each party holds its own part of every vector;
inner products are sums over parties. One round adds one gradient, so ``2k + 2`` new sums, from which all others follow:
a step is a combination whose coefficients are known.

Sums come in fixed point, and gradients are off by what a series for the loss' slope is off by. So nothing grows beyond
bounds that hold whatever the data: whitened gradients and steps are at most LONGEST_GRADIENT and LONGEST_STEP long at
every party. A step is at most twice as long as the longest before it, or, since one went too far, as what would have
been right: the bound A may be off where a link has none, or rows stand for unlike numbers of samples. Of a step ``v``
the joint logits move by at most ``|v| sqrt(parties / c)`` (root mean square), by which a first step is measured. And a
pair is kept only if it tells more of the curvature than of the noise.

A model of several outputs, as one a class, has weights (n_columns, n_outputs) whose losses add up. Each output has its
own vectors and recursion: they go side by side, all in the same rounds, until none has anywhere to go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cholesky, solve_triangular

FloatArray = NDArray[np.float64]

MEMORY = 8
MOST_EXACT_COLUMNS = 3000  # whose matrix takes 72 MB
_RIDGE = 1e-8
_BLOCK_ROWS = 1 << 12
LONGEST_GRADIENT = (
    32.0  # whitened, of a logistic loss it is at most 2 at each party, penalties aside
)
LONGEST_STEP = 64.0
_FIRST_MOVE = 4.0  # by which a first step moves the logits, were there one party
_GROWTH = 2.0  # of steps, from one to the next
_OVERSHOT = 0.5
_FLAT = 1e-10  # below it products are what rounding has left
# The cosine of s and y is at least 2 sqrt(k) / (k + 1) where the curvatures are as 1 to k (Kantorovich): k = 4e6 here.
_ALIGNED = 1e-3
_CLEAR = 2.0  # times the noise
_QUIET_ROUNDS = 2  # one may be luck: a gradient that noise has made short


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """``R`` of a party's columns, the last of them its bias if it has one.

    The first ``len(factor)`` columns have a whole matrix, any further ones their diagonal: ``root`` (n_diagonal,).
    """

    factor: FloatArray
    root: FloatArray

    @classmethod
    def of(
        cls,
        scaled: NDArray[Any],
        indicators: sparse.csr_array[np.int8],
        l2: FloatArray,
        curvature: float,
        *,
        unit: float = 1.0,
        bias: bool = False,
        samples: NDArray[Any] | None = None,
    ) -> Self:
        """Factor the bound of a party's own curvature.

        ``scaled`` (n_rows, n_scaled), in units of ``unit``, stand before ``indicators`` (n_rows, n_indicators); ``l2``
        (n_columns,) is as in the loss, ``curvature`` bounds its second derivative in the logit. ``samples`` (n_rows,)
        is how many of the loss' rows each row stands for, by default equally many. Beyond MOST_EXACT_COLUMNS columns,
        indicators are taken one by one, as if no two went together.
        """
        n_rows, n_scaled = scaled.shape
        weights = np.ones(n_rows) if samples is None else np.asarray(samples, dtype=np.float64)
        per_sample = curvature / max(float(weights.sum()), 1.0)
        exact = n_scaled + indicators.shape[1] <= MOST_EXACT_COLUMNS
        with_bias = (
            bias and exact
        )  # the bias goes with every column; beside a diagonal it goes alone
        size = (n_scaled + indicators.shape[1] if exact else n_scaled) + with_bias
        matrix = np.zeros((size, size))
        for start in range(0, n_rows, _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            dense: list[NDArray[Any]] = [
                scaled[rows] * unit,
                np.ones((len(scaled[rows]), int(with_bias))),
            ]
            if exact:
                dense.insert(1, indicators[rows].toarray())
            columns = np.hstack(dense).astype(np.float64)
            matrix += (columns.T * weights[rows]) @ columns
        matrix *= per_sample
        penalised = size - with_bias
        matrix[np.arange(size), np.arange(size)] += np.append(l2[:penalised], [0.0] * with_bias)
        matrix[np.arange(size), np.arange(size)] += _RIDGE
        root = np.zeros(0)
        if not exact:
            root = np.sqrt(per_sample * (indicators.T @ weights) + l2[n_scaled:] + _RIDGE)
            root = np.append(root, [np.sqrt(curvature)] * bias)
        return cls(cholesky(matrix, lower=True) if size else matrix, root)

    def whiten(self, gradient: FloatArray) -> FloatArray:
        """Return ``R^-1 g`` of gradients (n,) or (n, n_outputs), each no longer than LONGEST_GRADIENT."""
        size = len(self.factor)
        exact = solve_triangular(self.factor, gradient[:size], lower=True) if size else gradient[:0]
        diagonal = (gradient[size:].T / self.root).T
        return _shortened(np.concatenate([exact, diagonal]), LONGEST_GRADIENT)

    def restore(self, step: FloatArray) -> FloatArray:
        """Return the steps of weights ``R^-T v`` that steps ``v`` (n,) or (n, n_outputs) of whitened ones are."""
        size = len(self.factor)
        exact = (
            solve_triangular(self.factor, step[:size], lower=True, trans="T") if size else step[:0]
        )
        return np.concatenate([exact, (step[size:].T / self.root).T])


def _shortened(vector: FloatArray, longest: float) -> FloatArray:
    shortened: FloatArray = vector * (longest / np.maximum(np.linalg.norm(vector, axis=0), longest))
    return shortened


@dataclass(frozen=True)
class Plan:
    """What everyone does after a round: coefficients of the next step in ``b``.

    ``keep`` the pair that the last step has made; with ``restart`` forget all pairs; ``done`` says that the loss would
    fall by less than asked for, in this round as in the one before, and nobody moves.
    """

    coefficients: tuple[float, ...]
    keep: bool
    restart: bool
    done: bool


@dataclass
class Vectors:
    """One party's own part of ``b``, whitened, newest last, and of the last step."""

    steps: list[FloatArray] = field(default_factory=list)
    changes: list[FloatArray] = field(default_factory=list)
    gradient: FloatArray | None = None
    step: FloatArray | None = None

    @property
    def n_products(self) -> int:
        """How many inner products the next round adds: one alone at first."""
        return 1 if self.gradient is None else 2 * len(self.steps) + 2

    def n_coefficients(self, plan: Plan) -> int:
        """How many coefficients a plan must have."""
        kept = plan.keep and self.step is not None
        return 1 if plan.restart else 2 * min(MEMORY, len(self.steps) + kept) + 1

    def products(self, gradient: FloatArray) -> FloatArray:
        """Return this party's part of the new gradient's products with ``b`` and with itself (n_products,)."""
        basis = [] if self.gradient is None else [*self.steps, *self.changes, self.gradient]
        return np.array([float(one @ gradient) for one in (*basis, gradient)])

    def follow(self, gradient: FloatArray, plan: Plan) -> FloatArray:
        """Take up a new gradient and return the next step, no longer than LONGEST_STEP; both whitened (n,)."""
        if plan.keep and self.gradient is not None and self.step is not None:
            self.steps = [*self.steps, self.step][-MEMORY:]
            self.changes = [*self.changes, gradient - self.gradient][-MEMORY:]
        if plan.restart:
            self.steps, self.changes = [], []
        self.gradient = gradient
        basis = [*self.steps, *self.changes, gradient]
        pairs = zip(plan.coefficients, basis, strict=True)
        step: FloatArray = np.sum([weight * one for weight, one in pairs], axis=0)
        # A part of a step that Recursion allows is short enough, but a coefficient is only as good as who sends it.
        self.step = _shortened(step, LONGEST_STEP)
        return self.step

    def to_fields(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        arrays = {"steps": self.steps, "changes": self.changes}
        last = [one.tobytes() for one in (self.gradient, self.step) if one is not None]
        return {name: [one.tobytes() for one in many] for name, many in arrays.items()} | {
            "last": last
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Return what :meth:`to_fields` gave."""
        steps, changes, last = (
            [np.frombuffer(one, dtype=np.float64) for one in fields[name]]
            for name in ("steps", "changes", "last")
        )
        return cls(steps, changes, *last)


@dataclass
class Recursion:
    """Whoever knows the sums: the matrix ``D`` of inner products, as rows of numbers, and the last coefficients.

    ``first`` is the length of the first step as a part of the gradient: 2 over the number of parties, but 1 at most,
    cannot overshoot where each party's bound holds, as the joint Hessian is at most so many times the identity.
    ``reach`` is how long the next step may be, ``noise`` by how much a whitened gradient is off along any one direction
    (root mean square), and ``quiet`` counts the last rounds in which the loss would have fallen by less than
    ``tolerance``.
    """

    tolerance: float
    first: float = 1.0
    reach: float = LONGEST_STEP
    noise: float = 0.0
    matrix: list[list[float]] = field(default_factory=list)
    coefficients: list[float] = field(default_factory=list)
    quiet: int = 0

    @classmethod
    def among(
        cls, parties: int, tolerance: float, curvature: float = 0.25, noise: float = 0.0
    ) -> Self:
        """Begin among so many parties, whose preconditioners were made with this ``curvature``.

        Where that is no bound but the curvature at the start, as for counts, the first step is short enough for it to
        hold on the way: the logits move by a few units at most.
        """
        reach = min(LONGEST_STEP, _FIRST_MOVE * math.sqrt(curvature))
        return cls(tolerance, min(1.0, 2 / parties), reach, noise)

    @property
    def n_products(self) -> int:
        """How many sums the next round adds."""
        return len(self.matrix) + 1

    def plan(self, sums: FloatArray) -> Plan:
        """Return the step to take, from the sums over parties of what :meth:`Vectors.products` returned."""
        overshot = self._enter([float(one) for one in sums]) if self.matrix else None
        keep = overshot is not None
        if not self.matrix:
            self.matrix = [[float(sums[0])]]
        restart = False
        wanted = self._secant(overshot) if overshot else self._direction()
        falls = self._dot(wanted, len(self.matrix) - 1)
        if falls >= 0:
            restart = True
            self.matrix = [[self.matrix[-1][-1]]]
            wanted = [-self.first]
            falls = -self.first * self.matrix[0][0]
        self.quiet = self.quiet + 1 if -falls / 2 < self.tolerance and not overshot else 0
        self.coefficients = wanted if overshot else self._within_reach(wanted)
        return Plan(tuple(self.coefficients), keep, restart, self.quiet >= _QUIET_ROUNDS)

    def _within_reach(self, coefficients: list[float]) -> list[float]:
        """Shorten a step to what may be gone, and let the next one be a bit longer."""
        products = [self._dot(coefficients, row) for row in range(len(self.matrix))]
        squared = sum(c * d for c, d in zip(coefficients, products, strict=True))
        length = math.sqrt(max(squared, 0.0))
        part = self.reach / length if length > self.reach else 1.0
        self.reach = min(LONGEST_STEP, max(self.reach, _GROWTH * part * length))
        return [part * one for one in coefficients]

    def _dot(self, coefficients: list[float], row: int) -> float:
        return sum(c * d for c, d in zip(coefficients, self.matrix[row], strict=True))

    def _enter(self, products: list[float]) -> float | None:
        """Bring the new gradient, and the pair of the last step, into the matrix.

        Returns by which part of itself the last step went too far, 0 where it did not; None if the pair is no use.
        """
        old, size = self.matrix, len(self.matrix)
        *with_basis, squared = products
        step = [self._dot(self.coefficients, row) for row in range(size)]
        step_gradient = sum(c * d for c, d in zip(self.coefficients, with_basis, strict=True))
        step_squared = sum(c * d for c, d in zip(self.coefficients, step, strict=True))
        change = [new - old[row][-1] for row, new in enumerate(with_basis)]
        change_gradient = squared - with_basis[-1]
        change_squared = squared - 2 * with_basis[-1] + old[-1][-1]
        step_change = step_gradient - step[-1]
        pairs = (size - 1) // 2
        rows = [
            [*old[row][:-1], step[row], change[row], with_basis[row]] for row in range(size - 1)
        ]
        rows += [
            [*step[:-1], step_squared, step_change, step_gradient],
            [*change[:-1], step_change, change_squared, change_gradient],
            [*with_basis[:-1], step_gradient, change_gradient, squared],
        ]
        # b lists steps first, then changes: the new step belongs behind the old ones.
        order = [*range(pairs), 2 * pairs, *range(pairs, 2 * pairs), 2 * pairs + 1, 2 * pairs + 2]
        # Noise in the gradients moves the product of s and y by |s| times what they are off along s.
        length = math.sqrt(max(step_squared, 0.0))
        alike = _ALIGNED * math.sqrt(max(change_squared, 0.0))
        useful = step_change > max(_FLAT, length * max(_CLEAR * self.noise, alike))
        useful = useful and change_squared > _FLAT
        if not useful:
            order = [*range(2 * pairs), 2 * pairs + 2]
        elif pairs == MEMORY:
            order = order[1 : pairs + 1] + order[pairs + 2 :]
        self.matrix = [[rows[i][j] for j in order] for i in order]
        if not useful:
            return None
        before, after = step[-1], step_gradient
        return after / (after - before) if after > _OVERSHOT * abs(before) else 0.0

    def _secant(self, part: float) -> list[float]:
        """Go back along the last step, to where a straight line through its two slopes is zero."""
        newest = (len(self.matrix) - 1) // 2 - 1
        self.reach = _GROWTH * (1 - part) * math.sqrt(self.matrix[newest][newest])
        return [-part if position == newest else 0.0 for position in range(len(self.matrix))]

    def _direction(self) -> list[float]:
        """The two loops of L-BFGS, in coefficients of ``b``."""
        size = len(self.matrix)
        pairs = (size - 1) // 2
        found = [0.0] * (size - 1) + [1.0]
        weights = [0.0] * pairs
        for pair in reversed(range(pairs)):
            curvature = self.matrix[pair][pairs + pair]
            weights[pair] = self._dot(found, pair) / curvature
            found[pairs + pair] -= weights[pair]
        scale = self.first
        if pairs:
            scale = (
                self.matrix[pairs - 1][2 * pairs - 1] / self.matrix[2 * pairs - 1][2 * pairs - 1]
            )
        found = [scale * one for one in found]
        for pair in range(pairs):
            curvature = self.matrix[pair][pairs + pair]
            found[pair] += weights[pair] - self._dot(found, pairs + pair) / curvature
        return [-one for one in found]


def products(vectors: Sequence[Vectors], gradients: FloatArray) -> FloatArray:
    """Return one party's part of all outputs' products, one output after another; whitened gradients (n, n_outputs)."""
    pairs = zip(vectors, gradients.T, strict=True)
    return np.concatenate([one.products(gradient) for one, gradient in pairs])


def plan(recursions: Sequence[Recursion], sums: FloatArray) -> list[Plan]:
    """Return each output's plan from the sums of what :func:`products` returned: done only where all are."""
    ends = np.cumsum([one.n_products for one in recursions])[:-1]
    parts = zip(recursions, np.split(sums, ends), strict=True)
    plans = [one.plan(own) for one, own in parts]
    return [replace(one, done=all(other.done for other in plans)) for one in plans]


def follow(vectors: Sequence[Vectors], gradients: FloatArray, plans: Sequence[Plan]) -> FloatArray:
    """Take up all outputs' gradients and return their steps; both whitened (n, n_outputs)."""
    triples = zip(vectors, gradients.T, plans, strict=True)
    return np.column_stack([one.follow(gradient, plan) for one, gradient, plan in triples])
