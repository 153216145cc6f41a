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
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
_OVERSHOT = 0.5
_FLAT = 1e-10  # below it products are what rounding has left


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
    ) -> Self:
        """Factor the bound of a party's own curvature.

        ``scaled`` (n_rows, n_scaled), in units of ``unit``, stand before ``indicators`` (n_rows, n_indicators); ``l2``
        (n_columns,) is as in the loss, ``curvature`` bounds its second derivative in the logit. Beyond
        MOST_EXACT_COLUMNS columns, indicators are taken one by one, as if no two went together.
        """
        n_rows, n_scaled = scaled.shape
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
            matrix += columns.T @ columns
        matrix *= curvature / max(n_rows, 1)
        penalised = size - with_bias
        matrix[np.arange(size), np.arange(size)] += np.append(l2[:penalised], [0.0] * with_bias)
        matrix[np.arange(size), np.arange(size)] += _RIDGE
        root = np.zeros(0)
        if not exact:
            ones = np.asarray(indicators.sum(axis=0, dtype=np.float64)).ravel()
            root = np.sqrt(curvature * ones / max(n_rows, 1) + l2[n_scaled:] + _RIDGE)
            root = np.append(root, [np.sqrt(curvature)] * bias)
        return cls(cholesky(matrix, lower=True) if size else matrix, root)

    def whiten(self, gradient: FloatArray) -> FloatArray:
        """Return ``R^-1 g`` (n,)."""
        size = len(self.factor)
        exact = solve_triangular(self.factor, gradient[:size], lower=True) if size else gradient[:0]
        return np.concatenate([exact, gradient[size:] / self.root])

    def restore(self, step: FloatArray) -> FloatArray:
        """Return the step of the weights ``R^-T v`` that a step ``v`` (n,) of whitened ones is."""
        size = len(self.factor)
        exact = (
            solve_triangular(self.factor, step[:size], lower=True, trans="T") if size else step[:0]
        )
        return np.concatenate([exact, step[size:] / self.root])


@dataclass(frozen=True)
class Plan:
    """What everyone does after a round: coefficients of the next step in ``b``.

    ``keep`` the pair that the last step has made; with ``restart`` forget all pairs; ``done`` says that the loss would
    fall by less than asked for, and nobody moves.
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

    def products(self, gradient: FloatArray) -> FloatArray:
        """Return this party's part of the new gradient's products with ``b`` and with itself (n_products,)."""
        basis = [] if self.gradient is None else [*self.steps, *self.changes, self.gradient]
        return np.array([float(one @ gradient) for one in (*basis, gradient)])

    def follow(self, gradient: FloatArray, plan: Plan) -> FloatArray:
        """Take up a new gradient and return the next step; both whitened (n,)."""
        if plan.keep and self.gradient is not None and self.step is not None:
            self.steps = [*self.steps, self.step][-MEMORY:]
            self.changes = [*self.changes, gradient - self.gradient][-MEMORY:]
        if plan.restart:
            self.steps, self.changes = [], []
        self.gradient = gradient
        basis = [*self.steps, *self.changes, gradient]
        pairs = zip(plan.coefficients, basis, strict=True)
        self.step = np.sum([weight * one for weight, one in pairs], axis=0)
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

    ``first`` is the length of the first step: 2 over the number of parties, but 1 at most, cannot overshoot where each
    party's bound holds, as the joint Hessian is at most so many times the identity.
    """

    tolerance: float
    first: float = 1.0
    matrix: list[list[float]] = field(default_factory=list)
    coefficients: list[float] = field(default_factory=list)

    @classmethod
    def among(cls, parties: int, tolerance: float) -> Self:
        """Begin among so many parties."""
        return cls(tolerance, min(1.0, 2 / parties))

    def plan(self, sums: FloatArray) -> Plan:
        """Return the step to take, from the sums over parties of what :meth:`Vectors.products` returned."""
        overshot = self._enter([float(one) for one in sums]) if self.matrix else None
        keep = overshot is not None
        if not self.matrix:
            self.matrix = [[float(sums[0])]]
        restart = False
        self.coefficients = self._secant(overshot) if overshot else self._direction()
        falls = self._dot(self.coefficients, len(self.matrix) - 1)
        if falls >= 0:
            restart = True
            self.matrix = [[self.matrix[-1][-1]]]
            self.coefficients = [-self.first]
            falls = -self.first * self.matrix[0][0]
        done = -falls / 2 < self.tolerance and not overshot
        return Plan(tuple(self.coefficients), keep, restart, done)

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
        useful = min(step_change, change_squared) > _FLAT
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
