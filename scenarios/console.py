"""What commands have in common: options, tables, words, warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.table import Table


def new_table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """Return an empty table with headings of words, to the left, and of numbers, to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in words:
        # Parties may differ at the end of their names.
        made.add_column(heading, overflow="fold", min_width=min(12, len(heading)))
    for heading in numbers:
        made.add_column(heading, justify="right", no_wrap=True)  # a number that is cut is another
    return made


def shared_words(shared: Mapping[str, int]) -> str:
    """Say how many entities of each type were found to be shared, such as '541 shared users'."""
    return ", ".join(f"{count:,} shared {what}" for what, count in shared.items())


@contextmanager
def going_on_without(what: str, console: Console) -> Iterator[None]:
    """Make a warning of whatever fails inside: for what is not worth a finished run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - as said
        console.print(f"[yellow]warning:[/yellow] no {what}: ", end="")
        console.print(str(error) or type(error).__name__, markup=False)
