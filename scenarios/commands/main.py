"""The command line: ``colonnade run``, ``colonnade align``, ``colonnade recommend``, and what there is."""

from __future__ import annotations

import json
import math
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from protocol.errors import ColonnadeError, SettingsError
from scenarios import report, run_folder
from scenarios.catalog import movielens
from scenarios.check import check
from scenarios.commands import deploy
from scenarios.commands.cost import COMMANDS, plan
from scenarios.commands.options import path_option, set_option
from scenarios.console import going_on_without, new_table, shared_words
from scenarios.costs import prediction as costs
from scenarios.costs import sweep
from scenarios.judging import baselines
from scenarios.judging.evaluation import Ranking
from scenarios.report.hooks import Hooks
from scenarios.running import align, environment, folders, runner
from scenarios.running import processes as in_processes
from scenarios.running.progress import rounds_bar, run_bar
from scenarios.running.recommend import recommend
from scenarios.scaffold import draft
from scenarios.scenario import catalog, load

BAD_INPUT = 2


class _Commands(click.Group):
    """Answers every error a person can act on with its own sentence and exit code 2."""

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


for command in deploy.COMMANDS:
    main.add_command(command)


for command in COMMANDS:
    main.add_command(command)


@main.command("scenarios")
def list_scenarios() -> None:
    """List the ready-made scenarios."""
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "parties", "what it is"):
        table.add_column(heading)
    for scenario in catalog():
        parties = ", ".join(party.name for party in scenario.parties)
        table.add_row(
            scenario.name, parties, f"{scenario.title}\n[dim]{scenario.description}[/dim]"
        )
    Console().print(table)


@main.command("doctor")
def show_machine() -> None:
    """Say which arithmetic this machine takes, on how many cores, and with which libraries."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in environment.describe().items():
        table.add_row(name, value)
    Console().print(table)


@main.command("init")
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
    click.echo(f"Wrote {output}. Look at it, then: colonnade check {output}")


@main.command("check")
@click.argument("scenario")
@set_option
@click.option("--party", help="Check this party's side alone.")
@path_option
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


@main.command("run")
@click.argument("scenario", default="shop-bank-telco")
@set_option
@click.option(
    "--seed", type=click.IntRange(min=0), help="The seed of splits, batches and initial weights."
)
@path_option
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders go.",
)
@click.option("--processes", is_flag=True, help="Start every party as a process of its own.")
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON, for scripts.")
@click.option("--mlflow", metavar="URI", help="Log the run to this MLflow server or store as well.")
@click.option(
    "--tensorboard", type=click.Path(path_type=Path), help="Log the run for TensorBoard as well."
)
@click.option("--resume", is_flag=True, help="Take up the newest run that broke.")
def run_scenario(
    scenario: str,
    changes: tuple[str, ...],
    seed: int | None,
    path: str | None,
    runs: Path,
    processes: bool,
    as_json: bool,
    mlflow: str | None,
    tensorboard: Path | None,
    resume: bool,
) -> None:
    """Run SCENARIO: a name that 'colonnade scenarios' lists, by default shop-bank-telco, or a scenario.toml's path."""
    settings = load(scenario, changes, seed, path)
    hooks = Hooks(mlflow, tensorboard)
    hooks.check()
    folders.check_writable(runs)
    keep_in = folders.checkpoints(runs / settings.name, resume=resume)
    console = Console()
    console.print(f"[bold]{settings.title or settings.name}[/bold]")
    with _resumable(console, keep_in), run_bar(console) as (aligning, training):
        if processes:
            finished = in_processes.run(
                settings,
                training,
                lambda line: console.print(line, markup=False),
                keep_in=keep_in,
                resume=resume,
            )
        else:
            finished = runner.run(settings, training, aligning=aligning, keep_in=keep_in)
    comparison = baselines.compare(finished)
    folder = run_folder.write(finished, comparison, runs, _foretold(console, finished))
    shutil.rmtree(keep_in, ignore_errors=True)
    _print_result(console, finished, comparison, folder)
    _publish(console, folder, hooks)
    if as_json:
        click.echo(json.dumps(run_folder.summary(folder)))


@main.command("report")
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


@main.command("align")
@click.argument("scenario")
@set_option
@path_option
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


@main.command("data")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
def download_data(name: str, folder: Path) -> None:
    """Download a public data set by NAME, such as movielens-100k, and check it."""
    click.echo(movielens.download(name, folder))


@main.command("recommend")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--user", required=True, help="The user's id at the label party.")
@click.option(
    "--k", type=click.IntRange(min=1), default=10, show_default=True, help="Length of the list."
)
@click.option("--item", "items", multiple=True, help="Rank these items alone.")
def recommend_items(run: Path, user: str, k: int, items: tuple[str, ...]) -> None:
    """List what a user has not met and would like most, by the models of a finished RUN (its folder)."""
    found = recommend(run, user, k, items)
    table = new_table(f"The best {len(found.items)} items the user has not met", ["item"], [])
    if any(one.title for one in found.items):
        table.add_column("title")
    table.add_column("probability", justify="right")
    for one in found.items:
        cells = [one.item, one.title] if len(table.columns) == 3 else [one.item]
        table.add_row(*cells, f"{one.probability:.3f}")
    console = Console()
    console.print(table)
    for name in found.unknown_to:
        console.print(f"{name} does not know this user and contributed nothing.")


@contextmanager
def _resumable(console: Console, keep_in: Path) -> Iterator[None]:
    """Say, when a person stops a run, how it can go on."""
    try:
        yield
    except KeyboardInterrupt:
        if keep_in.exists():
            console.print("Stopped; the same command with --resume goes on after the last epoch")
        raise


def _foretold(console: Console, run: runner.Run) -> costs.Prediction | None:
    with going_on_without("prediction", console):
        return costs.predict_run(run)
    return None


def _publish(console: Console, folder: Path, hooks: Hooks) -> None:
    """Write the report and log elsewhere; the run is kept already."""
    for what, publish in (("report", report.write), ("log", hooks.log)):
        with going_on_without(what, console):
            publish(folder)


def _print_result(
    console: Console, run: runner.Run, comparison: baselines.Comparison, folder: Path
) -> None:
    split, settings = run.label_party.trained.split, run.scenario
    history = run.label_party.trained.history
    best = max(number for number, epoch in enumerate(history, 1) if epoch.best)
    batches = f"{len(split.batches)} batch{'es' if len(split.batches) > 1 else ''}"
    console.print(
        f"{shared_words(run.shared)}; {len(split.training_samples):,} training rows in {batches}, "
        f"{len(split.validation):,} for validation, {len(split.test):,} for the test below"
    )
    epochs = f"{len(history)} epoch{'s' if len(history) > 1 else ''}"
    console.print(
        f"{epochs} of {run.seconds_per_epoch:.2f} s (the best was number {best}), "
        f"{run.encryption}, disclosure '{settings.training.disclosure}'"
    )
    console.print(_score_table(comparison))
    if comparison.rankings:
        console.print(_ranking_table(run, comparison.rankings))
    elif run.scenario.ranking.k:
        console.print(
            "No lists were judged: without what they have met, no user has an item left.\n"
        )
    console.print(
        f"The joint weights differ from the pooled ones by {comparison.weight_distance:.1e} (relative).\n"
    )
    console.print(_cost_table(run))
    for warning in run.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}")
    console.print(
        f"{run.seconds:.1f} s in all, {run.peak_memory / 1e6:,.0f} MB at most. Kept in {folder}"
    )


def _score_table(comparison: baselines.Comparison) -> Table:
    grouped = any(math.isfinite(score.gauc) for score in comparison.scores.values())
    headings = (
        ["AUC", "GAUC", "log loss", "accuracy"] if grouped else ["AUC", "log loss", "accuracy"]
    )
    table = new_table("On rows nobody trained on", ["model"], headings)
    for name, score in comparison.scores.items():
        numbers = [score.auc, score.gauc, score.log_loss, score.accuracy]
        _add_numbers(table, name, numbers if grouped else [numbers[0], *numbers[2:]])
    return table


def _ranking_table(run: runner.Run, rankings: Mapping[str, Ranking]) -> Table:
    k, any_ranking = run.scenario.ranking.k, next(iter(rankings.values()))
    pool = "all items" if run.scenario.ranking.candidates == "all" else "items of the test rows"
    title = (
        f"Lists of {k} from {pool}, for {any_ranking.n_users:,} users "
        f"({any_ranking.n_skipped:,} liked nothing in the test rows)"
    )
    headings = [f"NDCG@{k}", "precision", "recall", "hit rate", "MRR", "MAP"]
    table = new_table(title, ["model"], headings)
    for name, one in rankings.items():
        numbers = [one.ndcg, one.precision, one.recall, one.hit_rate, one.mrr, one.map]
        _add_numbers(table, name.removesuffix(", same optimizer"), numbers)
    return table


def _add_numbers(table: Table, name: str, numbers: Sequence[float]) -> None:
    cells = (f"{number:.4f}" if math.isfinite(number) else "-" for number in numbers)
    table.add_row(name, *cells, style="bold" if name == baselines.JOINT else None)


def _cost_table(run: runner.Run) -> Table:
    headings = ["seconds", "messages", "kB", "ciphertexts"]
    table = new_table(
        "What it cost: seconds of computing, and what was sent", ["party", "phase"], headings
    )
    for ledger in run.ledgers.values():
        numbers = defaultdict[tuple[str, str], float](float)
        numbers |= {(phase, quantity): number for _, phase, quantity, number in ledger.rows()}
        phases = sorted({phase for phase, _ in numbers}, key=folders.PHASES.index)
        for position, phase in enumerate(phases):
            table.add_row(
                "" if position else ledger.party,
                phase,
                f"{numbers[phase, 'seconds']:.2f}",
                f"{numbers[phase, 'messages sent']:,.0f}",
                f"{numbers[phase, 'bytes sent'] / 1000:,.1f}",
                f"{numbers[phase, 'ciphertexts sent']:,.0f}",
            )
    return table
