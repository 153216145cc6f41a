from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics

from scenarios import baselines, runner
from scenarios.baselines import ALONE, JOINT, POOLED, SKLEARN, compare
from scenarios.evaluation import Score
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
    scenario = load_scenario("disclosure=none", "epochs=8", "min_support=24")
    run = runner.run(scenario)
    assert run.feature_parties["bank"].withheld > 0
    assert compare(run).weight_distance < 1e-2
    ignored = scenario.model_copy(
        update={"training": scenario.training.model_copy(update={"min_support": 1})}
    )
    unlike = runner.Run(**{**vars(run), "scenario": ignored})
    assert baselines.compare(unlike).weight_distance > 1e-2
