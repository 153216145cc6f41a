"""A bar that shows how far a run is, in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from protocol import ledger


@contextmanager
def run_bar(
    console: Console, *, disable: bool = False
) -> Iterator[tuple[ledger.Progress, ledger.Progress]]:
    """Show a bar; yield who is to hear of the rounds of the alignment, and who of those of the training."""
    with rounds_bar(console, disable=disable) as bar:
        task = bar.add_task("aligning", total=None)
        yield (
            lambda done, total: bar.update(task, completed=done, total=total),
            lambda done, total: bar.update(
                task, completed=done, total=total, description="training"
            ),
        )
        bar.update(task, total=bar.tasks[0].completed, description="trained")


def rounds_bar(console: Console, *, what: str = "rounds", disable: bool = False) -> Progress:
    """Return a bar that counts ``what``, or with ``disable`` one that nobody sees."""
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{what}, left"),
        TimeRemainingColumn(),
        console=console,
        disable=disable,
    )
