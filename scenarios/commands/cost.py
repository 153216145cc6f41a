"""The commands of the cost study: ``colonnade calibrate``, ``colonnade plan`` and ``colonnade cost``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
from joblib import effective_n_jobs
from rich.console import Console

from protocol.encryption.keys import SECURE_KEY_BITS
from protocol.errors import SettingsError
from protocol.settings import Engine
from scenarios import report
from scenarios.commands.options import allow_option, path_option, set_option
from scenarios.console import new_table
from scenarios.costs import calibration, experiments, findings, sweep
from scenarios.costs.prediction import Prediction, predict
from scenarios.costs.shapes import Shapes
from scenarios.running.progress import rounds_bar
from scenarios.scenario import load

_UNITS = {"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}


@click.command("calibrate")
@click.option(
    "--key-bits",
    multiple=True,
    type=int,
    default=(2048, 3072),
    show_default=True,
    help="Key sizes to measure.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(get_args(Engine)),
    default=("colonnade",),
    show_default=True,
    help="Whose arithmetic to measure.",
)
def calibrate(key_bits: tuple[int, ...], engines: tuple[Engine, ...]) -> None:
    """Measure in seconds what one operation costs on this machine, for plan and cost to predict with."""
    console = Console()
    calibration.calibrate(key_bits, engines, lambda doing: console.print(f"measuring: {doing}"))
    table = new_table(
        "Microseconds of CPU time, among 1,000 at a time",
        ["operation"],
        _headings(key_bits, engines),
    )
    known = [calibration.unit_costs(bits, engine) for engine in engines for bits in key_bits]
    kinds = list(dict.fromkeys(kind for units in known for kind in units.operations))
    for kind in kinds:
        cells = []
        for units in known:
            call, each, work = units.operations.get(kind, (0.0, 0.0, 0.0))
            cells.append(f"{1e6 * (call / 1000 + each):,.2f} + {1e6 * work:.3f}")
        table.add_row(kind, *cells)
    console.print(table)
    console.print(
        "After the plus: for each multiplication in a vector's place. "
        f"Kept in {calibration.cache_file()}"
    )


def _headings(key_bits: Sequence[int], engines: Sequence[Engine]) -> list[str]:
    return [f"{bits} bits, {engine}" for engine in engines for bits in key_bits]


@click.command("plan")
@click.argument("scenario")
@click.option("--rows", type=float, help="Rows of the label party's table, such as 1e7.")
@click.option("--key-bits", type=int, help="Size of the key.")
@click.option(
    "--link", default="100Mbit", show_default=True, help="The coordinator's line, such as 1Gbit."
)
@set_option
@path_option
@allow_option
def plan(
    scenario: str,
    rows: float | None,
    key_bits: int | None,
    link: str,
    changes: tuple[str, ...],
    path: str | None,
) -> None:
    """Say what training SCENARIO would cost: its own tables are read, and thought of as longer if asked."""
    speed = _speed(link)
    settings = [*changes, *([] if key_bits is None else [f"key_bits={key_bits}"])]
    if key_bits is not None and key_bits < SECURE_KEY_BITS:
        settings.append("insecure_key=true")
    chosen = load(scenario, settings, data_path=path)
    shapes = Shapes.of(chosen)
    if rows is not None:
        if not (math.isfinite(rows) and rows >= 10):
            raise SettingsError(f"--rows {rows:g}: expected a number of rows, 10 or more")
        shapes = shapes.with_rows(int(rows), chosen.training.rows_of_batch(int(rows)))
    predicted = predict(chosen, shapes)
    console = Console()
    rounds = f"{shapes.rounds:,} round{'s' if shapes.rounds > 1 else ''}"
    console.print(
        f"{chosen.name}: {shapes.samples:,} training rows in {rounds} an epoch, at most "
        f"{predicted.epochs} epochs, {_columns(shapes)}, keys of {chosen.encryption.key_bits} bits, "
        f"disclosure '{chosen.training.disclosure}'"
    )
    print_prediction(console, predicted, speed, link)


def _columns(shapes: Shapes) -> str:
    return ", ".join(
        f"{party.columns:,} columns at {name}" for name, party in shapes.parties.items()
    )


def _speed(link: str) -> float:
    """Return the bits a second of ``100Mbit``; raises SettingsError."""
    match = re.fullmatch(r"([0-9.]+)\s*(kbit|Mbit|Gbit)(/s)?", link)
    if match is None or not match[1].replace(".", "", 1).isdigit() or float(match[1]) <= 0:
        raise SettingsError(
            f"--link {link}: expected a number of kbit, Mbit or Gbit, such as 100Mbit"
        )
    return float(match[1]) * _UNITS[match[2]]


def print_prediction(
    console: Console, predicted: Prediction, bits_per_second: float, link: str
) -> None:
    """Print CPU time by party and operation, time by cores, bytes by link, and memory."""
    epochs = predicted.epochs
    table = new_table(
        "CPU time of training, predicted", ["party", "operation"], ["an epoch", "all epochs"]
    )
    before = ""
    for (party, kind), seconds in sorted(predicted.cpu_seconds.items()):
        table.add_row(
            "" if party == before else party, kind, _time(seconds / epochs), _time(seconds)
        )
        before = party
    total = predicted.total_cpu_seconds
    table.add_row("all", "", _time(total / epochs), _time(total), style="bold")
    console.print(table)

    wire = predicted.transfer_seconds(bits_per_second)
    table = new_table(
        "Time on the wall, if parties take turns and have so many cores each",
        [],
        ["cores", "computing", f"sending at {link}", "all epochs"],
    )
    for cores in sorted({1, 2, 4, 8, 16, 32, 64, effective_n_jobs(-1)}):
        computing = predicted.computing_seconds(cores)
        table.add_row(str(cores), _time(computing), _time(wire), _time(computing + wire))
    console.print(table)

    table = new_table(
        "What is sent", ["from", "to"], ["messages", "an epoch", "all epochs", f"at {link}"]
    )
    for (sender, receiver), size in sorted(predicted.size.items()):
        table.add_row(
            sender,
            receiver,
            f"{predicted.messages[sender, receiver]:,}",
            _size(size / epochs),
            _size(size),
            _time(8 * size / bits_per_second),
        )
    console.print(table)
    memory = ", ".join(f"{party} {_size(peak)}" for party, peak in predicted.peak_memory.items())
    console.print(f"Memory of each party's own process, about: {memory}")


def _time(seconds: float) -> str:
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.2f} s" if seconds >= 0.1 else f"{1000 * seconds:,.1f} ms"


def _size(size: float) -> str:
    for bytes_of, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= bytes_of:
            return f"{size / bytes_of:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"


@click.command("cost")
@click.argument("scenario")
@click.option(
    "--vary",
    "vary",
    multiple=True,
    metavar="SETTING=A,B,...",
    help="A setting and its values, the usual one first; also parties, columns, and rows and binary of made-up data. "
    f"By default {' and '.join(experiments.DEFAULT)}.",
)
@click.option(
    "--design",
    type=click.Choice(get_args(experiments.Design)),
    default="full",
    show_default=True,
    help="All combinations, or one setting at a time.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="The seed of splits and initial weights.")
@click.option("--folder", type=click.Path(path_type=Path), help="By default sweeps/SCENARIO.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end.")
@set_option
@path_option
@allow_option
def cost(
    scenario: str,
    vary: tuple[str, ...],
    design: experiments.Design,
    repeats: int,
    seed: int | None,
    folder: Path | None,
    as_json: bool,
    changes: tuple[str, ...],
    path: str | None,
) -> None:
    """Train SCENARIO under every setting of a design and say what each costs; finished cells are not run again."""
    factors = [experiments.Factor.parse(text) for text in vary or experiments.DEFAULT]
    cells = experiments.plan_cells(scenario, factors, design, repeats, changes, seed, path)
    for party in cells[0].scenario.parties:
        party.check_consent(cells[0].scenario.folder)
    folder = folder or Path("sweeps") / cells[0].scenario.name
    console = Console()
    with rounds_bar(console, what="cells") as bar:
        task = bar.add_task("calibrating", total=len(cells))
        sweep.calibrate(
            cells, folder, lambda doing: bar.update(task, description=f"calibrating: {doing}")
        )

        def advance(done: int, outcome: sweep.Outcome) -> None:
            bar.update(task, completed=done, description=findings.describe(outcome.levels))

        done = sweep.sweep(cells, folder, advance)
        bar.update(task, description="trained")
    _print_sweep(console, done)
    console.print(f"Kept in {folder}; the report is {report.write_sweep(folder)}")
    if as_json:
        click.echo(findings.to_json(done.outcomes))


def _print_sweep(console: Console, done: sweep.Sweep) -> None:
    outcomes = done.outcomes
    repeated = any(one.repeat for one in outcomes)
    shown = [heading for heading in findings.figures(outcomes[0]) if heading != "predicted"]
    table = new_table(
        "What training costs all parties together; ratio is predicted over measured CPU",
        [", ".join(outcomes[0].levels), *(["repeat"] if repeated else [])],
        shown,
    )
    for one in outcomes:
        if one.refused is None:
            figures = findings.figures(one)
            which = [str(one.repeat + 1)] if repeated else []
            numbers = (figures[heading] for heading in shown)
            table.add_row(", ".join(one.levels.values()), *which, *numbers)
    console.print(table)
    for cell, reason in findings.refusals(outcomes).items():
        console.print(f"[yellow]refused:[/yellow] {cell}: {reason}")
    for factor, power in findings.growth(outcomes).items():
        console.print(f"CPU seconds grow as {factor}^{power:.2f}, all else as in the first cell")
    if done.has_weak_keys:
        console.print(
            f"[yellow]Keys under {SECURE_KEY_BITS} bits can be broken:[/yellow] insecure_key = true was set for them"
        )
