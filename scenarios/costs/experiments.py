"""The cells of a cost study: which settings are varied, over which values, one at a time or all combined."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, Self

from protocol.encryption.keys import SECURE_KEY_BITS
from protocol.errors import SettingsError
from scenarios.costs import calibration
from scenarios.party import FunctionCall
from scenarios.scenario import Scenario, load, validated

Design = Literal["full", "one-at-a-time"]


Levels = dict[str, str]


DEFAULT = ("key_bits=2048,1024", "disclosure=shared,open,none")


PARTIES, COLUMNS = "parties", "columns"


OF_TABLES = ("rows", COLUMNS, "binary")  # and made-up ones can have any


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
        if party.function is None:
            return False
        function = FunctionCall(function=party.function).find(scenario.folder, party.name)
        if argument not in inspect.signature(function).parameters:
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
