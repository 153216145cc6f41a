"""A party's half of the joint model, and the optimizer that moves it.

The model is a factorization machine (Rendle, ICDM 2010); logistic regression is the one with no factors.
Conventions, for ``n`` samples with labels ``y`` in {0, 1} and ``k`` factors:

- one party's parameters     ``w`` (n_columns,) and ``V`` (n_columns, k), kept side by side
- its latent sums            ``S_p = X V``                                        (n, k)
- its partial logits         ``u = X w - 1/2 (X * X) (V * V) 1``, plus the bias at the label party
- logit                      ``z = sum of u + 1/2 |S|^2``, with ``S`` the sum of all parties' latent sums
- residual                   ``d = sigmoid(z) - y``
- loss                       ``mean(log(1 + exp(z)) - y z)`` plus each party's ``1/2 sum of l2 * parameters^2``
- gradient                   of ``w``: ``X^T d / n``;  of ``V``: ``(X^T (d S) - V * (X * X)^T d) / n``;
                             of the bias: ``sum(d) / n`` (never regularised)

So parties need only ever exchange sums, however many they are. Nothing here knows of encryption.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
OptimizerName = Literal["auto", "quasi-newton", "adam", "sgd"]

# Hyperparameters of Adam as published (Kingma and Ba, ICLR 2015).
_FIRST_DECAY, _SECOND_DECAY, _EPSILON = 0.9, 0.999, 1e-8


def sigmoid(logits: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-z)), exact for logits of any size."""
    decayed = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, decayed) / (1.0 + decayed)


def log_loss(logits: FloatArray, labels: FloatArray) -> float:
    """Return the mean negative log likelihood of ``labels``, computed from logits without overflow."""
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


@dataclass(frozen=True)
class Link:
    """What turns a logit z into a prediction, and the loss that goes with it (McCullagh and Nelder 1989).

    ``loss`` is the mean over logits and labels, both (n,); ``curvature`` bounds its second derivative in z.
    """

    mean: Callable[[FloatArray], FloatArray]
    loss: Callable[[FloatArray, FloatArray], float]
    curvature: float

    def residuals(self, logits: FloatArray, labels: FloatArray) -> FloatArray:
        """Return ``d`` (n,): prediction less label."""
        return self.mean(logits) - labels


# The bound is that of Böhning, Annals of the Institute of Statistical Mathematics 1992.
LOGISTIC = Link(sigmoid, log_loss, 0.25)


def brier_score(logits: FloatArray, labels: FloatArray) -> float:
    """Return the mean squared error of the probabilities (Brier, Monthly Weather Review 1950)."""
    return float(np.mean((sigmoid(logits) - labels) ** 2))


@dataclass
class Optimizer:
    """Turns gradients into parameter updates: SGD with momentum, or Adam.

    ``moments`` holds the running averages, each of the parameters' shape.
    """

    name: OptimizerName
    learning_rate: float
    momentum: float = 0.9
    steps: int = 0
    moments: tuple[FloatArray, FloatArray] | None = None

    def update(self, gradient: FloatArray) -> FloatArray:
        """Return what to add to the parameters for this gradient, of the same shape."""
        first, second = self.moments or (np.zeros_like(gradient), np.zeros_like(gradient))
        self.steps += 1
        if self.name == "sgd":
            first = self.momentum * first + gradient
            self.moments = (first, second)
            return -self.learning_rate * first
        first = _FIRST_DECAY * first + (1 - _FIRST_DECAY) * gradient
        second = _SECOND_DECAY * second + (1 - _SECOND_DECAY) * gradient**2
        self.moments = (first, second)
        unbiased_first = first / (1 - _FIRST_DECAY**self.steps)
        unbiased_second = second / (1 - _SECOND_DECAY**self.steps)
        return -self.learning_rate * unbiased_first / (np.sqrt(unbiased_second) + _EPSILON)


class Columns(Protocol):
    """A matrix of columns (n_rows, n_columns), in fixed point or exact."""

    @property
    def n_columns(self) -> int:
        """The number of columns."""

    def dot(self, weights: FloatArray) -> FloatArray:
        """Return the real-valued product with ``weights`` (n_columns,) or (n_columns, k)."""

    def squares_dot(self, weights: FloatArray) -> FloatArray:
        """Return the product of the squared entries with ``weights``."""


@dataclass
class LocalModel:
    """One party's half: ``parameters`` (n_columns, 1 + k), ``l2`` of the same shape, a bias at the label party."""

    parameters: FloatArray
    bias: float | None
    l2: FloatArray
    optimizer: Optimizer = field(repr=False)

    @classmethod
    def initialise(
        cls, l2: FloatArray, *, bias: bool, optimizer: Optimizer, draw: np.random.Generator
    ) -> Self:
        """Draw small random parameters, of the shape of ``l2``.

        At the label party they must not be zero: then the first residuals would be +-1/2 and every gradient of the
        first round a plain sum over labels.
        """
        drawn = draw.normal(0.0, 0.1, len(l2) + 1)
        factors = draw.normal(0.0, 0.1, (len(l2), l2.shape[1] - 1))
        parameters = np.column_stack([drawn[:-1], factors])
        return cls(parameters, float(drawn[-1]) if bias else None, l2, replace(optimizer))

    @property
    def weights(self) -> FloatArray:
        """The weights ``w`` (n_columns,)."""
        return self.parameters[:, 0]

    @property
    def factors(self) -> FloatArray:
        """The factors ``V`` (n_columns, k)."""
        return self.parameters[:, 1:]

    def partial_logits(self, rows: Columns) -> FloatArray:
        """Return ``u`` of each row, with the bias if there is one: (n_rows,)."""
        own_pairs = rows.squares_dot((self.factors**2).sum(axis=1))
        logits: FloatArray = rows.dot(self.weights) - own_pairs / 2 + (self.bias or 0.0)
        return logits

    def latent_sums(self, rows: Columns) -> FloatArray:
        """Return ``S_p`` of each row: (n_rows, k)."""
        return rows.dot(self.factors)

    def step(self, gradient: FloatArray, bias_gradient: float = 0.0) -> None:
        """Move against the batch-mean gradient (n_columns, 1 + k), adding this party's L2 term."""
        gradient = gradient + self.l2 * self.parameters
        update = self.optimizer.update(np.append(gradient.ravel(), bias_gradient))
        self.parameters = self.parameters + update[:-1].reshape(gradient.shape)
        if self.bias is not None:
            self.bias += float(update[-1])

    def move(self, columns: NDArray[np.int64], step: FloatArray) -> None:
        """Add a step (n,) to the weights of some columns, its last entry to the bias if there is one."""
        self.parameters = self.parameters.copy()
        self.parameters[columns, 0] += step[: len(columns)]
        if self.bias is not None:
            self.bias += float(step[-1])

    def restricted(self, columns: NDArray[np.bool_], *, bias: bool = False) -> Self:
        """Return the part of the model that the given columns (n_columns,) make up, with its bias or without."""
        kept = self.bias if bias else None
        return replace(self, parameters=self.parameters * columns[:, None], bias=kept)

    def copy(self) -> Self:
        """Return a snapshot that further steps do not change."""
        return replace(self, optimizer=replace(self.optimizer))


def joint_logits(partial_logits: FloatArray, latent_sums: FloatArray) -> FloatArray:
    """Return ``z`` (n,) from sums over all parties: partial logits (n,) and latent sums (n, k)."""
    logits: FloatArray = partial_logits + (latent_sums**2).sum(axis=1) / 2
    return logits


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return a reproducible generator for one purpose ('ties', 'people', ...)."""
    return np.random.default_rng([seed, *purpose.encode()])
