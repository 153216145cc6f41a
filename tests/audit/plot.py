"""Plot how label attacks fare against rows a column: ``make audit`` writes docs/label-attacks.svg."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from audit.laboratory import Record, Setting, reduce_lattice, solve, train
from parties.model import FloatArray
from protocol.settings import TrainingSettings

TARGET = Path(__file__).parents[2] / "docs" / "label-attacks.svg"
SEEDS = range(8)
RATIO = TrainingSettings().guard_ratio
RATIOS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
DEFAULT_COLUMNS = (2, 4, 8, 16, 24, 32)

Attack = Callable[[Record], FloatArray]

ONE_ROUND = Setting(rows=64, columns=8)
EPOCHS = replace(ONE_ROUND, batches=4, epochs=30)
AGAINST_RATIO: dict[str, tuple[Setting, Attack, str]] = {
    "lattice, zero weights (unguarded)": (
        replace(ONE_ROUND, zero_weights=True),
        partial(reduce_lattice, spread=0.0),
        "C3-o",
    ),
    "collecting, reshuffled batches (unguarded)": (replace(EPOCHS, reshuffled=True), solve, "C1-s"),
    "lattice": (ONE_ROUND, partial(reduce_lattice, spread=0.2), "C3--o"),
    "collecting": (EPOCHS, solve, "C1--s"),
    "linear solving": (ONE_ROUND, solve, "C0--^"),
    "linear solving, 4 factors, 5 epochs": (replace(ONE_ROUND, factors=4, epochs=5), solve, "C2-d"),
}
AT_THE_GUARD: dict[str, tuple[Setting, Attack, str]] = {
    "lattice, known logits": (
        replace(ONE_ROUND, others=0),
        partial(reduce_lattice, spread=0.0),
        "C3-o",
    ),
    "linear solving, 4 factors, 5 epochs": (replace(ONE_ROUND, factors=4, epochs=5), solve, "C2-d"),
    "linear solving": (ONE_ROUND, solve, "C0--^"),
}


def mean_auc(setting: Setting, attack: Attack) -> float:
    """Return the mean AUC of the labels that an attack infers."""
    records = [train(replace(setting, seed=seed)) for seed in SEEDS]
    return float(np.mean([roc_auc_score(record.labels, attack(record)) for record in records]))


def draw(
    axes: Axes,
    attacks: dict[str, tuple[Setting, Attack, str]],
    points: Iterable[tuple[float, int, int]],
) -> None:
    """Draw one line an attack over points (x, rows, columns), and print the numbers."""
    marks = list(points)
    for name, (setting, attack, style) in attacks.items():
        values = [mean_auc(replace(setting, rows=r, columns=c), attack) for _, r, c in marks]
        axes.plot([x for x, _, _ in marks], values, style, label=name, markersize=4)
        told = ", ".join(
            f"{x:g}: {value:.2f}" for (x, _, _), value in zip(marks, values, strict=True)
        )
        print(f"{name}: {told}")
    axes.axhline(0.5, color="grey", linewidth=0.5)
    axes.set_ylim(0.4, 1.03)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def main() -> None:
    """Run the attacks and write the plot."""
    mpl.rcParams.update({"svg.hashsalt": "colonnade", "svg.fonttype": "none"})
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    print("against rows a column, 64 rows:")
    draw(left, AGAINST_RATIO, ((ratio, 64, max(1, 64 // ratio)) for ratio in RATIOS))
    left.axvline(RATIO, color="grey", linestyle=":")
    left.set(xlabel=f"rows a column ({RATIO} = guard_ratio)", ylabel="AUC of the inferred labels")
    print(f"against rows, {RATIO} a column:")
    draw(right, AT_THE_GUARD, ((RATIO * c, RATIO * c, c) for c in DEFAULT_COLUMNS))
    right.set(xlabel=f"rows in a batch, {RATIO} a column (256 = batch_size)", xscale="log")
    right.set_xticks(
        [RATIO * c for c in DEFAULT_COLUMNS], [str(RATIO * c) for c in DEFAULT_COLUMNS]
    )
    right.minorticks_off()
    figure.savefig(TARGET, metadata={"Date": None}, facecolor="white")
    print(f"wrote {TARGET.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
