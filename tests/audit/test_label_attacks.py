"""The label attacks succeed where nothing is guarded, and say how far the guards' defaults hold.

AUCs are means over a few toy trainings. Labels are coin flips, so that 1/2 is what knowing nothing gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from audit.laboratory import (
    Record,
    Round,
    Setting,
    infer_probabilities,
    own_logits,
    reduce_lattice,
    solve,
    train,
)
from parties.model import FloatArray, sigmoid
from protocol.errors import GuardError
from protocol.settings import ModelName, TrainingSettings
from protocol.training.guards import Guard
from protocol.training.opening import Gradient
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import load

SEEDS = range(4)
DEFAULTS = TrainingSettings()
GUARDED = Setting(rows=64, columns=64 // DEFAULTS.guard_ratio)


def mean_auc(setting: Setting, attack: Callable[[Record], FloatArray] = solve) -> float:
    records = [train(replace(setting, seed=seed)) for seed in SEEDS]
    return float(np.mean([roc_auc_score(record.labels, attack(record)) for record in records]))


def exact_lattice(record: Record) -> FloatArray:
    return reduce_lattice(record, 0.0)


def tolerant_lattice(record: Record) -> FloatArray:
    return reduce_lattice(record, 0.2)  # what four columns with weights of 0.1 spread


def test_linear_solving_needs_few_rows_a_column() -> None:
    assert mean_auc(replace(GUARDED, columns=64)) > 0.999
    assert mean_auc(replace(GUARDED, columns=32)) > 0.9
    assert mean_auc(GUARDED) < 0.75


def test_lattice_reduction_needs_residuals_of_known_size() -> None:
    four_rows_a_column = replace(GUARDED, columns=16)
    assert mean_auc(replace(four_rows_a_column, zero_weights=True), exact_lattice) == 1
    assert mean_auc(four_rows_a_column, tolerant_lattice) < 0.8
    assert mean_auc(GUARDED, tolerant_lattice) < 0.75


def test_equations_collect_only_over_reshuffled_batches() -> None:
    epochs = replace(GUARDED, batches=4, epochs=30)
    assert mean_auc(replace(epochs, reshuffled=True)) > 0.98
    assert mean_auc(epochs) < 0.8


def test_the_label_party_infers_others_logits_alike() -> None:
    def explained(columns: int) -> float:
        """How much of what it did not know of the probabilities its gradients tell it, 0 to 1."""
        shares = []
        for seed in SEEDS:
            record = train(replace(GUARDED, columns=columns, seed=seed))
            (one,) = record.rounds
            unknown = record.probabilities[one.rows] - sigmoid(own_logits(record, one))
            left = record.probabilities - infer_probabilities(record)
            shares.append(1 - float((left**2).sum() / (unknown**2).sum()))
        return float(np.mean(shares))

    assert explained(64) > 0.999
    assert explained(GUARDED.columns) < 0.3


# What the guards are for, and what remains: docs/security.md tells.


def check(setting: Setting) -> None:
    """Have the guard look at a batch of this setting; raises GuardError."""
    model: ModelName = "factorization-machine" if setting.factors else "logistic"
    training = TrainingSettings(model=model, factors=max(1, setting.factors))
    Guard("bank", training).admit(train(setting).matrix)


def test_known_logits_give_labels_away_in_batches_that_the_guard_refuses() -> None:
    """A label party without columns that others do not know: its logits follow from the seed."""
    label_only = replace(GUARDED, rows=32, columns=32 // DEFAULTS.guard_ratio, others=0)
    assert mean_auc(label_only, exact_lattice) == 1
    with pytest.raises(GuardError):
        check(label_only)
    larger = replace(label_only, rows=128, columns=128 // DEFAULTS.guard_ratio)
    check(larger)
    assert mean_auc(larger, exact_lattice) < 0.75
    # With 24 rows a column the sums have fewer bits than there are labels.
    assert mean_auc(replace(label_only, rows=48, columns=2), exact_lattice) < 0.75


def test_factors_give_more_equations_a_column_so_the_guard_counts_entries() -> None:
    default_batch = Setting(
        rows=256,
        columns=256 // DEFAULTS.guard_ratio,
        factors=DEFAULTS.factors,
        epochs=5,
    )
    assert mean_auc(default_batch) > 0.85
    with pytest.raises(GuardError):
        check(default_batch)
    counted = replace(default_batch, columns=default_batch.columns // (1 + DEFAULTS.factors))
    check(counted)
    assert mean_auc(counted) < 0.75


def test_equations_collect_over_runs_with_other_seeds() -> None:
    """Each has batches of its own, as if they had been reshuffled."""

    def collected(*runs: int) -> float:
        aucs = []
        for seed in SEEDS:
            records = [train(replace(GUARDED, batches=4, seed=seed, run=run)) for run in runs]
            rounds = [one for record in records for one in record.rounds]
            inferred = solve(replace(records[0], rounds=rounds))
            aucs.append(roc_auc_score(records[0].labels, inferred))
        return float(np.mean(aucs))

    assert collected(*range(12)) > 0.95
    assert collected(*[0] * 12) < 0.75  # the same seed again adds nothing


# The same attack on an encrypted run.


def attacked(folder: Path, batch_size: int, *changes: str) -> float:
    """Run a shop with the labels and a bank of eight columns, and have the bank solve what it is opened."""
    draw, n_rows = np.random.default_rng(4), 128
    users = {"user": np.arange(n_rows)}
    for name, width in (("shop", 4), ("bank", 8)):
        table = pd.DataFrame(draw.normal(size=(n_rows, width))).add_prefix("x").assign(**users)
        labels = {"bought": draw.permutation(users["user"] % 2)} if name == "shop" else {}
        table.assign(**labels).to_csv(folder / f"{name}.csv", index=False)
    party = '[[parties]]\nname = "{0}"\nrole = "{1}"\ncsv = "{0}.csv"\nid = "user"\n'
    (folder / "attacked.toml").write_text(
        party.format("shop", "label")
        + 'label = "bought"\n'
        + party.format("bank", "feature")
        + f"[training]\nbatch_size = {batch_size}\n[encryption]\nkey_bits = 512\ninsecure_key = true",
        encoding="utf-8",
    )
    opened, honest = list[tuple[Gradient, Round]](), Gradient.mean

    def mean(gradient: Gradient) -> FloatArray:
        if gradient.rows.n_columns == 8:
            rows = np.arange(gradient.rows.n_rows)
            opened.append((gradient, Round(rows, gradient.model.copy(), 0.0, gradient.integers)))
        return honest(gradient)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gradient, "mean", mean)
        run = runner.run(load(str(folder / "attacked.toml"), ["epochs=1", *changes]))
    return _judge(run, opened)


def _judge(run: Run, opened: list[tuple[Gradient, Round]]) -> float:
    trained = run.label_party.trained
    estimates, truths = [], []
    for batch, (gradient, one) in zip(trained.split.batches, opened, strict=True):
        # One row a user, in the order in which the bank was told of its rows.
        labels = np.empty(len(batch))
        labels[batch.entity_of["bank"]] = trained.labels[batch.samples]
        record = Record(gradient.form, gradient.rows, [one], labels, labels)
        estimates.append(solve(record))
        truths.append(labels)
    return float(roc_auc_score(np.concatenate(truths), np.concatenate(estimates)))


@pytest.mark.parametrize("disclosure", ["shared", "open"])
def test_attacks_on_an_encrypted_run_do_as_in_the_laboratory(
    tmp_path: Path, disclosure: str
) -> None:
    assert attacked(tmp_path, 8, f"disclosure={disclosure}", "guard=warn") > 0.9
    assert attacked(tmp_path, 64, f"disclosure={disclosure}") < 0.75
