"""``colonnade recommend``: a list for one user, by the models of a finished run."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from scenarios.commands.options import allow_option
from scenarios.console import new_table
from scenarios.running.recommend import recommend


@click.command("recommend")
@click.argument("run", type=click.Path(path_type=Path))
@allow_option
@click.option("--user", required=True, help="The user's id at the label party.")
@click.option(
    "--k", type=click.IntRange(min=1), default=10, show_default=True, help="Length of the list."
)
@click.option("--item", "items", multiple=True, help="Rank these items alone.")
def recommend_items(run: Path, user: str, k: int, items: tuple[str, ...]) -> None:
    """List what a user has not met and would like most, by the models of a finished RUN (its folder)."""
    found = recommend(run, user, k, items)
    table = new_table(f"The best {len(found.items)} items the user has not met", ["item"], [])
    if any(one.title for one in found.items):
        table.add_column("title")
    table.add_column("probability", justify="right")
    for one in found.items:
        cells = [one.item, one.title] if len(table.columns) == 3 else [one.item]
        table.add_row(*cells, f"{one.probability:.3f}")
    console = Console()
    console.print(table)
    for name in found.unknown_to:
        console.print(f"{name} does not know this user and contributed nothing.")
