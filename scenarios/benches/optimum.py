"""Rounds to scikit-learn's optimum, and what they cost, by optimizer: ``make bench-optimum``.

For every table the optimum of the training objective is scikit-learn's, on the pooled columns in fixed point. Steps are
found in the clear (disclosure ``none``, the same integers): the fewest rounds, and for Adam the best of a few learning
rates, after which the objective is within a gap of it. Those are then played under encryption and timed.

    python -m scenarios.benches.optimum [FOLDER]    FOLDER with FATE's breast and default_credit tables, else made-up
    ones
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from parties.features import FRACTION_BITS, FixedPointMatrix
from parties.model import log_loss
from protocol.numbers import FloatArray
from scenarios.console import new_table
from scenarios.judging import pooled
from scenarios.party import PartySettings
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario

_L2 = 1e-3
_RATES = (0.02, 0.05, 0.1, 0.2)
_ROUNDS = (5, 8, 10, 12, 15, 20, 25, 30, 35, 50, 75, 100, 150, 200, 300, 450, 700, 1000)


@dataclass(frozen=True)
class Measured:
    """What a training came to: gap to the optimum, rounds, seconds of training, entries opened to all, bytes sent."""

    gap: float
    rounds: int
    seconds: float
    opened: int
    size: int


def tables(folder: Path | None) -> Iterator[tuple[str, float, Mapping[str, pd.DataFrame]]]:
    """Give name, gap to reach and the tables, by role."""
    if folder is not None:
        for name, gap in (("breast", 1e-3), ("breast", 1e-4), ("default_credit", 1e-4)):
            sides = {"label": "guest", "feature": "host"}
            yield (
                name,
                gap,
                {
                    role: pd.read_csv(folder / f"{name}_hetero_{side}.csv")
                    for role, side in sides.items()
                },
            )
        return
    draw = np.random.default_rng(0)
    for name, shared in (("made up", 0.0), ("made up, collinear", 3.0)):
        n = 6000
        columns = draw.normal(size=(n, 16)) + shared * draw.normal(size=(n, 1))
        chances = 1 / (1 + np.exp(-columns @ draw.normal(size=16)))
        y = (draw.random(n) < chances).astype(int)
        frames = [
            pd.DataFrame(part).add_prefix("x").assign(id=range(n)) for part in np.hsplit(columns, 2)
        ]
        yield name, 1e-4, {"label": frames[0].assign(y=y), "feature": frames[1]}


def scenario_of(frames: Mapping[str, pd.DataFrame], **training: object) -> Scenario:
    """Return a scenario of two tables."""
    parties = [
        PartySettings.model_validate(
            {"name": role, "role": role, "frame": frame, "id": "id"}
            | ({"label": "y"} if role == "label" else {})
        )
        for role, frame in frames.items()
    ]
    values = {"l2": _L2, "logit_bound": 24, "patience": 100_000, "guard": "warn", **training}
    return Scenario.model_validate({"name": "optimum", "training": values, "parties": parties})


def _dense(rows: FixedPointMatrix) -> FloatArray:
    return np.hstack([rows.scaled / 2.0**FRACTION_BITS, rows.indicators.toarray()])


def optimum(run: Run) -> tuple[float, float]:
    """Return the training objective of the last halves of a run, and scikit-learn's optimum of it."""
    trained = run.label_party.trained
    rows, y = trained.split.training_samples, trained.labels[trained.split.training_samples]
    columns, weights = [_dense(trained.matrix.take(rows))], [trained.state.model.weights]
    for name, half in run.feature_parties.items():
        entities = [b.entities[name][b.entity_of[name]] for b in trained.split.batches]
        columns.append(_dense(half.matrix.take(np.concatenate(entities))))
        weights.append(half.state.model.weights)
    X, w = np.hstack(columns), np.concatenate(weights)
    z = X @ w + (trained.state.model.bias or 0.0)
    best = pooled.fit("logistic", X, y, np.full(X.shape[1], _L2)).objective
    return log_loss(z, y) + _L2 / 2 * float(w @ w), best


def measure(frames: Mapping[str, pd.DataFrame], **training: object) -> Measured:
    """Train, and say what it came to."""
    run = runner.run(scenario_of(frames, **training))
    reached, best = optimum(run)
    history = run.label_party.trained.history
    return Measured(
        reached - best,
        len(history),
        sum(epoch.seconds for epoch in history),
        sum(half.guard.opened for half in run.halves.values()),
        sum(ledger.counts["training", "bytes sent"] for ledger in run.ledgers.values()),
    )


def fewest(frames: Mapping[str, pd.DataFrame], gap: float, **training: object) -> int | None:
    """Return the fewest of _ROUNDS that reach the gap in the clear; None if none does."""
    for rounds in _ROUNDS:
        if measure(frames, disclosure="none", epochs=rounds, **training).gap <= gap:
            return rounds
    return None


def main(folder: Path | None) -> None:
    """Print a row for each table and optimizer, ratios against quasi-newton."""
    console = Console()
    title = "Rounds to the optimum, 2048 bits, 'shared'; times: rounds / seconds / entries"
    headings = ["rounds", "gap", "s", "opened", "MB", "times"]
    table = new_table(title, ["table", "optimizer"], headings)
    for name, gap, frames in tables(folder):
        choices: dict[str, dict[str, object]] = {
            "quasi-newton": {"optimizer": "quasi-newton", "tolerance": 1e-15}
        }
        reached = dict[int, dict[str, object]]()
        for rate in _RATES:
            settings: dict[str, object] = {
                "optimizer": "adam",
                "learning_rate": rate,
                "batch_size": len(frames["label"]),
            }
            rounds = fewest(frames, gap, **settings)
            if rounds is not None and rounds < min(reached, default=10**9):
                reached[rounds] = settings
        if reached:
            best = reached[min(reached)]
            choices[f"adam {best['learning_rate']}"] = best
        base: Measured | None = None
        for label, settings in choices.items():
            rounds = fewest(frames, gap, **settings) or _ROUNDS[-1]
            done = measure(frames, disclosure="shared", epochs=rounds, **settings)
            base = base or done
            table.add_row(
                f"{name} {gap:.0e}",
                label,
                f"{done.rounds}",
                f"{done.gap:.1e}",
                f"{done.seconds:.1f}",
                f"{done.opened:,}",
                f"{done.size / 1e6:,.1f}",
                f"{done.rounds / base.rounds:.1f} / {done.seconds / base.seconds:.1f} / "
                f"{done.opened / base.opened:.1f}",
            )
    console.print(table)


if __name__ == "__main__":
    started = time.perf_counter()
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    print(f"{time.perf_counter() - started:.0f} s in all")
