"""One data party of a scenario: its role, where its table comes from, and what its columns are."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

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
from protocol.settings import Settings
from protocol.transport.identity import Name
from scenarios import consent

SOURCES = ("csv", "parquet", "sql", "function", "source")


OWNERS = {  # settings of some sources alone
    "delimiter": ("csv",),
    "encoding": ("csv",),
    "url": ("sql",),
    "arguments": ("function", "source"),
}


KINDS = ("numeric", "categorical", "boolean", "multi_valued", "datetime")  # of columns, as declared


IdKindName = Literal["integer", "text"]


class FunctionCall(Settings):
    """A Python function, ``module:name``, and what to call it with."""

    function: str
    arguments: dict[str, Any] = Field(default={})

    def __call__(self, folder: Path, where: str) -> Any:
        """Call it; raises SettingsError, naming ``where`` it was set, if it may not be or there is no such function."""
        function = self.find(folder, where)
        try:
            inspect.signature(function).bind(**self.arguments)
        except TypeError as error:
            raise SettingsError(f"{where}: {self.function} cannot be called: {error}") from None
        return function(**self.arguments)

    def find(self, folder: Path, where: str) -> Callable[..., Any]:
        """Return the function, imported only if a file in ``folder`` may name it; raises SettingsError."""
        consent.require([consent.Request.code(self.function)], folder, where)
        module, colon, name = self.function.partition(":")
        try:
            function = getattr(importlib.import_module(module), name) if colon else None
        except (ImportError, AttributeError, SyntaxError):
            function = None
        # What a module has imported of others is not what was allowed.
        home = str(getattr(function, "__module__", "")).partition(".")[0]
        if not inspect.isfunction(function) or home != module.partition(".")[0]:
            raise SettingsError(
                f"{where}: function = '{self.function}' cannot be found; expected 'module:name', the module "
                "being installed or in a folder of PYTHONPATH"
            )
        return function


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

    def check_consent(self, folder: Path) -> None:
        """Raise SettingsError unless a scenario in ``folder`` may have all that it names here for a table.

        A file in the folder, no link that leads elsewhere, is its own to name. Raises DataError for what is no url.
        """
        with self._named():
            outside = consent.outside(self._files(folder), folder)
            requests = [*map(consent.Request.file, outside), *self._calls(folder)]
        consent.require(requests, folder, self.name)

    def _files(self, folder: Path) -> Iterator[Path]:
        """Go through the files and folders that the table is read from."""
        if self.csv is not None:
            yield folder / self.csv
        if self.parquet is not None:
            yield folder / self.parquet
            if not consent.outside([folder / self.parquet], folder):
                yield from (folder / self.parquet).rglob("*")
        # What a variable of one's own holds is asked for by the variable's name alone.
        if self.sql is not None and not (self.url or "").startswith(ENVIRONMENT):
            yield from filter(None, [self._database(folder).file])
        if self.function in consent.READY_MADE and "path" in self.arguments:
            yield Path(str(self.arguments["path"])).expanduser()

    def _calls(self, folder: Path) -> list[consent.Request]:
        """Return the requests to run code or to connect to a server."""
        code = self.function or self.source
        if code is not None:
            return [consent.Request.code(code)]
        server = None if self.sql is None else self._database(folder).server
        return [] if server is None else [consent.Request.server(server)]

    def _database(self, folder: Path) -> SqlSource:
        return SqlSource(self.url or "", self.sql or "", folder)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from None

    def open_source(self, folder: Path) -> DataSource:
        """Return where the table is read from; raises DataError or SettingsError if it may not be, or is nowhere."""
        consent.require(self._calls(folder), folder, self.name)
        if self.csv is not None:
            ids = tuple(self.columns_by_entity.values())
            text = (*self.categorical, *self.multi_valued, *self.datetime)
            return CsvSource(folder / self.csv, self.delimiter, self.encoding, ids, text)
        if self.parquet is not None:
            return ParquetSource(folder / self.parquet)
        if self.sql is not None:
            return self._database(folder)
        arguments = {
            name: from_environment(value) if isinstance(value, str) else value
            for name, value in self.arguments.items()
        }
        if self.source is not None:
            return plug_in(self.source, arguments)
        if self.frame is not None:
            return CallableSource(lambda: self.frame, "the table")
        call = FunctionCall(function=self.function or "", arguments=arguments)
        return CallableSource(lambda: call(folder, self.name), call.function)

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
        with self._named():
            source = self.open_source(folder)
        return PartyDataset.from_source(self.name, source, **declared)
