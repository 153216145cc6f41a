from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

from parties.dataset import PartyDataset
from parties.features import FeatureEncoder
from parties.model import FloatArray, sigmoid
from protocol.errors import SettingsError
from scenarios.catalog.synthetic import bayes_auc, cold_users, shop_bank_telco, true_probability

Matrix = sparse.csr_array[Any]


def tables(seed: int = 0, size: str = "tiny") -> dict[str, pd.DataFrame]:
    return {part: shop_bank_telco(part, seed, size) for part in ("shop", "bank", "telco")}


@pytest.mark.parametrize(("size", "users", "items"), [("full", 4_000, 300), ("tiny", 1_200, 40)])
def test_the_tables_are_as_large_and_overlap_as_promised(size: str, users: int, items: int) -> None:
    shop, bank, telco = tables(size=size).values()
    customers = set(shop["user_id"])
    assert len(customers) == users
    assert shop["item_id"].nunique() == items
    assert len(shop) == pytest.approx(55_000 * users / 4_000, rel=0.2)
    assert not shop.duplicated(["user_id", "item_id"]).any()
    for table, kept in ((bank, 0.85), (telco, 0.80)):
        assert table["user_id"].is_unique
        known = table["user_id"].isin(customers)
        assert known.sum() == round(kept * users)
        assert (~known).sum() == round(0.3 * users)
        assert table.drop(columns="user_id").isna().mean().between(0.03, 0.06).all()
    shared = set(bank["user_id"]) & set(telco["user_id"])
    assert shared - customers
    orders = [list(table.loc[table["user_id"].isin(shared), "user_id"]) for table in (bank, telco)]
    assert orders[0] != orders[1]


def test_a_seed_makes_the_same_tables_and_another_one_others() -> None:
    for part, table in tables().items():
        pd.testing.assert_frame_equal(table, shop_bank_telco(part, 0, "tiny"))
        assert not table.equals(shop_bank_telco(part, 1, "tiny"))


def test_every_table_can_be_trained_on() -> None:
    shop, *profiles = tables().values()
    ids = {"user": "user_id", "item": "item_id"}
    dataset = PartyDataset.from_frame("shop", shop, ids=ids, label="bought", time="timestamp")
    assert dataset.kinds == {
        "category": "categorical",
        "price": "numeric",
        "hour": "numeric",
        "device": "categorical",
    }
    for table in profiles:
        kinds = PartyDataset.from_frame("other", table, ids={"user": "user_id"}).kinds
        assert list(kinds.values()) == ["numeric"] * 6 + ["categorical"] * 3


def test_the_shop_is_a_log_of_popular_and_unpopular_items() -> None:
    shop = shop_bank_telco("shop")
    assert shop["timestamp"].is_monotonic_increasing
    assert (shop["hour"] == pd.to_datetime(shop["timestamp"], unit="s").dt.hour).all()
    assert shop.groupby("item_id")[["category", "price"]].nunique().eq(1).all(axis=None)
    views = np.sort(shop["item_id"].value_counts().to_numpy())[::-1]
    slope = np.polyfit(np.log(np.arange(1, 301)), np.log(views), 1)[0]
    assert slope == pytest.approx(-0.6, abs=0.1)
    activity = np.log(shop["user_id"].value_counts().to_numpy())
    assert activity.std() == pytest.approx(0.8, abs=0.15)


def test_the_true_probabilities_are_those_of_the_rows() -> None:
    shop, probability = shop_bank_telco("shop", 3), true_probability(3)
    bins = pd.qcut(probability, 10, labels=False)
    by_bin = pd.DataFrame({"bought": shop["bought"], "probability": probability}).groupby(bins)
    bought, expected = by_bin.mean().to_numpy().T
    np.testing.assert_allclose(bought, expected, atol=0.02)


def test_cold_users_are_30_percent_of_the_shops() -> None:
    shop, cold = shop_bank_telco("shop", 5, "tiny"), cold_users(5, "tiny")
    assert len(cold) == 360
    assert cold < set(shop["user_id"])
    assert cold != cold_users(6, "tiny")


@pytest.mark.parametrize("seed", range(3))
def test_the_best_auc_is_about_83(seed: int) -> None:
    assert bayes_auc(seed) == pytest.approx(0.83, abs=0.015)


def test_only_a_joint_factorization_machine_comes_near_the_best_auc() -> None:
    alone, joint, labels, test = matrices()
    scores = {}
    for name, columns in (("alone", alone), ("joint", joint)):
        for factors in (0, 4):
            logits = train(columns[~test], labels[~test], factors, columns[test])
            scores[name, factors] = float(roc_auc_score(labels[test], logits))
    best = roc_auc_score(labels[test], true_probability(0, "tiny")[test])
    assert best == pytest.approx(0.83, abs=0.03)
    assert scores["joint", 4] == pytest.approx(0.78, abs=0.025)
    assert scores["joint", 0] == pytest.approx(0.63, abs=0.03)
    for factors in (0, 4):
        assert scores["alone", factors] == pytest.approx(0.61, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"part": "baker"}, "the parts shop, bank, telco, but 'baker'"),
        ({"part": "shop", "size": "huge"}, "the sizes full and tiny, but 'huge'"),
        ({"part": "bank", "seed": -1}, "a whole number of 0 or more as its seed, but got '-1'"),
        ({"part": "bank", "seed": "0.5"}, "a whole number of 0 or more as its seed"),
    ],
)
def test_what_it_cannot_make_is_refused(arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        shop_bank_telco(**arguments)


def matrices() -> tuple[Matrix, Matrix, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return the shop's columns and all columns of each interaction, the labels, and which rows are of cold users.

    Nothing but zeros where the bank or the telco does not know the user.
    """
    shop, bank, telco = tables().values()
    test = shop["user_id"].isin(cold_users(0, "tiny")).to_numpy()
    ids = {"user": "user_id", "item": "item_id"}
    dataset = PartyDataset.from_frame(
        "shop", shop, ids=ids, id_features=["item"], label="bought", time="timestamp"
    )
    alone = encode(dataset, np.flatnonzero(~test))
    joint = [alone]
    for table in (bank, telco):
        row = pd.Index(table["user_id"]).get_indexer(pd.Index(shop["user_id"]))
        seen = np.unique(row[~test & (row >= 0)])
        columns = encode(PartyDataset.from_frame("other", table, ids={"user": "user_id"}), seen)
        known = sparse.diags_array((row >= 0).astype(float))
        joint.append(sparse.csr_array(known @ columns[row]))
    labels = shop["bought"].to_numpy(dtype=np.float64)
    return alone, sparse.csr_array(sparse.hstack(joint)), labels, test


def encode(dataset: PartyDataset, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Matrix:
    return FeatureEncoder.fit(dataset, rows).transform_exact(dataset).to_csr()


def train(X: Matrix, y: FloatArray, factors: int, unseen: Matrix) -> FloatArray:
    """Return the logits of unseen rows: a factorization machine, 60 full-batch steps of Adam at 0.05."""
    n, p = X.shape
    squares = X.power(2)
    draw = np.random.default_rng(0)
    parameters = np.hstack([np.zeros((p, 1)), draw.normal(0, 0.1, (p, factors))])
    bias, first, second = 0.0, np.zeros_like(parameters), np.zeros_like(parameters)

    def logits(rows: Matrix, squared: Matrix) -> tuple[FloatArray, FloatArray]:
        weights, V = parameters[:, 0], parameters[:, 1:]
        S = rows @ V
        z = rows @ weights + bias + (S**2).sum(axis=1) / 2 - (squared @ V**2).sum(axis=1) / 2
        return z, S

    for step in range(1, 61):
        z, S = logits(X, squares)
        d = (sigmoid(z) - y) / n
        own = parameters[:, 1:] * (squares.T @ d)[:, np.newaxis]
        gradient = np.hstack([(X.T @ d)[:, np.newaxis], X.T @ (d[:, np.newaxis] * S) - own])
        gradient += 1e-4 * parameters
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        scale = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        parameters = parameters - 0.05 * first / (1 - 0.9**step) / scale
        bias -= float(d.sum())
    return logits(unseen, unseen.power(2))[0]
