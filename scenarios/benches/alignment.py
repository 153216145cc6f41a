"""``make bench-alignment``: how long parties take to find what they share, and in how much memory.

Every measurement has a process of its own, in which all parties and the coordinator run; its peak memory includes
their tables. For reference it times Python's own set intersection of the same ids. Figures of other machines do not
compare: ratios within one run do.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from statistics import median
from time import perf_counter

import click
import numpy as np
import pandas as pd
from joblib import effective_n_jobs
from rich.console import Console
from rich.table import Table

from protocol.settings import AlignmentMethod
from scenarios.console import new_table
from scenarios.running.align import align
from scenarios.scenario import Scenario

PARTIES = ("shop", "bank", "telco")


@dataclass(frozen=True)
class Case:
    """One measurement: ``n_parties`` of ``n_ids`` each, half of them shared; ``n_jobs`` as joblib's."""

    method: AlignmentMethod
    n_parties: int
    n_ids: int
    n_jobs: int


@dataclass(frozen=True)
class Measurement:
    """Seconds of the alignment and of a plain set intersection; ``peak_memory`` of the process in bytes."""

    case: Case
    seconds: float
    plain_seconds: float
    peak_memory: int


def table(party: str, n_ids: int) -> pd.DataFrame:
    """Return a party's table: half of its ids are everyone's."""
    ids = [f"user{number}@example.org" for number in range(n_ids // 2)]
    ids += [f"{party}{number}@example.org" for number in range(n_ids - len(ids))]
    rows = np.random.default_rng().permutation(n_ids)
    numbers = np.arange(n_ids)
    frame = pd.DataFrame({"user": ids, "x": numbers, "y": numbers % 2})
    return frame.iloc[rows]


def measure(case: Case) -> Measurement:
    """Align and compare the outcome with a plain intersection; raises AssertionError if they differ."""
    names = PARTIES[: case.n_parties]
    function = {"function": "scenarios.benches.alignment:table", "id": "user", "ignore": ["y"]}
    parties = [
        {
            **function,
            "name": name,
            "role": "feature",
            "arguments": {"party": name, "n_ids": case.n_ids},
        }
        for name in names
    ]
    parties[0] |= {"role": "label", "label": "y", "ignore": []}
    scenario = Scenario.model_validate(
        {
            "name": "bench-alignment",
            "parties": parties,
            "alignment": {"method": case.method},
            "encryption": {"n_jobs": case.n_jobs},
        }
    )
    aligned = align(scenario)
    tables = [table(name, case.n_ids)["user"].tolist() for name in names]
    started = perf_counter()
    plain = set(tables[0]).intersection(*tables[1:])
    plain_seconds = perf_counter() - started
    assert aligned.shared == {"users": len(plain)}
    return Measurement(case, aligned.seconds, plain_seconds, aligned.peak_memory)


def results(measured: Sequence[Measurement]) -> Table:
    """Return a row a case.

    ``over plain`` is how many times as long as a set intersection the best took, ``gain`` one core's time over it.
    """
    words = ["method", "parties", "ids", "cores"]
    numbers = ["best s", "median s", "MB", "over plain", "gain"]
    shown = new_table("Alignment, half of the ids shared", words, numbers)
    best: dict[Case, float] = {}
    for one in measured:
        best[one.case] = min(one.seconds, best.get(one.case, one.seconds))
    for case, shortest in best.items():
        runs = [one for one in measured if one.case == case]
        plain = min(one.plain_seconds for one in runs)
        alone = best.get(replace(case, n_jobs=1), shortest)
        shown.add_row(
            case.method,
            str(case.n_parties),
            f"{case.n_ids:,}",
            str(case.n_jobs),
            f"{shortest:.1f}",
            f"{median(one.seconds for one in runs):.1f}",
            f"{max(one.peak_memory for one in runs) / 1e6:,.0f}",
            f"{shortest / plain:,.0f}",
            f"{alone / shortest:.1f}",
        )
    return shown


@click.command()
@click.option("--repeat", default=3, show_default=True, help="How often each is measured.")
@click.option(
    "--hashed", default=1_000_000, show_default=True, help="Ids of each of three parties."
)
@click.option("--raised", default=100_000, show_default=True, help="Ids of each of two parties.")
def main(repeat: int, hashed: int, raised: int) -> None:
    """Measure both methods, on all cores and on one."""
    cores = sorted({1, effective_n_jobs(-1)}, reverse=True)
    cases = [
        *(Case("keyed-hash", 3, hashed, n_jobs) for n_jobs in cores),
        *(Case("ecdh", 2, raised, n_jobs) for n_jobs in cores),
    ]
    measured = []
    for case in cases * repeat:
        # A process for each, so that one's memory is not the next one's.
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            measured.append(apart.submit(measure, case).result())
    Console(width=100).print(results(measured))


if __name__ == "__main__":
    main()
