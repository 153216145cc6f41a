from __future__ import annotations

import asyncio
import time

import pytest

from protocol.ledger import Ledger, count, metered


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_counts_go_to_whoever_runs_and_to_its_phase() -> None:
    ledgers = {name: Ledger(name) for name in "ab"}

    async def work(name: str) -> None:
        count("encryptions", 1)
        await asyncio.sleep(0)
        with ledgers[name].during("training"):
            await asyncio.sleep(0)
            count("encryptions", 10 if name == "a" else 20)
        count("encryptions", 100)

    async def both() -> None:
        await asyncio.gather(*(metered(work(name), ledgers[name]) for name in "ab"))

    asyncio.run(both())
    assert dict(ledgers["a"].counts) == {
        ("setup", "encryptions"): 101,
        ("training", "encryptions"): 10,
    }
    assert ledgers["b"].counts["training", "encryptions"] == 20
    count("encryptions", 1)  # nobody runs: nobody pays


def test_only_computing_costs_seconds() -> None:
    ledger = Ledger("a")

    async def work() -> str:
        busy(0.02)
        await asyncio.sleep(0.2)
        with ledger.during("training"):
            busy(0.03)
        return "done"

    assert asyncio.run(_run(work(), ledger)) == "done"
    assert 0.015 < ledger.seconds["setup"] < 0.15
    assert 0.025 < ledger.seconds["training"] < 0.15
    assert [row[:3] for row in ledger.rows()] == [
        ("a", "setup", "seconds"),
        ("a", "training", "seconds"),
    ]


async def _run(work: object, ledger: Ledger) -> object:
    return await metered(work, ledger)  # type: ignore[arg-type]


def test_errors_thrown_into_a_role_reach_it() -> None:
    async def work() -> None:
        await asyncio.sleep(10)

    async def cancelled() -> None:
        task = asyncio.ensure_future(_run(work(), Ledger("a")))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
