"""A scenario file is data: what it could do to whoever runs it happens only when that person says so.

Its author may be anybody, and it can name

- a Python function, or a source that an installed plug-in offers: merely to import a module runs it;
- a file outside its own folder, which its author has no business with;
- a database server, to which whoever connects shows a password, and which does what it is told.

So nothing of that is imported, read or connected to unless its name was allowed

- for this process: ``--allow NAME``, or :func:`allow` in Python;
- or before, for the folder that the file lies in. That is remembered in the user's own configuration folder and not
  beside the file, where a hostile file could bring its own permission along.

Nobody is asked on the terminal, so that a script is refused as a person is. What the person says in the same breath,
such as ``--set parties.bank.csv=/data/bank.csv``, needs no second word. The functions that make the tables of
ready-made scenarios and benchmarks need no permission: they are listed here, one by one.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from parties import files
from protocol.errors import SettingsError

READY_MADE = frozenset(
    {
        "scenarios.benches.alignment:table",
        "scenarios.benches.arithmetic:epoch_table",
        "scenarios.catalog.bundled:breast_cancer",
        "scenarios.catalog.made_up:table",
        "scenarios.catalog.movielens:two_cinemas",
        "scenarios.catalog.restaurants:restaurants",
        "scenarios.catalog.synthetic:shop_bank_telco",
        "scenarios.catalog.synthetic:true_probability",
    }
)

_allowed = set[str]()


@dataclass(frozen=True)
class Request:
    """Something that a file asks for: its ``name``, for ``--allow``, what is said of it, what else allows it too."""

    name: str
    what: str
    also: Sequence[str] = ()

    @classmethod
    def code(cls, code: str) -> Self:
        """Return the request to run a function, ``module:name``, or a plug-in."""
        module, colon, _ = code.partition(":")
        what = f"'{code}' is code that would run on this machine"
        return cls(code, what, [module] if colon else [])

    @classmethod
    def file(cls, path: Path) -> Self:
        """Return the request to read a file or a folder; a folder that it is in is enough."""
        where = path.resolve()
        what = f"'{where}' would be read, outside the folder of the file that names it"
        return cls(str(where), what, [str(parent) for parent in where.parents])

    @classmethod
    def server(cls, url: str) -> Self:
        """Return the request to connect to a database."""
        return cls(url, f"'{url}' would be connected to and asked with the file's own sql")


def allow(names: Iterable[str]) -> None:
    """Allow code, files and databases of these names in this process, and from now on in the projects that use them."""
    _allowed.update(map(_whole, names))


def require(requests: Iterable[Request], folder: Path, where: str) -> None:
    """Raise SettingsError, with all that is missing, unless a file in ``folder`` may have what ``where`` asks for."""
    remembered, missing = _remembered().get(_key(folder), []), list[Request]()
    for request in requests:
        names = {request.name, *request.also}
        if request.name in READY_MADE or names & {*remembered}:
            continue
        if agreed := names & _allowed:
            _remember(folder, max(agreed, key=len))
        else:
            missing.append(request)
    if missing:
        options = " ".join(f"--allow {shlex.quote(request.name)}" for request in missing)
        raise SettingsError(
            f"{where}: {'; '.join(request.what for request in missing)}. If you know and trust that, say {options}, or "
            f"scenarios.consent.allow({[request.name for request in missing]}) in Python; it is remembered for "
            f"{folder.resolve()}"
        )


def outside(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Return what of these paths does not lie in a folder, or leads out of it by a link."""
    own = folder.resolve()
    return [path for path in paths if not path.resolve().is_relative_to(own)]


def allowed(folder: Path) -> list[str]:
    """Return the names of what files in a folder may have."""
    return sorted({*_allowed, *_remembered().get(_key(folder), [])})


def remember_files(paths: Iterable[Path], folder: Path) -> None:
    """Remember that a file in ``folder`` may name these, which lie elsewhere: the person has named them."""
    for path in outside(paths, folder):
        _remember(folder, str(path.resolve()))


def memory() -> Path:
    """Return the file that remembers, in the user's own configuration folder."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "colonnade" / "allowed.json"


def _whole(name: str) -> str:
    """Return a name; one that is a path is written out."""
    is_path = name.startswith(("/", "./", "../", "~")) or name in (".", "..")
    return str(Path(name).expanduser().resolve()) if is_path else name


def _key(folder: Path) -> str:
    return str(folder.resolve())


def _remembered() -> dict[str, list[str]]:
    try:
        remembered = json.loads(files.read(memory(), files.SETTINGS_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return remembered if isinstance(remembered, dict) else {}


def _remember(folder: Path, name: str) -> None:
    """Keep a permission; where that cannot be written it holds for this process alone."""
    remembered = _remembered()
    names = remembered.setdefault(_key(folder), [])
    if name in names:
        return
    names.append(name)
    with suppress(OSError):
        files.make_folder(memory().parent)
        files.write(memory(), (json.dumps(remembered, indent=2) + "\n").encode())
