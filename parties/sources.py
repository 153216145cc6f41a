"""Where a party's table comes from: a file, a database, a Python function, or a plug-in of one's own.

A plug-in is a :class:`DataSource` that a package names under the entry point group ``colonnade.sources``; its
author's tests inherit :class:`parties.source_contract.DataSourceContract`.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import inspect
import io
import os
import re
import traceback
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pandas as pd

from parties.columns import check_header, listed
from parties.errors import ColonnadeError, DataError

PLUG_INS = "colonnade.sources"
ENVIRONMENT = "env:"
DELIMITERS = (",", ";", "\t", "|")


class DataSource(ABC):
    """A place that one table can be read from, as often as asked for."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What an error calls it, such as a path: in one line and without passwords."""

    @abstractmethod
    def read(self) -> Any:
        """Return the table, of pandas or polars, with its column names; ids are integers or text.

        Raises DataError, in one line that opens with the description and quotes no cell, if it cannot be read.
        """


def read_table(source: DataSource) -> pd.DataFrame:
    """Return a source's table in pandas; raises DataError whatever goes wrong in it."""
    try:
        return to_pandas(source.read(), source.description)
    except ColonnadeError:
        raise
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything
        raised = traceback.extract_tb(error.__traceback__)[-1]
        # A stranger's own words may quote cells; the place says enough to find the fault.
        raise DataError(
            f"{source.description} failed with {type(error).__name__} in {Path(raised.filename).name}, "
            f"line {raised.lineno}; correct it there"
        ) from None


def to_pandas(table: Any, what: str) -> pd.DataFrame:
    """Return a table of pandas or polars in pandas; raises DataError about ``what`` for anything else."""
    if isinstance(table, pd.DataFrame):
        return table
    if not hasattr(table, "to_pandas"):
        raise DataError(
            f"{what}: expected a DataFrame of pandas or polars, got {type(table).__name__}"
        )
    import_extra("pyarrow", "parquet", f"{what}, of polars,")
    frame: pd.DataFrame = table.to_pandas()
    return frame


# A compressed table is a tenth to a hundredth of it; a thousandth is made to fill the memory.
_GZIP_BYTES, _GZIP_RATIO = 64_000_000, 100


@dataclass(frozen=True)
class CsvSource(DataSource):
    """Text with a header line and one ``delimiter``; gzip is unpacked.

    Columns named in ``verbatim`` stay the text they are in the file: '007' keeps its zeros and 'NA' is no missing
    cell. Those in ``text`` stay text too, but may be missing.
    """

    path: Path
    delimiter: str = ","
    encoding: str = "utf-8"
    verbatim: Collection[str] = ()
    text: Collection[str] = ()

    @classmethod
    def guess(cls, path: Path) -> Self:
        """Return a source with the delimiter that the first line has most of; raises DataError if it cannot be read."""
        source = cls(path)
        lines = source._decode(source._load()).splitlines()
        header = next((line for line in lines if line.strip()), "")
        return cls(path, max(DELIMITERS, key=header.count))

    @property
    def description(self) -> str:
        """The path."""
        return str(self.path)

    def read(self) -> pd.DataFrame:
        """Return the table; raises DataError if there is none, or a line has too few or too many cells."""
        text = self._decode(self._load())
        try:
            header = self._check_lines(text)
            as_text = {name: str for name in self.text if name in header}
            frame = self._parse(text, dtype=as_text, low_memory=False)
            if verbatim := [name for name in dict.fromkeys(self.verbatim) if name in header]:
                # Read on their own because only so is an id spelled 'NA' or 'null' not a missing cell.
                raw = self._parse(text, usecols=verbatim, dtype=str, na_filter=False)
                frame[verbatim] = raw[verbatim]
        except (csv.Error, ValueError):  # the latter from pandas, whose own words may quote cells
            raise DataError(
                f"{self.description} is not well-formed CSV; check its quotes"
            ) from None
        return frame

    def _parse(self, text: str, **how: Any) -> pd.DataFrame:
        table: pd.DataFrame = pd.read_csv(io.StringIO(text), sep=self.delimiter, **how)
        return table

    def _load(self) -> bytes:
        try:
            data = self.path.read_bytes()
            if data.startswith(b"\x1f\x8b") or self.path.suffix == ".gz":
                most = max(_GZIP_BYTES, _GZIP_RATIO * len(data))
                with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                    data = file.read(most + 1)
                if len(data) > most:
                    raise DataError(
                        f"{self.description} unpacks to more than {most / 1e6:,.0f} MB, as no table does; unpack it "
                        "yourself if it is one"
                    )
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise DataError(
                f"{self.description} is no whole gzip file; copy or compress it again"
            ) from None
        except OSError as error:
            raise DataError(
                f"{self.description} cannot be read: {error.strerror}; check the path"
            ) from None
        if data.startswith(b"PK\x03\x04"):
            raise DataError(f"{self.description} is a ZIP or Excel file; export the table as CSV")
        if data.startswith(b"PAR1"):
            raise DataError(f"{self.description} is a Parquet file; use parquet = instead of csv =")
        return data

    def _decode(self, data: bytes) -> str:
        try:
            # Universal newlines; and a byte order mark, however often exporting tools have put one, is no text.
            text = io.TextIOWrapper(io.BytesIO(data), self.encoding).read().lstrip("\ufeff")
        except LookupError:
            raise DataError(
                f"{self.description}: there is no encoding {self.encoding!r}; expected such as "
                "'utf-8', 'cp1252' or 'utf-16'"
            ) from None
        except UnicodeError:
            raise DataError(
                f"{self.description} is not {self.encoding.upper()} text; save it as CSV in UTF-8 or set "
                "encoding, such as 'cp1252' or 'utf-16'"
            ) from None
        if "\0" in text:
            raise DataError(
                f"{self.description} holds zero bytes; it is no text, or set encoding = 'utf-16-le'"
            )
        return text

    def _check_lines(self, text: str) -> list[str]:
        """Return the header; pandas would rename repeated columns and fill short rows in silence."""
        lines = csv.reader(io.StringIO(text), delimiter=self.delimiter)
        header = next((line for line in lines if line), [])
        if not header:
            raise DataError(f"{self.description} is empty; expected a header and rows of data")
        check_header(self.description, header)
        if len(header) == 1:
            for other in DELIMITERS:
                if other != self.delimiter and other in header[0]:
                    raise DataError(
                        f"{self.description} has one column in all, with {other!r} in its header; set "
                        f"delimiter = {other!r}"
                    )
        for line in lines:
            if line and len(line) != len(header):
                raise DataError(
                    f"{self.description}, line {lines.line_num}: expected {len(header)} cells as in the "
                    f"header, got {len(line)}; correct the row, or quote text that holds {self.delimiter!r}"
                )
        return header


@dataclass(frozen=True)
class ParquetSource(DataSource):
    """A Parquet file, or a folder of them; needs the extra ``parquet``."""

    path: Path

    @property
    def description(self) -> str:
        """The path."""
        return str(self.path)

    def read(self) -> pd.DataFrame:
        """Return the table; raises DataError if it cannot be read or the extra is missing."""
        arrow = import_extra("pyarrow", "parquet", self.description)
        try:
            return pd.read_parquet(self.path, engine="pyarrow")
        except FileNotFoundError:
            raise DataError(
                f"{self.description} cannot be read: no such file; check the path"
            ) from None
        except (arrow.ArrowException, ValueError, OSError):
            raise DataError(
                f"{self.description} is no whole Parquet file; write or copy it again"
            ) from None


# What databases say, in words that all of them share, and what to do. Their own words may quote cells.
_DATABASE_FAULTS = (
    (r"locked", "is locked by another program; let that finish or work on a copy"),
    (r"no such table|relation .* does not exist", "has no table that sql names; correct sql"),
    (r"no such column|column .* does not exist", "has no column that sql names; correct sql"),
    (r"syntax error|incomplete input", "does not understand sql; correct its spelling"),
    (r"does not return rows", "was asked for no rows; sql must be one SELECT"),
    (r"not a database|malformed|unable to open", "is no readable database; check the path"),
    (
        r"password|authentication|role .* does not exist|denied",
        "refuses access; check user, password and rights",
    ),
    (r"database .* does not exist", "does not exist; check the name at the end of url"),
    (r"refused|resolve|timeout|timed out|unreachable", "cannot be reached; check host and port"),
)


@dataclass(frozen=True)
class SqlSource(DataSource):
    """The rows of one SQL ``query`` through SQLAlchemy; needs the extra ``sql`` and the database's driver.

    ``url`` is SQLAlchemy's, or ``env:NAME`` for one that an environment variable holds: it may have a password,
    which is shown nowhere. The path of an SQLite file starts at ``folder``.
    """

    url: str
    query: str
    folder: Path = Path()

    @property
    def description(self) -> str:
        """The database without user, password and parameters."""
        return "the database " + re.sub(r"://.*@", "://", self.url).partition("?")[0]

    def read(self) -> pd.DataFrame:
        """Return the rows; raises DataError if the database refuses or the extra is missing."""
        alchemy = import_extra("sqlalchemy", "sql", self.description)
        url = from_environment(self.url)
        try:
            place = alchemy.make_url(url)
            if place.get_backend_name() == "sqlite" and place.database not in (
                None,
                "",
                ":memory:",
            ):
                file = self.folder / place.database
                if not file.is_file():  # SQLite would make an empty one
                    raise DataError(
                        f"{self.description} cannot be read: no such file; check the path"
                    )
                place = place.set(database=str(file))
            engine = alchemy.create_engine(place, poolclass=alchemy.pool.NullPool)
        except alchemy.exc.ArgumentError:
            raise DataError(
                f"{self.description} is no database URL; expected such as 'sqlite:///bank.db' or "
                "'postgresql+psycopg://host/database'"
            ) from None
        except ImportError as error:
            raise DataError(
                f"{self.description} needs the driver {error.name}; install it with pip"
            ) from None
        try:
            with engine.connect().execution_options(no_parameters=True) as connection:
                rows = connection.exec_driver_sql(self.query)
                return pd.DataFrame.from_records(
                    rows.fetchall(), columns=list(rows.keys()), coerce_float=True
                )
        except alchemy.exc.SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or error).lower()
            faults = (fault for pattern, fault in _DATABASE_FAULTS if re.search(pattern, said))
            fault = next(faults, f"refused the query with {type(error).__name__}; correct sql")
            raise DataError(f"{self.description} {fault}") from None
        finally:
            engine.dispose()


@dataclass(frozen=True)
class CallableSource(DataSource):
    """What a Python function returns."""

    function: Callable[[], Any]
    name: str

    @property
    def description(self) -> str:
        """What is called."""
        return self.name

    def read(self) -> Any:
        """Call the function."""
        return self.function()


def plug_in(name: str, arguments: Mapping[str, Any]) -> DataSource:
    """Return a third party's source of this name; raises DataError if there is none or it takes other arguments."""
    found = {point.name: point for point in entry_points(group=PLUG_INS)}
    if name not in found:
        known = f"there are {listed(sorted(found))}" if found else "none is installed"
        raise DataError(f"no installed package offers source = {name!r}; {known}")
    try:
        make = found[name].load()
        inspect.signature(make).bind(**arguments)
    except (ImportError, AttributeError):
        raise DataError(f"source {name!r} is installed but broken; install it again") from None
    except TypeError as error:
        raise DataError(f"source {name!r} cannot be called: {error}") from None
    source = make(**arguments)
    if not isinstance(source, DataSource):
        raise DataError(f"source {name!r} made {type(source).__name__}; expected a DataSource")
    return source


def from_environment(setting: str) -> str:
    """Return a setting, or the environment variable that ``env:NAME`` names; raises DataError if it is not set."""
    if not setting.startswith(ENVIRONMENT):
        return setting
    name = setting.removeprefix(ENVIRONMENT)
    if not os.environ.get(name):
        raise DataError(f"{setting}: the environment variable {name} is not set; export it")
    return os.environ[name]


def import_extra(module: str, extra: str, what: str) -> ModuleType:
    """Import an optional dependency; raises DataError that names the ``extra`` which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError(f"{what} needs {module}: pip install 'colonnade[{extra}]'") from None
