from __future__ import annotations

from collections.abc import Callable

import pytest

from scenarios.costs.shapes import Shapes
from scenarios.running import runner
from scenarios.scenario import Scenario


@pytest.mark.parametrize("missing", ["drop", "neutral"])
def test_a_finished_run_has_the_shapes_that_were_worked_out_before(
    missing: str, load_scenario: Callable[..., Scenario]
) -> None:
    scenario = load_scenario("disclosure=none", "epochs=1", f"parties.bank.missing={missing}")
    assert Shapes.of_run(runner.run(scenario)) == Shapes.of(scenario)
