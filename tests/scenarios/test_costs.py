from __future__ import annotations

from collections.abc import Callable

import pytest

from scenarios.calibration import UnitCosts
from scenarios.costs import REST, Prediction, predict
from scenarios.counting import Conversation
from scenarios.scenario import Scenario
from scenarios.shapes import Shapes


def test_a_prediction_is_counts_times_unit_costs(
    load_scenario: Callable[..., Scenario],
) -> None:
    scenario = load_scenario("disclosure=open", "epochs=2")
    shapes = Shapes.of(scenario)
    steps = list(Conversation(scenario, shapes).steps())
    units = UnitCosts(
        {step.operation.kind: (0.0, 1.0, 0.0) for step in steps}, (1.0, *[0.0] * 10), 1000
    )
    predicted = predict(scenario, shapes, units)
    masks = sum(
        step.times * step.operation.number
        for step in steps
        if step.party == "bank" and step.operation.kind == "masks"
    )
    assert predicted.cpu_seconds["bank", "masks"] == masks
    assert predicted.cpu_seconds["telco", REST] == 2 * shapes.rounds
    assert predicted.peak_memory["coordinator"] == 1000 < predicted.peak_memory["bank"]
    assert predicted.peak_memory_together > max(predicted.peak_memory.values())


def test_more_cores_share_encrypted_work_alone() -> None:
    seconds = {("shop", "masks"): 8.0, ("shop", REST): 1.0}
    predicted = Prediction(1, seconds, {("shop", "bank"): 1_000_000}, {}, {}, 0)
    assert predicted.total_cpu_seconds == 9
    assert predicted.computing_seconds(4) == pytest.approx(3)
    assert predicted.transfer_seconds(8e6) == pytest.approx(1)
