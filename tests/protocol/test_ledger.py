from __future__ import annotations

import asyncio

import pytest

from protocol.ledger import Ledger, count, metered


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


def test_only_computing_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("protocol.ledger.time.perf_counter", lambda: clock[0])
    ledger = Ledger("a")

    def spend(seconds: float) -> None:
        clock[0] += seconds

    async def work() -> str:
        spend(2)
        await asyncio.sleep(0)
        spend(1)
        with ledger.during("training"):
            spend(30)
            await asyncio.sleep(0)
            spend(10)
        spend(4)
        return "done"

    async def beside_another() -> str:
        task = asyncio.ensure_future(_run(work(), ledger))
        while not task.done():
            await asyncio.sleep(0)
            spend(500)  # whatever others do while the role waits
        return str(task.result())

    assert asyncio.run(beside_another()) == "done"
    assert ledger.rows() == [("a", "setup", "seconds", 7.0), ("a", "training", "seconds", 40.0)]


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
