"""What every command's tables look like."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table


def new_table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """Return an empty table with headings of words, to the left, and of numbers, to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in words:
        made.add_column(heading)
    for heading in numbers:
        made.add_column(heading, justify="right")
    return made
