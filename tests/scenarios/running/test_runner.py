from __future__ import annotations

import asyncio
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing

import joblib
import pytest
from joblib.parallel import get_active_backend

from protocol.errors import GuardError
from scenarios.running import runner
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


async def _backend() -> tuple[str, int]:
    backend, n_jobs = get_active_backend()
    return type(backend).__name__, n_jobs


def test_a_run_within_an_event_loop_keeps_the_callers_back_end(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    async def coordinate(*_: object) -> dict[str, int]:
        heard.append(await _backend())
        raise KeyError("enough")

    monkeypatch.setattr(runner, "coordinator", coordinate)
    scenario = load_scenario("n_jobs=2")

    async def cell() -> None:
        with joblib.parallel_config(backend="threading"):
            runner.run(scenario)

    for start in (lambda: asyncio.run(cell()), lambda: cell().send(None)):
        with pytest.raises(KeyError):
            start()
    assert heard == [("ThreadingBackend", 2)] * 2


def test_an_interrupt_ends_a_run_within_an_event_loop() -> None:
    ended = []
    outer = threading.main_thread().ident or 0

    async def work() -> None:
        try:
            # An interrupt before the cell waits would hit the thread's own start.
            while not any(
                frame.f_code is Future.result.__code__
                for frame, _ in traceback.walk_stack(sys._current_frames()[outer])
            ):
                await asyncio.sleep(0.01)
            signal.pthread_kill(outer, signal.SIGINT)
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    async def cell() -> None:
        runner.complete(work())

    # Unlike asyncio.run's, a loop that leaves interrupts alone, as a notebook's does.
    with closing(asyncio.new_event_loop()) as loop, pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(cell())
    assert ended == [True]
