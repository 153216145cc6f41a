from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest

from protocol.ledger import (
    Apart,
    Ledger,
    MessageRecord,
    charging,
    count,
    merge,
    metered,
    operation,
    peak_memory,
)


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
    assert ledger.seconds == {"setup": 7.0, "training": 40.0}
    assert ledger.waiting_seconds == {"setup": 500.0, "training": 500.0}


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


def test_operations_are_timed_and_rounds_and_links_kept_apart() -> None:
    ledger = Ledger("a")
    with ledger.during("training"), charging(ledger):
        for number in range(2):
            with ledger.during_round():
                with operation("masks", 3):
                    sum(range(10_000))
                record = MessageRecord(
                    0, "training", "a", "b", "Kind", 100 + number, True, "", 2, ledger.round
                )
                ledger.record_sent(record)
        count("repeats", 1)
    assert ledger.counts["training", "masks"] == 6
    assert ledger.operation_seconds["training", "masks"] > 0
    of_rounds = [(row[2], row[4]) for row in ledger.round_rows() if row[3] == "masks"]
    assert of_rounds == [(0, 3), (1, 3)]
    assert not [row for row in ledger.round_rows() if row[3] == "repeats"]
    assert ledger.link_rows() == [("a", "b", "training", 2, 201, 4)]
    assert [record.round for record in ledger.sent] == [0, 1]
    assert ledger.peak_memory["training"] == pytest.approx(peak_memory(), rel=0.5)


def test_rows_can_be_entered_again() -> None:
    ledger, again = Ledger("a"), Ledger("a")
    ledger.clock(running=True)
    with ledger.during("training"), ledger.operation("masks", 3):
        pass
    ledger.clock(running=False)
    for _, phase, quantity, number in ledger.rows():
        again.enter_row(phase, quantity, number)
    assert again.rows() == ledger.rows()


def test_rounds_can_be_entered_again() -> None:
    ledger, again = Ledger("a"), Ledger("a")
    for number in range(3):
        with ledger.during_round():
            ledger.add("masks", number)
            ledger.add("products", 1)
    for _, phase, number, quantity, amount in ledger.round_rows():
        again.enter_round_row(phase, number, quantity, amount)
    assert again.round_rows() == ledger.round_rows()
    assert len(again.rounds) == 3


def test_what_is_received_is_folded_and_costs_nothing() -> None:
    ledger = Ledger("a")
    with ledger.during("training"):
        for sender, size in (("b", 100), ("c", 30), ("b", 50)):
            ledger.record_received(sender, "Kind", size, sealed=True, discloses="little")
    found = [
        (one.phase, one.sender, one.receiver, one.kind, one.messages, one.size)
        for one in ledger.received.values()
    ]
    assert found == [("training", "b", "a", "Kind", 2, 150), ("training", "c", "a", "Kind", 1, 30)]
    assert not ledger.counts


def test_what_another_process_computed_is_charged() -> None:
    ledger = Ledger("a")
    with charging(ledger), operation("products", 1):
        merge(Apart(Counter({("setup", "multiplications"): 5}), process=-1, cpu_seconds=40.0))
        merge(Apart(Counter(), process=os.getpid(), cpu_seconds=7.0))  # a thread's, counted already
    assert ledger.counts["setup", "multiplications"] == 5
    assert 40 <= ledger.operation_seconds["setup", "products"] < 41
