"""``colonnade check``: what can be said about a scenario before anybody connects."""

from __future__ import annotations

import click
from rich.console import Console

from protocol.errors import SettingsError
from scenarios.check import check
from scenarios.commands.cost import plan
from scenarios.commands.options import allow_option, path_option, set_option
from scenarios.console import new_table
from scenarios.scenario import load


@click.command("check")
@click.argument("scenario")
@set_option
@click.option("--party", help="Check this party's side alone.")
@path_option
@allow_option
@click.option("--cost", is_flag=True, help="Predict time, bytes and memory too, as 'plan' does.")
@click.pass_context
def check_scenario(
    context: click.Context,
    scenario: str,
    changes: tuple[str, ...],
    party: str | None,
    path: str | None,
    cost: bool,
) -> None:
    """Check everything about SCENARIO that can be checked before anybody connects."""
    report = check(load(scenario, changes, data_path=path), party)
    console = Console()
    for section in report.sections:
        table = new_table(section.title, [*section.words], [*section.numbers])
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}")
    if report.problems:
        raise SettingsError("\n".join(report.problems))
    console.print("Nothing stands in the way of a run.")
    if cost:
        context.invoke(plan, scenario=scenario, changes=changes, path=path)
