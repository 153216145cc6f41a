"""How well predictions fit labels that are amounts, counts or classes; ``evaluation.Score`` is for labels of 0 and 1.

All have one interface, :class:`LabelScore`. Predictions come in the label's own unit: expected amounts, expected
counts, a probability a class. With labels ``y`` (n_rows,), predictions ``m`` and ``mean`` that of the scored labels:

- RMSE  ``sqrt(mean((y - m)^2))``;  MAE  ``mean(|y - m|)``
- R2    ``1 - sum((y - m)^2) / sum((y - mean)^2)``
- mean Poisson deviance  ``2 mean(y log(y / m) - y + m)``, where ``y log y`` is 0 for ``y = 0`` (McCullagh and Nelder,
  Generalized Linear Models, 1989, section 2.3);  D2  ``1 - deviance(m) / deviance(mean)``, the share of deviance
  explained (Hastie, Tibshirani and Wainwright, Statistical Learning with Sparsity, 2015, equation 3.11)
- a class's AUC is that of its probability for its rows against all others; macro: their mean, each class counting
  alike; micro: that of all pairs of a row and a class together (Sebastiani, ACM Computing Surveys 2002, on averaging)
- log loss  ``-mean(log of the true class's probability)``, in nats

R2 and D2 compare with the best constant for the scored rows themselves, so a constant learnt in training is below 0.
A value that the rows do not define, or that is infinite, is NaN, and None in JSON.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import xlogy
from sklearn import metrics

from parties.errors import DataError
from parties.model import FloatArray
from parties.splits import check_lengths


@dataclass(frozen=True)
class Measure:
    """One number of a score: its ``name`` in metrics.json, its column's ``heading``, and whether more is better."""

    name: str
    heading: str
    more_is_better: bool


_RMSE = Measure("rmse", "RMSE", more_is_better=False)
_MAE = Measure("mae", "MAE", more_is_better=False)


@dataclass(frozen=True)
class LabelScore(ABC):
    """What the scores of all kinds of labels share. ``measures`` are the columns of a table, the decisive one first."""

    measures: ClassVar[tuple[Measure, ...]]

    @classmethod
    @abstractmethod
    def of(cls, predictions: FloatArray, labels: FloatArray) -> Self:
        """Score predictions against labels (n_rows,), both in the label's own unit; no rows score NaN.

        Raises DataError for columns of different length, predictions that are not finite, and labels of another kind.
        """

    def values(self) -> list[float]:
        """Return what stands in each column of a table."""
        return [float(getattr(self, measure.name)) for measure in self.measures]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json, None for what is NaN."""
        names = [measure.name for measure in self.measures]
        return {
            name: value if math.isfinite(value) else None
            for name, value in zip(names, self.values(), strict=True)
        }


@dataclass(frozen=True)
class AmountScore(LabelScore):
    """How well expected amounts predict amounts; ``rmse`` and ``mae`` are in the label's unit.

    ``r2`` needs two different labels.
    """

    measures: ClassVar[tuple[Measure, ...]] = (_RMSE, _MAE, Measure("r2", "R2", True))

    rmse: float
    mae: float
    r2: float

    @classmethod
    def of(cls, predictions: FloatArray, labels: FloatArray) -> Self:
        """Score expected amounts (n_rows,) against finite amounts (n_rows,)."""
        _check(predictions, labels)
        rmse, mae = _errors(predictions, labels)
        unlike = _differ(labels)
        return cls(rmse, mae, float(metrics.r2_score(labels, predictions)) if unlike else np.nan)


@dataclass(frozen=True)
class CountScore(LabelScore):
    """How well expected counts predict counts; ``deviance`` is the mean Poisson deviance, ``d2`` its share explained.

    Both need an expected count of 0 or more in every row, and above 0 where something was counted; ``d2`` also needs
    two different counts. ``rmse`` and ``mae`` are in counts.
    """

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure("deviance", "Poisson deviance", False),
        Measure("d2", "D2", True),
        _RMSE,
        _MAE,
    )

    deviance: float
    d2: float
    rmse: float
    mae: float

    @classmethod
    def of(cls, predictions: FloatArray, labels: FloatArray) -> Self:
        """Score expected counts (n_rows,) against counts (n_rows,), whole numbers of 0 or more."""
        _check(predictions, labels)
        if (labels < 0).any() or (labels != np.rint(labels)).any():
            raise DataError("scoring counts expects labels that are whole numbers of 0 or more")
        deviance = _poisson_deviance(predictions, labels)
        explained = np.nan
        if _differ(labels):
            of_constant = _poisson_deviance(np.full_like(labels, labels.mean()), labels)
            explained = 1 - deviance / of_constant
        return cls(deviance, explained, *_errors(predictions, labels))


@dataclass(frozen=True)
class ClassScore(LabelScore):
    """How well a probability a class predicts classes.

    ``macro_auc`` is over the classes that have both rows of their own and rows of others, ``n_skipped`` are without.
    ``accuracy`` takes the likeliest class, the first of equals. ``confusion[actual][predicted]`` counts rows,
    (n_classes, n_classes).
    """

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure("macro_auc", "macro AUC", True),
        Measure("micro_auc", "micro AUC", True),
        Measure("log_loss", "log loss", False),
        Measure("accuracy", "accuracy", True),
    )

    macro_auc: float
    micro_auc: float
    log_loss: float
    accuracy: float
    n_skipped: int
    confusion: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, predictions: FloatArray, labels: FloatArray) -> Self:
        """Score sigmoids or probabilities (n_rows, n_classes) against classes 0 ... n_classes - 1 (n_rows,).

        Sigmoids of one class against the rest need not sum to 1 and are divided by their sum; a row of zeros counts
        as undecided. Raises DataError as the others do, for numbers outside 0 to 1, and for fewer than two classes.
        """
        if predictions.ndim != 2 or predictions.shape[1] < 2:
            raise DataError("scoring classes expects a column of predictions for each of 2 or more")
        _check(predictions[:, 0], labels, predictions)
        n_rows, n_classes = predictions.shape
        if ((predictions < 0) | (predictions > 1)).any():
            raise DataError("some predicted probabilities are not between 0 and 1")
        if not np.isin(labels, np.arange(n_classes)).all():
            raise DataError(f"scoring expects {n_classes} classes, numbered from 0")
        classes = labels.astype(np.int64)
        if not n_rows:
            none = tuple((0,) * n_classes for _ in range(n_classes))
            return cls(np.nan, np.nan, np.nan, np.nan, n_classes, none)
        chances = normalised(predictions)
        truth = classes[:, None] == np.arange(n_classes)
        judged = truth.any(axis=0) & ~truth.all(axis=0)
        aucs = [metrics.roc_auc_score(truth[:, k], chances[:, k]) for k in np.flatnonzero(judged)]
        confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
        np.add.at(confusion, (classes, chances.argmax(axis=1)), 1)
        of_truth = chances[truth]
        return cls(
            macro_auc=float(np.mean(aucs)) if aucs else np.nan,
            micro_auc=float(metrics.roc_auc_score(truth.ravel(), chances.ravel())),
            log_loss=float(-np.mean(np.log(of_truth))) if of_truth.all() else np.nan,
            accuracy=float(np.trace(confusion) / n_rows),
            n_skipped=int(np.count_nonzero(~judged)),
            confusion=tuple(map(tuple, confusion.tolist())),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json, None for what is NaN."""
        confusion = [list(row) for row in self.confusion]
        return {**super().to_json(), "n_skipped": self.n_skipped, "confusion": confusion}


def normalised(sigmoids: FloatArray) -> FloatArray:
    """Return sigmoids (n_rows, n_classes) of one class against the rest as probabilities, which sum to 1 in each row.

    Where all are 0 every class is as likely (Zadrozny and Elkan, KDD 2002, on normalised one-against-all).
    """
    totals = sigmoids.sum(axis=1, keepdims=True)
    undecided = np.full_like(sigmoids, 1 / sigmoids.shape[1])
    chances: FloatArray = np.divide(sigmoids, totals, out=undecided, where=totals > 0)
    return chances


def _check(per_row: FloatArray, labels: FloatArray, predictions: FloatArray | None = None) -> None:
    check_lengths(per_row, labels)
    if not np.isfinite(per_row if predictions is None else predictions).all():
        raise DataError("some predictions are not finite; has the training diverged?")
    if not np.isfinite(labels).all():
        raise DataError("scoring expects a finite label in every row")


def _differ(labels: FloatArray) -> bool:
    """Tell whether there are two different labels, exactly: the variance of equal ones need not round to 0."""
    return bool(len(labels) and labels.min() < labels.max())


def _errors(predictions: FloatArray, labels: FloatArray) -> tuple[float, float]:
    """Return RMSE and MAE."""
    if not len(labels):
        return np.nan, np.nan
    errors = predictions - labels
    return float(np.sqrt(np.mean(errors**2))), float(np.mean(np.abs(errors)))


def _poisson_deviance(means: FloatArray, counts: FloatArray) -> float:
    """Return the mean Poisson deviance, NaN where it is undefined (a mean below 0) or infinite."""
    if not len(counts) or (means < 0).any() or (means[counts > 0] == 0).any():
        return np.nan
    return float(2 * np.mean(xlogy(counts, counts) - xlogy(counts, means) - counts + means))
