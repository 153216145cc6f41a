from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from parties.catalogue import Catalogue, draw_negatives
from parties.dataset import IdKind, PartyDataset
from parties.errors import DataError


def shop() -> PartyDataset:
    frame = pd.DataFrame(
        {
            "who": ["ann", "bob", "ann", "cid", "bob", "ann"],
            "what": ["pen", "pen", "ink", "cup", "cup", "pen"],
            "price": [1.0, 1.0, 5.0, 9.0, 9.0, 1.0],
            "hour": [8.0, 9.0, 8.0, 7.0, 6.0, 5.0],
            "bought": [1, 1, 0, 1, 0, 1],
        }
    )
    return PartyDataset.from_frame(
        "shop",
        frame,
        ids={"user": "who", "item": "what"},
        label="bought",
        id_features=["item"],
        id_kinds={"user": IdKind.TEXT},
    )


def test_users_items_and_what_describes_an_item() -> None:
    catalogue = Catalogue.of(shop())
    assert catalogue.users.tolist() == ["ann", "bob", "cid"]
    assert catalogue.items.tolist() == ["pen", "ink", "cup"]
    assert catalogue.user_rows.tolist() == [0, 1, 3]
    assert catalogue.item_rows.tolist() == [0, 2, 3]
    assert catalogue.item_columns == {"price", "what"}
    met = catalogue.interactions(np.arange(6))
    assert met.toarray().tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 1]]


def test_recommending_needs_users_and_items() -> None:
    frame = pd.DataFrame({"who": ["a", "b"], "x": [1.0, 2.0], "y": [0, 1]})
    dataset = PartyDataset.from_frame("shop", frame, ids={"user": "who"}, label="y")
    with pytest.raises(DataError, match="needs ids of the entities 'user' and 'item'"):
        Catalogue.of(dataset)


def test_negatives_are_items_the_user_has_not_met() -> None:
    dataset = shop()
    catalogue = Catalogue.of(dataset)
    everything, positive = np.arange(6), np.array([0, 1, 3, 5])
    drawn = draw_negatives(
        catalogue,
        positive,
        everything,
        per_positive=5,
        popularity=0.75,
        draw=np.random.default_rng(1),
    )
    pairs = list(
        zip(catalogue.user_of[drawn.user_rows], catalogue.item_of[drawn.item_rows], strict=True)
    )
    met = set(zip(catalogue.user_of, catalogue.item_of, strict=True))
    assert pairs
    assert not met & set(pairs)
    # Nobody bought ink: it is never drawn, so bob, who met the two others, gets nothing.
    assert {catalogue.items[item] for _, item in pairs} == {"cup", "pen"}
    assert "bob" not in {catalogue.users[user] for user, _ in pairs}
    extended = drawn.extend(dataset, catalogue)
    assert extended.n_rows == 6 + len(drawn)
    assert extended.id_kinds == dataset.id_kinds == {"user": IdKind.TEXT}
    assert extended.label is not None
    assert not extended.label[6:].any()
    for row in range(6, extended.n_rows):
        item = str(extended.ids["item"][row])
        assert extended.columns["price"][row] == {"pen": 1.0, "cup": 9.0}[item]
        assert extended.columns["what"][row] == item


def test_popular_items_are_drawn_more_often() -> None:
    rng = np.random.default_rng(0)
    items = rng.choice(20, 3000, p=np.arange(20, 0, -1) / 210)
    frame = pd.DataFrame({"u": np.arange(3000), "i": items, "x": rng.normal(size=3000), "y": 1})
    frame.loc[0, "y"] = 0
    dataset = PartyDataset.from_frame("shop", frame, ids={"user": "u", "item": "i"}, label="y")
    catalogue = Catalogue.of(dataset)
    rows = np.arange(1, 3000)
    counts = np.bincount(catalogue.item_of[rows], minlength=20)
    for popularity in (0.0, 1.0):
        drawn = draw_negatives(
            catalogue,
            rows,
            rows,
            per_positive=10,
            popularity=popularity,
            draw=np.random.default_rng(0),
        )
        frequency = np.bincount(catalogue.item_of[drawn.item_rows], minlength=20)
        slope = np.polyfit(np.log(counts), np.log(frequency), 1)[0]
        assert slope == pytest.approx(popularity, abs=0.15)
