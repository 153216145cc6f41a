"""Options that several commands have."""

from __future__ import annotations

import click

from scenarios import consent

set_option = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, such as epochs=5.",
)


path_option = click.option(
    "--path", help="Where a ready-made scenario finds the data that it does not bring."
)


def _allow(context: click.Context, option: click.Parameter, modules: tuple[str, ...]) -> None:
    consent.allow(modules)


allow_option = click.option(
    "--allow-code",
    multiple=True,
    metavar="MODULE",
    callback=_allow,
    expose_value=False,
    help="Let code of this module or plug-in run, which the scenario file names; remembered for its folder.",
)
