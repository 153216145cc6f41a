"""What a model leans on: a party's own columns, and each party's part in how joint logits vary.

- standardised size of a weight  ``w`` times the standard deviation of its encoded column: how far a typical step of
  the column moves the logit (Menard, The American Statistician 2004, its coefficient that scales the predictor alone)
- size of a table's column  the standard deviation of what it adds to the logit, ``X_c w_c`` over its encoded columns:
  the size above where it has one; for a one-hot column its categories' together, whatever each is compared with
- part of the variance  with ``z = sum of u_p`` the logit of a row, ``Cov(u_p, z) / Var(z)``. These add up to 1
  (Shorrocks, Econometrica 1982). One is below 0 where a party offsets others, and columns that two parties both have in
  part count for either as the training happened to share out their weights: no statement of what a party's leaving
  would cost

Statistics are over the rows given, those of training or of a test. Who can compute them and sees no other's columns:

- sizes: each party those of its own, from its half of the model and its table. They tell of its half, so they are for
  its own page and not for metrics that people pass on
- ``Cov(u_p, z)`` under ``open`` and ``none``: the label party, of everyone, as it receives partial logits. A feature
  party does not know ``z`` under ``open``; under ``none`` it does, from residuals, and so its own part
- ``Cov(u_p, z)`` under ``shared``: the label party its own, on rows that it had scored. With one feature party the rest
  is that party's part, whoever may wish it or not; of several, nobody knows each one's today: shares of the
  covariances would have to be added up and opened

A factorization machine's logit has ``1/2 |S|^2`` beside partial logits, which belongs to no party alone: give ``z``,
and the rest of the variance is that of interactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parties.errors import DataError
from parties.features import ExactMatrix
from parties.model import FloatArray
from parties.splits import check_lengths


@dataclass(frozen=True)
class WeightSize:
    """An encoded column's ``weight``, and its standardised ``size``, of the same sign, in logits."""

    name: str
    weight: float
    size: float


@dataclass(frozen=True)
class ColumnSize:
    """A table's column: the standard deviation of what it adds to the logit, and its encoded columns, largest first."""

    name: str
    size: float
    weights: tuple[WeightSize, ...]


def column_sizes(
    names: Sequence[str], sources: Sequence[str], weights: FloatArray, rows: ExactMatrix
) -> list[ColumnSize]:
    """Return the sizes of a party's own columns, largest first.

    ``weights`` (n_columns,) are of the encoded columns of ``rows`` (n_rows, n_columns); ``names`` and ``sources``
    (n_columns,) are those of its FeatureEncoder. Raises DataError for no rows, and where numbers of columns differ.
    """
    if not len(names) == len(sources) == len(weights) == rows.n_columns:
        raise DataError("names, sources, weights and rows differ in their number of columns")
    if not len(rows.scaled):
        raise DataError("sizes of weights expect at least one row")
    n_rows, n_scaled = rows.scaled.shape
    shares = rows.transposed_dot(np.ones(n_rows))[n_scaled:] / n_rows
    deviations = np.append(rows.scaled.std(axis=0), np.sqrt(shares * (1 - shares)))
    sizes = weights * deviations
    columns = []
    for source in dict.fromkeys(sources):
        own = np.array([one == source for one in sources])
        added = rows.dot(weights * own)
        encoded = [
            WeightSize(names[k], float(weights[k]), float(sizes[k]))
            for k in np.flatnonzero(own).tolist()
        ]
        encoded.sort(key=lambda one: -abs(one.size))
        columns.append(ColumnSize(source, float(added.std()), tuple(encoded)))
    return sorted(columns, key=lambda one: -one.size)


def parts_of_variance(
    partial_logits: Mapping[str, FloatArray], logits: FloatArray | None = None
) -> dict[str, float]:
    """Return ``Cov(u_p, z) / Var(z)`` by party, from its partial logits ``u_p`` (n_rows,).

    ``logits`` (n_rows,) are by default the sum of these, and the parts add up to 1; otherwise what is missing from 1 is
    due to whatever else the logits hold. NaN where all logits are the same. Raises DataError for no parties, no rows
    and lengths that differ.
    """
    if not partial_logits:
        raise DataError("parts of the variance expect the partial logits of at least one party")
    check_lengths(*partial_logits.values(), *([] if logits is None else [logits]))
    z = np.sum(list(partial_logits.values()), axis=0) if logits is None else logits
    if not len(z):
        raise DataError("parts of the variance expect at least one row")
    if z.min() == z.max():
        return dict.fromkeys(partial_logits, np.nan)
    centred = z - z.mean()
    variance = centred @ centred
    return {
        name: float((own - own.mean()) @ centred / variance) for name, own in partial_logits.items()
    }
