from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from joblib import parallel_config

from protocol import ledger
from protocol.cores import Preference, cores_for, split, spread
from protocol.ledger import Ledger, metered


def test_small_tasks_stay_on_one_core() -> None:
    with parallel_config(n_jobs=8):
        assert cores_for(99, share=100) == 1
        assert cores_for(300, share=100) == 3
        assert cores_for(100_000, share=100) == 8


@pytest.mark.parametrize(("number", "workers"), [(0, 3), (1, 3), (7, 3), (9, 1)])
def test_runs_cover_everything_once(number: int, workers: int) -> None:
    runs = split(number, workers)
    assert [position for run in runs for position in range(number)[run]] == list(range(number))
    assert len(runs) == max(1, min(number, workers))


def _square(number: int) -> int:
    ledger.count("squares", 1)
    return number * number


@pytest.mark.parametrize("prefers", ["threads", "processes"])
def test_results_keep_their_order_and_counts_are_charged(prefers: Preference) -> None:
    async def role() -> list[int]:
        return spread(_square, [(number,) for number in range(4)], prefers)

    charged = Ledger("someone")
    with parallel_config(n_jobs=2):
        assert asyncio.run(_run(role(), charged)) == [0, 1, 4, 9]
    assert charged.counts["setup", "squares"] == 4


async def _run(role: Coroutine[Any, Any, list[int]], charged: Ledger) -> list[int]:
    return await metered(role, charged)
