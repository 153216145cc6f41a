"""A cost study: one scenario trained under every setting of a design, each in a process of its own.

A sweep's folder holds ``cells/`` with one JSON file a finished cell, so that what is done is not done again, and of
them all:

settings.json   the settings of the first one
sweep.json      which cells they are, and the machine
cells.csv       a row a cell: settings, repeat, seconds, bytes, memory, accuracy, and what was predicted
costs.csv       cell, party, phase, quantity, number: the ledgers
links.csv       cell, sender, receiver, phase, messages, bytes, ciphertexts
report.html, plots/     all that for people, made from these files alone (scenarios/report)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import isfinite
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from parties import files
from protocol.encryption.keys import SECURE_KEY_BITS
from protocol.errors import ColonnadeError, SettingsError
from protocol.settings import Engine
from scenarios.costs import calibration
from scenarios.costs.experiments import Cell, Levels
from scenarios.costs.prediction import predict
from scenarios.costs.shapes import Shapes
from scenarios.judging.evaluation import Score
from scenarios.running import environment, runner
from scenarios.running.folders import check_writable, read_settings, write_csv, write_json
from scenarios.scenario import Scenario

Result = TypeVar("Result")

_INDEX = "sweep.json"


@dataclass(frozen=True)
class Outcome:
    """What a cell cost; or ``refused``, the sentence of whoever did not let it run.

    ``seconds`` are of the whole run on the wall, ``cpu_seconds`` and ``size`` (bytes) of training, all parties
    together; ``predicted`` has the same names. ``peak_memory`` is the process', in bytes.
    """

    levels: Levels
    repeat: int
    refused: str | None = None
    seconds: float = 0.0
    seconds_per_epoch: float = 0.0
    cpu_seconds: float = 0.0
    size: int = 0
    peak_memory: int = 0
    auc: float | None = None
    log_loss: float | None = None
    predicted_cpu_seconds: float = 0.0
    predicted_size: int = 0
    predicted_peak_memory: int = 0
    costs: tuple[tuple[str, str, str, float], ...] = ()
    links: tuple[tuple[str, str, str, int, int, int], ...] = ()

    @property
    def ratio(self) -> float:
        """Predicted over measured CPU seconds of training."""
        return self.predicted_cpu_seconds / self.cpu_seconds if self.cpu_seconds else float("nan")


_OUTCOME = TypeAdapter(Outcome)


def sweep(cells: Sequence[Cell], folder: Path, progress: Callable[[int, Outcome], None]) -> Sweep:
    """Run every cell that is not done yet, and write the tables; ``progress`` hears of each, done before or now."""
    check_writable(folder)
    files.make_folder(folder / "cells")
    outcomes = list[Outcome]()
    for number, cell in enumerate(cells, 1):
        path = folder / "cells" / f"{cell.name}.json"
        outcome = _read(path, cell.levels, cell.repeat)
        if outcome is None:
            outcome = _apart(partial(measure, cell))
            files.write(path, _OUTCOME.dump_json(outcome))
        outcomes.append(outcome)
        progress(number, outcome)
    write_tables(outcomes, folder)
    scenario, described = cells[0].scenario, environment.describe()
    weak = any(cell.scenario.encryption.key_bits < SECURE_KEY_BITS for cell in cells)
    write_json(folder / "settings.json", scenario.model_dump(mode="json"))
    index = {
        "cells": [{"name": c.name, "levels": c.levels, "repeat": c.repeat} for c in cells],
        "environment": described,
        "has_weak_keys": weak,
    }
    write_json(folder / _INDEX, index)
    return Sweep(scenario, outcomes, described, weak)


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: the settings of its first cell, what came of each, and the ``environment`` it ran in.

    It ``has_weak_keys`` if any cell's key can be broken.
    """

    scenario: Scenario
    outcomes: list[Outcome]
    environment: dict[str, str]
    has_weak_keys: bool

    @property
    def levels(self) -> dict[str, list[str]]:
        """The levels of each factor, in order."""
        return {
            factor: list(dict.fromkeys(one.levels[factor] for one in self.outcomes))
            for factor in self.outcomes[0].levels
        }


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a finished sweep."""
    return (folder / _INDEX).is_file()


def read(folder: Path) -> Sweep:
    """Read a finished sweep back; raises SettingsError if a part of it is missing or damaged."""
    scenario = read_settings(folder)
    try:
        index = json.loads(files.read(folder / _INDEX, files.MODEL_BYTES))
        found = [
            _read(folder / "cells" / f"{one['name']}.json", one["levels"], one["repeat"])
            for one in index["cells"]
        ]
        outcomes = [outcome for outcome in found if outcome is not None]
        if not outcomes or len(outcomes) < len(found):
            raise KeyError("cells")
        return Sweep(scenario, outcomes, index["environment"], index["has_weak_keys"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise SettingsError(
            f"{folder} is missing a part or damaged; expected what 'colonnade cost' wrote"
        ) from None


def calibrate(
    cells: Sequence[Cell], folder: Path, progress: Callable[[str], object] = lambda doing: None
) -> None:
    """Measure anew, under the load of the day, the unit costs of every cell that is still to be run.

    ``progress`` hears what is measured.
    """
    wanted = dict[tuple[Engine, int], None]()
    for cell in cells:
        if not (folder / "cells" / f"{cell.name}.json").exists():
            encryption = cell.scenario.encryption
            wanted[encryption.engine, encryption.key_bits] = None
    for number, (engine, bits) in enumerate(wanted):
        progress(f"{engine}, {bits} bits")
        _apart(partial(calibration.calibrate, [bits], [engine], everything=number == 0))


def _apart(work: Callable[[], Result]) -> Result:
    """Do work in a process of its own, so that one's memory and tables are not the next one's."""
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        return apart.submit(work).result()


def measure(cell: Cell) -> Outcome:
    """Predict and run one cell."""
    scenario = cell.scenario
    try:
        predicted = predict(scenario, Shapes.of(scenario))
        run = runner.run(scenario)
    except ColonnadeError as error:
        return Outcome(cell.levels, cell.repeat, refused=str(error))
    trained = run.label_party.trained
    score = Score.of(run.label_party.test_logits, trained.labels[trained.split.test.samples], None)
    ledgers = run.ledgers.values()
    return Outcome(
        cell.levels,
        cell.repeat,
        seconds=run.seconds,
        seconds_per_epoch=run.seconds_per_epoch,
        cpu_seconds=sum(ledger.cpu_seconds["training"] for ledger in ledgers),
        size=sum(ledger.counts["training", "bytes sent"] for ledger in ledgers),
        peak_memory=run.peak_memory,
        auc=score.auc if isfinite(score.auc) else None,
        log_loss=score.log_loss,
        predicted_cpu_seconds=predicted.total_cpu_seconds,
        predicted_size=predicted.total_size,
        predicted_peak_memory=predicted.peak_memory_together,
        costs=tuple(row for ledger in ledgers for row in ledger.rows()),
        links=tuple(row for ledger in ledgers for row in ledger.link_rows()),
    )


def _read(path: Path, levels: Levels, repeat: int) -> Outcome | None:
    """Return what a finished cell has left; None if there is nothing, or if it is of another version.

    The same training may have been a cell of another design, with other names for what is usual.
    """
    try:
        return replace(
            _OUTCOME.validate_json(files.read(path, files.MODEL_BYTES)),
            levels=levels,
            repeat=repeat,
        )
    except (OSError, ValidationError):
        return None


def write_tables(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write cells.csv, costs.csv and links.csv."""
    plain = [name for name in asdict(Outcome({}, 0)) if name not in ("levels", "costs", "links")]
    factors = list(outcomes[0].levels)
    write_csv(
        folder / "cells.csv",
        ["cell", *factors, *plain, "predicted_to_measured"],
        (
            [
                number,
                *one.levels.values(),
                *("" if (value := getattr(one, name)) is None else value for name in plain),
                "" if one.refused else round(one.ratio, 4),
            ]
            for number, one in enumerate(outcomes)
        ),
    )
    write_csv(
        folder / "costs.csv",
        ["cell", "party", "phase", "quantity", "number"],
        ([number, *row] for number, one in enumerate(outcomes) for row in one.costs),
    )
    write_csv(
        folder / "links.csv",
        ["cell", "sender", "receiver", "phase", "messages", "bytes", "ciphertexts"],
        ([number, *row] for number, one in enumerate(outcomes) for row in one.links),
    )
