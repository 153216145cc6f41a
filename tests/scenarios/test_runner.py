from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import GuardError
from scenarios import runner
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


def test_a_run_tells_what_it_took(load_scenario: LoadScenario) -> None:
    run = runner.run(load_scenario("epochs=2"))
    assert run.shared == {"users": 260}
    assert 0 < run.seconds_per_epoch * 2 < run.seconds
    assert run.peak_memory > 10_000_000
    assert run.warnings == []
    assert set(run.ledgers) == {"coordinator", "shop", "bank", "telco"}
    assert all(view == [] for view in run.views.values())


def test_progress_hears_of_every_round(load_scenario: LoadScenario) -> None:
    heard: list[tuple[int, int]] = []
    runner.run(load_scenario("epochs=3", "disclosure=none"), lambda *done: heard.append(done))
    assert heard == [(number + 1, 6) for number in range(6)]


def test_every_run_has_its_own_keys(load_scenario: LoadScenario) -> None:
    rosters = [runner.run(load_scenario("epochs=1"), record_views=True).views for _ in range(2)]
    moduli = [view["bank"] for view in rosters]
    keys = [next(m.modulus for _, m in messages if hasattr(m, "modulus")) for messages in moduli]
    assert keys[0] != keys[1]


def test_tables_are_checked_before_anything_starts(load_scenario: LoadScenario) -> None:
    with pytest.raises(GuardError, match="bank has 3 columns"):
        runner.load_datasets(load_scenario("batch_size=10"))
    with pytest.raises(GuardError, match="key of 512 bits"):
        runner.load_datasets(load_scenario("insecure_key=false"))
