from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import ParameterGrid
from sklearn.utils import estimator_checks

from parties.model import FloatArray, joint_logits, sigmoid
from protocol.errors import (
    AlignmentError,
    ColonnadeError,
    DataError,
    GuardError,
    GuardWarning,
    SettingsError,
)
from protocol.settings import EncryptionSettings, ProtocolSettings, TrainingSettings
from scenarios import Table, VerticalFactorizationMachine, VerticalLogisticRegression
from scenarios.catalog.synthetic import shop_bank_telco
from scenarios.estimators import VerticalClassifier
from scenarios.running import runner
from scenarios.scenario import Scenario, load

Tables = dict[str, pd.DataFrame]
LoadScenario = Callable[..., Scenario]

ESTIMATORS = (VerticalLogisticRegression, VerticalFactorizationMachine)
SMALL: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 64,
    "key_bits": 512,
    "insecure_key": True,
    "random_state": 3,
}
ONE_BATCH = SMALL | {"batch_size": 140}
UNKNOWN = r"does not know \d+ of the \d+ rows"


def described(tables: Tables, **of_feature_parties: Any) -> dict[str, Table]:
    return {
        name: Table(frame, id="user", label="bought")
        if name == "shop"
        else Table(frame, id="user", **of_feature_parties)
        for name, frame in tables.items()
    }


@pytest.fixture(
    scope="module",
    params=[
        VerticalLogisticRegression(disclosure="shared", **ONE_BATCH),
        VerticalLogisticRegression(disclosure="open", **ONE_BATCH),
        VerticalFactorizationMachine(factors=1, disclosure="shared", **ONE_BATCH),
    ],
    ids=["logistic-shared", "logistic-open", "factorization-shared"],
)
def fitted(tables: Tables, request: pytest.FixtureRequest) -> VerticalClassifier:
    """A model that has not seen the shop's last 60 rows."""
    seen = {**tables, "shop": tables["shop"][:240]}
    model: VerticalClassifier = clone(request.param)
    return model.fit(described(seen, missing="neutral"))


@pytest.fixture(scope="module")
def recommender() -> VerticalFactorizationMachine:
    shop, bank, telco = (shop_bank_telco(part, size="tiny") for part in ("shop", "bank", "telco"))
    parties = {
        "shop": Table(
            shop,
            ids={"user": "user_id", "item": "item_id"},
            id_features=["item"],
            label="bought",
            ignore=["timestamp"],
            title="category",
        ),
        "bank": Table(bank, id="user_id"),
        "telco": Table(telco, id="user_id", missing="neutral"),
    }
    model = VerticalFactorizationMachine(
        factors=2, epochs=3, batch_size=10**6, disclosure="none", split="cold-users"
    )
    with pytest.warns(GuardWarning, match="nothing was encrypted"):
        return model.fit(parties)


def in_the_clear(model: VerticalClassifier, tables: Mapping[str, pd.DataFrame]) -> FloatArray:
    """Return the logits of the shop's rows by joining all tables in pandas, standard score by standard score."""
    logits: list[FloatArray] = []
    sums: list[FloatArray] = []
    for name, half in model.halves_.items():
        rows = tables["shop"][["user"]].merge(tables[name], on="user", how="left")
        matrix = np.column_stack(
            [
                (rows[recipe.column] - recipe.centre) / recipe.scale
                for recipe in half.encoder.recipes
                if recipe.kind == "scaled"
            ]
            + [
                (rows[recipe.column] == category).astype(float)
                for recipe in half.encoder.recipes
                if recipe.kind == "one-hot"
                for category in recipe.categories
            ]
        )
        known = rows["user"].isin(tables[name]["user"]).to_numpy()
        matrix = np.where(known[:, None], matrix, 0.0)
        factors = half.model.factors
        logits.append(
            matrix @ half.model.weights
            - ((matrix**2) @ (factors**2).sum(axis=1)) / 2
            + (half.model.bias or 0.0)
        )
        sums.append(matrix @ factors)
    return joint_logits(np.sum(logits, axis=0), np.sum(sums, axis=0))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_parameters_are_kept_as_given_and_cloned(kind: type[VerticalClassifier]) -> None:
    model = kind(epochs=7, l2=0, disclosure="open")
    assert model.get_params() == kind().get_params() | {"epochs": 7, "l2": 0, "disclosure": "open"}
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(epochs=8).epochs == 8
    assert is_classifier(model)
    assert repr(model) == f"{kind.__name__}(disclosure='open', epochs=8, l2=0)"


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize(
    "check",
    [
        # Those that need no array for X, which here is a table a party.
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_estimator_repr,
    ],
)
def test_scikit_learn_has_no_objections(kind: type[VerticalClassifier], check: Any) -> None:
    check(kind.__name__, kind())


def test_defaults_are_those_of_a_scenario_file() -> None:
    defaults = VerticalFactorizationMachine().get_params()
    for settings in (TrainingSettings(), EncryptionSettings()):
        for name, value in settings.model_dump().items():
            assert defaults.get(name, value) == value
    scenario = ProtocolSettings()
    assert defaults["validation_fraction"] == scenario.split.validation
    assert defaults["test_fraction"] == scenario.split.test
    assert (defaults["split"], defaults["random_state"]) == (scenario.split.kind, scenario.seed)
    assert defaults["alignment"] == scenario.alignment.method
    assert defaults["negatives"] == scenario.negatives.per_positive


def test_a_fit_is_the_run_of_the_same_scenario(tables: Tables, load_scenario: LoadScenario) -> None:
    model = VerticalLogisticRegression(disclosure="open", **SMALL).fit(described(tables))
    run = runner.run(load_scenario())
    assert model.n_epochs_ == len(run.label_party.trained.history) == len(model.history_)
    assert list(model.halves_) == ["shop", "bank", "telco"]
    for name, half in run.halves.items():
        np.testing.assert_array_equal(model.halves_[name].model.parameters, half.model.parameters)
    assert model.classes_.tolist() == [0, 1]


def test_new_rows_get_the_probabilities_of_the_plaintext_model(
    fitted: VerticalClassifier, tables: Tables
) -> None:
    shuffled = tables["shop"][240:].sample(frac=1, random_state=0)
    new = {**tables, "shop": shuffled, "bank": tables["bank"].sample(frac=0.9, random_state=1)}
    assert not shuffled["user"].isin(new["bank"]["user"]).all()
    expected = sigmoid(in_the_clear(fitted, new))
    # Disclosure 'open' rounds columns to 12 fractional bits, 'shared' in addition contributions.
    chances = fitted.predict_proba({**new, "shop": shuffled.drop(columns="bought")})
    np.testing.assert_allclose(chances, np.column_stack([1 - expected, expected]), atol=2e-3)
    assert chances.shape == (60, 2)
    decided = fitted.predict(new)
    np.testing.assert_array_equal(decided, chances[:, 1] > 0.5)
    assert fitted.score(new) == np.mean(decided == shuffled["bought"])


def test_one_row_that_nobody_else_knows_gets_a_prediction(
    fitted: VerticalClassifier, tables: Tables
) -> None:
    stranger = tables["shop"][:1].assign(user="nobody@example.org").drop(columns="bought")
    new = {**tables, "shop": stranger}
    (chance,) = fitted.predict_proba(new)[:, 1]
    assert chance == pytest.approx(sigmoid(in_the_clear(fitted, new)).item(), abs=2e-3)


def test_who_drops_unknown_rows_in_training_is_told_of_them_later(tables: Tables) -> None:
    model = VerticalLogisticRegression(disclosure="open", **SMALL).fit(described(tables))
    with pytest.warns(UserWarning, match=UNKNOWN):
        logits = model.decision_function(tables)
    np.testing.assert_allclose(logits, in_the_clear(model, tables), atol=5e-3)


def test_nothing_encrypted_gives_the_same_model_and_says_so(tables: Tables) -> None:
    parties = described(tables)
    model = VerticalLogisticRegression(disclosure="open", **SMALL).fit(parties)
    plain = clone(model).set_params(disclosure="none")
    with pytest.warns(GuardWarning, match="nothing was encrypted"):
        plain.fit(parties)
    for name, half in model.halves_.items():
        np.testing.assert_array_equal(half.model.parameters, plain.halves_[name].model.parameters)


def test_parameters_are_searched_in_a_plain_loop(tables: Tables) -> None:
    parties = described(tables)
    base = VerticalLogisticRegression(disclosure="open", **SMALL)
    grid = ParameterGrid({"learning_rate": np.array([1e-4, 0.1]), "epochs": np.array([1, 4])})
    losses = [
        clone(base).set_params(**chosen).fit(parties).history_["validation_loss"].min()
        for chosen in grid
    ]
    best = list(grid)[int(np.argmin(losses))]
    assert best == {"learning_rate": 0.1, "epochs": 4}


def test_tables_of_polars_do_as_well(tables: Tables) -> None:
    parties = described({name: pl.from_pandas(frame) for name, frame in tables.items()})  # type: ignore[misc]
    model = VerticalLogisticRegression(disclosure="open", **SMALL).fit(parties)
    of_pandas = clone(model).fit(described(tables))
    for name, half in model.halves_.items():
        theirs = of_pandas.halves_[name].model
        np.testing.assert_array_equal(half.model.parameters, theirs.parameters)


def test_before_fit_there_is_nothing_to_predict_with(tables: Tables) -> None:
    model = VerticalFactorizationMachine()
    for ask in (model.predict, model.predict_proba, model.decision_function, model.score):
        with pytest.raises(NotFittedError):
            ask(tables)
    with pytest.raises(NotFittedError):
        model.recommend(["ada"])
    assert not hasattr(model, "halves_")


def test_it_works_where_an_event_loop_is_running(tables: Tables) -> None:
    async def cell() -> VerticalLogisticRegression:
        return VerticalLogisticRegression(disclosure="open", **SMALL).fit(described(tables))

    here = VerticalLogisticRegression(disclosure="open", **SMALL).fit(described(tables))
    there = asyncio.run(cell())
    for name, half in here.halves_.items():
        np.testing.assert_array_equal(half.model.parameters, there.halves_[name].model.parameters)


def test_a_bar_shows_the_rounds(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    VerticalLogisticRegression(disclosure="open", verbose=True, **SMALL).fit(described(tables))
    assert "8/8 rounds" in capsys.readouterr().out


def test_lists_are_those_of_the_best_unmet_items(recommender: VerticalFactorizationMachine) -> None:
    shop, bank = shop_bank_telco("shop", size="tiny"), shop_bank_telco("bank", size="tiny")
    everyone = shop["user_id"].drop_duplicates()
    known = everyone.isin(bank["user_id"])
    users = [*everyone[known][:2], *everyone[~known][:1]]
    with pytest.warns(UserWarning, match="bank does not know 1 of the 3 users"):
        table = recommender.recommend(users, k=4)
    assert table.columns.tolist() == ["user", "rank", "item", "title", "probability"]
    assert table["user"].tolist() == np.repeat(users, 4).tolist()
    met = shop.groupby("user_id")["item_id"].agg(set)
    for user, best in table.groupby("user"):
        assert not met[user] & set(best["item"])
        assert best["probability"].is_monotonic_decreasing
    first = table[table["user"] == users[1]]
    again = recommender.recommend(users[1], k=4, items=first["item"].tolist()[::-1])
    pd.testing.assert_frame_equal(again, first.reset_index(drop=True))
    with pytest.raises(DataError, match="shop: its table lacks 1 of 2 users asked for"):
        recommender.recommend([users[0], "nobody"])
    with pytest.raises(DataError, match="shop: users asked for: an id is text or an integer"):
        recommender.recommend([1.5])


def test_new_interactions_of_known_and_new_items_are_scored(
    recommender: VerticalFactorizationMachine,
) -> None:
    shop, bank, telco = (shop_bank_telco(part, size="tiny") for part in ("shop", "bank", "telco"))
    rows = shop[-50:].drop(columns=["bought", "timestamp"])
    new = {"shop": rows, "bank": bank, "telco": telco}
    with pytest.warns(UserWarning, match=UNKNOWN):
        chances = recommender.predict_proba(new)[:, 1]
    assert np.unique(chances).size > 40
    with pytest.warns(UserWarning, match=UNKNOWN):
        of_new_item = recommender.predict_proba({**new, "shop": rows.assign(item_id="sku-new")})
    assert np.isfinite(of_new_item).all()


def test_errors_say_what_to_do(tables: Tables) -> None:
    good = described(tables)
    model = VerticalLogisticRegression(disclosure="open", **SMALL)
    shop, bank = tables["shop"], tables["bank"]
    for parties, error, said in [
        (
            {**good, "bank": bank},
            DataError,
            r'bank: expected such as Table\(frame, id="user"\), got',
        ),
        ({"shop": good["shop"]}, SettingsError, "expected two or more tables, exactly one of them"),
        ({"bank": good["bank"], "telco": good["telco"]}, SettingsError, "these have one: none"),
        ({**good, "bank": good["shop"]}, SettingsError, "these have one: shop, bank"),
        ({**good, "The Bank": good["bank"]}, SettingsError, "name: string should match pattern"),
        (
            {**good, "bank": Table(bank, id="user", catgorical=["colour"])},  # type: ignore[call-arg]
            SettingsError,
            "there is no setting parties.bank.catgorical; did you mean parties.categorical?",
        ),
        ({**good, "bank": Table(bank)}, SettingsError, "bank: expected exactly one of id and ids"),
        ({**good, "bank": Table(bank, id="customer")}, DataError, "bank: no column 'customer'"),
        (
            {**good, "bank": Table(bank.assign(user=range(300)), id="user")},
            AlignmentError,
            "whole numbers at bank and text at shop",
        ),
        ({**good, "shop": Table(shop, id="user", label="x0")}, DataError, "expected only 0 and 1"),
    ]:
        with pytest.raises(error, match=said) as raised:
            model.fit(parties)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)
    wrong: list[tuple[dict[str, Any], type[ColonnadeError], str]] = [
        ({"epochs": 0}, SettingsError, "training.epochs: input should be greater than or equal"),
        ({"disclosure": "secret"}, SettingsError, "training.disclosure: input should be 'shared'"),
        ({"test_fraction": 1.5}, SettingsError, "split.test: input should be less than 1"),
        ({"insecure_key": False}, GuardError, "512"),
        ({"batch_size": 8}, GuardError, "bank has 3 columns"),
    ]
    for settings, error, said in wrong:
        with pytest.raises(error, match=said):
            clone(model).set_params(**settings).fit(good)
    with pytest.raises(DataError, match="the table: expected a DataFrame of pandas or polars, got"):
        Table([[1, 2]], id="user")


def test_new_tables_must_be_those_of_the_same_parties(
    fitted: VerticalClassifier, tables: Tables
) -> None:
    with pytest.raises(DataError, match="expected tables of shop, bank, telco, got shop, bank"):
        fitted.predict({"shop": tables["shop"], "bank": tables["bank"]})
    with pytest.raises(DataError, match="bank: no column 'x3'"):
        fitted.predict({**tables, "bank": tables["bank"].drop(columns="x3")})
    with pytest.raises(DataError, match="shop: no column 'bought'"):
        fitted.score({**tables, "shop": tables["shop"].drop(columns="bought")})


def test_a_table_shows_its_size_and_no_cell(tables: Tables) -> None:
    assert repr(described(tables)["shop"]) == "Table(300 rows, id='user', label='bought')"


def test_a_scenario_file_cannot_hold_a_frame(scenario_file: Any) -> None:
    scenario_file.write_text(scenario_file.read_text().replace('csv = "bank.csv"', 'frame = "x"'))
    with pytest.raises(
        SettingsError, match=r"bank\.frame: expected a DataFrame, which only Python"
    ):
        load(str(scenario_file))
