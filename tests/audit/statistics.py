"""Statistical tests with a significance at which an audit of a hundred of them fails once in ten thousand times."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.ensemble import RandomForestClassifier

from protocol.numbers import FloatArray, Words

SIGNIFICANCE = 1e-6
_MOST_WORDS = 6000


def uniformity(words: Words) -> float:
    """Return the p-value of "these are uniform": chi-square on each half byte, Kolmogorov-Smirnov on all."""
    halves = np.hstack([_bytes(words) >> 4, _bytes(words) & 15])
    values = [float(stats.chisquare(np.bincount(half, minlength=16)).pvalue) for half in halves.T]
    values.append(float(stats.kstest(words.astype(np.float64) / 2.0**64, "uniform").pvalue))
    return min(1.0, len(values) * min(values))


def sameness(first: Words, second: Words) -> float:
    """Return the p-value of "these come from one distribution": can a random forest tell half of them apart?

    It learns from bits and bytes of the other half.
    """
    size = min(len(first), len(second), _MOST_WORDS)
    draw = np.random.default_rng(0)
    chosen = [words[draw.choice(len(words), size, replace=False)] for words in (first, second)]
    features = np.concatenate([_features(words) for words in chosen])
    origin = np.repeat([0, 1], size)
    order = draw.permutation(2 * size)
    learnt, judged = order[:size], order[size:]
    forest = RandomForestClassifier(60, min_samples_leaf=5, random_state=0)
    judged_origin = origin[judged]
    guesses = forest.fit(features[learnt], origin[learnt]).predict(features[judged])
    # By chance, a guess of "first" is as frequent among those of the second as among those of the first.
    table = np.array(
        [[np.count_nonzero(guesses[judged_origin == o] == g) for g in (0, 1)] for o in (0, 1)]
    )
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def independence(words: Words, values: FloatArray) -> float:
    """Return the p-value of "the words say nothing on the order of these values" (Spearman)."""
    return float(stats.spearmanr(words.astype(np.float64), values).pvalue)


def _bytes(words: Words) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.ascontiguousarray(words, dtype="<u8").view(np.uint8).reshape(-1, 8)


def _features(words: Words) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    of_words = _bytes(words)
    return np.hstack([of_words, np.unpackbits(of_words, axis=1)])
