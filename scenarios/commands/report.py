"""``colonnade report``: pages of finished runs and sweeps, written again or side by side."""

from __future__ import annotations

from pathlib import Path

import click

from protocol.errors import SettingsError
from scenarios import report
from scenarios.costs import sweep


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("comparison.html"),
    show_default=True,
    help="Where a comparison goes.",
)
def write_report(runs: tuple[Path, ...], output: Path) -> None:
    """Write the report of a finished RUN or sweep (its folder) into it, or one that compares several runs."""
    if len(runs) > 1:
        for folder in filter(sweep.is_sweep, runs):
            raise SettingsError(f"{folder} is a sweep; give it alone, or the folders of runs")
        click.echo(report.compare(runs, output))
    else:
        write = report.write_sweep if sweep.is_sweep(runs[0]) else report.write
        click.echo(write(runs[0]))
