"""A cost study: one scenario trained under every setting of a design, each in a process of its own.

A sweep's folder holds ``cells/`` with one JSON file a finished cell, so that what is done is not done again, and tidy
tables of them all:

cells.csv       a row a cell: settings, repeat, seconds, bytes, memory, accuracy, and what was predicted
costs.csv       cell, party, phase, quantity, number: the ledgers
links.csv       cell, sender, receiver, phase, messages, bytes, ciphertexts
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import product
from math import isfinite
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import TypeAdapter, ValidationError

from protocol.errors import ColonnadeError, SettingsError
from protocol.paillier import SECURE_KEY_BITS
from protocol.settings import Engine
from scenarios import calibration, runner
from scenarios.costs import predict
from scenarios.evaluation import Score
from scenarios.run_folder import check_writable, write_csv
from scenarios.scenario import PartySettings, Scenario, load
from scenarios.shapes import Shapes

Design = Literal["full", "one-at-a-time"]
Levels = dict[str, str]

DEFAULT = ("key_bits=2048,1024", "disclosure=shared,open,none")
OF_TABLES = ("rows", "columns", "binary")
PARTIES = "parties"
_STUDY = "vary it in the scenario 'cost-study'"


@dataclass(frozen=True)
class Factor:
    """A setting and the values it takes in a study, the first of which is the usual one."""

    name: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``key_bits=1024,2048``; raises SettingsError for anything else."""
        name, equals, values = text.partition("=")
        levels = tuple(value.strip() for value in values.split(","))
        if not equals or not all(levels) or len(set(levels)) < len(levels):
            raise SettingsError(
                f"--vary {text}: expected a setting and different values, such as key_bits=1024,2048"
            )
        return cls(name.strip(), levels)


@dataclass(frozen=True)
class Cell:
    """One training to be done: the levels of all factors, and which repeat it is."""

    levels: Levels
    repeat: int
    scenario: Scenario

    @property
    def name(self) -> str:
        """A name that changes with any setting, the machine and the versions of libraries."""
        parts = [self.scenario.model_dump_json(), str(self.repeat), calibration.machine()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


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


def plan_cells(
    source: str,
    factors: Sequence[Factor],
    design: Design = "full",
    repeats: int = 1,
    changes: Sequence[str] = (),
    seed: int | None = None,
    data_path: str | None = None,
) -> list[Cell]:
    """Return all cells of a study; raises SettingsError for a scenario or a setting that cannot be."""
    cells = []
    for repeat in range(repeats):
        for levels in combine(factors, design):
            scenario = resolve(source, levels, changes, seed, data_path)
            cells.append(Cell(levels, repeat, scenario))
    return cells


def combine(factors: Sequence[Factor], design: Design) -> list[Levels]:
    """Return the levels of each cell: all combinations, or all that differ from the usual ones in one factor."""
    if design == "full":
        values = product(*(factor.values for factor in factors))
        return [dict(zip((f.name for f in factors), levels, strict=True)) for levels in values]
    usual = {factor.name: factor.values[0] for factor in factors}
    varied = [{**usual, factor.name: value} for factor in factors for value in factor.values[1:]]
    return [usual, *varied]


def resolve(
    source: str,
    levels: Levels,
    changes: Sequence[str] = (),
    seed: int | None = None,
    data_path: str | None = None,
) -> Scenario:
    """Return the scenario of a cell. No training stops early, and keys that can be broken are allowed."""
    usual = load(source, changes, seed, data_path)
    settings = [*changes]
    for name, value in levels.items():
        if name in OF_TABLES:
            settings += [
                f"parties.{party.name}.arguments.{name}={value}" for party in _made_up(usual, name)
            ]
        elif name == "factors":
            model = "logistic" if value == "0" else "factorization-machine"
            settings += [f"model={model}", *([] if value == "0" else [f"factors={value}"])]
        elif name != PARTIES:
            settings.append(f"{name}={value}")
    scenario = load(source, settings, seed, data_path)
    if PARTIES in levels:
        scenario = _with_parties(scenario, levels[PARTIES])
    encryption, training = scenario.encryption, scenario.training
    weak = encryption.key_bits < SECURE_KEY_BITS
    return scenario.model_copy(
        update={
            "encryption": encryption.model_copy(
                update={"insecure_key": encryption.insecure_key or weak}
            ),
            "training": training.model_copy(update={"patience": training.epochs}),
        }
    )


def _made_up(scenario: Scenario, argument: str) -> list[PartySettings]:
    """Return the parties if the functions that make their tables take an argument; raises SettingsError if not."""
    for party in scenario.parties:
        module, _, name = (party.function or "").partition(":")
        function = getattr(import_module(module), name, None) if module else None
        if function is None or argument not in inspect.signature(function).parameters:
            raise SettingsError(
                f"{scenario.name}: the table of {party.name} cannot be made with other {argument}; {_STUDY}"
            )
    return scenario.parties


def _with_parties(scenario: Scenario, number: str) -> Scenario:
    """Return the scenario among so many data parties, each further one like the last."""
    if not number.isdigit() or int(number) < 2:
        raise SettingsError(f"--vary parties={number}: expected two parties or more")
    label, *features = _made_up(scenario, PARTIES)
    made = [label, *features][: int(number)]
    made += [
        features[-1].model_copy(update={"name": f"party-{part}"})
        for part in range(len(made), int(number))
    ]
    parties = [
        party.model_copy(
            update={"arguments": {**party.arguments, "part": part, PARTIES: int(number)}}
        )
        for part, party in enumerate(made)
    ]
    return scenario.model_copy(update={"parties": parties})


def sweep(
    cells: Sequence[Cell], folder: Path, progress: Callable[[int, Outcome], None]
) -> list[Outcome]:
    """Run every cell that is not done yet, and write the tables; ``progress`` hears of each, done before or now."""
    check_writable(folder)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    outcomes = []
    for number, cell in enumerate(cells, 1):
        path = folder / "cells" / f"{cell.name}.json"
        outcome = _read(path)
        if outcome is None:
            # A process for each, so that one's memory and tables are not the next one's.
            with ProcessPoolExecutor(1, get_context("spawn")) as apart:
                outcome = apart.submit(measure, cell).result()
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_bytes(_OUTCOME.dump_json(outcome))
            unfinished.rename(path)
        outcomes.append(outcome)
        progress(number, outcome)
    write_tables(outcomes, folder)
    return outcomes


def calibrate(cells: Sequence[Cell], folder: Path) -> None:
    """Measure anew, under the load of the day, the unit costs of every cell that is still to be run."""
    wanted = defaultdict[Engine, set[int]](set)
    for cell in cells:
        if not (folder / "cells" / f"{cell.name}.json").exists():
            encryption = cell.scenario.encryption
            wanted[encryption.engine].add(encryption.key_bits)
    for number, (engine, bits) in enumerate(wanted.items()):
        calibration.calibrate(sorted(bits), [engine], everything=number == 0)


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


def _read(path: Path) -> Outcome | None:
    """Return what a finished cell has left; None if there is nothing, or if it is of another version."""
    try:
        return _OUTCOME.validate_json(path.read_bytes())
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


def one_factor(outcomes: Sequence[Outcome], factor: str) -> list[Outcome]:
    """Return the outcomes in which all other factors are as in the first cell."""
    usual = {name: value for name, value in outcomes[0].levels.items() if name != factor}
    return [one for one in outcomes if one.refused is None and usual.items() <= one.levels.items()]


def exponent(outcomes: Sequence[Outcome], factor: str) -> float | None:
    """Return ``b`` of ``cpu seconds = a level^b``, fitted by least squares of logarithms; None unless levels differ."""
    try:
        levels = np.array([float(one.levels[factor]) for one in outcomes])
    except ValueError:
        return None
    if len(set(levels)) < 2 or levels.min() <= 0:
        return None
    spent = np.array([one.cpu_seconds for one in outcomes])
    return float(np.polyfit(np.log(levels), np.log(spent), 1)[0])


def pareto(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes than which none is both cheaper and more accurate, the cheapest first."""
    best: list[Outcome] = []
    for one in sorted(outcomes, key=lambda one: (one.cpu_seconds, -(one.auc or 0.0))):
        if one.auc is not None and (not best or one.auc > (best[-1].auc or 0.0)):
            best.append(one)
    return best


def describe(levels: Mapping[str, str]) -> str:
    """Return a cell's levels as a line of text."""
    return ", ".join(f"{name} {value}" for name, value in levels.items())


def to_json(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes without their ledgers as one line of JSON, for scripts."""
    plain = []
    for one in outcomes:
        fields = asdict(one) | {"predicted_to_measured": None if one.refused else one.ratio}
        del fields["costs"], fields["links"]
        plain.append(fields)
    return json.dumps(plain)
