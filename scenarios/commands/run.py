"""``colonnade run``: all parties of a scenario, and the tables of how good the model is and what it cost."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from scenarios import report, run_folder
from scenarios.commands.options import allow_option, path_option, set_option
from scenarios.console import going_on_without, new_table, shared_words
from scenarios.costs import prediction as costs
from scenarios.judging import baselines
from scenarios.judging.evaluation import Ranking
from scenarios.report.hooks import Hooks
from scenarios.running import folders, runner
from scenarios.running import processes as in_processes
from scenarios.running.progress import run_bar
from scenarios.scenario import load


@click.command("run")
@click.argument("scenario", default="shop-bank-telco")
@set_option
@click.option(
    "--seed", type=click.IntRange(min=0), help="The seed of splits, batches and initial weights."
)
@path_option
@allow_option
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
    folders.forget_checkpoints(keep_in)
    _print_result(console, finished, comparison, folder)
    _publish(console, folder, hooks)
    if as_json:
        click.echo(json.dumps(run_folder.summary(folder)))


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
    ending = "converged" if run.label_party.trained.converged else f"the best was number {best}"
    console.print(
        f"{epochs} of {run.seconds_per_epoch:.2f} s ({ending}), "
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
