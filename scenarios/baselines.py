"""What the joint model is compared with: one party alone, and everything pooled in the clear.

Pooling joins the tables by their ids in plain pandas and trains on exact floating-point columns: it shares the
optimizer, the batches and the initial weights with the federated run, and none of its protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from parties.features import FeatureEncoder
from parties.model import LocalModel, log_loss, sigmoid
from protocol.batches import Split
from protocol.messages import FloatArray
from protocol.settings import ProtocolSettings
from scenarios.runner import Run


@dataclass(frozen=True)
class Score:
    """How well logits predict labels. ``auc`` is NaN where the rows hold one class only."""

    auc: float
    log_loss: float
    accuracy: float

    @classmethod
    def of(cls, logits: FloatArray, labels: FloatArray) -> Score:
        """Score logits against 0/1 labels, both (n_rows,)."""
        one_class = len(np.unique(labels)) < 2
        return cls(
            auc=float("nan") if one_class else float(metrics.roc_auc_score(labels, logits)),
            log_loss=log_loss(logits, labels),
            accuracy=float(metrics.accuracy_score(labels, logits > 0)),
        )


@dataclass(frozen=True)
class Comparison:
    """The final table, and how far the joint model is from the pooled one.

    ``weight_distance`` is ``|w_joint - w_pooled| / |w_pooled|`` over all parties' weights and the bias.
    """

    scores: Mapping[str, Score]
    weight_distance: float


ALONE = "label party alone"
JOINT = "joint, federated"
POOLED = "pooled plaintext, same optimizer"
SKLEARN = "pooled scikit-learn LogisticRegression"


def compare(run: Run) -> Comparison:
    """Train the baselines on the rows of a finished run and score all on its test rows."""
    settings, trained = run.scenario, run.label_party.trained
    split = trained.split
    labels = run.datasets[settings.label_party.name].label
    assert labels is not None, "the label party has led the training"
    tables = [
        _exact_columns(run, name) for name in (settings.label_party.name, *run.feature_parties)
    ]
    pooled_columns = np.hstack(tables)
    closed = _closed_columns(tables, split, list(run.feature_parties), settings)

    alone = train_plaintext(tables[0], labels, split, settings, [settings.label_party.name], None)
    names = [settings.label_party.name, *run.feature_parties]
    pooled = train_plaintext(
        pooled_columns, labels, split, settings, names, closed, [table.shape[1] for table in tables]
    )
    library = LogisticRegression(
        C=1 / (settings.training.l2 * len(split.training_samples))
        if settings.training.l2
        else np.inf,
        max_iter=10_000,
    ).fit(pooled_columns[split.training_samples], labels[split.training_samples])

    test = split.test.samples
    joint = _parameters([trained.model, *(party.model for party in run.feature_parties.values())])
    reference = _parameters([pooled])
    return Comparison(
        scores={
            ALONE: Score.of(_logits(alone, tables[0][test]), labels[test]),
            JOINT: Score.of(run.label_party.test_logits, labels[test]),
            POOLED: Score.of(_logits(pooled, pooled_columns[test]), labels[test]),
            SKLEARN: Score.of(library.decision_function(pooled_columns[test]), labels[test]),
        },
        weight_distance=float(np.linalg.norm(joint - reference) / np.linalg.norm(reference)),
    )


def train_plaintext(
    columns: FloatArray,
    labels: FloatArray,
    split: Split,
    settings: ProtocolSettings,
    parties: list[str],
    closed: list[NDArray[np.bool_]] | None,
    widths: list[int] | None = None,
) -> LocalModel:
    """Train one model in the clear on (n_rows, n_columns) floats.

    It starts where the ``parties``' halves would, ``widths`` columns each. ``closed`` says, for each batch, which
    columns' gradients count as zero because the federated run withholds them.
    """
    model = _initial_model(settings, parties, widths or [columns.shape[1]])
    best_model, best_loss, waited = model.copy(), np.inf, 0
    for _ in range(settings.training.epochs):
        for number, batch in enumerate(split.batches):
            rows = columns[batch.samples]
            residuals = sigmoid(_logits(model, rows)) - labels[batch.samples]
            gradient = rows.T @ residuals / len(batch)
            if closed is not None:
                gradient[closed[number]] = 0.0
            model.step(gradient, float(np.mean(residuals)))
        validation = split.validation.samples
        loss = log_loss(_logits(model, columns[validation]), labels[validation])
        waited += 1
        if loss < best_loss:
            best_model, best_loss, waited = model.copy(), loss, 0
        if waited >= settings.training.patience:
            break
    return best_model


def _initial_model(settings: ProtocolSettings, parties: list[str], widths: list[int]) -> LocalModel:
    halves = [
        LocalModel.initialise(
            width,
            bias=number == 0,
            l2=settings.training.l2,
            optimizer=settings.training.new_optimizer(),
            seed=settings.seed,
            party=party,
        )
        for number, (party, width) in enumerate(zip(parties, widths, strict=True))
    ]
    first = halves[0]
    first.weights = np.concatenate([half.weights for half in halves])
    return first


def _exact_columns(run: Run, name: str) -> FloatArray:
    """Return a party's columns for each label-party row, joined by id in the clear; zeros where it has no such row."""
    settings, split = run.scenario, run.label_party.trained.split
    entity = settings.label_party.entity
    own, theirs = run.datasets[settings.label_party.name].ids[entity], run.datasets[name]
    if name == settings.label_party.name:
        row_of = np.arange(theirs.n_rows)
    else:
        row_of = pd.Index(theirs.ids[entity]).get_indexer(pd.Index(own))
    encoder = FeatureEncoder.fit(theirs, np.unique(row_of[split.training_samples]))
    columns = encoder.transform_exact(theirs)
    return np.where((row_of >= 0)[:, None], columns[row_of], 0.0)


def _closed_columns(
    tables: list[FloatArray], split: Split, parties: list[str], settings: ProtocolSettings
) -> list[NDArray[np.bool_]]:
    """Return for each batch the pooled columns that ``min_support`` keeps closed: 0/1 columns of few entities."""
    closed = []
    for batch in split.batches:
        of_batch = [np.zeros(tables[0].shape[1], dtype=bool)]
        for party, table in zip(parties, tables[1:], strict=True):
            _, first = np.unique(batch.entity_of[party], return_index=True)
            rows = table[batch.samples[first]]
            is_indicator = np.isin(table, (0.0, 1.0)).all(axis=0)
            of_batch.append(
                is_indicator & (np.count_nonzero(rows, axis=0) < settings.training.min_support)
            )
        closed.append(np.concatenate(of_batch))
    return closed


def _logits(model: LocalModel, columns: FloatArray) -> FloatArray:
    logits: FloatArray = columns @ model.weights + (model.bias or 0.0)
    return logits


def _parameters(halves: list[LocalModel]) -> FloatArray:
    return np.concatenate([*(half.weights for half in halves), [halves[0].bias or 0.0]])
