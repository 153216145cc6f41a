"""What the joint model is compared with: one party alone, and everything pooled in the clear.

Pooling joins the tables by their ids in plain pandas and trains on exact floating-point columns: it
shares the optimizer, the batches and the initial parameters with the federated run, and none of its
protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from parties import quasi_newton
from parties.catalogue import ITEM, USER, Catalogue
from parties.features import ExactMatrix, FeatureEncoder
from parties.model import LocalModel, brier_score, joint_logits
from parties.order import PrivateOrder
from parties.quasi_newton import Preconditioner, Recursion, Vectors
from protocol.contributions import Contribution
from protocol.errors import DataError
from protocol.numbers import FloatArray, IntArray
from protocol.scoring import SumScores
from protocol.settings import ProtocolSettings
from protocol.training.guards import openable
from protocol.training.trained import initial_model
from scenarios.judging.evaluation import Curves, Ranking, Score, constant_logit, popularity, rank
from scenarios.running.runner import Run

ALONE = "label party alone"
JOINT = "joint, federated"
POOLED = "pooled plaintext, same optimizer"
SKLEARN = "pooled scikit-learn LogisticRegression"
OBSERVED = "pooled, no negatives"
CONSTANT = "constant"
POPULARITY = "popularity"
BAYES = "the truth (Bayes)"


@dataclass(frozen=True)
class Comparison:
    """The final tables and curves, and how far the joint model is from the pooled one. ``rankings`` may be empty.

    ``weight_distance`` is ``|joint - pooled| / |pooled|`` over all parties' parameters and the bias.
    """

    scores: Mapping[str, Score]
    curves: Mapping[str, Curves]
    rankings: Mapping[str, Ranking]
    weight_distance: float


@dataclass
class PlainHalf:
    """One party's columns joined to the label party's rows, and its half of a model in the clear.

    ``row_of`` (n_samples,) is each sample's row of ``matrix``, -1 where the party does not know it:
    the last row, which is all zero. ``entity`` is what its rows are about, None at the label party,
    where ``of_item`` tells which columns describe items. ``closed`` tells, for each batch, which
    columns' gradients count as zero because the federated run withholds them; empty where it withholds none.
    """

    matrix: ExactMatrix
    row_of: IntArray
    model: LocalModel
    entity: str | None
    of_item: NDArray[np.bool_]
    closed: list[NDArray[np.bool_]]

    def rows(self, samples: IntArray) -> ExactMatrix:
        """Return the columns of some samples."""
        return self.matrix.take(self.row_of[samples])


def compare(run: Run) -> Comparison:
    """Train the baselines on the rows of a finished run and score all on its test rows."""
    trained = run.label_party.trained
    split, labels = trained.split, trained.labels
    names = [run.scenario.label_party.name, *run.feature_parties]

    models = {ALONE: _train_halves(run, names[:1]), POOLED: _train_halves(run, names)}
    if trained.samples.n_observed < trained.samples.dataset.n_rows:
        models[OBSERVED] = _train_halves(run, names, observed_only=True)

    test, training = split.test.samples, split.training_samples
    logits = {
        CONSTANT: np.full(len(test), constant_logit(labels[training])),
        ALONE: _logits(models[ALONE], test),
        JOINT: run.label_party.test_logits,
        **{name: _logits(halves, test) for name, halves in models.items() if name != ALONE},
        SKLEARN: _scikit_learn(models[POOLED], labels, run),
    }
    if run.scenario.truth is not None:
        chances = np.asarray(run.scenario.truth(run.scenario.folder, "truth"), dtype=np.float64)[
            test
        ]
        logits[BAYES] = np.log(chances) - np.log1p(-chances)
    users = trained.samples.dataset.ids.get(USER)
    of_test = None if users is None else users[test]

    joint = _parameters([trained.model, *(party.model for party in run.feature_parties.values())])
    reference = _parameters([half.model for half in models[POOLED]])
    return Comparison(
        {name: Score.of(values, labels[test], of_test) for name, values in logits.items()},
        {name: Curves.of(values, labels[test]) for name, values in logits.items()},
        _rankings(run, models),
        float(np.linalg.norm(joint - reference) / np.linalg.norm(reference)),
    )


def _scikit_learn(halves: Sequence[PlainHalf], labels: FloatArray, run: Run) -> FloatArray:
    """Return the test logits of scikit-learn's logistic regression on the pooled columns."""
    split, l2 = run.label_party.trained.split, run.scenario.training.l2
    training, test = (
        sparse.csr_array(sparse.hstack([half.rows(samples).to_csr() for half in halves]))
        for samples in (split.training_samples, split.test.samples)
    )
    strength = 1 / (l2 * training.shape[0]) if l2 else np.inf
    library = LogisticRegression(C=strength, max_iter=10_000)
    library.fit(training, labels[split.training_samples])
    logits: FloatArray = library.decision_function(test)
    return logits


def _rankings(run: Run, models: Mapping[str, Sequence[PlainHalf]]) -> dict[str, Ranking]:
    """Judge each model's list for every user by what the user liked in the test rows; empty if nobody has one."""
    catalogue, pairs = run.label_party.catalogue, run.label_party.pairs
    if catalogue is None or pairs is None:
        return {}
    samples, ranking = run.label_party.trained.samples, run.scenario.ranking
    labels, test = run.label_party.trained.labels, samples.split.test.samples
    held_out = np.concatenate([test, samples.split.validation.samples])
    known = np.setdiff1d(np.arange(samples.n_observed), held_out)
    met = catalogue.interactions(known)
    liked = catalogue.interactions(known[labels[known] == 1])
    relevant = catalogue.interactions(test[labels[test] == 1])
    candidates = catalogue.interactions(test) if ranking.candidates == "test" else None
    shape = len(catalogue.users), len(catalogue.items)
    scorers: dict[str, FloatArray | Callable[[IntArray], FloatArray]] = {
        CONSTANT: np.zeros(shape),
        POPULARITY: np.broadcast_to(popularity(liked), shape),
        ALONE: _pairs(models[ALONE], catalogue),
        JOINT: pairs,
        **{name: _pairs(halves, catalogue) for name, halves in models.items() if name != ALONE},
    }
    try:
        return {
            name: rank(scorer, relevant, met, ranking.k, run.scenario.seed, candidates)
            for name, scorer in scorers.items()
        }
    except DataError:  # nothing is left to rank: that must not lose what was trained
        return {}


def _pairs(halves: Sequence[PlainHalf], catalogue: Catalogue) -> SumScores:
    """Score every user with every item in the clear, from sums on either side."""
    sides: list[Contribution] = []
    for entity, rows in ((USER, catalogue.user_rows), (ITEM, catalogue.item_rows)):
        parts = []
        for half in halves:
            describes_item = half.of_item if half.entity is None else half.entity == ITEM
            columns = np.broadcast_to(describes_item == (entity == ITEM), half.matrix.n_columns)
            model = half.model.restricted(columns, bias=entity == USER)
            parts.append((model, half.rows(rows)))
        sides.append(
            Contribution(
                np.sum([model.partial_logits(own) for model, own in parts], axis=0),
                np.sum([model.latent_sums(own) for model, own in parts], axis=0),
            )
        )
    return SumScores(*sides)


def _train_halves(
    run: Run, names: Sequence[str], *, observed_only: bool = False
) -> list[PlainHalf]:
    """Train a model in the clear on some parties' columns; ``observed_only`` leaves sampled negatives out."""
    samples = run.label_party.trained.samples
    batches = [batch.samples for batch in samples.split.batches]
    validation = samples.split.validation.samples
    if observed_only:
        *batches, validation = (rows[rows < samples.n_observed] for rows in [*batches, validation])
    halves = [_plain_half(run, name, batches) for name in names]
    train_plaintext(halves, run.label_party.trained.labels, batches, validation, run.scenario)
    return halves


def train_plaintext(
    halves: Sequence[PlainHalf],
    labels: FloatArray,
    batches: Sequence[IntArray],
    validation: IntArray,
    settings: ProtocolSettings,
) -> None:
    """Train the halves of one model in the clear, in place, with the federated run's optimizer and stopping."""
    training = settings.training
    loss_of = brier_score if training.disclosure == "shared" else training.link.loss
    rows_of = [[half.rows(batch) for half in halves] for batch in batches]
    best, best_loss, waited = [half.model.copy() for half in halves], np.inf, 0
    second_order = _SecondOrder(halves, batches[0], settings) if training.second_order else None
    for _ in range(training.epochs):
        for number, (batch, rows) in enumerate(zip(batches, rows_of, strict=True)):
            logits, latent_sums = _forward(halves, rows)
            residuals = training.link.residuals(logits, labels[batch])
            slots = np.column_stack([residuals, residuals[:, None] * latent_sums])
            gradients = []
            for half, own in zip(halves, rows, strict=True):
                gradient = own.transposed_dot(slots) / len(batch)
                if training.n_factors:
                    squares = own.squares().transposed_dot(residuals)
                    gradient[:, 1:] -= half.model.factors * squares[:, None] / len(batch)
                if half.closed:
                    gradient[half.closed[number]] = 0.0
                gradients.append(gradient)
            if second_order is not None:
                second_order.move(gradients, float(np.mean(residuals)))
                continue
            for half, gradient in zip(halves, gradients, strict=True):
                half.model.step(gradient, float(np.mean(residuals)))
        if second_order is not None:
            best = [half.model for half in halves]
            if second_order.converged:
                break
            continue
        loss = loss_of(_logits(halves, validation), labels[validation])
        waited += 1
        if loss < best_loss:
            best, best_loss, waited = [half.model.copy() for half in halves], loss, 0
        if waited >= training.patience:
            break
    for half, model in zip(halves, best, strict=True):
        half.model = model


class _SecondOrder:
    """The quasi-newton steps of protocol/training/steps.py, over halves in the clear."""

    def __init__(
        self, halves: Sequence[PlainHalf], batch: IntArray, settings: ProtocolSettings
    ) -> None:
        self._halves = halves
        self._open = [
            np.flatnonzero(~half.closed[0]) if half.closed else np.arange(half.matrix.n_columns)
            for half in halves
        ]
        self._preconditioners = []
        for half, columns in zip(halves, self._open, strict=True):
            entities = half.row_of[batch]
            rows = half.matrix.take(
                entities if half.entity is None else np.unique(entities[entities >= 0])
            )
            n_scaled = rows.scaled.shape[1]
            self._preconditioners.append(
                Preconditioner.of(
                    rows.scaled[:, columns[columns < n_scaled]],
                    rows.indicators[:, columns[columns >= n_scaled] - n_scaled],
                    half.model.l2[columns, 0],
                    settings.training.link.curvature,
                    bias=half.model.bias is not None,
                )
            )
            kept = np.zeros((half.matrix.n_columns, 1))
            kept[columns] = 1.0
            half.model.parameters = half.model.parameters * kept
        training, outputs = settings.training, range(halves[0].model.parameters.shape[1])
        self._vectors = [[Vectors() for _ in outputs] for _ in halves]
        self._recursions = [
            Recursion.among(len(halves), training.tolerance, training.link.curvature)
            for _ in outputs
        ]
        self.converged = False

    def move(self, gradients: Sequence[FloatArray], bias_gradient: float | FloatArray) -> None:
        """Move every half, or none where the loss would hardly fall.

        Gradients are (n_columns, n_outputs), that of the bias (n_outputs,) or one number.
        """
        whitened = []
        for half, columns, gradient, preconditioner in zip(
            self._halves, self._open, gradients, self._preconditioners, strict=True
        ):
            model = half.model
            penalised = (gradient + model.l2 * model.parameters)[columns]
            if model.bias is not None:
                own = np.broadcast_to(bias_gradient, (1, len(self._recursions)))
                penalised = np.concatenate([penalised, own])
            whitened.append(preconditioner.whiten(penalised))
        pairs = list(zip(self._vectors, whitened, strict=True))
        sums = np.sum([quasi_newton.products(*pair) for pair in pairs], axis=0)
        plans = quasi_newton.plan(self._recursions, sums)
        self.converged = all(plan.done for plan in plans)
        if self.converged:
            return
        for half, columns, preconditioner, (vectors, one) in zip(
            self._halves, self._open, self._preconditioners, pairs, strict=True
        ):
            step = preconditioner.restore(quasi_newton.follow(vectors, one, plans))
            half.model.move(columns, step if len(plans) > 1 else step[:, 0])


def _forward(
    halves: Sequence[PlainHalf], rows: Sequence[ExactMatrix]
) -> tuple[FloatArray, FloatArray]:
    """Return the logits and the latent sums of rows that every half has its columns of."""
    pairs = list(zip(halves, rows, strict=True))
    partial_logits = np.sum([half.model.partial_logits(own) for half, own in pairs], axis=0)
    latent_sums = np.sum([half.model.latent_sums(own) for half, own in pairs], axis=0)
    return joint_logits(partial_logits, latent_sums), latent_sums


def _logits(halves: Sequence[PlainHalf], samples: IntArray) -> FloatArray:
    return _forward(halves, [half.rows(samples) for half in halves])[0]


def _plain_half(run: Run, name: str, batches: Sequence[IntArray]) -> PlainHalf:
    """Join one party's table to the label party's rows by id in the clear, and encode it on training rows alone."""
    settings, drawn = run.scenario, run.label_party.trained.samples
    leads = name == run.scenario.label_party.name
    dataset = drawn.dataset if leads else run.datasets[name]
    entity = None if leads else next(iter(dataset.ids))
    if entity is None:
        row_of = np.arange(dataset.n_rows)
    else:
        index = pd.Index(dataset.ids[entity])
        row_of = index.get_indexer(pd.Index(drawn.dataset.ids[entity])).astype(np.int64)
    of_training = row_of[np.concatenate(batches)]
    encoder = FeatureEncoder.fit(dataset, np.unique(of_training[of_training >= 0]))
    catalogue, sources = run.label_party.catalogue, encoder.sources
    order = drawn.order if leads else PrivateOrder.of(dataset, settings.seed)
    fixed_point = encoder.transform(dataset)
    half = PlainHalf(
        _with_zeros(encoder.transform_exact(dataset)),
        row_of,
        initial_model(settings, encoder, order.generator("weights"), bias=leads),
        entity,
        np.zeros(len(sources), bool) if catalogue is None else catalogue.describe_items(sources),
        [],
    )
    if settings.training.disclosure == "shared" or not leads:
        for samples in (row_of[batch] for batch in batches):
            rows = samples if leads else np.unique(samples[samples >= 0])
            closed = np.ones(len(sources), dtype=bool)
            opened = openable(
                fixed_point.take(rows), settings.training.min_support, with_total=leads
            )
            closed[opened] = False
            half.closed.append(closed)
    return half


def _with_zeros(matrix: ExactMatrix) -> ExactMatrix:
    """Add a last row of zeros."""
    scaled = np.pad(matrix.scaled, ((0, 1), (0, 0)))
    none = sparse.csr_array(np.zeros((1, matrix.indicators.shape[1]), dtype=np.int8))
    indicators = sparse.csr_array(sparse.vstack([matrix.indicators, none]))
    return ExactMatrix(scaled, indicators)


def _parameters(halves: Sequence[LocalModel]) -> FloatArray:
    return np.concatenate([*(half.parameters.ravel() for half in halves), [halves[0].bias or 0.0]])
