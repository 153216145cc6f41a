"""``python -m scenarios.benches.ledger``: what measuring costs, as a share of what is measured.

Counts how often a run enters its ledgers and times each kind of entry by itself, on the ledger that the run leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from time import process_time
from typing import Any

import click

from protocol.ledger import Ledger, MessageRecord
from scenarios.running import runner
from scenarios.scenario import load

_TIMES = 2_000
# Entries that are part of another one, whose time has theirs in it.
_PARTS = {
    "record_sent": {"add": 3},
    "operation": {"add": 1},
    "during": {"clock": 2},
    "during_round": {"clock": 2},
}


def entries(ledger: Ledger) -> dict[str, Callable[[], object]]:
    """Return one entry of each kind, into a ledger as a run has left it."""
    ledger.phase = "training"
    ledger.clock(running=True)
    record = MessageRecord(0, "training", "party", "other", "Message", 100, False, "", 1, 0)

    def around(name: str, *arguments: object) -> None:
        with getattr(ledger, name)(*arguments):
            pass

    return {
        "add": partial(ledger.add, "quantity 1", 1),
        "record_sent": partial(ledger.record_sent, record),
        "record_received": partial(
            ledger.record_received, "other", "Message", 100, sealed=True, discloses=""
        ),
        "clock": partial(ledger.clock, running=True),
        "operation": partial(around, "operation", "quantity 1", 1),
        "during": partial(around, "during", "scoring"),
        "during_round": partial(around, "during_round"),
    }


def seconds(entry: Callable[[], object]) -> float:
    """Return the CPU seconds of one entry, the mean of many."""
    started = process_time()
    for _ in range(_TIMES):
        entry()
    return (process_time() - started) / _TIMES


def counted(method: Callable[..., Any], calls: Counter[str]) -> Callable[..., Any]:
    """Return the same method, which counts its calls."""

    @wraps(method)
    def counting(*arguments: object, **options: object) -> Any:
        calls[method.__name__] += 1
        return method(*arguments, **options)

    return counting


@click.command()
@click.argument("scenario", default="breast-cancer")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE")
def main(scenario: str, changes: tuple[str, ...]) -> None:
    """Run SCENARIO under each disclosure and print the share of the ledger in its CPU time."""
    methods = {name: getattr(Ledger, name) for name in entries(Ledger("party"))}
    calls = Counter[str]()
    for disclosure in ("shared", "open", "none"):
        settings = load(scenario, [*changes, f"disclosure={disclosure}"])
        runner.run(settings)
        calls.clear()
        for name, method in methods.items():
            setattr(Ledger, name, counted(method, calls))
        started = process_time()
        run = runner.run(settings)
        spent = process_time() - started
        for name, method in methods.items():
            setattr(Ledger, name, method)
        left = run.ledgers[settings.label_party.name]
        each = {name: seconds(entry) for name, entry in entries(left).items()}
        for whole, parts in _PARTS.items():
            for part, number in parts.items():
                calls[part] -= number * calls[whole]
        measuring = sum(number * each[name] for name, number in calls.items())
        click.echo(
            f"{disclosure}: {calls.total():,} entries, {measuring / spent:.2%} of {spent:.2f} CPU seconds"
        )


if __name__ == "__main__":
    main()
