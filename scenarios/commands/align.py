"""``colonnade align``: which entities the parties share, and nothing more."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from scenarios.commands.options import allow_option, path_option, set_option
from scenarios.console import new_table, shared_words
from scenarios.running import align, folders
from scenarios.running.progress import rounds_bar
from scenarios.scenario import load


@click.command("align")
@click.argument("scenario")
@set_option
@path_option
@allow_option
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("alignments"),
    show_default=True,
    help="Where each party's positions go.",
)
def align_scenario(scenario: str, changes: tuple[str, ...], path: str | None, folder: Path) -> None:
    """Find the entities that the parties of SCENARIO share; write each party the positions of its own rows."""
    settings = load(scenario, changes, data_path=path)
    folders.check_writable(folder)
    console = Console()
    with rounds_bar(console) as bar:
        task = bar.add_task("aligning", total=None)
        found = align.align(
            settings, lambda done, total: bar.update(task, completed=done, total=total)
        )
        bar.update(task, description="aligned")
    written = align.write(found, settings, folder)
    headings = ["rows", "shared rows", "seconds of computing", "kB sent"]
    table = new_table(f"Aligned by {settings.alignment.method}", ["party"], headings)
    for party, ledger in found.ledgers.items():
        positions = found.positions.get(party)
        table.add_row(
            party,
            *(["", ""] if positions is None else [f"{found.rows[party]:,}", f"{len(positions):,}"]),
            f"{sum(ledger.seconds.values()):.2f}",
            f"{sum(record.size for record in ledger.sent) / 1000:,.1f}",
        )
    console.print(shared_words(found.shared))
    console.print(table)
    console.print(
        f"{found.seconds:.1f} s in all, {found.peak_memory / 1e6:,.0f} MB at most. Kept in {written}"
    )
