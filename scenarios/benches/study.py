"""``make cost-study``: run every sweep that docs/cost.md shows, and put their tables and plots there.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``; the text around it is written by hand. Sweeps whose
data are not at hand are left out, finished cells are not run again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from scenarios import report
from scenarios.costs import calibration, experiments, findings, sweep
from scenarios.costs.experiments import Factor
from scenarios.costs.prediction import predict
from scenarios.costs.shapes import Shapes
from scenarios.costs.sweep import Outcome

ROWS = ("1000", "10000", "100000")
PREDICTED_ROWS = 1_000_000


@dataclass(frozen=True)
class Study:
    """One sweep of docs/cost.md. ``data`` is the folder it needs beside the project, if any."""

    name: str
    scenario: str
    vary: tuple[str, ...]
    changes: tuple[str, ...] = ()
    design: experiments.Design = "full"
    data: str | None = None
    data_path: str | None = None

    def cells(self) -> list[experiments.Cell]:
        """Return what is to be run."""
        factors = [Factor.parse(text) for text in self.vary]
        return experiments.plan_cells(
            self.scenario, factors, self.design, 1, self.changes, data_path=self.data_path
        )


_SHARED_DATA = "../shared/data"
STUDIES = (
    Study(
        "breast-cancer",
        "breast-cancer",
        ("key_bits=2048,1024,3072", "disclosure=shared,open,none"),
        ("epochs=10", "optimizer=adam", "batch_size=160"),
    ),
    Study(
        "default-credit",
        "scenarios/benches/studies/default-credit.toml",
        (
            "disclosure=shared,open,none",
            "batch_size=2048,512,8192",
            "key_bits=2048,1024,3072",
            "columns=13,5",
        ),
        ("epochs=2",),
        "one-at-a-time",
        data=f"{_SHARED_DATA}/fate",
    ),
    Study(
        "shop-bank-telco",
        "shop-bank-telco",
        ("factors=4,0,8", "disclosure=open,shared,none", "key_bits=2048,3072", "parties=3,2"),
        ("epochs=2",),
        "one-at-a-time",
    ),
    Study(
        "two-cinemas",
        "two-cinemas",
        ("factors=4,0,8", "disclosure=open,none", "key_bits=2048,3072"),
        ("epochs=4",),
        "one-at-a-time",
        data=f"{_SHARED_DATA}/ml-100k",
        data_path=f"{_SHARED_DATA}/ml-100k",
    ),
    Study(
        "parties",
        "cost-study",
        ("parties=2,3,4", "columns=10,20,40", "n_jobs=-1,1", "disclosure=shared,open"),
        ("epochs=2",),
        "one-at-a-time",
    ),
    Study(
        "phe",
        "breast-cancer",
        ("disclosure=shared,open", "engine=colonnade,phe"),
        ("epochs=1",),
    ),
    Study(
        "rows",
        "cost-study",
        (f"rows={','.join(ROWS)}", "disclosure=shared,open"),
        ("epochs=1", "batch_size=1000"),
    ),
)


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers to the right."""
    lines = [headings, ["---:" if i >= len(headings) - 7 else "---" for i in range(len(headings))]]
    return "\n".join("| " + " | ".join(line) + " |" for line in [*lines, *rows])


def table(outcomes: Sequence[Outcome], extra: Sequence[Sequence[str]] = ()) -> str:
    """Return a sweep's table for docs/cost.md."""
    rows = [
        [*one.levels.values(), *findings.figures(one).values()]
        for one in outcomes
        if one.refused is None
    ]
    headings = [*outcomes[0].levels, *findings.figures(outcomes[0])]
    return markdown(headings, [*rows, *extra])


def predicted_rows() -> list[list[str]]:
    """Return rows of the growth with rows that are predicted and marked as such."""
    rows = []
    for disclosure in ("shared", "open"):
        levels = {"rows": ROWS[-1], "disclosure": disclosure}
        scenario = experiments.resolve("cost-study", levels, ("epochs=1", "batch_size=1000"))
        shapes = Shapes.of(scenario).with_rows(
            PREDICTED_ROWS, scenario.training.rows_of_batch(PREDICTED_ROWS)
        )
        expected = predict(scenario, shapes)
        memory = f"{expected.peak_memory_together / 1e6:,.0f} (predicted)"
        rows.append(
            [
                f"{PREDICTED_ROWS} (predicted)",
                disclosure,
                "",
                "",
                f"{expected.total_cpu_seconds:.1f}",
                "",
                f"{expected.total_size / 1e6:,.0f} (predicted)",
                memory,
                "",
            ]
        )
    return rows


def where_time_goes(outcome: Outcome) -> str:
    """Return the share of each kind of operation in the CPU seconds of training, all parties together."""
    spent = findings.seconds_by_operation(outcome)
    shares = sorted(spent.items(), key=lambda one: -one[1])
    return ", ".join(f"{kind} {seconds / outcome.cpu_seconds:.0%}" for kind, seconds in shares)


def _say(study: str, cells: int, done: int, outcome: Outcome) -> None:
    click.echo(f"{study}: {done} of {cells}, {findings.describe(outcome.levels)}")


def _machine() -> str:
    return calibration.machine().partition(", ")[2]  # without its name


def refresh(page: str, name: str, content: str) -> str:
    """Return a page with the table of that name replaced."""
    pattern = re.compile(rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", page)


@click.command()
@click.option("--only", multiple=True, help="Names of studies; all by default.")
@click.option("--page", type=click.Path(path_type=Path), default=Path("docs/cost.md"))
@click.option("--folder", type=click.Path(path_type=Path), default=Path("sweeps"))
def main(only: tuple[str, ...], page: Path, folder: Path) -> None:
    """Run the studies and refresh the page."""
    text = page.read_text(encoding="utf-8")
    for study in STUDIES:
        if only and study.name not in only:
            continue
        if study.data is not None and not Path(study.data).is_dir():
            click.echo(f"{study.name}: {study.data} is not there; left out")
            continue
        cells = study.cells()
        sweep.calibrate(cells, folder / study.name)
        say = partial(_say, study.name, len(cells))
        outcomes = sweep.sweep(cells, folder / study.name, say).outcomes
        extra = predicted_rows() if study.name == "rows" else []
        text = refresh(text, study.name, table(outcomes, extra))
        shares = [
            f"- {findings.describe(one.levels)}: {where_time_goes(one)}"
            for one in outcomes
            if one.refused is None
        ]
        text = refresh(text, f"{study.name} shares", "\n".join(shares[:3]))
        report.write_sweep(folder / study.name)
        for plot in (folder / study.name / "plots").glob("*.svg"):
            kept = page.parent / "cost" / f"{study.name}-{plot.name}"
            if f"cost/{kept.name}" in text:
                kept.parent.mkdir(exist_ok=True)
                shutil.copy(plot, kept)
        page.write_text(refresh(text, "machine", _machine()), encoding="utf-8")


if __name__ == "__main__":
    main()
