"""The label party's users and items, and what its interaction table says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from parties.dataset import PartyDataset
from parties.errors import DataError

IntArray = NDArray[np.int64]

USER, ITEM = "user", "item"


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Who and what occurs in an interaction table, each with the row it occurs in first.

    ``user_of`` and ``item_of`` (n_rows,) number the users and items of all rows. ``item_columns`` are
    the feature columns that describe the item: those with one value for each item throughout. All
    others describe the user or the occasion.
    """

    users: NDArray[np.object_]
    items: NDArray[np.object_]
    user_of: IntArray
    item_of: IntArray
    user_rows: IntArray
    item_rows: IntArray
    item_columns: frozenset[str]

    @classmethod
    def of(cls, dataset: PartyDataset) -> Self:
        """Take stock of a table with ids of entity types 'user' and 'item'; raises DataError without them."""
        cls.check(dataset)
        user_of, users = pd.factorize(dataset.ids[USER])
        item_of, items = pd.factorize(dataset.ids[ITEM])
        by_item = dataset.columns.groupby(item_of).nunique(dropna=False)
        columns = by_item.columns[(by_item <= 1).all()]
        return cls(
            users=users,
            items=items,
            user_of=user_of.astype(np.int64),
            item_of=item_of.astype(np.int64),
            user_rows=np.unique(user_of, return_index=True)[1].astype(np.int64),
            item_rows=np.unique(item_of, return_index=True)[1].astype(np.int64),
            item_columns=frozenset(map(str, columns)),
        )

    @staticmethod
    def check(dataset: PartyDataset) -> None:
        """Raise DataError unless a table has ids of users and of items."""
        if not {USER, ITEM} <= set(dataset.ids):
            raise DataError(
                f"{dataset.party}: recommending needs ids of the entities 'user' and 'item', "
                f"but there are ids of {', '.join(map(repr, dataset.ids))} only"
            )

    def describe_items(self, sources: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which matrix columns (n_columns,) describe items, from the table's column each comes from."""
        return np.isin(sources, list(self.item_columns))

    def interactions(self, rows: IntArray) -> sparse.csr_array[Any]:
        """Return which users and items meet in the given rows: 0/1 (n_users, n_items)."""
        shape = len(self.users), len(self.items)
        pairs = np.unique(self.user_of[rows] * shape[1] + self.item_of[rows])
        ones = np.ones(len(pairs), dtype=np.int8)
        return sparse.csr_array((ones, np.divmod(pairs, shape[1])), shape=shape)


@dataclass(frozen=True, eq=False)
class Negatives:
    """Rows to add to an interaction table: the user of ``user_rows`` and the item of ``item_rows``, with label 0."""

    user_rows: IntArray
    item_rows: IntArray

    def __len__(self) -> int:
        return len(self.user_rows)

    def extend(self, dataset: PartyDataset, catalogue: Catalogue) -> PartyDataset:
        """Return the table with these rows at its end; all but the item's own columns are those of the user's row."""
        occasion, item = dataset.take(self.user_rows), dataset.take(self.item_rows)
        columns = occasion.columns.copy()
        for name in catalogue.item_columns:
            columns[name] = item.columns[name]
        assert dataset.label is not None, "only a label party has interactions"
        return replace(
            dataset,
            ids={
                entity: np.concatenate([own, (item if entity == ITEM else occasion).ids[entity]])
                for entity, own in dataset.ids.items()
            },
            columns=pd.concat([dataset.columns, columns], ignore_index=True),
            label=np.concatenate([dataset.label, np.zeros(len(self))]),
            time=_joined(dataset.time, occasion.time),
            titles=_joined(dataset.titles, item.titles),
        )


def _joined(above: pd.Series[Any] | None, below: pd.Series[Any] | None) -> pd.Series[Any] | None:
    if above is None or below is None:
        return None
    return pd.concat([above, below], ignore_index=True)


def draw_negatives(
    catalogue: Catalogue,
    positive_rows: IntArray,
    met_rows: IntArray,
    *,
    per_positive: int,
    popularity: float,
    draw: np.random.Generator,
) -> Negatives:
    """Draw items that the users of ``positive_rows`` have not met in ``met_rows``, ``per_positive`` for each row.

    An item is drawn with probability proportional to its number of positive rows to the power of ``popularity``
    (Mikolov et al., NeurIPS 2013, use 0.75). A draw that hits an item the user has met is repeated a few times and then
    left out, so a user who has met nearly everything gets fewer.
    """
    counts = np.bincount(catalogue.item_of[positive_rows], minlength=len(catalogue.items))
    weights = counts.astype(np.float64) ** popularity * (counts > 0)
    weights /= weights.sum()
    n_items = len(catalogue.items)
    met = np.unique(catalogue.user_of[met_rows] * n_items + catalogue.item_of[met_rows])
    rows = np.repeat(positive_rows, per_positive)
    items = np.full(len(rows), -1, dtype=np.int64)
    open_rows = np.arange(len(rows))
    for _ in range(20):
        drawn = draw.choice(n_items, size=len(open_rows), p=weights)
        new = ~np.isin(catalogue.user_of[rows[open_rows]] * n_items + drawn, met)
        items[open_rows[new]] = drawn[new]
        open_rows = open_rows[~new]
    found = items >= 0
    return Negatives(rows[found], catalogue.item_rows[items[found]])
