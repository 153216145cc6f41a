"""The templates: everything that they write into a page is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from protocol.errors import SettingsError
from scenarios.report import numbers


def template(name: str) -> Template:
    """Return a template by the name of its file."""
    return _environment().get_template(name)


def save(path: Path, text: str) -> None:
    """Write a page or a drawing whole; raises SettingsError if that cannot be."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("scenarios.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for write in (numbers.score, numbers.count, numbers.seconds, numbers.size, numbers.setting):
        environment.filters[write.__name__] = write
    return environment
