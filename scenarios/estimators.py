"""The system as scikit-learn estimators, for somebody who has all tables at hand and plays every party.

    parties = {
        "shop": Table(shop, id="user", label="bought"),
        "bank": Table(bank, id="customer"),
    }
    model = VerticalLogisticRegression(epochs=20).fit(parties)
    model.predict_proba({"shop": new_rows, "bank": bank})

What scikit-learn calls X is a table a party here, by the party's name; labels are a column of one of them. So
estimators clone and compare like any other, but tools that cut X into rows themselves, such as GridSearchCV, cannot
cut these: cut the label party's table.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from parties.dataset import Declaration, PartyDataset
from parties.model import OptimizerName, sigmoid
from parties.sources import to_pandas
from protocol.errors import DataError, GuardWarning, SettingsError
from protocol.numbers import FloatArray, IntArray
from protocol.settings import (
    AlignmentMethod,
    Disclosure,
    EncryptionSettings,
    Guard,
    ModelName,
    Settings,
    SplitKind,
    TrainingSettings,
)
from scenarios.result import Result
from scenarios.running.folders import SavedHalf
from scenarios.running.prediction import Prediction, predict
from scenarios.running.progress import run_bar
from scenarios.running.recommend import list_items
from scenarios.running.runner import Run, run
from scenarios.scenario import Scenario, validated


class TableSettings(Declaration, total=False):
    """What can be said of a table: the settings of a party in a scenario file, but for where the table is."""

    id: str
    ids: Mapping[str, str]
    entity: str
    missing: Literal["drop", "neutral"]
    id_kind: Literal["integer", "text"]


class Table:
    """One party's DataFrame, of pandas or polars, and what is in it.

    A feature party says at least which column is its ``id``; the label party also names its ``label``, of 0 and 1. All
    keywords are those of :class:`scenarios.party.PartySettings`. Raises DataError for what is no DataFrame.
    """

    def __init__(self, frame: Any, **settings: Unpack[TableSettings]) -> None:
        self.frame = to_pandas(frame, "the table")
        self.settings = {name: _plain(value) for name, value in settings.items()}

    def __repr__(self) -> str:
        said = "".join(f", {name}={value!r}" for name, value in self.settings.items())
        return f"Table({len(self.frame):,} rows{said})"

    @property
    def leads(self) -> bool:
        """Whether this is the label party's table."""
        return self.settings.get("label") is not None


Tables = Mapping[str, Any]  # a Table, or after fit also a mere DataFrame, by the party's name


@dataclass(eq=False, repr=False, kw_only=True)
class VerticalClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What both models have in common. Parameters are the settings of a scenario file, under the same names.

    - ``epochs`` at most, fewer if ``patience`` of them run by without a better loss on the ``validation_fraction`` of
      rows; ``test_fraction`` of them is held out for ``result_``. ``split`` says how both are chosen
    - ``optimizer`` is by default one of second order for logistic models, which ends where the loss would fall by less
      than ``tolerance``; "adam" and "sgd" have ``learning_rate``, ``momentum`` and batches of ``batch_size`` rows or
      more. ``l2`` weighs columns, ``l2_ids`` one-hot ids; ``logit_bound`` is the largest score of one party, beyond
      which it is clipped
    - ``disclosure`` is what the label party sees of the logits: nothing (``shared``), every party's part of them
      (``open``), and ``none`` encrypts nothing at all. ``guard = "warn"`` turns what the guards refuse into warnings;
      ``guard_ratio`` and ``min_support`` are theirs
    - ``key_bits`` of the Paillier key, below 2048 only with ``insecure_key``; ``alignment`` is how shared ids are found
    - ``random_state`` seeds splits, batches and first weights, and nothing that protects anybody. ``n_jobs`` is
      joblib's. ``verbose`` shows a bar

    After ``fit``: ``run_`` (everything that happened), ``result_`` (scores, costs, who learned what; shown by a
    notebook), ``halves_`` (each party's own model and preprocessing), ``history_`` (a row an epoch), ``n_epochs_``,
    ``classes_``.
    """

    epochs: int = 30
    batch_size: int | None = None
    learning_rate: float = 0.05
    optimizer: OptimizerName = "auto"
    momentum: float = 0.9
    l2: float = 1e-3
    l2_ids: float = 1e-3
    logit_bound: float = 16.0
    patience: int = 5
    tolerance: float = 1e-6
    disclosure: Disclosure = "shared"
    guard: Guard = "strict"
    guard_ratio: int = 8
    min_support: int = 3
    key_bits: int = 2048
    insecure_key: bool = False
    alignment: AlignmentMethod = "keyed-hash"
    split: SplitKind = "random"
    validation_fraction: float = 0.15
    test_fraction: float = 0.2
    random_state: int = 0
    n_jobs: int = -1
    verbose: bool = False

    _model: ClassVar[ModelName]

    def fit(self, parties: Mapping[str, Table]) -> Self:
        """Align the parties and train; one of the tables has a label.

        Raises SettingsError, DataError, GuardError or AlignmentError, and warns of what the guards let pass.
        """
        scenario = self._scenario(parties)
        with run_bar(Console(), disable=not self.verbose) as (aligning, training):
            self.run_: Run = run(scenario, training, aligning=aligning)
        self.result_ = Result(self.run_)
        self.classes_ = np.array([0, 1])
        for warning in self.run_.warnings:
            warnings.warn(warning, GuardWarning, stacklevel=2)
        return self

    @property
    def halves_(self) -> dict[str, SavedHalf]:
        """What each data party keeps: its preprocessing and its half of the model."""
        return {
            name: SavedHalf(half.encoder, half.model) for name, half in self.run_.halves.items()
        }

    @property
    def history_(self) -> pd.DataFrame:
        """Losses and seconds, a row an epoch, and whether it was the best so far."""
        return pd.DataFrame(self.run_.label_party.trained.history)

    @property
    def n_epochs_(self) -> int:
        """The epochs that were trained."""
        return len(self.run_.label_party.trained.history)

    def decision_function(self, parties: Tables) -> FloatArray:
        """Return the joint logit of each row of the label party's new table (n_rows,), which needs no label.

        Tables are as in ``fit``, or mere DataFrames of the same columns: what ``fit`` was told of them still holds.
        The parties align them and score together, under the same disclosure. A party contributes nothing to a row
        whose id it does not know; that is a warning unless it said ``missing="neutral"``.
        """
        return self._predict(self._new_tables(parties, labelled=False)).logits

    def predict_proba(self, parties: Tables) -> FloatArray:
        """Return the probabilities of 0 and 1 (n_rows, 2), as ``decision_function`` scores new rows."""
        logits = self.decision_function(parties)
        return np.column_stack([sigmoid(-logits), sigmoid(logits)])

    def predict(self, parties: Tables) -> IntArray:
        """Return the likelier class of each new row (n_rows,)."""
        return (self.decision_function(parties) > 0).astype(np.int64)

    def score(self, parties: Tables) -> float:
        """Return the accuracy on new rows with labels, as scikit-learn's classifiers do."""
        datasets = self._new_tables(parties, labelled=True)
        labels = datasets[self.run_.scenario.label_party.name].label
        return float(np.mean((self._predict(datasets).logits > 0) == labels))

    def _predict(self, datasets: Mapping[str, PartyDataset]) -> Prediction:
        prediction = predict(self.run_.scenario, datasets, self.halves_)
        self._warn_of_unknown({name: ~known for name, known in prediction.knows.items()}, "rows")
        return prediction

    def _warn_of_unknown(self, unknown: Mapping[str, NDArray[np.bool_]], what: str) -> None:
        for party in self.run_.scenario.feature_parties:
            among = unknown.get(party.name, np.zeros(0, bool))
            if among.any() and party.missing == "drop":
                warnings.warn(
                    f"{party.name} does not know {np.count_nonzero(among)} of the {len(among)} {what} and contributes "
                    f'nothing to them; Table(..., missing="neutral") says that this is meant',
                    UserWarning,
                    stacklevel=4,
                )

    def _new_tables(self, parties: Tables, *, labelled: bool) -> dict[str, PartyDataset]:
        check_is_fitted(self)
        scenario, datasets = self.run_.scenario, {}
        expected = [party.name for party in scenario.parties]
        if set(parties) != set(expected):
            raise DataError(
                f"expected tables of {', '.join(expected)}, got {', '.join(parties) or 'none'}"
            )
        for party in scenario.parties:
            table = parties[party.name]
            frame = table.frame if isinstance(table, Table) else table
            label = party.label if labelled else None
            rows = {"frame": frame, "label": label, "time": None, "title": None}
            further = party.model_copy(update=rows)
            datasets[party.name] = scenario.dataset(further, like=self.run_.datasets[party.name])
        return datasets

    def _scenario(self, parties: Mapping[str, Table]) -> Scenario:
        for name, table in parties.items():
            if not isinstance(table, Table):
                raise DataError(
                    f'{name}: expected such as Table(frame, id="user"), got {type(table).__name__}'
                )
        if sum(table.leads for table in parties.values()) != 1 or len(parties) < 2:
            leading = ", ".join(name for name, table in parties.items() if table.leads)
            raise SettingsError(
                "expected two or more tables, exactly one of them with label= the column of the outcome; of "
                f"{len(parties)}, these have one: {leading or 'none'}"
            )
        data = {"name": type(self).__name__, **self._settings(), "parties": []}
        for name, table in parties.items():
            role = "label" if table.leads else "feature"
            party = {"name": name, "role": role, "frame": table.frame, **table.settings}
            data["parties"].append(party)
        return validated(Scenario, data, type(self).__name__)

    def _settings(self) -> dict[str, Any]:
        """Return the parameters in the groups of a scenario file."""
        given = {name: _plain(value) for name, value in self.get_params(deep=False).items()}

        def group(kind: type[Settings]) -> dict[str, Any]:
            return {name: given[name] for name in kind.model_fields if name in given}

        return {
            "seed": given["random_state"],
            "alignment": {"method": given["alignment"]},
            "encryption": group(EncryptionSettings),
            "split": {
                "kind": given["split"],
                "validation": given["validation_fraction"],
                "test": given["test_fraction"],
            },
            "training": {"model": self._model, **group(TrainingSettings)},
        }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.input_tags.two_d_array, tags.input_tags.dict = False, True
        tags.target_tags.required = False
        tags.classifier_tags.multi_class = False
        return tags


@dataclass(eq=False, repr=False, kw_only=True)
class VerticalLogisticRegression(VerticalClassifier):
    """Logistic regression over the columns of several parties; see :class:`VerticalClassifier`."""

    _model = "logistic"


@dataclass(eq=False, repr=False, kw_only=True)
class VerticalFactorizationMachine(VerticalClassifier):
    """A factorization machine (Rendle, ICDM 2010) over the columns of several parties; see :class:`VerticalClassifier`.

    It has ``factors``, weighed by ``l2_factors``; ``latent_bound`` is the largest length of one party's latent sums.
    With ``negatives`` so many items not met are drawn for each positive row, as examples of what a user does not like.
    """

    factors: int = 4
    l2_factors: float = 1e-3
    latent_bound: float = 4.0
    negatives: int = 0

    _model = "factorization-machine"

    def recommend(
        self, users: object | Sequence[object], k: int = 10, items: Sequence[object] = ()
    ) -> pd.DataFrame:
        """Return the best ``k`` items that users of the label party's training table have not met in it.

        A row a user and item: user, rank, item, title if there are titles, and the probability of a 1. Ranked is the
        whole catalogue, or the given ``items`` alone. The label party's ``ids`` must name users and items, as in
        ``Table(frame, ids={"user": "customer", "item": "product"}, label="bought")``.
        Raises DataError for ids that it does not know.
        """
        check_is_fitted(self)
        asked = [users] if isinstance(users, str | int | np.integer) else list(users)  # type: ignore[call-overload]
        run, wanted = self.run_, list(items)
        found = list_items(run.scenario, run.datasets, self.halves_, asked, k, wanted)
        unknown = {
            party.name: np.array([party.name in one.unknown_to for one in found])
            for party in run.scenario.feature_parties
        }
        self._warn_of_unknown(unknown, "users")
        rows = [
            {"user": user, "rank": rank, **asdict(one)}
            for user, of_user in zip(asked, found, strict=True)
            for rank, one in enumerate(of_user.items, 1)
        ]
        table = pd.DataFrame(rows, columns=["user", "rank", "item", "title", "probability"])
        return table if table["title"].any() else table.drop(columns="title")

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "negatives": {"per_positive": _plain(self.negatives)}}


def _plain(value: Any) -> Any:
    """Return what settings expect in place of what numpy and pandas give."""
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple | np.ndarray | pd.Index) else value
