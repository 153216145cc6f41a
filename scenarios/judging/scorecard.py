"""What credit and marketing people ask of a model whose label is 0 or 1: whom it finds first, and does it stay itself.

Rows are flagged from the highest score down. With ``n`` rows, ``P`` of them positive, and ``C(r)`` positives among the
first ``r`` rows:

- Kolmogorov-Smirnov statistic  the most by which the share of positives at or above a score exceeds the share of
  negatives there, or the other way round (Thomas, Edelman and Crook, Credit Scoring and Its Applications, 2002)
- cumulative gain at a share ``q`` of rows  ``C(q n) / P``;  lift of a decile: its share of positives over the
  share in all rows, ``P / n`` (Ling and Li, KDD 1998)
- precision  ``C(r) / r``, recall ``C(r) / P`` of ``r`` flagged rows. Flagging ``P`` rows makes both the same
  (break-even point; Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, chapter 8)
- population stability index  ``sum of (b - a) ln(b / a)`` over bins of scores, with ``a`` the share of training rows in
  a bin and ``b`` that of scored rows (Siddiqi, Credit Risk Scorecards, 2006); below 0.1 by his rule of thumb little
  has changed, above 0.25 much

**What is published.** ``C`` at every row would spell out labels in the order of scores. So ``C`` is known only at the
ends of blocks of 5 rows or more, which are never cut within equal scores, and runs straight between them: a row stands
for its block, and equal scores share their positives out as a random order would on average. Every number here but the
Kolmogorov-Smirnov statistic follows from those blocks, so no two of them differ by the labels of fewer than 5 rows, or
of all where there are fewer. What that does not hide: a block whose rows are all positive, or none, is seen to be so;
and blocks of ``evaluation.Curves`` are others, so beside them a difference can be of fewer rows. The threshold that
flags ``P`` rows, which is a row's score, is not told.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from sklearn import metrics

from parties.errors import DataError
from parties.model import FloatArray
from parties.splits import IntArray, check_lengths
from scenarios.judging.evaluation import ROWS_A_POINT, block_ends

_BINS = 10


@dataclass(frozen=True)
class Flagged:
    """What comes of flagging the rows of the highest scores: ``share`` of all rows, ``precision`` and ``recall``.

    All are NaN where 1 to 4 rows are flagged, or all but 1 to 4: with the accuracy they would tell these rows' labels.
    Precision needs a flagged row, recall a positive one.
    """

    share: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Decile:
    """Equally many rows as in any other, from the highest scores down to a ``share`` of all rows.

    ``gain`` is the share of positives found down to there, ``lift`` what is found in these rows alone.
    """

    share: float
    gain: float
    lift: float


@dataclass(frozen=True)
class Scorecard:
    """How well logits pick out positives. A value that the rows do not define is NaN.

    - ``ks``: the Kolmogorov-Smirnov statistic; needs both classes
    - ``base_rate``: the share of positives
    - ``deciles``: 10 of them, or as many as leave 5 rows to each; empty where a class is missing
    - ``at_half``: flagged are rows of a probability above 0.5; ``at_base_rate``: as many rows as there are positives
    - ``stability``: population stability index of the scores since training; NaN without training scores, where
      these are all equal, and with fewer than 10 training rows
    """

    ks: float
    base_rate: float
    deciles: tuple[Decile, ...]
    at_half: Flagged
    at_base_rate: Flagged
    stability: float

    @classmethod
    def of(
        cls, logits: FloatArray, labels: FloatArray, training_logits: FloatArray | None = None
    ) -> Self:
        """Judge logits (n_rows,) against 0/1 labels (n_rows,), and their distribution against that in training.

        Raises DataError for columns of different length, labels other than 0 and 1, and logits that are not finite.
        """
        check_lengths(logits, labels)
        if not np.isin(labels, (0, 1)).all():
            raise DataError("a scorecard expects labels of 0 and 1 only")
        training = np.empty(0) if training_logits is None else training_logits
        if not (np.isfinite(logits).all() and np.isfinite(training).all()):
            raise DataError("some logits are not finite; has the training diverged?")
        n_rows, n_positive = len(labels), int(np.sum(labels))
        both_classes = 0 < n_positive < n_rows
        curve = _Found.of(logits, labels)
        return cls(
            ks=_kolmogorov_smirnov(logits, labels) if both_classes else np.nan,
            base_rate=n_positive / n_rows if n_rows else np.nan,
            deciles=curve.deciles() if both_classes else (),
            at_half=curve.flagged(int(np.count_nonzero(logits > 0))),
            at_base_rate=curve.flagged(n_positive),
            stability=population_stability(training, logits),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json, None for what is NaN."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


@dataclass(frozen=True, eq=False)
class _Found:
    """``C``: how many positives are among the first rows, at the ends of blocks (n_blocks + 1,), from (0, 0)."""

    rows: IntArray
    positives: FloatArray

    @classmethod
    def of(cls, logits: FloatArray, labels: FloatArray) -> Self:
        """Count from the highest logit down. A block ends at probability 0.5 too, where both sides have 5 rows."""
        order = np.argsort(-logits)
        falling = logits[order]
        ends = np.append(np.flatnonzero(np.diff(falling)) + 1, len(falling))
        above_half = int(np.count_nonzero(logits > 0))
        sides = [ends[ends <= above_half], ends[ends > above_half]]
        if _enough(above_half, len(logits)):
            first = block_ends(sides[0], 0)
            rows = np.concatenate([first, block_ends(sides[1], above_half)[1:]])
        else:
            rows = block_ends(ends, 0)
        found = np.append(0.0, np.cumsum(labels[order]))
        return cls(rows, found[rows])

    def at(self, n_rows: FloatArray | float) -> FloatArray:
        """Return the expected number of positives among the first ``n_rows``, of any shape."""
        return np.asarray(np.interp(n_rows, self.rows, self.positives))

    def flagged(self, n_flagged: int) -> Flagged:
        """Judge flagging so many rows."""
        n_rows, n_positive = self.rows[-1], self.positives[-1]
        if not n_rows or not _enough(n_flagged, n_rows):
            return Flagged(np.nan, np.nan, np.nan)
        found = float(self.at(n_flagged))
        return Flagged(
            share=float(n_flagged / n_rows),
            precision=found / n_flagged if n_flagged else np.nan,
            recall=float(found / n_positive) if n_positive else np.nan,
        )

    def deciles(self) -> tuple[Decile, ...]:
        """Return gain and lift by equally many rows."""
        shares = np.linspace(0, 1, _n_bins(int(self.rows[-1])) + 1)
        gains = self.at(shares * self.rows[-1]) / self.positives[-1]
        lifts = np.diff(gains) / np.diff(shares)
        table = zip(shares[1:].tolist(), gains[1:].tolist(), lifts.tolist(), strict=True)
        return tuple(Decile(*row) for row in table)


def population_stability(training: FloatArray, scored: FloatArray) -> float:
    """Return the population stability index of scores (n_scored,) against those in training (n_training,).

    Bins hold equally many training rows, at least 5 and as far as equal scores allow, 10 of them at most. A bin without
    rows counts as half a row, for the index to be finite. NaN where training scores are all equal or fewer than 10, or
    no rows are scored.
    """
    n_bins = _n_bins(len(training))
    if n_bins < 2 or not len(scored) or training.min() == training.max():
        return np.nan
    # Edges are scores of training, so that the index is the same of logits and of probabilities.
    levels = np.arange(1, n_bins) / n_bins
    edges = np.quantile(training, levels, method="inverted_cdf")
    highest_but_one = training[training < training.max()].max()
    edges = np.unique(np.minimum(edges, highest_but_one))
    expected, actual = (
        np.maximum(np.bincount(np.searchsorted(edges, scores), minlength=len(edges) + 1), 0.5)
        / len(scores)
        for scores in (training, scored)
    )
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def _kolmogorov_smirnov(scores: FloatArray, labels: FloatArray) -> float:
    false, true, _ = metrics.roc_curve(labels, scores)
    return float(np.max(np.abs(true - false)))


def _n_bins(n_rows: int) -> int:
    return int(np.clip(n_rows // ROWS_A_POINT, 1, _BINS))


def _enough(n_flagged: int, n_rows: int) -> bool:
    """Tell whether neither those flagged nor the others are so few that a number over them tells their labels."""
    return all(side == 0 or side >= ROWS_A_POINT for side in (n_flagged, n_rows - n_flagged))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
