"""``colonnade scenarios``, ``data`` and ``doctor``: what there is, here and for download."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from scenarios.catalog import movielens
from scenarios.running import environment
from scenarios.scenario import catalog


@click.command("scenarios")
def list_scenarios() -> None:
    """List the ready-made scenarios."""
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "parties", "what it is"):
        table.add_column(heading)
    for scenario in catalog():
        parties = ", ".join(party.name for party in scenario.parties)
        table.add_row(
            scenario.name, parties, f"{scenario.title}\n[dim]{scenario.description}[/dim]"
        )
    Console().print(table)


@click.command("doctor")
def show_machine() -> None:
    """Say which arithmetic this machine takes, on how many cores, and with which libraries."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in environment.describe().items():
        table.add_row(name, value)
    Console().print(table)


@click.command("data")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
def download_data(name: str, folder: Path) -> None:
    """Download a public data set by NAME, such as movielens-100k, and check it."""
    click.echo(movielens.download(name, folder))
