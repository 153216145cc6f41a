"""``colonnade``: the commands there are. Each is imported when it is called, so that ``--help`` is quick."""

from __future__ import annotations

import os
from importlib import import_module

import click

from protocol.errors import ColonnadeError

BAD_INPUT = 2

# A command's name, where it is, and the first sentence of its help.
COMMANDS = {
    "align": (
        "align:align_scenario",
        "Find the entities that the parties of SCENARIO share; write each party the positions of its own rows.",
    ),
    "calibrate": (
        "cost:calibrate",
        "Measure in seconds what one operation costs on this machine, for plan and cost to predict with.",
    ),
    "check": (
        "check:check_scenario",
        "Check everything about SCENARIO that can be checked before anybody connects.",
    ),
    "coordinator": (
        "deploy:coordinator",
        "Play the coordinator of one run as the file CONFIG says.",
    ),
    "cost": (
        "cost:cost",
        "Train SCENARIO under every setting of a design and say what each costs; finished cells are not run again.",
    ),
    "data": (
        "catalog:download_data",
        "Download a public data set by NAME, such as movielens-100k, and check it.",
    ),
    "doctor": (
        "catalog:show_machine",
        "Say which arithmetic this machine takes, on how many cores, and with which libraries.",
    ),
    "init": (
        "init:write_scenario",
        "Inspect FILES (CSV or Parquet, a party each) and write a first scenario file.",
    ),
    "keygen": (
        "deploy:keygen",
        "Draw the keys of a party: NAME.key.toml to keep, NAME.public.toml to give away.",
    ),
    "party": ("deploy:party", "Play a data party of one run as the file CONFIG says."),
    "plan": (
        "cost:plan",
        "Say what training SCENARIO would cost: its own tables are read, and thought of as longer if asked.",
    ),
    "recommend": (
        "recommend:recommend_items",
        "List what a user has not met and would like most, by the models of a finished RUN (its folder).",
    ),
    "report": (
        "report:write_report",
        "Write the report of a finished RUN or sweep (its folder) into it, or one that compares several runs.",
    ),
    "roster": ("deploy:roster", "Make and show the list of who takes part."),
    "run": (
        "run:run_scenario",
        "Run SCENARIO: a name that 'colonnade scenarios' lists, by default shop-bank-telco, or a scenario.toml's path.",
    ),
    "scenarios": ("catalog:list_scenarios", "List the ready-made scenarios."),
}


class _Commands(click.Group):
    """Imports a command when it is called; answers an error a person can act on with its sentence and exit code 2."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(import_module(f"scenarios.commands.{module}"), attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except ColonnadeError as error:
            for line in str(error).splitlines():
                click.echo(f"colonnade: {line}", err=True)
            raise click.exceptions.Exit(BAD_INPUT) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="colonnade")
def main() -> None:
    """Train one model over columns that several organisations hold, without pooling them."""
    # Whatever Python this starts, it takes no module of the current folder for a library's.
    os.environ["PYTHONSAFEPATH"] = "1"
