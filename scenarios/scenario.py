"""A scenario: who takes part, with which data, under which settings. Read from TOML, checked at once."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from parties.columns import ColumnOptions
from parties.dataset import IdKind, PartyDataset
from parties.sources import (
    ENVIRONMENT,
    CallableSource,
    CsvSource,
    DataSource,
    ParquetSource,
    SqlSource,
    from_environment,
    plug_in,
)
from protocol.errors import DataError, SettingsError
from protocol.identity import Name
from protocol.settings import ProtocolSettings, Settings

COORDINATOR = "coordinator"
SOURCES = ("csv", "parquet", "sql", "function", "source")
OWNERS = {  # settings of some sources alone
    "delimiter": ("csv",),
    "encoding": ("csv",),
    "url": ("sql",),
    "arguments": ("function", "source"),
}

KINDS = ("numeric", "categorical", "boolean", "multi_valued", "datetime")  # of columns, as declared

_SECRET = frozenset({"url", "arguments"})

IdKindName = Literal["integer", "text"]

S = TypeVar("S", bound=Settings)


class FunctionCall(Settings):
    """A Python function, ``module:name``, and what to call it with."""

    function: str
    arguments: dict[str, Any] = Field(default={})

    def __call__(self, where: str) -> Any:
        """Call it; raises SettingsError, naming ``where`` it was set, if there is no such function."""
        module, colon, name = self.function.partition(":")
        try:
            function = getattr(importlib.import_module(module), name) if colon else None
        except (ImportError, AttributeError, SyntaxError):
            function = None
        if not inspect.isfunction(function):
            raise SettingsError(
                f"{where}: function = '{self.function}' cannot be found; expected 'module:name', the module "
                "being installed or in a folder of PYTHONPATH"
            )
        try:
            inspect.signature(function).bind(**self.arguments)
        except TypeError as error:
            raise SettingsError(f"{where}: {self.function} cannot be called: {error}") from None
        return function(**self.arguments)


class PartySettings(Settings):
    """One data party: its role and where its table comes from.

    The table comes from exactly one of ``csv`` and ``parquet`` (paths, relative to the scenario file), ``sql`` (a
    query of the database at ``url``), ``function`` (``module:name``), ``source`` (the name of a plug-in; these two
    are called with ``arguments``) and in Python ``frame``, a DataFrame at hand, which a run does not keep. A url with a
    password, or another secret argument, stands in an environment variable, ``"env:NAME"``: a run keeps its settings.

    ``entity`` names what the ids in column ``id`` stand for; parties with the same one are aligned with each other.
    Rows whose entity a feature party does not know are dropped, or with ``missing = "neutral"`` kept: it then
    contributes nothing to them. A label party with interactions names several id columns instead, in ``ids``:
    ``{ user = "user_id", item = "item_id" }``, and in ``id_features`` those entities whose ids are features of their
    own. ``time`` is a column that orders its rows, ``title`` one that names items. With a ``threshold`` the label is a
    rating, 1 from there on. ``numeric`` to ``datetime`` declare kinds of columns where guesses are wrong, ``options``
    how single columns are read. ``id_kind`` has ids compared as ``integer``, so that '007' is 7, or
    as the ``text`` they are; ``id_kinds`` says so entity by entity.
    """

    name: Name
    role: Literal["label", "feature"]
    id: str | None = None
    ids: dict[str, str] = Field(default={})
    entity: str = "user"
    missing: Literal["drop", "neutral"] = "drop"
    time: str | None = None
    title: str | None = None
    threshold: float | None = None
    rating_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    id_features: list[str] = Field(default=[])
    id_kind: IdKindName | None = None
    id_kinds: dict[str, IdKindName] = Field(default={})
    label: str | None = None
    csv: str | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    parquet: str | None = None
    sql: str | None = None
    url: str | None = None
    function: str | None = None
    source: str | None = None
    frame: Any = Field(default=None, exclude=True, repr=False)
    arguments: dict[str, Any] = Field(default={})
    columns: list[str] | None = None
    ignore: list[str] = Field(default=[])
    numeric: list[str] = Field(default=[])
    categorical: list[str] = Field(default=[])
    boolean: list[str] = Field(default=[])
    multi_valued: list[str] = Field(default=[])
    datetime: list[str] = Field(default=[])
    options: dict[str, ColumnOptions] = Field(default={})

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url and re.search(r"://[^/@]*:.*@|password|passwd", url, re.IGNORECASE):
            raise ValueError(
                "expected no password, as a run keeps its settings; put the whole url into an environment "
                f"variable and set '{ENVIRONMENT}NAME'"
            )
        return url

    @field_validator("frame")
    @classmethod
    def _check_frame(cls, frame: Any) -> Any:
        if isinstance(frame, str):  # all that a scenario file could say
            raise ValueError("expected a DataFrame, which only Python can give; name a file")
        return frame

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, value in arguments.items():
            secret = re.search("password|passwd|secret|token|api_?key", name, re.IGNORECASE)
            if secret and not str(value).startswith(ENVIRONMENT):
                raise ValueError(
                    f"expected {name} in an environment variable, as a run keeps its settings; set "
                    f"'{ENVIRONMENT}NAME'"
                )
        return arguments

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.id is None) == (not self.ids):
            raise ValueError("expected exactly one of id and ids")
        if self.role == "feature" and (self.ids or self.id_features):
            raise ValueError("expected id and entity at a feature party, not ids or id_features")
        if strangers := sorted(set(self.id_features) - set(self.columns_by_entity)):
            raise ValueError(f"id_features names {strangers}; expected entities of ids")
        if strangers := sorted(set(self.id_kinds) - set(self.columns_by_entity)):
            raise ValueError(f"id_kinds names {strangers}; expected entities of ids")
        given = [key for key in (*SOURCES, "frame") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of {', '.join(SOURCES)}, got {len(given)}")
        for key, owners in OWNERS.items():
            changed = getattr(self, key) != type(self).model_fields[key].default
            if changed and given[0] not in owners:
                raise ValueError(f"{key} belongs to {' or '.join(owners)}, not to {given[0]}")
        if self.sql is not None and self.url is None:
            raise ValueError("expected url, the database that sql is for")
        if self.role == "label" and self.label is None:
            raise ValueError("expected label, the column with the outcome, at the label party")
        if self.role == "feature" and self.label is not None:
            raise ValueError("expected no label at a feature party")
        return self

    @property
    def columns_by_entity(self) -> dict[str, str]:
        """The id column of each entity type."""
        return self.ids if self.id is None else {self.entity: self.id}

    @property
    def kinds_by_entity(self) -> dict[str, IdKind]:
        """The kind of id of each entity type for which one is declared."""
        for_all = (
            {} if self.id_kind is None else dict.fromkeys(self.columns_by_entity, self.id_kind)
        )
        return {entity: IdKind(kind) for entity, kind in (for_all | self.id_kinds).items()}

    def only(self, columns: Sequence[str]) -> Self:
        """Return the party with these columns alone; what is declared of others is left out."""
        declared = {
            kind: [name for name in getattr(self, kind) if name in columns] for kind in KINDS
        }
        options = {name: value for name, value in self.options.items() if name in columns}
        return self.model_copy(
            update={**declared, "options": options, "columns": list(columns), "ignore": []}
        )

    def open_source(self, folder: Path) -> DataSource:
        """Return where the table is read from; raises DataError or SettingsError if there is no such plug-in."""
        if self.csv is not None:
            ids = tuple(self.columns_by_entity.values())
            text = (*self.categorical, *self.multi_valued, *self.datetime)
            return CsvSource(folder / self.csv, self.delimiter, self.encoding, ids, text)
        if self.parquet is not None:
            return ParquetSource(folder / self.parquet)
        if self.sql is not None:
            return SqlSource(self.url or "", self.sql, folder)
        arguments = {
            name: from_environment(value) if isinstance(value, str) else value
            for name, value in self.arguments.items()
        }
        if self.source is not None:
            return plug_in(self.source, arguments)
        if self.frame is not None:
            return CallableSource(lambda: self.frame, "the table")
        call = FunctionCall(function=self.function or "", arguments=arguments)
        return CallableSource(lambda: call(self.name), call.function)

    def dataset(self, folder: Path, like: PartyDataset | None = None) -> PartyDataset:
        """Read and check the table, relative to ``folder``, or further rows ``like`` those that were checked before.

        Raises DataError or SettingsError.
        """
        declared: dict[str, Any] = {
            "ids": self.columns_by_entity,
            "label": self.label,
            "columns": self.columns,
            "ignore": self.ignore,
            **{kind: getattr(self, kind) for kind in KINDS},
            "options": self.options,
            "id_features": self.id_features,
            "id_kinds": self.kinds_by_entity,
            "time": self.time,
            "title": self.title,
            "threshold": self.threshold,
            "rating_range": self.rating_range and tuple(self.rating_range),
            "like": like,
        }
        try:
            source = self.open_source(folder)
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from None
        return PartyDataset.from_source(self.name, source, **declared)


class Scenario(ProtocolSettings):
    """A whole set-up; ``folder`` is where relative paths start.

    ``truth`` is for made-up data: it returns the true probability of a 1 in each row of the label party's table.
    """

    name: str
    title: str = ""
    truth: FunctionCall | None = None
    description: str = ""
    folder: Path = Path()
    parties: Annotated[list[PartySettings], Field(min_length=2)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [party.name for party in self.parties]
        if len(set(names)) < len(names) or COORDINATOR in names:
            raise ValueError(
                f"expected party names that differ from each other and '{COORDINATOR}'"
            )
        if sum(party.role == "label" for party in self.parties) != 1:
            raise ValueError("expected one party with role = 'label', the others with 'feature'")
        dealers = [party.name for party in self.feature_parties]
        if self.training.dealer not in (None, *dealers):
            raise ValueError(f"training.dealer: expected one of the feature parties {dealers}")
        known = set(self.label_party.columns_by_entity)
        strangers = {party.entity for party in self.feature_parties} - known
        if strangers:
            raise ValueError(f"{self.label_party.name} holds no ids of entity {sorted(strangers)}")
        return self

    @property
    def label_party(self) -> PartySettings:
        """The party with the outcome."""
        return next(party for party in self.parties if party.role == "label")

    @property
    def feature_parties(self) -> list[PartySettings]:
        """All others, in the file's order."""
        return [party for party in self.parties if party.role == "feature"]

    def dataset(self, party: PartySettings, like: PartyDataset | None = None) -> PartyDataset:
        """Return :meth:`PartySettings.dataset` of one of the parties."""
        return party.dataset(self.folder, like)


def catalog() -> list[Scenario]:
    """Return the ready-made scenarios, by name."""
    folder = resources.files("scenarios") / "catalog"
    names = [Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return [load(name) for name in sorted(names)]


def load(
    source: str,
    changes: Sequence[str] = (),
    seed: int | None = None,
    data_path: str | None = None,
) -> Scenario:
    """Load a scenario by catalogue name or path, with ``key=value`` changes; raises SettingsError.

    ``data_path`` is handed to every party's function.
    """
    name, folder, data = _find(source)
    for change in changes:
        _apply(data, change)
    if seed is not None:
        data["seed"] = seed
    if data_path is not None:
        for party in _tables(data.get("parties")):
            if "function" in party:
                party.setdefault("arguments", {})["path"] = data_path
    return validated(Scenario, {"name": name, **data, "folder": folder}, source)


def validated(kind: type[S], data: dict[str, Any], source: str) -> S:
    """Return checked settings; raises SettingsError with a line for each problem, naming their ``source``."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = [_explain(dict(problem), data, kind) for problem in error.errors()]
        raise SettingsError("\n".join(f"{source}: {line}" for line in lines)) from None


def read_toml(file: Traversable, source: str) -> dict[str, Any]:
    """Return what a TOML file says; raises SettingsError, naming it as ``source``."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{source} cannot be read; expected TOML in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source} is not valid TOML: {error}") from None


def _find(source: str) -> tuple[str, Path, dict[str, Any]]:
    """Return name and folder of a scenario, and what its file says."""
    bundled = resources.files("scenarios") / "catalog" / f"{source}.toml"
    if "/" not in source and bundled.is_file():
        return source, Path(), read_toml(bundled, source)
    path = Path(source)
    if not path.is_file():
        raise SettingsError(
            f"there is no scenario '{source}': expected the path of a .toml file or a name that "
            "'colonnade scenarios' lists"
        )
    return path.stem, path.resolve().parent, read_toml(path, source)


def _apply(data: dict[str, Any], change: str) -> None:
    """Apply ``training.batch_size=64``, or ``batch_size=64`` where only one group has that name."""
    key, equals, text = change.partition("=")
    if not equals:
        raise SettingsError(f"--set {change}: expected key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *groups, last = _qualify(key.strip()).split(".")
    target: Any = data
    for group in groups:
        if isinstance(target, list):
            named = [party for party in _tables(target) if party.get("name") == group]
            if not named:
                raise SettingsError(f"--set {change}: there is no party '{group}'")
            target = named[0]
        else:
            target = target.setdefault(group, {})
    if not isinstance(target, dict):
        raise SettingsError(f"--set {change}: expected parties.NAME.SETTING=value")
    target[last] = value


def _tables(value: object) -> list[dict[str, Any]]:
    """Return those elements of a list that are tables, in a file that nobody has checked yet."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _qualify(key: str) -> str:
    """Return the full name of a setting given by its last part alone."""
    if "." in key or key in Scenario.model_fields:
        return key
    full = [name for name in _setting_names(Scenario) if name.endswith(f".{key}")]
    return full[0] if len(full) == 1 else key


def _setting_names(kind: type[BaseModel]) -> list[str]:
    """Return every setting that a file of this kind has outside its parties, as ``group.name``."""
    names = []
    for name, field in kind.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Settings):
            names += [f"{name}.{inner}" for inner in group.model_fields]
        elif name != "folder":
            names.append(name)
    return names


def _explain(problem: dict[str, Any], data: dict[str, Any], kind: type[BaseModel]) -> str:
    """Say one validation problem as a person would."""
    place = list(problem["loc"])
    if len(place) > 1 and place[0] == "parties":
        (party,) = _tables([data["parties"][place[1]]]) or [{}]
        place[1] = party.get("name", f"number {place[1] + 1}")
    key = ".".join(map(str, place))
    if problem["type"] == "extra_forbidden":
        known = _setting_names(kind)
        if kind is Scenario:
            known += [f"parties.{name}" for name in PartySettings.model_fields]
        last_of = {name: name.rpartition(".")[2] for name in known}
        misplaced = [name for name in known if last_of[name] == key]
        close = [
            *misplaced,
            *get_close_matches(key, known, n=1),
            *get_close_matches(key.rpartition(".")[2], last_of.values(), n=1),
        ]
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"there is no setting {key}{hint}"
    if problem["type"] == "missing":
        return f"the setting {key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    # What may hold a password is not shown.
    hidden = problem["type"] == "value_error" or not _SECRET.isdisjoint(place)
    came = "" if hidden else f", got {problem['input']!r}"
    return f"{key + ': ' if key else ''}{message[0].lower()}{message[1:]}{came}"
