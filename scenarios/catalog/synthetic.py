"""A shop, a bank and a telco made up from a seed: who buys what follows traits that the shop never sees.

Nothing here is real. As the chance of every purchase is known, so is the best AUC that any model can reach.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from parties.model import FloatArray, generator, sigmoid
from parties.splits import by_seed, split_cold_users
from protocol.errors import SettingsError


class _Size(NamedTuple):
    users: int
    items: int
    interactions: int  # about


_SIZES = {"full": _Size(4_000, 300, 55_000), "tiny": _Size(1_200, 40, 16_500)}
_KEPT = {"bank": 0.85, "telco": 0.80}  # of the shop's users
_OUTSIDERS = 0.3  # of the same number: others, who are no customers of the shop
_COLD = 0.3
_MISSING = 0.045
_RANK = 3

_FIRST_NAMES = ("ada", "ben", "carla", "dmitri", "elif", "femi", "greta", "hugo", "ines", "jun")
_LAST_NAMES = ("abel", "brandt", "costa", "dupont", "eriksen", "fischer", "garcia", "haddad")
_CATEGORIES = (
    "books", "camping", "cosmetics", "decor", "drinks", "gadgets", "garden", "kitchen", "sports", "toys",
)  # fmt: skip
_FIRST_SECOND = 1_735_689_600  # 1 January 2025, UTC
_SECONDS = 180 * 24 * 3600

# The logit of a purchase: how appealing the item is, which the shop can learn, and the product of the
# user's and the item's vectors, of which it can learn the item's only. With these standard deviations
# the shop alone reaches an AUC of about .61, all three together .78, the truth .83.
_BASE = -1.0
_APPEAL = 0.6
_AFFINITY = 0.9  # along each of the three traits
_COMMON = 0.22  # what a trait adds whatever the item: all that a logistic model gains by joining


class _Column(NamedTuple):
    """How a column shows the traits: a weighted sum of them and of noise, each of unit variance."""

    name: str
    weights: tuple[float, float, float]  # thrift, curiosity, homeliness
    noise: float
    median: float = 0.0  # of a numeric column, which is lognormal
    spread: float = 0.0
    categories: tuple[str, ...] = ()  # of a categorical one, each about as common


_COLUMNS = {
    "bank": (
        _Column("income", (-0.8, 0.1, 0.0), 0.35, 38_000, 0.35),
        _Column("savings", (0.9, -0.1, 0.1), 0.3, 12_000, 0.5),
        _Column("card_payments", (-0.5, 0.2, -0.5), 0.35, 22, 0.4),
        _Column("travel_spending", (-0.3, 0.4, -0.6), 0.35, 900, 0.5),
        _Column("mortgage_rate", (0.1, 0.0, 0.7), 0.45, 2.4, 0.2),
        _Column("cash_withdrawals", (0.6, -0.1, 0.0), 0.5, 4, 0.4),
        _Column("segment", (-0.9, 0.0, 0.2), 0.35, categories=("basic", "classic", "premium")),
        _Column("housing", (0.0, 0.0, 0.8), 0.45, categories=("tenant", "flat", "house")),
        _Column("branch", (0.0, 0.0, 0.0), 1.0, categories=("north", "east", "south", "west")),
    ),
    "telco": (
        _Column("data_gb", (0.0, 0.9, -0.2), 0.3, 14, 0.5),
        _Column("streaming_hours", (0.1, 0.2, 0.7), 0.45, 20, 0.4),
        _Column("roaming_days", (0.0, 0.8, -0.4), 0.35, 6, 0.4),
        _Column("call_minutes", (0.1, -0.5, 0.5), 0.45, 180, 0.4),
        _Column("home_minutes", (0.0, -0.1, 0.8), 0.35, 240, 0.3),
        _Column("years_with_us", (0.3, -0.6, 0.0), 0.5, 5, 0.4),
        _Column("plan", (-0.2, 0.7, 0.0), 0.45, categories=("prepaid", "flat", "unlimited")),
        _Column("handset", (0.0, 0.8, 0.0), 0.35, categories=("basic", "recent", "flagship")),
        _Column("region", (0.0, 0.0, 0.0), 1.0, categories=("city", "suburb", "country")),
    ),
}


def shop_bank_telco(part: str, seed: int = 0, size: str = "full") -> pd.DataFrame:
    """Return one organisation's made-up table.

    ``shop`` is about 55,000 interactions in order of time; ``bank`` and ``telco`` have one row a user with 4-5 % of
    the cells empty, lack some of the shop's users and have others. ``size`` is full or tiny. Raises SettingsError for
    any other part, size or seed.
    """
    if part == "shop":
        return _interactions(seed, size).drop(columns="probability")
    if part not in _COLUMNS:
        parts = ", ".join(["shop", *_COLUMNS])
        raise SettingsError(f"shop_bank_telco has the parts {parts}, but '{part}' was asked for")
    return _profiles(part, seed, size)


def cold_users(seed: int = 0, size: str = "full") -> frozenset[str]:
    """Return the ids of the 30 % of the shop's users that a run of this seed and all users tests on.

    Raises SettingsError.
    """
    users = _people(seed, size)[0][: _chosen(seed, size).users]
    return frozenset(users[split_cold_users(users, _COLD, by_seed(seed))])


def true_probability(seed: int = 0, size: str = "full") -> FloatArray:
    """Return the chance of a purchase in each row of the shop's table, ``(n_rows,)``; raises SettingsError."""
    return _interactions(seed, size)["probability"].to_numpy()


def bayes_auc(seed: int = 0, size: str = "full") -> float:
    """Return the AUC of the true probabilities on the cold users' rows, which no model can beat but by luck.

    Raises SettingsError.
    """
    table = _interactions(seed, size)
    test = table[table["user_id"].isin(cold_users(seed, size))]
    return float(roc_auc_score(test["bought"], test["probability"]))


def _chosen(seed: int, size: str) -> _Size:
    """Return the numbers behind a size, once both arguments are what they should be."""
    if size not in _SIZES:
        raise SettingsError(
            f"shop_bank_telco has the sizes {' and '.join(_SIZES)}, but '{size}' was asked for"
        )
    if not (isinstance(seed, int) and seed >= 0):
        raise SettingsError(
            f"shop_bank_telco needs a whole number of 0 or more as its seed, but got '{seed}'"
        )
    return _SIZES[size]


def _people(seed: int, size: str) -> tuple[NDArray[np.object_], FloatArray]:
    """Return ids ``(n_people,)`` and traits ``(n_people, 3)``; the shop's users come first."""
    n_people = round((1 + 2 * _OUTSIDERS) * _chosen(seed, size).users)
    draw = generator(seed, "people")
    names = zip(
        draw.choice(_FIRST_NAMES, n_people),
        draw.choice(_LAST_NAMES, n_people),
        draw.permutation(n_people),  # makes the id unique
        strict=True,
    )
    ids = [f"{first}.{last}{number:04d}@example.org" for first, last, number in names]
    return np.array(ids, dtype=object), draw.normal(size=(n_people, _RANK))


def _items(seed: int, size: str) -> tuple[pd.DataFrame, FloatArray, FloatArray]:
    """Return the items from the most to the least popular, their appeal ``(n_items,)`` and vectors ``(n_items, 3)``."""
    n_items = _chosen(seed, size).items
    draw = generator(seed, "items")
    category = draw.permutation(n_items) % len(_CATEGORIES)
    price = draw.normal(size=n_items)
    items = pd.DataFrame(
        {
            "item_id": [f"sku-{number:04d}" for number in draw.permutation(n_items)],
            "category": np.array(_CATEGORIES, dtype=object)[category],
            "price": np.round(24 * np.exp(0.6 * price), 2),
        }
    )
    appeal = draw.normal(size=n_items) - 0.4 * price
    of_category = draw.normal(size=(len(_CATEGORIES), _RANK))
    vectors = 0.8 * of_category[category] + 0.6 * draw.normal(size=(n_items, _RANK))
    # Standardised over what is looked at, so that the AUCs hardly depend on the seed.
    weights = _popularity(n_items)
    appeal, vectors = (
        (values - weights @ values) / np.sqrt(weights @ values**2 - (weights @ values) ** 2)
        for values in (appeal, vectors)
    )
    return items, _APPEAL * appeal, _COMMON + _AFFINITY * vectors


def _popularity(n_items: int) -> FloatArray:
    """Return how likely each item is to be looked at, ``(n_items,)``: rank to the power of -0.6."""
    weights = np.arange(1.0, n_items + 1.0) ** -0.6
    popularity: FloatArray = weights / weights.sum()
    return popularity


def _interactions(seed: int, size: str) -> pd.DataFrame:
    """Return the shop's table with the true ``probability`` of each purchase."""
    n_users, n_items, about = _chosen(seed, size)
    ids, traits = _people(seed, size)
    items, appeal, vectors = _items(seed, size)
    draw = generator(seed, "interactions")
    activity = draw.lognormal(sigma=0.8, size=n_users)
    counts = np.rint(activity * about / activity.sum()).clip(2, 3 * n_items // 4)
    # The largest sums of log weight and Gumbel noise are a draw without replacement.
    keys = draw.gumbel(size=(n_users, n_items)) + np.log(_popularity(n_items))
    ranks = np.argsort(np.argsort(-keys, axis=1), axis=1)
    user, item = np.nonzero(ranks < counts[:, np.newaxis])
    logits = _BASE + appeal[item] + np.einsum("nf,nf->n", traits[user], vectors[item])
    device = draw.choice(["app", "desktop", "phone"], p=[0.3, 0.3, 0.4], size=len(user))
    probability = sigmoid(logits - 0.3 * (device == "phone"))
    timestamp = _FIRST_SECOND + draw.integers(_SECONDS, size=len(user))
    table = items.iloc[item].reset_index(drop=True)
    table.insert(0, "user_id", ids[user])
    table.insert(2, "bought", (draw.random(len(user)) < probability).astype(int))
    table.insert(3, "timestamp", timestamp)
    table = table.assign(hour=timestamp // 3600 % 24, device=device, probability=probability)
    return table.sort_values("timestamp", ignore_index=True)


def _profiles(part: str, seed: int, size: str) -> pd.DataFrame:
    """Return the bank's or the telco's table."""
    n_users = _chosen(seed, size).users
    ids, traits = _people(seed, size)
    draw = generator(seed, part)
    known = draw.permutation(n_users)[: round(_KEPT[part] * n_users)]
    others = n_users + draw.permutation(len(ids) - n_users)[: round(_OUTSIDERS * n_users)]
    rows = draw.permutation(np.concatenate([known, others]))
    table = pd.DataFrame({"user_id": ids[rows]})
    for column in _COLUMNS[part]:
        cells = _cells(column, traits[rows], draw)
        table[column.name] = cells.mask(draw.random(len(rows)) < _MISSING)
    return table


def _cells(column: _Column, traits: FloatArray, draw: np.random.Generator) -> pd.Series[Any]:
    """Return what a column says about people of these traits ``(n, 3)``, as ``n`` cells."""
    score = traits @ np.array(column.weights) + column.noise * draw.normal(size=len(traits))
    if column.categories:
        return pd.Series(
            pd.qcut(score, len(column.categories), labels=column.categories).astype(object)
        )
    return pd.Series(np.round(column.median * np.exp(column.spread * score), 2))
