"""The commands with which organisations run their own parties: keygen, roster, coordinator, party."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from protocol.transport.identity import Identity, PublicIdentity, RosterEntry, RosterFile, write_new
from scenarios import report
from scenarios.commands.options import allow_option
from scenarios.console import going_on_without
from scenarios.running.organisation import Organisation
from scenarios.scenario import validated

_FILE = click.Path(path_type=Path, dir_okay=False)
_SECONDS_BETWEEN_LINES = 1.0


@click.command("keygen")
@click.argument("name")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path()
)
def keygen(name: str, folder: Path) -> None:
    """Draw the keys of a party: NAME.key.toml to keep, NAME.public.toml to give away."""
    private, public = Identity.generate(name).write(folder)
    click.echo(f"{private} is private and stays here; give {public} to whoever makes the roster")


@click.group("roster")
def roster() -> None:
    """Make and show the list of who takes part."""


@roster.command("assemble")
@click.argument("out", type=_FILE)
@click.option("--address", required=True, help="Where the coordinator listens, HOST:PORT.")
@click.option("--coordinator", type=_FILE, required=True, help="Its public file.")
@click.option("--label", type=_FILE, required=True, help="The label party's public file.")
@click.option(
    "--feature",
    "features",
    multiple=True,
    required=True,
    metavar="FILE[:ENTITY]",
    help="A feature party's public file, and what its ids stand for (user).",
)
@click.option(
    "--optional",
    multiple=True,
    metavar="NAME",
    help="Keep samples of entities that this feature party does not know.",
)
def assemble(
    out: Path,
    address: str,
    coordinator: Path,
    label: Path,
    features: tuple[str, ...],
    optional: tuple[str, ...],
) -> None:
    """Write the roster OUT from the public files of all parties."""
    members = [_entry(coordinator, "coordinator"), _entry(label, "label")]
    for feature in features:
        file, _, entity = feature.partition(":")
        members.append(_entry(Path(file), "feature", entity or "user", optional))
    if strangers := set(optional) - {member.name for member in members[2:]}:
        raise click.UsageError(f"--optional {min(strangers)}: there is no such feature party")
    complete = validated(RosterFile, {"address": address, "members": members}, "roster")
    write_new(out, complete.to_toml())
    click.echo(f"{out} lists {len(members)} parties; everyone needs the same file")


@roster.command("show")
@click.argument("file", type=_FILE)
def show(file: Path) -> None:
    """List who is in the roster FILE, with fingerprints to compare by telephone."""
    listed = RosterFile.read(file)
    click.echo(f"coordinator at {listed.address}")
    for member in listed.members:
        joins = f" by {member.entity}" if member.entity else ""
        click.echo(f"{member.name:<20} {member.role + joins:<20} {member.fingerprint[:32]}")


def _entry(
    file: Path, role: str, entity: str | None = None, optional: tuple[str, ...] = ()
) -> RosterEntry:
    public = PublicIdentity.read(file)
    values = {"role": role, "entity": entity, "required": public.name not in optional}
    return validated(RosterEntry, {**public.model_dump(), **values}, str(file))


_resume = click.option(
    "--resume",
    is_flag=True,
    help="Take up a training that broke, after the last epoch that all have kept; everyone must say so.",
)


@click.command("coordinator")
@click.argument("config", type=_FILE)
@_resume
def coordinator(config: Path, resume: bool) -> None:
    """Play the coordinator of one run as the file CONFIG says."""
    _log_to_stderr()
    organisation = Organisation.read(config, resume=resume)
    _report(organisation, organisation.coordinate(_say))


@click.command("party")
@click.argument("config", type=_FILE)
@_resume
@allow_option
def party(config: Path, resume: bool) -> None:
    """Play a data party of one run as the file CONFIG says."""
    _log_to_stderr()
    last = [float("-inf")]

    def progress(done: int, total: int) -> None:
        if done == total or time.monotonic() - last[0] > _SECONDS_BETWEEN_LINES:
            last[0] = time.monotonic()
            _say(f"training: round {done} of at most {total}")

    organisation = Organisation.read(config, resume=resume)
    _report(organisation, organisation.take_part(_say, progress))


def _report(organisation: Organisation, results: Path) -> None:
    if organisation.configuration.report:
        with going_on_without("report", Console()):
            report.write(results)


def _say(line: str) -> None:
    print(line, flush=True)


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
