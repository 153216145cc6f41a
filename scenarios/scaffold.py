"""A first scenario file from a folder of tables: guesses what their contents tell, asks for what they do not."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from pandas.api import types

from parties.columns import ColumnKind, ColumnOptions, counted, guess_kind, read_feature
from parties.dataset import Declaration, PartyDataset, normalise_id
from parties.features import FeatureEncoder
from parties.sources import CsvSource, ParquetSource, read_table
from protocol.errors import DataError, SettingsError
from protocol.settings import SplitSettings, TrainingSettings
from scenarios.scenario import COORDINATOR

Ask = Callable[[str, Sequence[str]], str]
_ID_NAME = re.compile(
    r"(^|_)(id|ids|idx|key|uuid|user|customer|client|patient|person|member|account|guest|visitor)s?(_|$)"
)
_ITEM_NAME = re.compile(r"item|product|movie|film|place|article|sku|book|song|restaurant")
_LABEL_NAME = re.compile(
    r"(^|_)(y|label|target|outcome|class|default|churn|churned|bought|clicked|converted|fraud|response|liked|"
    r"survived|died|diagnosis)(_|$)"
)
_LEAST_OVERLAP = 0.05
_LIMITED = (ColumnKind.CATEGORICAL, ColumnKind.MULTI_VALUED)
_FEWEST_CATEGORIES = 4
_CLEARLY_BETTER = 1.2


@dataclass(frozen=True, eq=False)
class Table:
    """One file, a party to be; ``ids`` are the columns that could hold ids, as a run would read them."""

    name: str
    source: dict[str, str]  # its settings
    frame: pd.DataFrame
    ids: pd.DataFrame

    @classmethod
    def read(cls, path: Path, output: Path, taken: Sequence[str]) -> Table:
        """Read a CSV or Parquet file for a scenario at ``output``; raises DataError if that fails."""
        stem = re.sub(r"[^a-z0-9_-]+", "-", path.name.partition(".")[0].lower()).strip("-_")
        numbered = (f"{stem or 'party'}-{number}" for number in count(2))
        name = next(one for one in chain([stem or "party"], numbered) if one not in taken)
        place = Path(os.path.relpath(path, output.parent)).as_posix()
        try:
            if path.suffix.lower() in (".parquet", ".pq"):
                frame = read_table(ParquetSource(path))
                return cls(name, {"parquet": place}, frame, frame[_could_be_ids(frame)])
            source = CsvSource.guess(path)
            frame = read_table(source)
            verbatim = read_table(replace(source, verbatim=_could_be_ids(frame)))
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        delimiter = {} if source.delimiter == "," else {"delimiter": source.delimiter}
        return cls(name, {"csv": place} | delimiter, frame, verbatim[_could_be_ids(frame)])


def _could_be_ids(frame: pd.DataFrame) -> list[str]:
    return [
        str(name)
        for name, cells in frame.items()
        if not types.is_bool_dtype(cells)
        and not types.is_float_dtype(cells)
        and not types.is_datetime64_any_dtype(cells)
    ]


@dataclass(frozen=True)
class Link:
    """An id column of a feature party, the label party's column that it matches, in how many ids, and how well."""

    column: str
    label_column: str
    shared: int
    score: float


def draft(files: Sequence[Path], output: Path, ask: Ask | None, label: str | None = None) -> str:
    """Return a commented scenario file for these tables, to be written to ``output``.

    ``ask`` puts a question and its possible answers to somebody; without it, what cannot be guessed is a
    SettingsError. ``label`` names the column with the outcome. Raises DataError for tables that cannot be read.
    """
    if len(files) < 2:
        raise SettingsError(f"expected the tables of at least two parties, got {len(files)}")
    tables: list[Table] = []
    for file in files:
        tables.append(Table.read(file, output, [COORDINATOR, *(table.name for table in tables)]))
    owner, outcome = _find_label(tables, ask, label)
    others = [table for table in tables if table is not owner]
    links = [_find_link(owner, table, outcome, ask) for table in others]
    entities = _name_entities([link.label_column for link in links])
    shared = min(link.shared for link in links)
    n_rows = len(owner.frame) if len(entities) > 1 else shared
    parts = [_write_label_party(owner, outcome, entities, n_rows)]
    for table, link in zip(others, links, strict=True):
        parts.append(_write_feature_party(table, link, entities[link.label_column]))
    head = f"""\
# Written by 'colonnade init' from {counted(len(tables), "table")}. These are guesses: check them, then run
#   colonnade check {output.name}
#   colonnade run {output.name}
title = {_toml(" and ".join(table.name for table in tables))}

[training]
epochs = 60  # at most; training ends at the optimum
# model = "factorization-machine"  # where columns matter in combination, as in recommending
"""
    return "\n".join([head, *(text for text, _ in parts)])


def _find_label(tables: Sequence[Table], ask: Ask | None, label: str | None) -> tuple[Table, str]:
    """Return the table and the column with the outcome."""
    places = {
        f"{table.name}: {column}": (table, str(column))
        for table in tables
        for column in table.frame.columns
        if (column == label if label is not None else _is_outcome(table.frame[column]))
    }
    if len(places) > 1:
        named = {key: one for key, one in places.items() if _LABEL_NAME.search(one[1].lower())}
        places = named if len(named) == 1 else places
    if not places:
        sought = f"a column {label!r}" if label else "a column of 0 and 1 that could be the label"
        raise SettingsError(f"no table has {sought}; name one with --label")
    if len(places) > 1:
        return places[_answer(ask, "Which column is the outcome to learn?", list(places))]
    return next(iter(places.values()))


def _is_outcome(cells: pd.Series) -> bool:
    return bool(
        types.is_numeric_dtype(cells)
        and cells.notna().all()
        and cells.nunique() == 2
        and cells.isin([0, 1]).all()
    )


def _find_link(owner: Table, table: Table, outcome: str, ask: Ask | None) -> Link:
    """Return the best match between a feature party's id columns, without repeats, and the label party's."""
    found = []
    theirs = {str(name): _id_values(cells) for name, cells in owner.ids.items() if name != outcome}
    for column in map(str, table.ids.columns):
        values = _id_values(table.ids[column])
        if not values or len(values) < len(table.frame):
            continue  # empty or repeated cells
        for other, known in theirs.items():
            shared = len(values & known)
            overlap = shared / max(1, min(len(values), len(known)))
            if overlap >= _LEAST_OVERLAP:
                hints = (column.lower() == other.lower(), _names_id(column), _names_id(other))
                once = len(known) == len(owner.frame)
                found.append(Link(column, other, shared, overlap * (1 + sum(hints) + once)))
    if not found:
        raise SettingsError(
            f"{table.name} has no column of different ids, each once, that {owner.name} has too; expected such "
            "as customer numbers"
        )
    found.sort(key=lambda link: -link.score)
    if len(found) > 1 and found[0].score < _CLEARLY_BETTER * found[1].score:
        choices = {f"{link.column} = {owner.name}'s {link.label_column}": link for link in found}
        question = f"Which ids does {table.name} share with {owner.name}?"
        return choices[_answer(ask, question, list(choices))]
    return found[0]


def _id_values(cells: pd.Series) -> set[str]:
    """Return a column's ids, or none if it can hold none."""
    try:
        values = {normalise_id(cell) for cell in cells}
    except TypeError:
        return set()
    return set() if "" in values else values


def _names_id(name: str) -> bool:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return bool(_ID_NAME.search(words) or _ITEM_NAME.search(words))


def _name_entities(columns: Sequence[str]) -> dict[str, str]:
    """Return the entity type of each of the label party's columns that a feature party matches."""
    entities: dict[str, str] = {}
    for column in dict.fromkeys(columns):
        usual = "item" if _ITEM_NAME.search(column.lower()) else "user"
        own = re.sub(r"\W+", "_", column.lower())
        entities[column] = own if usual in entities.values() else usual
    return entities


def _write_label_party(
    table: Table, outcome: str, entities: Mapping[str, str], n_rows: int
) -> tuple[str, int]:
    """Return the label party's part of the file and how many columns its matrix has."""
    cells = table.frame[outcome]
    declared: Declaration = {"label": outcome}
    if len(entities) == 1:
        lines = _write_id(*entities.items())
    else:
        pairs = ", ".join(f"{entity} = {_toml(column)}" for column, entity in entities.items())
        lines = [f"ids = {{ {pairs} }}"]
        if "item" in entities.values():
            lines.append('id_features = ["item"]  # some items are liked more than others')
            declared["id_features"] = ["item"]
    if _is_outcome(cells):
        lines.append(f"label = {_toml(outcome)}  # 0 and 1; {cells.mean():.0%} ones")
    elif types.is_numeric_dtype(cells) and cells.notna().any():
        declared["threshold"] = float(f"{cells.median():g}")
        lines.append(f"label = {_toml(outcome)}")
        lines.append(f"threshold = {declared['threshold']}  # 1 from here on: the median")
    else:
        raise SettingsError(
            f"{table.name}: column {outcome!r} is no outcome to learn; expected 0 and 1, or numbers"
        )
    return _write_party(table, "label", entities, lines, n_rows, declared)


def _write_feature_party(table: Table, link: Link, entity: str) -> tuple[str, int]:
    """Return a feature party's part of the file and how many columns its matrix has."""
    lines = [
        *_write_id((link.column, entity)),
        f"# {link.shared:,} of its ids are shared",
        'missing = "drop"  # "neutral" keeps the rows of people whom it does not know',
    ]
    return _write_party(table, "feature", {link.column: entity}, lines, link.shared, {})


def _write_id(pair: tuple[str, str]) -> list[str]:
    column, entity = pair
    usual = [] if entity == "user" else [f"entity = {_toml(entity)}"]
    return [*usual, f"id = {_toml(column)}"]


def _write_party(
    table: Table,
    role: str,
    entities: Mapping[str, str],
    lines: Sequence[str],
    n_rows: int,
    declared: Declaration,
) -> tuple[str, int]:
    """Return a party's part of the file, with columns that about ``n_rows`` shared rows allow for, and their number."""
    kinds, columns = _guess_columns(table, [*entities, *filter(None, [declared.get("label")])])
    features = [name for names in kinds.values() for name in names]
    if not features and "id_features" not in declared:
        raise SettingsError(
            f"{table.name} has no column to learn from beside {', '.join(entities)}"
        )
    by_kind = cast(Declaration, {_key(kind): names for kind, names in kinds.items()})
    dataset = PartyDataset.from_frame(
        table.name,
        table.frame.assign(**{column: table.ids[column] for column in entities}),
        ids={entity: column for column, entity in entities.items()},
        **(declared | by_kind | {"columns": features}),
    )
    split = SplitSettings()
    most = int(n_rows * (1 - split.test - split.validation)) // TrainingSettings().guard_ratio
    options, n_columns = _narrow(dataset, most)
    settings = {"name": table.name, "role": role, **table.source}
    text = [
        "[[parties]]",
        *(f"{key} = {_toml(value)}" for key, value in settings.items()),
        *lines,
        *columns,
    ]
    if options:
        limits = [f"{_toml(name)} = {{ max_categories = {n} }}" for name, n in options.items()]
        text.append(f"options = {{ {', '.join(limits)} }}  # rarer ones are taken together")
    if n_columns > most:
        text.append(f"# {n_columns} matrix columns where so few rows allow for {most}: ignore some")
    return "\n".join([*text, ""]), n_columns


def _narrow(dataset: PartyDataset, most: int) -> tuple[dict[str, int], int]:
    """Return limits on categories that leave ``most`` matrix columns if any do, and how many they leave."""
    limits: dict[str, int] = {}
    while True:
        options = {name: ColumnOptions(max_categories=limit) for name, limit in limits.items()}
        encoder = FeatureEncoder.fit(replace(dataset, options=options), np.arange(dataset.n_rows))
        widths = Counter(name for name in encoder.sources if dataset.kinds[name] in _LIMITED)
        widest, width = max(widths.items(), key=lambda item: item[1], default=("", 0))
        if len(encoder.sources) <= most or width <= _FEWEST_CATEGORIES:
            return limits, len(encoder.sources)
        limits[widest] = max(_FEWEST_CATEGORIES, width // 2)


def _guess_columns(
    table: Table, apart: Sequence[str]
) -> tuple[dict[ColumnKind, list[str]], list[str]]:
    """Return the features by kind, and the lines that declare them and say what is left out and why."""
    kinds: dict[ColumnKind, list[str]] = {}
    ignored: dict[str, str] = {}
    for name, cells in table.frame.items():
        column = str(name)
        if column in apart:
            continue
        if column in table.ids and _names_id(column) and table.ids[column].is_unique:
            ignored[column] = "looks like another id"
            continue
        if types.is_numeric_dtype(cells) and _has_leading_zeros(table, column):
            kinds.setdefault(ColumnKind.CATEGORICAL, []).append(column)
            continue
        try:
            kind = guess_kind("it", cells)
            read_feature("it", cells, kind, ColumnOptions())
        except DataError as error:
            ignored[column] = str(error).removeprefix(f"it: column {column!r} ").removeprefix("it ")
        else:
            kinds.setdefault(kind, []).append(column)
    lines = [f"{_key(kind)} = {_toml(names)}" for kind, names in kinds.items()]
    if ignored:
        lines += [f"ignore = {_toml(list(ignored))}"]
        lines += [f"#   {name} {why.partition(';')[0]}" for name, why in ignored.items()]
    return kinds, lines


def _has_leading_zeros(table: Table, column: str) -> bool:
    """Tell whether numbers are written like '01067', which makes them codes."""
    return column in table.ids and bool(table.ids[column].astype(str).str.match(r"0\d").any())


def _key(kind: ColumnKind) -> str:
    return kind.value.replace("-", "_")


def _toml(value: str | list[str]) -> str:
    # Strings of JSON, and lists of them, are TOML too.
    return json.dumps(value, ensure_ascii=False)


def _answer(ask: Ask | None, question: str, choices: Sequence[str]) -> str:
    if ask is None:
        raise SettingsError(
            f"{question} {len(choices)} answers are as likely: {', '.join(choices[:5])}; leave out --yes to be asked"
        )
    return ask(question, choices)
