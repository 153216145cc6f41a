"""A scenario file is data: code that it names runs only when the person at the keyboard says so.

A file can name a Python function, or a source that an installed plug-in offers, and its author may be anybody: merely
to import a module runs it. So nothing is imported, let alone called, unless the module was allowed

- for this process: ``--allow-code MODULE``, or :func:`allow` in Python;
- or before, for the folder that the file lies in. That is remembered in the user's own configuration folder and not
  beside the file, where a hostile file could bring its own permission along.

The functions that make the tables of ready-made scenarios and benchmarks need no permission: they are listed here,
one by one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

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


def allow(modules: Iterable[str]) -> None:
    """Let code of these modules or plug-ins run in this process, and from now on in the projects that name it."""
    _allowed.update(modules)


def require(code: str, folder: Path, where: str) -> None:
    """Raise SettingsError unless ``code``, a function or a plug-in that ``where`` names, may run in this project."""
    module = code.partition(":")[0]
    if code in READY_MADE:
        return
    if module in _allowed:
        _remember(folder, module)
    elif module not in _remembered().get(_key(folder), []):
        raise SettingsError(
            f"{where}: '{code}' is code that would run on this machine. If you know it and trust it, say "
            f"--allow-code {module}, or scenarios.consent.allow(['{module}']) in Python; it is remembered for "
            f"{folder.resolve()}"
        )


def allowed(folder: Path) -> list[str]:
    """Return the modules whose code may run in a project."""
    return sorted(_allowed.union(_remembered().get(_key(folder), [])))


def memory() -> Path:
    """Return the file that remembers, in the user's own configuration folder."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "colonnade" / "allowed-code.json"


def _key(folder: Path) -> str:
    return str(folder.resolve())


def _remembered() -> dict[str, list[str]]:
    try:
        remembered = json.loads(memory().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return remembered if isinstance(remembered, dict) else {}


def _remember(folder: Path, module: str) -> None:
    """Keep a permission; where that cannot be written it holds for this process alone."""
    remembered = _remembered()
    modules = remembered.setdefault(_key(folder), [])
    if module in modules:
        return
    modules.append(module)
    path = memory()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(remembered, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(path)
    except OSError:
        pass
