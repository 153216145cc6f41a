"""Work shared between cores, through joblib: ``n_jobs`` is its own setting, and a user's back end can take over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, TypeVar

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib._parallel_backends import LokyBackend
from joblib.parallel import get_active_backend

from protocol import ledger

Preference = Literal["threads", "processes"]
Result = TypeVar("Result")


def cores_for(amount: int, share: int) -> int:
    """Return how many cores a task is worth, where ``share`` of its ``amount`` pays for handing it to one."""
    jobs: int = effective_n_jobs(None)
    return max(1, min(jobs, amount // share))


def split(number: int, workers: int) -> list[slice]:
    """Cut ``number`` things into nearly equal runs, one a worker, none of them empty if it can be."""
    bounds = np.linspace(0, number, max(1, min(workers, number)) + 1).astype(int).tolist()
    return [slice(low, high) for low, high in pairwise(bounds)]


def spread(
    work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], prefers: Preference
) -> list[Result]:
    """Do tasks side by side and charge the running party for what the helpers counted."""
    if len(tasks) == 1:
        return [work(*tasks[0])]
    backend, _ = get_active_backend()
    if prefers == "threads" and isinstance(backend, LokyBackend):
        # joblib's default: its threads are started for each call and waited for in steps of 10 ms.
        futures = [_threads().submit(ledger.apart, work, *task) for task in tasks]
        done = [future.result() for future in futures]
    else:
        parallel = Parallel(n_jobs=len(tasks), prefer=prefers)
        done = parallel(delayed(ledger.apart)(work, *task) for task in tasks)
    for _, taken in done:
        ledger.merge(taken)
    return [result for result, _ in done]


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    """Return helper threads that live as long as the process; idle ones cost nothing."""
    return ThreadPoolExecutor(max_workers=effective_n_jobs(-1), thread_name_prefix="colonnade")
