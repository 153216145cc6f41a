from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scenarios.running import runner
from scenarios.running.folders import SavedHalf
from scenarios.running.prediction import predict
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]
SMALL = ("epochs=1", "batch_size=110", "factors=1")


@pytest.mark.parametrize("model", ["logistic", "factorization-machine"])
@pytest.mark.parametrize("disclosure", ["shared", "open", "none"])
def test_halves_score_as_they_did_at_the_end_of_the_run(
    load_scenario: LoadScenario, model: str, disclosure: str
) -> None:
    run = runner.run(load_scenario(*SMALL, f"model={model}", f"disclosure={disclosure}"))
    halves = {name: SavedHalf(half.encoder, half.model) for name, half in run.halves.items()}
    prediction = predict(run.scenario, run.datasets, halves)
    test = run.label_party.trained.split.test.samples
    tolerance = 1e-3 if disclosure == "shared" else 1e-12
    np.testing.assert_allclose(prediction.logits[test], run.label_party.test_logits, atol=tolerance)
    label = run.datasets["shop"].ids["user"]
    for name, knows in prediction.knows.items():  # each by itself, whatever the others know
        np.testing.assert_array_equal(knows, np.isin(label, run.datasets[name].ids["user"]))
