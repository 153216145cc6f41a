"""A party's half of the joint logistic model, and the optimizer that moves it.

Conventions, for one batch of ``n`` samples with labels ``y`` in {0, 1}:

- partial logits of one party     ``u = X w`` (the label party adds its bias ``b``)
- logit                           ``z = sum over parties of u``
- residual                        ``d = sigmoid(z) - y``
- loss                            ``mean(log(1 + exp(z)) - y z) + sum over parties of l2 / 2 |w|^2``
- gradient of one party           ``X^T d / n + l2 w``, of the bias ``sum(d) / n`` (never
  regularised)

Nothing here knows of other parties or of encryption.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
OptimizerName = Literal["sgd", "adam"]

# Hyperparameters of Adam as published (Kingma and Ba, ICLR 2015).
_FIRST_DECAY, _SECOND_DECAY, _EPSILON = 0.9, 0.999, 1e-8


def sigmoid(logits: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-z)), exact for logits of any size."""
    decayed = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, decayed) / (1.0 + decayed)


def log_loss(logits: FloatArray, labels: FloatArray) -> float:
    """Return the mean negative log likelihood of ``labels``, computed from logits without overflow."""
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


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


@dataclass
class LocalModel:
    """One party's half of the logistic model: its weights and, at the label party, the bias."""

    weights: FloatArray
    bias: float | None
    l2: float
    optimizer: Optimizer = field(repr=False)

    @classmethod
    def initialise(
        cls, n_columns: int, *, bias: bool, l2: float, optimizer: Optimizer, seed: int, party: str
    ) -> Self:
        """Draw small random weights from the seed and the party's name.

        At the label party they must not be zero: then the first residuals would be +-1/2 and
        every gradient of the first round a plain sum over labels.
        """
        drawn = generator(seed, party).normal(0.0, 0.1, n_columns + 1)
        return cls(drawn[:-1], float(drawn[-1]) if bias else None, l2, replace(optimizer))

    def step(self, weight_gradient: FloatArray, bias_gradient: float = 0.0) -> None:
        """Move against the batch-mean gradient of the loss, adding this party's L2 term."""
        gradient = weight_gradient + self.l2 * self.weights
        if self.bias is None:
            self.weights = self.weights + self.optimizer.update(gradient)
        else:
            update = self.optimizer.update(np.append(gradient, bias_gradient))
            self.weights = self.weights + update[:-1]
            self.bias += float(update[-1])

    def copy(self) -> Self:
        """Return a snapshot that further steps do not change."""
        return replace(self, optimizer=replace(self.optimizer))


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return a reproducible generator for one purpose (a party's name, 'batches', ...)."""
    return np.random.default_rng([seed, *purpose.encode()])
