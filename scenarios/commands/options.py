"""Options that several commands have."""

from __future__ import annotations

import click

from scenarios import consent

_NAMING = ("csv", "parquet", "function", "source")  # settings whose value is what would be allowed


def _say(
    context: click.Context, option: click.Parameter, changes: tuple[str, ...]
) -> tuple[str, ...]:
    """Whoever names a file or a function on the command line allows it."""
    named = [change.partition("=") for change in changes]
    consent.allow(
        value.strip().strip("\"'")
        for key, _, value in named
        if key.strip().rpartition(".")[2] in _NAMING
    )
    return changes


set_option = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_say,
    help="Change a setting, such as epochs=5.",
)


path_option = click.option(
    "--path", help="Where a ready-made scenario finds the data that it does not bring."
)


def _allow(context: click.Context, option: click.Parameter, names: tuple[str, ...]) -> None:
    consent.allow(names)


allow_option = click.option(
    "--allow",
    multiple=True,
    metavar="NAME",
    callback=_allow,
    expose_value=False,
    help="Let the scenario file have code, a file or a database of this name; remembered for its folder.",
)
