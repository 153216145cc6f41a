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
import sqlite3
import sys
import traceback
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pandas as pd

from parties import files
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
            data = files.read(self.path, files.TABLE_BYTES)
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
        """Return the table; raises DataError if it cannot be read, is too large, or the extra is missing."""
        arrow = import_extra("pyarrow", "parquet", self.description)
        try:
            self._check_size()
            return pd.read_parquet(self.path, engine="pyarrow")
        except FileNotFoundError:
            raise DataError(
                f"{self.description} cannot be read: no such file; check the path"
            ) from None
        except (arrow.ArrowException, ValueError, OSError):
            raise DataError(
                f"{self.description} is no whole Parquet file; write or copy it again"
            ) from None

    def _check_size(self) -> None:
        """Raise DataError for more cells than a table is read with, by its metadata: a few bytes unpack to many."""
        if self.path.exists() and not (self.path.is_file() or self.path.is_dir()):
            raise DataError(f"{self.description} is a device or a pipe, no file; check the path")
        parquet = importlib.import_module("pyarrow.parquet")
        cells = size = 0
        for part in parquet.ParquetDataset(self.path).fragments:
            groups = [part.metadata.row_group(n) for n in range(part.metadata.num_row_groups)]
            cells += sum(group.num_rows * group.num_columns for group in groups)
            size += sum(group.total_byte_size for group in groups)
        if cells > files.TABLE_CELLS or size > files.TABLE_BYTES:
            raise DataError(
                f"{self.description} unpacks to {cells:,} cells, {size / 1e6:,.0f} MB; expected at most "
                f"{files.TABLE_CELLS:,}, {files.TABLE_BYTES / 1e6:,.0f} MB: choose rows or columns"
            )


# What databases say, in words that all of them share, and what to do. Their own words may quote cells.
_DATABASE_FAULTS = (
    (
        r"not authorized|authorization denied|read.?only|prohibited",
        "is only read; sql must be one SELECT of its own tables",
    ),
    (r"locked", "is locked by another program; let that finish or work on a copy"),
    (r"no such table|relation .* does not exist", "has no table that sql names; correct sql"),
    (r"no such column|column .* does not exist", "has no column that sql names; correct sql"),
    (
        r"syntax error|incomplete input",
        "does not understand sql; expected one SELECT, correct its spelling",
    ),
    (
        r"does not return rows|one statement at a time",
        "was asked for no rows; sql must be one SELECT",
    ),
    (r"not a database|malformed|unable to open", "is no readable database; check the path"),
    (
        r"password|authentication|role .* does not exist|denied",
        "refuses access; check user, password and rights",
    ),
    (r"database .* does not exist", "does not exist; check the name at the end of url"),
    (r"refused|resolve|timeout|timed out|unreachable", "cannot be reached; check host and port"),
    (r"too big|too large", "has a cell of more than 16 MB; choose other columns"),
)

# What a SELECT needs of SQLite; all else could write, attach other files or load libraries.
_READING = (
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
)
_UNSAFE_FUNCTIONS = ("load_extension", "fts3_tokenizer", "writefile", "readfile", "edit")
_SQLITE_SECONDS, _SQLITE_CELL_BYTES, _SQLITE_STEPS = 5.0, 1 << 24, 1_000_000
_HAVE_READ_ONLY = ("postgresql", "mysql", "mariadb", "oracle")


@dataclass(frozen=True)
class SqlSource(DataSource):
    """The rows of one SQL ``query`` through SQLAlchemy; needs the extra ``sql`` and the database's driver.

    ``url`` is SQLAlchemy's, or ``env:NAME`` for one that an environment variable holds: it may have a password,
    which is shown nowhere. The path of an SQLite file starts at ``folder``. The query may only read: SQLite opens the
    file for that alone and is told what a SELECT needs, others are asked in a transaction that is read-only where they
    have such.
    """

    url: str
    query: str
    folder: Path = Path()

    @property
    def description(self) -> str:
        """The database without user, password and parameters."""
        return "the database " + re.sub(r"://.*@", "://", self.url).partition("?")[0]

    @property
    def file(self) -> Path | None:
        """The SQLite file that is read, None for another database, or one in memory; raises DataError."""
        place = self._place()
        if place.drivername not in ("sqlite", "sqlite+pysqlite"):
            return None
        return None if place.database in (None, "", ":memory:") else self.folder / place.database

    @property
    def server(self) -> str | None:
        """What is connected to, if it is no SQLite file: the url without user and password, or ``env:NAME``."""
        if self.url.startswith(ENVIRONMENT):
            return self.url
        place = self._place()
        if place.drivername in ("sqlite", "sqlite+pysqlite"):
            return None
        shown: str = place._replace(username=None, password=None).render_as_string()
        return shown

    def read(self) -> pd.DataFrame:
        """Return the rows; raises DataError if the database refuses, sends no end, or the extra is missing."""
        place = self._place()
        if place.drivername in ("sqlite", "sqlite+pysqlite"):
            return self._read_sqlite(self.file, dict(place.query))
        if ";" in self.query.strip().removesuffix(";"):
            raise DataError(f"{self.description}: sql must be one SELECT, without ';'")
        alchemy = import_extra("sqlalchemy", "sql", self.description)
        try:
            engine = alchemy.create_engine(place, poolclass=alchemy.pool.NullPool)
        except alchemy.exc.ArgumentError:
            raise self._no_url() from None
        except ImportError as error:
            raise DataError(
                f"{self.description} needs the driver {error.name}; install it with pip"
            ) from None
        how = {"no_parameters": True, "stream_results": True}
        try:
            with engine.connect().execution_options(**how) as connection:
                if place.get_backend_name() in _HAVE_READ_ONLY:
                    connection.exec_driver_sql(
                        "SET TRANSACTION READ ONLY", execution_options={"stream_results": False}
                    )
                rows = connection.exec_driver_sql(self.query)
                return self._table(list(rows.keys()), rows)
        except alchemy.exc.SQLAlchemyError as error:
            raise self._fault(error) from None
        finally:
            engine.dispose()

    def _place(self) -> Any:
        alchemy = import_extra("sqlalchemy", "sql", self.description)
        try:
            return alchemy.make_url(from_environment(self.url))
        except alchemy.exc.ArgumentError:
            raise self._no_url() from None

    def _read_sqlite(self, file: Path | None, options: dict[str, Any]) -> pd.DataFrame:
        try:
            seconds = float(options.pop("timeout", _SQLITE_SECONDS))
        except (TypeError, ValueError):
            raise self._no_url() from None
        if options:
            raise DataError(
                f"{self.description}: an SQLite url takes timeout alone, got {listed(sorted(options))}"
            )
        if file is not None and not file.is_file():
            raise DataError(f"{self.description} cannot be read: no such file; check the path")
        name = ":memory:" if file is None else f"{file.resolve().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(name, timeout=seconds, uri=True)) as connection:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _SQLITE_CELL_BYTES)
                connection.set_authorizer(_only_reading)
                # Python gets to see Ctrl-C in the midst of a query without end.
                connection.set_progress_handler(lambda: 0, _SQLITE_STEPS)
                rows = connection.execute(self.query)
                if rows.description is None:
                    raise sqlite3.ProgrammingError("does not return rows")
                return self._table([column[0] for column in rows.description], rows)
        except sqlite3.Error as error:
            raise self._fault(error) from None

    def _table(self, names: list[str], rows: Iterable[Any]) -> pd.DataFrame:
        """Return rows as a table; a query that has no end, or cells to match, is not waited for."""
        kept, left = list[Any](), files.TABLE_BYTES
        for row in rows:
            kept.append(row)
            left -= sum(map(sys.getsizeof, row))
            if left < 0:
                raise DataError(
                    f"{self.description} answers with more than {files.TABLE_BYTES / 1e6:,.0f} MB; choose rows or "
                    "columns in sql"
                )
        return pd.DataFrame.from_records(kept, columns=names, coerce_float=True)

    def _no_url(self) -> DataError:
        return DataError(
            f"{self.description} is no database URL; expected such as 'sqlite:///bank.db' or "
            "'postgresql+psycopg://host/database'"
        )

    def _fault(self, error: BaseException) -> DataError:
        said = str(getattr(error, "orig", None) or error).lower()
        faults = (fault for pattern, fault in _DATABASE_FAULTS if re.search(pattern, said))
        fault = next(faults, f"refused the query with {type(error).__name__}; correct sql")
        return DataError(f"{self.description} {fault}")


def _only_reading(action: int, _: str | None, function: str | None, *where: str | None) -> int:
    """SQLite asks this, while it prepares a statement, about everything that the statement would do."""
    unsafe = action == sqlite3.SQLITE_FUNCTION and function in _UNSAFE_FUNCTIONS
    return sqlite3.SQLITE_OK if action in _READING and not unsafe else sqlite3.SQLITE_DENY


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
