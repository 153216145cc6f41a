"""scikit-learn's models of all columns pooled in the clear, at the optimum of the objective that parties descend.

Conventions, for rows ``X`` (n_rows, n_columns) of encoded columns, labels ``y`` (n_rows,), weights ``w``, intercept
``b`` and logits ``z = X w + b`` (McCullagh and Nelder, Generalized Linear Models, 1989, on links):

| link        | expected label         | loss a row                 | scikit-learn, for one ``l2``                |
|-------------|------------------------|----------------------------|---------------------------------------------|
| logistic    | ``1 / (1 + exp(-z))``  | ``log(1 + exp(z)) - y z``  | LogisticRegression, ``C = 1 / (n_rows l2)`` |
| linear      | ``z``                  | ``(y - z)^2 / 2``          | Ridge, ``alpha = n_rows l2``                |
| poisson     | ``exp(z)``             | ``exp(z) - y z``           | PoissonRegressor, ``alpha = l2``            |
| multiclass  | sigmoids, normalised   | logistic, summed           | LogisticRegression a class, ``C`` as above  |
| multinomial | ``exp(z)``, normalised | ``log(sum exp(z)) - z[y]`` | LogisticRegression, ``C`` as above          |

The objective is the mean loss plus ``1/2 sum(l2 w^2)``; intercepts are not regularised. With classes ``w`` is
(n_columns, n_classes), ``b`` and ``z`` have a column a class, and classes are numbered from 0. ``multinomial`` is no
model that parties train, but what people would train who have all tables (Hastie, Tibshirani and Friedman, The
Elements of Statistical Learning, 2009, section 4.4).

``l2`` may differ by column, as that of one-hot ids does. scikit-learn takes one, so columns are multiplied by
``sqrt(largest l2 / l2)`` and their weights, which that divides, have the largest ``l2``: the same objective. Amounts
may be centred and scaled without moving the optimum; counts that parties divide by a constant are to be divided here
too, as that weighs their loss against ``l2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy import sparse
from scipy.special import expit, logsumexp, softmax
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from parties.errors import DataError
from parties.model import FloatArray
from protocol.errors import SettingsError
from scenarios.judging.scores import normalised

Link = Literal["logistic", "linear", "poisson", "multiclass", "multinomial"]
Matrix = FloatArray | sparse.csr_array[np.float64]
# From weights that hardly leave 0 to weights that hardly feel it, where columns are standardised.
L2_PATH = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)

_OF_CLASSES = ("multiclass", "multinomial")
# The largest entry of the objective's gradient at which scikit-learn stops; its own is 1e-4.
_TOLERANCE = 1e-8
_MOST_STEPS = 10_000


@dataclass(frozen=True, eq=False)
class Pooled:
    """A model of pooled columns: ``weights`` (n_columns,) and ``intercept`` (), or with a last axis of classes.

    ``objective`` is the least that the training rows allow: what any model's ``objective`` is measured against.
    """

    link: Link
    weights: FloatArray
    intercept: FloatArray
    objective: float

    def predict(self, columns: Matrix) -> FloatArray:
        """Return the expected label of each row (n_rows,), with classes the probability of each (n_rows, n_classes)."""
        logits = _logits(self.weights, self.intercept, columns)
        match self.link:
            case "logistic":
                return np.asarray(expit(logits))
            case "linear":
                return logits
            case "poisson":
                with np.errstate(over="ignore"):
                    return np.exp(logits)
            case "multiclass":
                return normalised(expit(logits))
            case "multinomial":
                return np.asarray(softmax(logits, axis=1))


@dataclass(frozen=True, eq=False)
class Tried:
    """One ``l2`` of a path: the model, and its mean loss on the validation rows."""

    l2: float
    model: Pooled
    validation_loss: float


def fit(
    link: Link,
    columns: Matrix,
    labels: FloatArray,
    l2: float | FloatArray,
    n_classes: int | None = None,
) -> Pooled:
    """Train on columns (n_rows, n_columns) and labels (n_rows,), with one ``l2`` or one a column (n_columns,).

    A class that all rows have or none, and counts that are all 0, have no finite optimum: their weights are 0, the
    intercept is that of a rate half a row away, and ``objective`` is a little above what is approached. ``n_classes``
    is by default what the labels reach. Raises DataError for no rows, lengths that differ and labels that are not of
    the link, SettingsError for an ``l2`` below 0, and for columns with ``l2`` beside columns without.
    """
    return _Trainer(link, columns, labels, n_classes).fit(l2)


def fit_path(
    link: Link,
    training: tuple[Matrix, FloatArray],
    validation: tuple[Matrix, FloatArray],
    values: Sequence[float] = L2_PATH,
    relative: FloatArray | None = None,
    n_classes: int | None = None,
) -> tuple[Tried, list[Tried]]:
    """Train once for each ``l2`` from the largest down, and return the best on the validation rows and all of them.

    Columns and labels of both parts are as for :func:`fit`. Each training begins where the one before ended
    (Friedman, Hastie and Tibshirani, Journal of Statistical Software 2010, on pathwise optimisation), but Ridge's,
    which needs no beginning. Of equal losses the larger ``l2`` is the better. ``relative`` (n_columns,) multiplies
    ``l2`` by column. Raises as :func:`fit`, and SettingsError for no values.
    """
    if not values:
        raise SettingsError("a path expects at least one value of l2")
    trainer = _Trainer(link, *training, n_classes)
    columns, labels = validation
    _check_labels(link, columns, labels)
    if link in _OF_CLASSES:
        _number_of_classes(labels, trainer.n_classes)
    path = []
    for l2 in sorted(set(values), reverse=True):
        model = trainer.fit(l2 if relative is None else l2 * relative)
        loss = objective(link, model.weights, model.intercept, columns, labels, 0.0)
        path.append(Tried(l2, model, loss))
    return min(path, key=lambda tried: tried.validation_loss), path


def objective(
    link: Link,
    weights: FloatArray,
    intercept: FloatArray | float,
    columns: Matrix,
    labels: FloatArray,
    l2: float | FloatArray,
) -> float:
    """Return the mean loss of rows plus ``1/2 sum(l2 w^2)``; shapes as the module page has them.

    Above that of :func:`fit` by as much as the weights are short of the optimum. Infinite where it leaves a float.
    """
    z = _logits(weights, np.asarray(intercept, dtype=np.float64), columns)
    penalties = np.sum(np.broadcast_to(l2, len(weights)) * (weights.T**2)) / 2
    with np.errstate(over="ignore"):
        return float(np.mean(_losses(link, z, labels)) + penalties)


def _losses(link: Link, z: FloatArray, labels: FloatArray) -> FloatArray:
    """Return each row's loss (n_rows,)."""
    if link in _OF_CLASSES:
        truth = labels[:, None] == np.arange(z.shape[1])
        if link == "multiclass":
            return np.asarray(np.sum(np.logaddexp(0.0, z) - truth * z, axis=1))
        return np.asarray(logsumexp(z, axis=1) - z[truth])
    if link == "logistic":
        return np.logaddexp(0.0, z) - labels * z
    return (labels - z) ** 2 / 2 if link == "linear" else np.exp(z) - labels * z


def _logits(weights: FloatArray, intercept: FloatArray, columns: Matrix) -> FloatArray:
    return np.asarray(columns @ weights + intercept, dtype=np.float64)


class _Trainer:
    """scikit-learn's models for one link and one set of rows; another ``l2`` begins where the last one ended.

    There is one model, or with ``multiclass`` one a class.
    """

    def __init__(
        self, link: Link, columns: Matrix, labels: FloatArray, n_classes: int | None
    ) -> None:
        _check_labels(link, columns, labels)
        self.n_classes = _number_of_classes(labels, n_classes) if link in _OF_CLASSES else 1
        self._link, self._columns, self._labels = link, columns, labels
        one_a_class = range(self.n_classes) if link == "multiclass" else range(1)
        self._models = [_new_model(link) for _ in one_a_class]

    def fit(self, l2: float | FloatArray) -> Pooled:
        """Train to the optimum."""
        by_column = np.broadcast_to(np.asarray(l2, dtype=np.float64), self._columns.shape[1])
        if (by_column < 0).any() or (by_column.any() and not by_column.all()):
            raise SettingsError("l2 is expected above 0 for every column, or 0 for every column")
        largest = float(by_column.max(initial=0.0))
        scale = np.sqrt(largest / by_column) if largest else np.ones(len(by_column))
        columns = _scaled(self._columns, scale)
        if self._link == "multiclass":
            fitted = [
                _fit_one("logistic", model, columns, np.equal(self._labels, k) * 1.0, largest)
                for k, model in enumerate(self._models)
            ]
            weights = np.column_stack([of_class for of_class, _ in fitted])
            intercept = np.array([of_class for _, of_class in fitted])
        elif self._link == "multinomial":
            weights, intercept = self._fit_multinomial(columns, largest)
        else:
            weights, alone = _fit_one(self._link, self._models[0], columns, self._labels, largest)
            intercept = np.array(alone)
        weights = (weights.T * scale).T
        least = objective(self._link, weights, intercept, self._columns, self._labels, l2)
        return Pooled(self._link, weights, intercept, least)

    def _fit_multinomial(self, columns: Matrix, l2: float) -> tuple[FloatArray, FloatArray]:
        """Return weights (n_columns, n_classes) and intercepts (n_classes,).

        Of two classes scikit-learn trains the difference ``w`` of their weights, as a logistic model. The weights
        ``-w / 2`` and ``w / 2`` have half its penalty, so it is trained with half of ``l2``.
        """
        (model,), (n_rows, n_columns) = self._models, columns.shape
        present = np.unique(self._labels).astype(np.int64)
        weights, intercept = np.zeros((n_columns, self.n_classes)), np.zeros(self.n_classes)
        if len(present) > 1:
            if len(present) == 2:
                l2 = l2 / 2
            model.set_params(C=1 / (n_rows * l2) if l2 else np.inf).fit(columns, self._labels)
            halves = (np.array([[-0.5], [0.5]]) if len(present) == 2 else 1.0) * np.column_stack(
                [model.coef_, model.intercept_]
            )
            weights[:, present], intercept[present] = halves[:, :-1].T, halves[:, -1]
        absent = np.setdiff1d(np.arange(self.n_classes), present)
        if len(absent):
            of_present = logsumexp(_logits(weights, intercept, columns)[:, present], axis=1)
            intercept[absent] = np.mean(of_present) + np.log(0.5 / n_rows)
        return weights, intercept


def _new_model(link: Link) -> Any:
    options: dict[str, Any] = {"tol": _TOLERANCE, "max_iter": _MOST_STEPS}
    if link == "linear":
        return Ridge(**options)
    if link == "poisson":
        return PoissonRegressor(**options, warm_start=True)
    return LogisticRegression(**options, warm_start=True)


def _fit_one(
    link: Link, model: Any, columns: Matrix, labels: FloatArray, l2: float
) -> tuple[FloatArray, float]:
    """Train a model of one logit and return its weights (n_columns,) and intercept."""
    n_rows, n_columns = columns.shape
    limit = _intercept_at_infinity(link, labels)
    if limit is not None:
        return np.zeros(n_columns), limit
    if link == "linear":
        model.set_params(alpha=n_rows * l2)
    elif link == "poisson":
        model.set_params(alpha=l2)
    else:
        model.set_params(C=1 / (n_rows * l2) if l2 else np.inf)
    model.fit(columns, labels)
    return np.ravel(model.coef_).astype(np.float64), float(np.ravel(model.intercept_)[0])


def _intercept_at_infinity(link: Link, labels: FloatArray) -> float | None:
    """Return what stands for an intercept of which only infinity is good enough, None where a finite one is best."""
    half_a_row = 0.5 / len(labels)
    if link == "poisson":
        return None if labels.any() else float(np.log(half_a_row))
    if link == "linear" or labels.min() < labels.max():
        return None
    rare = float(np.log(half_a_row) - np.log1p(-half_a_row))
    return -rare if labels[0] else rare


def _scaled(columns: Matrix, scale: FloatArray) -> Matrix:
    if isinstance(columns, sparse.csr_array):
        return sparse.csr_array(columns.multiply(scale[None, :]))
    return columns * scale


def _check_labels(link: Link, columns: Matrix, labels: FloatArray) -> None:
    if link not in get_args(Link):
        raise SettingsError(f"the link is {link!r}; expected one of {', '.join(get_args(Link))}")
    if columns.shape[0] != len(labels):
        raise DataError("columns and labels differ in their number of rows")
    if not len(labels):
        raise DataError("a pooled model expects at least one row, to train on or to validate")
    if not np.isfinite(labels).all():
        raise DataError("a pooled model expects a finite label in every row")
    if link == "logistic" and not np.isin(labels, (0, 1)).all():
        raise DataError("a logistic model expects labels of 0 and 1 only")
    if link == "poisson" and (labels < 0).any():
        raise DataError("a Poisson model expects labels of 0 or more")
    if link in _OF_CLASSES and ((labels < 0) | (labels != np.rint(labels))).any():
        raise DataError("a model of classes expects labels that number classes from 0")


def _number_of_classes(labels: FloatArray, declared: int | None) -> int:
    reached = int(labels.max()) + 1
    if declared is not None and declared < reached:
        raise DataError(f"a model of {declared} classes expects labels below that, numbered from 0")
    return max(reached, 2) if declared is None else declared
