"""``colonnade init``: a first scenario file, guessed from tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from protocol.errors import SettingsError
from scenarios import consent
from scenarios.scaffold import draft


@click.command("init")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--label", metavar="COLUMN", help="The column with the outcome.")
@click.option("--yes", is_flag=True, help="Ask nothing; fail where something cannot be guessed.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("scenario.toml"), show_default=True
)
def write_scenario(files: tuple[Path, ...], label: str | None, yes: bool, output: Path) -> None:
    """Inspect FILES (CSV or Parquet, a party each) and write a first scenario file."""
    if output.exists():
        raise SettingsError(f"{output} exists; move it or choose another with --output")

    def ask(question: str, choices: Sequence[str]) -> str:
        for number, choice in enumerate(choices, 1):
            click.echo(f"  {number}  {choice}")
        number = click.prompt(question, type=click.IntRange(1, len(choices)))
        return choices[number - 1]

    text = draft(files, output, None if yes else ask, label)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {error.strerror}") from None
    consent.remember_files(files, output.parent)
    click.echo(f"Wrote {output}. Look at it, then: colonnade check {output}")
