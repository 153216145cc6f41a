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

import hashlib
import inspect
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from itertools import product
from math import isfinite
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, Self, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from protocol.errors import ColonnadeError, SettingsError
from protocol.paillier import SECURE_KEY_BITS
from protocol.settings import Engine
from scenarios import calibration, environment, runner
from scenarios.costs import REST, predict
from scenarios.evaluation import Score
from scenarios.run_folder import check_writable, read_settings, write_csv, write_json
from scenarios.scenario import Scenario, load, validated
from scenarios.shapes import Shapes

Design = Literal["full", "one-at-a-time"]
Levels = dict[str, str]
Result = TypeVar("Result")

DEFAULT = ("key_bits=2048,1024", "disclosure=shared,open,none")
PARTIES, COLUMNS = "parties", "columns"
OF_TABLES = ("rows", COLUMNS, "binary")  # and made-up ones can have any
_STUDY = "vary it in the scenario 'cost-study'"
_INDEX = "sweep.json"
_CPU_SECONDS = "cpu seconds"


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
        if name == "factors":
            model = "logistic" if value == "0" else "factorization-machine"
            settings += [f"model={model}", *([] if value == "0" else [f"factors={value}"])]
        elif name in OF_TABLES and _made_up(usual, name):
            settings += [
                f"parties.{party.name}.arguments.{name}={value}" for party in usual.parties
            ]
        elif name not in (PARTIES, *OF_TABLES):
            settings.append(f"{name}={value}")
    scenario = load(source, settings, seed, data_path)
    for name, value in levels.items():
        if name == PARTIES:
            scenario = _with_parties(scenario, value)
        elif name == COLUMNS and not _made_up(usual, name):
            scenario = _with_columns(scenario, value)
        elif name in OF_TABLES and not _made_up(usual, name):
            raise SettingsError(
                f"--vary {name}={value}: the tables of {scenario.name} cannot be made with other {name}; {_STUDY}"
            )
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


def _made_up(scenario: Scenario, argument: str) -> bool:
    """Whether every party's table comes from a function that takes such an argument."""
    for party in scenario.parties:
        module, _, name = (party.function or "").partition(":")
        function = getattr(import_module(module), name, None) if module else None
        if function is None or argument not in inspect.signature(function).parameters:
            return False
    return True


def _with_parties(scenario: Scenario, number: str) -> Scenario:
    """Return the scenario among the first so many data parties; made-up ones can be more than it has."""
    if not number.isdigit() or int(number) < 2:
        raise SettingsError(f"--vary parties={number}: expected two parties or more")
    wanted, (label, features) = int(number), (scenario.label_party, scenario.feature_parties)
    parties = [label, *features][:wanted]
    if _made_up(scenario, PARTIES):
        parties += [
            features[-1].model_copy(update={"name": f"party-{part}"})
            for part in range(len(parties), wanted)
        ]
        parties = [
            party.model_copy(
                update={"arguments": {**party.arguments, "part": part, PARTIES: wanted}}
            )
            for part, party in enumerate(parties)
        ]
    if len(parties) < wanted:
        raise SettingsError(
            f"--vary parties={number}: {scenario.name} has {len(parties)}; for more, {_STUDY}"
        )
    fewer = scenario.model_dump() | {"parties": [party.model_dump() for party in parties]}
    return validated(Scenario, fewer, f"--vary parties={number}")


def _with_columns(scenario: Scenario, number: str) -> Scenario:
    """Return the scenario with the first so many columns of each party's table, or all where it has fewer."""
    tables = {party.name: scenario.dataset(party).feature_columns for party in scenario.parties}
    most = max(map(len, tables.values()))
    if not number.isdigit() or not 1 <= int(number) <= most:
        raise SettingsError(
            f"--vary columns={number}: expected 1 to {most}, the most that a table of {scenario.name} has; "
            f"for more, {_STUDY}"
        )
    parties = [party.only(tables[party.name][: int(number)]) for party in scenario.parties]
    return scenario.model_copy(update={"parties": parties})


def sweep(cells: Sequence[Cell], folder: Path, progress: Callable[[int, Outcome], None]) -> Sweep:
    """Run every cell that is not done yet, and write the tables; ``progress`` hears of each, done before or now."""
    check_writable(folder)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    outcomes = list[Outcome]()
    for number, cell in enumerate(cells, 1):
        path = folder / "cells" / f"{cell.name}.json"
        outcome = _read(path, cell.levels, cell.repeat)
        if outcome is None:
            outcome = _apart(partial(measure, cell))
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_bytes(_OUTCOME.dump_json(outcome))
            unfinished.rename(path)
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
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        found = [
            _read(folder / "cells" / f"{one['name']}.json", one["levels"], one["repeat"])
            for one in index["cells"]
        ]
        outcomes = [outcome for outcome in found if outcome is not None]
        if not outcomes or len(outcomes) < len(found):
            raise KeyError("cells")
        return Sweep(scenario, outcomes, index["environment"], index["has_weak_keys"])
    except (OSError, ValueError, KeyError, TypeError):
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
        return replace(_OUTCOME.validate_json(path.read_bytes()), levels=levels, repeat=repeat)
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


def refusals(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return the reason of each cell that was refused, by its levels."""
    return {describe(one.levels): one.refused for one in outcomes if one.refused is not None}


def numbers_of(outcomes: Sequence[Outcome], factor: str) -> list[float] | None:
    """Return the level of each outcome as a number; None if one is none."""
    try:
        return [float(one.levels[factor]) for one in outcomes]
    except ValueError:
        return None


def exponent(outcomes: Sequence[Outcome], factor: str) -> float | None:
    """Return ``b`` of ``cpu seconds = a level^b``, fitted by least squares of logarithms; None unless levels differ."""
    levels = numbers_of(outcomes, factor)
    if levels is None or len(set(levels)) < 2 or min(levels) <= 0:
        return None
    spent = np.array([one.cpu_seconds for one in outcomes])
    return float(np.polyfit(np.log(levels), np.log(spent), 1)[0])


def growth(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the exponent of each factor for which one can be fitted."""
    fitted = {
        factor: exponent(one_factor(outcomes, factor), factor) for factor in outcomes[0].levels
    }
    return {factor: power for factor, power in fitted.items() if power is not None}


def pareto(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes than which none is both cheaper and more accurate, the cheapest first."""
    best: list[Outcome] = []
    for one in sorted(outcomes, key=lambda one: (one.cpu_seconds, -(one.auc or 0.0))):
        if one.auc is not None and (not best or one.auc > (best[-1].auc or 0.0)):
            best.append(one)
    return best


def seconds_by_phase(one: Outcome) -> dict[str, float]:
    """Return the CPU seconds of each phase, all parties together."""
    parts = defaultdict[str, float](float)
    for _, phase, quantity, number in one.costs:
        if quantity == _CPU_SECONDS:
            parts[phase] += number
    return parts


def seconds_by_operation(one: Outcome) -> dict[str, float]:
    """Return the CPU seconds of training by kind of operation, all parties together; the rest is Python's."""
    parts = defaultdict[str, float](float)
    for _, phase, quantity, number in one.costs:
        kind = quantity.removeprefix(f"{_CPU_SECONDS} of ")
        if phase == "training" and kind != quantity:
            parts[kind] += number
    parts[REST] = one.cpu_seconds - sum(parts.values())
    return parts


def bytes_by_link(one: Outcome) -> dict[str, float]:
    """Return the bytes that each party sent to each other."""
    parts = defaultdict[str, float](float)
    for sender, receiver, _, _, size, _ in one.links:
        parts[f"{sender} → {receiver}"] += size
    return parts


def figures(one: Outcome) -> dict[str, str]:
    """Return what a table shows of an outcome, by its headings."""
    return {
        "epoch s": f"{one.seconds_per_epoch:.3f}",
        "CPU s": f"{one.cpu_seconds:.3f}",
        "predicted": f"{one.predicted_cpu_seconds:.3f}",
        "ratio": f"{one.ratio:.2f}",
        "MB sent": f"{one.size / 1e6:,.2f}",
        "MB held": f"{one.peak_memory / 1e6:,.0f}",
        "AUC": "" if one.auc is None else f"{one.auc:.4f}",
    }


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
