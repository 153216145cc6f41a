"""Trainings whose gradients an attacker keeps, and the attacks that infer labels from them (docs/security.md).

The halves, the fixed point and the gradients are the system's own; a test compares them with what a feature party of an
encrypted run opens. Labels are coin flips: whatever is recovered comes from gradients, not from prediction. The
attacker is the feature party. It knows its columns and its parameters in every round, and the seed, hence the label
party's initial bias; it takes the label party's columns to be zero, as they are on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flint import fmpz_mat

from parties.features import FRACTION_BITS, FixedPointMatrix
from parties.model import FloatArray, LocalModel, Optimizer, generator, joint_logits, sigmoid
from protocol.numbers import IntArray
from protocol.settings import EncryptionSettings, ProtocolSettings, TrainingSettings
from protocol.training.gradients import GradientForm, Integers, residual_slots

LABEL, ATTACKER = "label", "attacker"
# For what an attacker does not know: others' logits, and others' latent sums, which weigh more.
RIDGE, RIDGE_OF_FACTORS = 0.02, 4.0


@dataclass(frozen=True)
class Setting:
    """One toy training: a batch of ``rows``, each about another entity, and the attacker's ``columns``.

    ``others`` are the label party's columns. The unguarded variants: its weights are zero at first; rows are dealt
    anew to the ``batches`` in each epoch. Another ``run`` has the same data, and other weights and batches.
    """

    rows: int
    columns: int
    others: int = 4
    factors: int = 0
    batches: int = 1
    epochs: int = 1
    zero_weights: bool = False
    reshuffled: bool = False
    seed: int = 0
    run: int = 0


@dataclass(frozen=True, eq=False)
class Round:
    """What the attacker keeps of a round: the batch's rows, its own half before it, the opened integers.

    ``bias`` is the label party's initial one.
    """

    rows: IntArray
    model: LocalModel
    bias: float
    integers: Integers  # (n_columns, 1 + k)


@dataclass(frozen=True, eq=False)
class Record:
    """What the attacker knows in the end, and the labels and probabilities (n_rows,) it would like to know.

    ``probabilities`` are those of the first epoch, by row.
    """

    form: GradientForm
    matrix: FixedPointMatrix
    rounds: list[Round]
    labels: FloatArray
    probabilities: FloatArray


def train(setting: Setting) -> Record:
    """Train on standard normal columns and coin flips, as the protocol would, and keep what the attacker sees."""
    draw = np.random.default_rng(setting.seed)
    n_rows = setting.rows * setting.batches
    matrices = {
        ATTACKER: columns(draw.normal(size=(n_rows, setting.columns))),
        LABEL: columns(draw.normal(size=(n_rows, setting.others))),
    }
    labels = draw.permutation(np.arange(n_rows) % 2).astype(np.float64)
    settings = _settings(setting)
    halves = {party: initial_half(settings, party, m) for party, m in matrices.items()}
    if setting.zero_weights:
        halves[LABEL].parameters *= 0
        halves[LABEL].bias = 0.0
    bias = halves[LABEL].bias
    assert bias is not None

    form = GradientForm.of(settings, setting.rows, len(halves), scaled=True)
    rounds, first = list[Round](), np.zeros(n_rows)
    draw = np.random.default_rng([setting.seed, setting.run])
    order = draw.permutation(n_rows)
    for epoch in range(setting.epochs):
        if epoch and setting.reshuffled:
            order = draw.permutation(n_rows)
        for chosen in np.split(order, setting.batches):
            rows = {party: matrix.take(chosen) for party, matrix in matrices.items()}
            sums = sum(halves[party].latent_sums(rows[party]) for party in halves)
            logits = sum(halves[party].partial_logits(rows[party]) for party in halves)
            logits = joint_logits(np.asarray(logits), np.asarray(sums))
            slots = residual_slots(sigmoid(logits) - labels[chosen], np.asarray(sums), settings)
            if not epoch:
                first[chosen] = sigmoid(logits)
            integers = {
                party: form.in_the_clear(rows[party], slots, half.factors)
                for party, half in halves.items()
            }
            rounds.append(Round(chosen, halves[ATTACKER].copy(), bias, integers[ATTACKER]))
            total = float(slots[:, 0].mean()) / 2.0**form.residual_bits
            for party, half in halves.items():
                bits, factors = rows[party].fraction_bits, half.factors
                half.step(form.to_gradient(integers[party], bits, factors), total)
    return Record(form, matrices[ATTACKER], rounds, labels, first)


def columns(values: FloatArray) -> FixedPointMatrix:
    """Return scaled columns in fixed point."""
    scaled = np.rint(np.ldexp(values.clip(-7.9, 7.9), FRACTION_BITS)).astype(np.int16)
    return FixedPointMatrix.of_scaled(scaled)


def initial_half(settings: ProtocolSettings, party: str, matrix: FixedPointMatrix) -> LocalModel:
    """Return a party's half as training begins."""
    l2 = np.zeros((matrix.n_columns, 1 + settings.training.n_factors))
    optimizer = Optimizer("adam", settings.training.learning_rate)
    return LocalModel.initialise(
        l2, bias=party == LABEL, optimizer=optimizer, draw=generator(settings.seed, party)
    )


def _settings(setting: Setting) -> ProtocolSettings:
    training = TrainingSettings(
        model="factorization-machine" if setting.factors else "logistic",
        factors=setting.factors or 1,
        disclosure="open",
    )
    return ProtocolSettings(
        seed=1000 * setting.seed + setting.run,
        training=training,
        encryption=EncryptionSettings(residual_bits=24),
    )


def solve(record: Record) -> FloatArray:
    """Solve the gradients of all rounds for the labels (n_rows,), by least squares around 1/2.

    Each entry is one equation ``a . y = a . p - g``: of a weight with ``a = x``; of a factor with
    ``a = x S - v x^2``, where the attacker's own latent sum stands for S. The probabilities ``p`` are those of the
    attacker's own part of the logit.
    """
    n_rows = record.matrix.n_rows
    ridge = RIDGE_OF_FACTORS if record.form.factors else RIDGE
    square, right = ridge * np.eye(n_rows), np.zeros(n_rows)
    for one in record.rounds:
        rows = record.matrix.take(one.rows)
        X = np.ldexp(rows.scaled.astype(np.float64), -FRACTION_BITS)
        sums = one.model.latent_sums(rows)
        gaps = sigmoid(own_logits(record, one)) - 0.5
        gradient = record.form.to_gradient(
            one.integers, record.matrix.fraction_bits, one.model.factors
        )
        for slot in range(gradient.shape[1]):
            a = X
            if slot:
                a = X * sums[:, [slot - 1]] - one.model.factors[:, slot - 1] * X**2
            square[np.ix_(one.rows, one.rows)] += a @ a.T
            right[one.rows] += a @ (a.T @ gaps - gradient[:, slot] * len(one.rows))
    return 0.5 + np.asarray(np.linalg.solve(square, right))


def infer_probabilities(record: Record) -> FloatArray:
    """Estimate the joint probabilities (n_rows,) of the first round, for an attacker who has the labels.

    The label party's own gradients are ``X^T (p - y)``: the least change to its own part's probabilities that fulfils
    them.
    """
    one = record.rounds[0]
    rows = record.matrix.take(one.rows)
    X = np.ldexp(rows.scaled.astype(np.float64), -FRACTION_BITS)
    own = sigmoid(own_logits(record, one))
    gradient = record.form.to_gradient(one.integers, record.matrix.fraction_bits, one.model.factors)
    missing = gradient[:, 0] * len(one.rows) + X.T @ (record.labels[one.rows] - own)
    probabilities = np.full(record.matrix.n_rows, 0.5)
    probabilities[one.rows] = own + np.linalg.lstsq(X.T, missing, rcond=None)[0]
    return probabilities


def own_logits(record: Record, one: Round) -> FloatArray:
    """Return what the attacker takes for the logits of a round."""
    rows = record.matrix.take(one.rows)
    return one.bias + joint_logits(one.model.partial_logits(rows), one.model.latent_sums(rows))


def reduce_lattice(record: Record, spread: float) -> FloatArray:
    """Find the 0/1 labels (n_rows,) in the first round's weight gradients: a subset sum in each column, by LLL.

    The embedding of Coster et al. (Computational Complexity 1992) for several sums at once. ``spread`` is the
    standard deviation of the logits around the attacker's guess: sums are believed to what that leaves of them.
    """
    one = record.rounds[0]
    X = record.matrix.take(one.rows).scaled.astype(np.int64)
    n_rows = len(X)
    scale = 1 << record.form.residual_bits
    guessed = np.rint(sigmoid(own_logits(record, one)) * scale).astype(np.int64)
    targets = (X.T @ guessed - one.integers[:, 0]).astype(np.float64) / scale
    noise = max(1.0, 0.25 * spread * np.sqrt(n_rows) * 2**FRACTION_BITS)
    basis = np.zeros((n_rows + 1, n_rows + 1 + X.shape[1]), dtype=np.int64)
    basis[:n_rows, :n_rows] = 2 * np.eye(n_rows)
    basis[n_rows, : n_rows + 1] = 1
    basis[:n_rows, n_rows + 1 :] = np.rint(2 * X / noise)
    basis[n_rows, n_rows + 1 :] = np.rint(2 * targets / noise)
    vectors = np.array(
        [
            [int(entry) for entry in row]
            for row in fmpz_mat(basis.tolist()).lll(False, 0.999).tolist()
        ]
    )
    # The label vector uses the last row once: it is 1 - 2y there, or its negative.
    candidates = vectors[np.abs(vectors[:, n_rows]) == 1]
    if not len(candidates):
        return np.full(n_rows, 0.5)
    best = candidates[np.argmin((candidates.astype(np.float64) ** 2).sum(axis=1))]
    labels = np.full(n_rows, 0.5)
    labels[one.rows] = -best[:n_rows] * best[n_rows]
    return labels
