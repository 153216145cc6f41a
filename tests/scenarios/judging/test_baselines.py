from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn import metrics

from parties.features import ExactMatrix
from parties.model import LocalModel, generator
from protocol.settings import ProtocolSettings, TrainingSettings
from scenarios.judging import baselines
from scenarios.judging.baselines import (
    ALONE,
    JOINT,
    POOLED,
    SKLEARN,
    PlainHalf,
    compare,
    train_plaintext,
)
from scenarios.judging.evaluation import Score
from scenarios.running import runner
from scenarios.scenario import Scenario, load

LoadScenario = Callable[..., Scenario]


def test_scores_are_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(0, 2, 200).astype(float), draw.normal(size=200)
    score = Score.of(logits, labels)
    probabilities = 1 / (1 + np.exp(-logits))
    assert score.auc == pytest.approx(metrics.roc_auc_score(labels, logits))
    assert score.log_loss == pytest.approx(metrics.log_loss(labels, probabilities))
    assert score.accuracy == pytest.approx(np.mean((probabilities > 0.5) == labels))
    assert np.isnan(Score.of(logits, np.ones(200)).auc)


def test_joint_is_pooled_and_better_than_alone() -> None:
    scenario = load("breast-cancer", ["key_bits=512", "insecure_key=true"])
    comparison = compare(runner.run(scenario))
    joint, pooled = comparison.scores[JOINT], comparison.scores[POOLED]
    assert abs(joint.auc - pooled.auc) <= 1e-3
    assert abs(joint.log_loss - pooled.log_loss) <= 1e-3
    assert comparison.weight_distance <= 1e-2
    assert joint.auc > comparison.scores[ALONE].auc
    assert abs(joint.auc - comparison.scores[SKLEARN].auc) < 0.02


def test_withheld_gradients_are_withheld_in_the_pooled_run_too(load_scenario: LoadScenario) -> None:
    scenario = load_scenario("disclosure=none", "epochs=8", "min_support=30")
    run = runner.run(scenario)
    assert run.feature_parties["bank"].guard.withheld > 0
    assert compare(run).weight_distance < 1e-2
    ignored = scenario.model_copy(
        update={"training": scenario.training.model_copy(update={"min_support": 1})}
    )
    unlike = runner.Run(**{**vars(run), "scenario": ignored})
    assert baselines.compare(unlike).weight_distance > 1e-2


def test_the_plain_factorization_machine_is_the_textbook_one() -> None:
    """Split over two tables or not: against pairwise sums and a textbook Adam, to 1e-9."""
    draw = np.random.default_rng(0)
    n, k, l2, rate = 60, 2, 0.01, 0.05
    dense = np.column_stack([draw.normal(size=(n, 3)), draw.integers(0, 2, (n, 2))])
    y = draw.integers(0, 2, n).astype(float)
    settings = ProtocolSettings(
        training=TrainingSettings(
            model="factorization-machine", factors=k, epochs=7, learning_rate=rate, patience=99
        )
    )
    batches, validation = [np.arange(25), np.arange(25, 50)], np.arange(50, 60)

    def half(columns: slice, scaled: int, party: str, bias: bool) -> PlainHalf:
        own = dense[:, columns]
        matrix = ExactMatrix(own[:, :scaled], sparse.csr_array(own[:, scaled:].astype(np.int8)))
        model = LocalModel.initialise(
            np.full((own.shape[1], 1 + k), l2),
            bias=bias,
            optimizer=settings.training.new_optimizer(),
            draw=generator(1, party),
        )
        nothing = np.zeros(own.shape[1], dtype=bool)
        return PlainHalf(matrix, np.arange(n), model, None, nothing, [nothing, nothing])

    halves = [half(slice(0, 2), 2, "a", True), half(slice(2, 5), 1, "b", False)]
    parameters = np.vstack([one.model.parameters for one in halves])
    w, V, b = parameters[:, 0], parameters[:, 1:], halves[0].model.bias or 0.0

    def logits(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        z = b + rows @ w
        for i in range(5):
            for j in range(i + 1, 5):
                z = z + (V[i] @ V[j]) * rows[:, i] * rows[:, j]
        return z

    m = v = np.zeros(5 + 5 * k + 1)
    best, best_loss, steps = (w, V, b), np.inf, 0
    for _ in range(settings.training.epochs):
        for batch in batches:
            rows, d = dense[batch], expit(logits(dense[batch])) - y[batch]
            of_V = np.zeros_like(V)
            for i in range(5):
                others = sum((V[j] * rows[:, [j]] for j in range(5) if j != i), np.zeros((25, k)))
                of_V[i] = (d[:, None] * rows[:, [i]] * others).mean(axis=0)
            flat = [rows.T @ d / 25 + l2 * w, (of_V + l2 * V).ravel(), [d.mean()]]
            gradient, steps = np.concatenate(flat), steps + 1
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            step = rate * (m / (1 - 0.9**steps)) / (np.sqrt(v / (1 - 0.999**steps)) + 1e-8)
            w, V, b = w - step[:5], V - step[5:-1].reshape(5, k), b - step[-1]
        z = logits(dense[validation])
        loss = float(np.mean(np.logaddexp(0, z) - y[validation] * z))
        if loss < best_loss:
            best, best_loss = (w, V, b), loss

    train_plaintext(halves, y, batches, validation, settings)
    trained = np.vstack([one.model.parameters for one in halves])
    np.testing.assert_allclose(trained, np.column_stack(best[:2]), atol=1e-9)
    assert halves[0].model.bias == pytest.approx(best[2], abs=1e-9)
