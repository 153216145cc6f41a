from __future__ import annotations

from collections.abc import Callable

import pytest

from scenarios.costs import prediction as costs
from scenarios.costs.calibration import UnitCosts
from scenarios.costs.counting import Conversation
from scenarios.costs.prediction import REST, Prediction, predict, predict_run
from scenarios.costs.shapes import Shapes
from scenarios.running import runner
from scenarios.scenario import Scenario


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


def test_a_run_is_predicted_for_the_epochs_that_it_had(
    load_scenario: Callable[..., Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner.run(load_scenario("disclosure=none", "epochs=400", "patience=1"))
    epochs = len(run.label_party.trained.history)
    assert epochs < 400
    monkeypatch.setattr(costs, "known_unit_costs", lambda key_bits, engine: None)
    assert predict_run(run) is None
    units = UnitCosts({}, (1.0, *[0.0] * 10), 1000)
    monkeypatch.setattr(costs, "known_unit_costs", lambda key_bits, engine: units)
    predicted = predict_run(run)
    assert predicted is not None
    assert predicted.epochs == epochs
    sent = sum(ledger.counts["training", "bytes sent"] for ledger in run.ledgers.values())
    assert predicted.total_size == pytest.approx(sent, rel=0.1)
    # Epochs that an earlier run trained, before a break, were not this one's to pay for.
    run.label_party.trained.history.extend(run.label_party.trained.history)
    assert predict_run(run) == predicted


def test_more_cores_share_encrypted_work_alone() -> None:
    seconds = {("shop", "masks"): 8.0, ("shop", REST): 1.0}
    predicted = Prediction(1, seconds, {("shop", "bank"): 1_000_000}, {}, {}, 0)
    assert predicted.total_cpu_seconds == 9
    assert predicted.computing_seconds(4) == pytest.approx(3)
    assert predicted.transfer_seconds(8e6) == pytest.approx(1)
