"""Options that several commands have."""

from __future__ import annotations

import click

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
