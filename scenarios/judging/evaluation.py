"""How good predictions and recommended lists are.

``Score`` judges a logit a row, ``Ranking`` a list of items a user; both need the plain labels and so run where
those are. ``popularity`` and ``constant_logit`` are what any model must beat.

A list is judged by its first K items and binary relevance. With n relevant items, h(r) = 1 where the item at
rank r is one of them, else 0, and P(r) = (h(1) + ... + h(r)) / r, one user's values are:

- NDCG         sum of h(r) / log2(r + 1), over that sum for a list that starts with all n (Järvelin and
  Kekäläinen, TOIS 2002, with the logarithm of Burges et al., ICML 2005; scikit-learn's ``ndcg_score``)
- precision    hits / K, also where fewer than K items can be ranked; recall: hits / n (Manning, Raghavan and
  Schütze, Introduction to Information Retrieval, 2008, chapter 8)
- hit rate     1 where there is a hit (Deshpande and Karypis, TOIS 2004)
- MRR          1 / rank of the first hit, 0 without one (Voorhees, TREC-8, 1999)
- MAP          sum of h(r) P(r) over min(K, n) (McFee et al., WWW 2012 Companion)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn import metrics

from parties.model import generator, log_loss, sigmoid
from parties.splits import check_lengths, codes
from protocol.errors import DataError, SettingsError
from protocol.numbers import FloatArray, IntArray

BoolArray = NDArray[np.bool_]

_RANKING_METRICS = ("ndcg", "precision", "recall", "hit_rate", "mrr", "map")
_CALIBRATION_BINS = 10
_ROC_POINTS = 100
# A step of a curve stands for this many rows or more, so that a report does not spell out single labels.
ROWS_A_POINT = 5
# Cells of users x items held at once: about 50 MB with the copies that sorting makes.
_BLOCK_CELLS = 1 << 20


@dataclass(frozen=True)
class Score:
    """How well logits predict labels. A value that the rows do not define is NaN.

    - ``auc``: the chance that a positive scores above a negative; needs both classes
    - ``log_loss``, ``accuracy`` (positive where the logit is above 0), ``brier``: the mean squared error of the
      probabilities (Brier, Monthly Weather Review 1950)
    - ``calibration_error``: ``|mean predicted - mean observed|`` over 10 equally filled bins of predictions,
      averaged by their rows (Naeini et al., AAAI 2015; bins of Nguyen and O'Connor, EMNLP 2015)
    - ``calibration_ratio``: mean predicted over mean observed (He et al., ADKDD 2014); needs a positive
    - ``gauc``: AUC of each user's rows alone, averaged over ``n_users`` by their numbers of rows (Zhu et al., KDD
      2017); ``n_skipped`` users have rows of one class only and so no AUC. NaN, 0 and 0 without users
    """

    auc: float
    log_loss: float
    accuracy: float
    brier: float
    calibration_error: float
    calibration_ratio: float
    gauc: float
    n_users: int
    n_skipped: int

    @classmethod
    def of(
        cls,
        logits: FloatArray,
        labels: FloatArray,
        users: NDArray[Any] | pd.Series[Any] | None = None,
    ) -> Score:
        """Score logits against 0/1 labels, both (n_rows,); ``users`` (n_rows,) says whose row it is.

        Raises DataError for no rows, columns of different length, labels other than 0 and 1, logits that are
        not finite, and rows without a user.
        """
        check_lengths(logits, labels)
        if not len(labels):
            raise DataError("scoring expects at least one row")
        if not np.isfinite(logits).all():
            raise DataError("some logits are not finite; has the training diverged?")
        if not np.isin(labels, (0, 1)).all():
            raise DataError("scoring expects labels of 0 and 1 only")
        predicted = sigmoid(logits)
        n_positive = float(np.sum(labels))
        both_classes = 0 < n_positive < len(labels)
        gauc, n_users, n_skipped = (
            (np.nan, 0, 0) if users is None else _grouped_auc(logits, labels, users)
        )
        return cls(
            auc=float(metrics.roc_auc_score(labels, logits)) if both_classes else np.nan,
            log_loss=log_loss(logits, labels),  # scikit-learn's clips probabilities, this is exact
            accuracy=float(metrics.accuracy_score(labels, logits > 0)),
            brier=float(metrics.brier_score_loss(labels, predicted, pos_label=1)),
            calibration_error=_calibration_error(predicted, labels),
            calibration_ratio=float(np.sum(predicted)) / n_positive if n_positive else np.nan,
            gauc=gauc,
            n_users=n_users,
            n_skipped=n_skipped,
        )


@dataclass(frozen=True)
class Curves:
    """What a report draws of logits and labels, thinned so that no point stands for a single row.

    - ``roc``: (false positive rate, true positive rate) from (0, 0) to (1, 1), at the ends of at most 100 blocks of 5
      rows or more, which are never cut within equal scores. Empty where a class is missing
    - ``calibration``: (mean predicted, mean observed, rows) of up to 10 equally filled bins of predictions, of 5 rows
      or more each unless equal predictions leave fewer in one
    """

    roc: list[tuple[float, float]]
    calibration: list[tuple[float, float, int]]

    @classmethod
    def of(cls, logits: FloatArray, labels: FloatArray) -> Curves:
        """Draw logits against 0/1 labels, both (n_rows,)."""
        predicted = sigmoid(logits)
        n_bins = int(np.clip(len(labels) // ROWS_A_POINT, 1, _CALIBRATION_BINS))
        bin_of = _calibration_bins(predicted, n_bins)
        rows = np.bincount(bin_of, minlength=n_bins)
        means = [
            np.bincount(bin_of, weights=values, minlength=n_bins)[rows > 0] / rows[rows > 0]
            for values in (predicted, labels)
        ]
        calibration = list(
            zip(*(mean.tolist() for mean in means), rows[rows > 0].tolist(), strict=True)
        )
        return cls(_roc(logits, labels), calibration)


@dataclass(frozen=True)
class Ranking:
    """How good lists of K items are: means over ``n_users``, as the module page defines them.

    ``n_skipped`` users have no relevant item among those to rank, or nothing to rank. Where these are all users,
    the means are NaN.
    """

    k: int
    ndcg: float
    precision: float
    recall: float
    hit_rate: float
    mrr: float
    map: float
    n_users: int
    n_skipped: int


def rank(
    scores: FloatArray | Callable[[IntArray], FloatArray],
    relevant: sparse.csr_array[Any],
    excluded: sparse.csr_array[Any],
    k: int,
    seed: int,
    candidates: sparse.csr_array[Any] | None = None,
) -> Ranking:
    """Rank items for every user by ``scores`` and judge the first ``k`` by ``relevant``.

    Matrices are (n_users, n_items), and anything but 0 counts as 1. Ranked are all items but the user's
    ``excluded`` ones (those of training), or the ``candidates`` but the excluded ones ('test items only').
    A relevant item that is not ranked is not counted as relevant: no list could hold it. ``scores`` is
    (n_users, n_items) or a function from user rows (n_block,) to (n_block, n_items), asked for users with
    relevant items only. Equal scores come in an order drawn from ``seed``, for each user afresh.

    Raises SettingsError for ``k`` below 1, DataError where shapes differ, a score to rank is not finite, or no user
    has any item to rank.
    """
    _check_k(k)
    n_users, n_items = relevant.shape
    shapes = {matrix.shape for matrix in (relevant, excluded, candidates) if matrix is not None}
    if len(shapes) > 1 or (not callable(scores) and scores.shape not in shapes):
        raise DataError("the matrices to rank differ in their numbers of users or items")
    draw = generator(seed, "ties")
    anything_to_rank = False
    judged: list[FloatArray] = []
    block = max(1, _BLOCK_CELLS // max(1, n_items))
    for start in range(0, n_users, block):
        users = np.arange(start, min(start + block, n_users))
        allowed = ~_dense(excluded, users)
        if candidates is not None:
            allowed &= _dense(candidates, users)
        anything_to_rank |= bool(allowed.any())
        wanted = _dense(relevant, users) & allowed
        kept = wanted.any(axis=1)
        users, allowed, wanted = users[kept], allowed[kept], wanted[kept]
        if len(users):
            block_scores = scores(users) if callable(scores) else scores[users]
            top = _best_first(block_scores, allowed, k, draw)
            judged.append(_judge(np.take_along_axis(wanted, top, axis=1), wanted.sum(axis=1), k))
    if not anything_to_rank:
        raise DataError("no user has an item left to rank: every one is excluded")
    n_judged = sum(map(len, judged))
    values = np.concatenate(judged) if judged else np.full((1, len(_RANKING_METRICS)), np.nan)
    means = dict(zip(_RANKING_METRICS, values.mean(axis=0).tolist(), strict=True))
    return Ranking(k=k, n_users=n_judged, n_skipped=n_users - n_judged, **means)


def top_k(scores: FloatArray, excluded: BoolArray, k: int, seed: int) -> IntArray:
    """Return one user's best items, best first, at most ``k``; ``scores`` and ``excluded`` are (n_items,).

    Equal scores come in an order drawn from ``seed``. Raises SettingsError for ``k`` below 1, DataError where nothing
    is left to recommend, lengths differ or a score is not finite.
    """
    _check_k(k)
    n_left = np.count_nonzero(~excluded)
    if not n_left:
        raise DataError("no item is left to recommend: every one is excluded")
    best = _best_first(scores[None], ~excluded[None], k, generator(seed, "ties"))
    return best[0, :n_left]


def popularity(train: sparse.csr_array[Any]) -> FloatArray:
    """Return each item's number of positive training interactions (n_items,), a score for every user alike.

    ``train`` (n_users, n_items) holds 1 an interaction. ``np.broadcast_to(popularity(train), train.shape)``
    is what ``rank`` takes, and costs no memory.
    """
    return np.asarray(train.sum(axis=0), dtype=np.float64)


def constant_logit(labels: FloatArray) -> float:
    """Return the logit of the share of positives among training labels (n_rows,), for any row alike.

    The share is kept half a row away from 0 and 1, so that the logit is finite. Raises DataError for no rows.
    """
    if not len(labels):
        raise DataError("the constant baseline expects at least one training row")
    margin = 0.5 / len(labels)
    share = np.clip(np.mean(labels), margin, 1 - margin)
    return float(np.log(share / (1 - share)))


def _grouped_auc(
    logits: FloatArray, labels: FloatArray, users: NDArray[Any] | pd.Series[Any]
) -> tuple[float, int, int]:
    """Return GAUC, the users it is over and the users skipped.

    AUC is the Mann-Whitney statistic (Hanley and McNeil, Radiology 1982), from each user's own ranks: one
    call of scikit-learn a user would take a millisecond each.
    """
    user_of = codes(users, "user")
    check_lengths(labels, user_of)
    ranks = pd.Series(logits).groupby(user_of).rank().to_numpy()
    n_rows = np.bincount(user_of)
    n_positive = np.bincount(user_of, weights=labels)
    n_pairs = n_positive * (n_rows - n_positive)
    n_ordered = np.bincount(user_of, weights=ranks * labels) - n_positive * (n_positive + 1) / 2
    both = n_pairs > 0
    n_users = int(np.count_nonzero(both))
    gauc = np.average(n_ordered[both] / n_pairs[both], weights=n_rows[both]) if n_users else np.nan
    return float(gauc), n_users, len(n_rows) - n_users


def _calibration_error(predicted: FloatArray, labels: FloatArray) -> float:
    bin_of = _calibration_bins(predicted, _CALIBRATION_BINS)
    gaps = np.bincount(bin_of, weights=predicted - labels)
    return float(np.sum(np.abs(gaps)) / len(labels))


def _calibration_bins(predicted: FloatArray, n_bins: int) -> IntArray:
    """Return each prediction's bin (n_rows,), equally filled as far as may be.

    Equal predictions share a bin, so that a constant prediction is judged as the one bin it is.
    """
    edges = np.quantile(predicted, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(edges, predicted)


def _roc(logits: FloatArray, labels: FloatArray) -> list[tuple[float, float]]:
    """Return points of the ROC curve at the ends of blocks of rows, as their scores fall.

    A point between two rows of a block would tell by its direction the label of the row that it falls on.
    """
    if not 0 < np.sum(labels) < len(labels):
        return []
    order = np.argsort(-logits, kind="stable")
    groups = np.append(np.flatnonzero(np.diff(logits[order])) + 1, len(order))
    ends = block_ends(groups, 0, max(ROWS_A_POINT, -(-len(order) // _ROC_POINTS)))
    found = np.append(0.0, np.cumsum(labels[order]))[ends]
    false, true = (ends - found) / (ends - found)[-1], found / found[-1]
    return list(zip(false.tolist(), true.tolist(), strict=True))


def block_ends(ends: IntArray, start: int, size: int = ROWS_A_POINT) -> IntArray:
    """Return ``start`` and those of ``ends`` that are so many rows apart; what is left over joins the last block."""
    kept = [start]
    for end in ends.tolist():
        if end - kept[-1] >= size:
            kept.append(end)
    if len(ends) and kept[-1] != ends[-1]:
        if len(kept) > 1:
            kept.pop()
        kept.append(int(ends[-1]))
    return np.array(kept, dtype=np.int64)


def _best_first(
    scores: FloatArray, allowed: BoolArray, k: int, draw: np.random.Generator
) -> IntArray:
    """Return each row's items by falling score (n_rows, min(k, n_items)); those not allowed come last.

    A stable sort of shuffled items leaves equal scores in random order, the same on every machine.
    """
    if scores.shape != allowed.shape:
        raise DataError("ranking expects one score for each user and item")
    if not np.isfinite(scores[allowed]).all():
        raise DataError("some scores are not finite; has the training diverged?")
    items = draw.permuted(np.broadcast_to(np.arange(allowed.shape[1]), allowed.shape), axis=1)
    costs = np.take_along_axis(np.where(allowed, -scores, np.inf), items, axis=1)
    order = np.argsort(costs, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(items, order, axis=1)


def _judge(hits: BoolArray, n_relevant: IntArray, k: int) -> FloatArray:
    """Return the ranking metrics (n_users, n_metrics) of lists with hits (n_users, min(k, n_items))."""
    ranks = np.arange(1, hits.shape[1] + 1)
    discounts = 1 / np.log2(ranks + 1)
    n_best = np.minimum(n_relevant, k)
    n_hits = np.cumsum(hits, axis=1)
    return np.column_stack(
        [
            hits @ discounts / np.cumsum(discounts)[n_best - 1],
            n_hits[:, -1] / k,
            n_hits[:, -1] / n_relevant,
            hits.any(axis=1),
            np.max(hits / ranks, axis=1),
            np.sum(hits * n_hits / ranks, axis=1) / n_best,
        ]
    )


def _dense(matrix: sparse.csr_array[Any], rows: IntArray) -> BoolArray:
    return np.asarray(matrix[rows].toarray() != 0)


def _check_k(k: int) -> None:
    if k < 1:
        raise SettingsError(f"k is {k}; expected a list of at least 1 item")
