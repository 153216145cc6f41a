"""One small finished run for all tests of what comes after, and a reader of pages that refuses sloppy HTML."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scenarios import baselines, run_folder, runner
from scenarios.scenario import load

_VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page's ids, links, tags and tables; asserts that every tag is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, dict[str, list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._caption = ""
        self._row: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "caption":
            self._caption = ""
        if tag == "tr":
            self._row = []
        if tag in ("th", "td"):
            self._row.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "tr":
            self.tables.setdefault(self._caption, {})[self._row[0]] = self._row[1:]

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside not in ("style", "script"):
            self.text += data
        if inside == "caption":
            self._caption += data
        elif any(cell in self._open for cell in ("th", "td")):
            self._row[-1] += data

    def all(self, name: str) -> list[str]:
        """Return every value of an attribute."""
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]

    def table(self, caption: str) -> dict[str, list[str]]:
        """Return the rows, by their first cell, of the table whose caption starts so."""
        return next(table for found, table in self.tables.items() if found.startswith(caption))


@pytest.fixture
def read_page() -> Callable[[Path], Page]:
    return lambda path: Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def _once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = ["epochs=3", "encryption.key_bits=512", "insecure_key=true"]
    run = runner.run(load("breast-cancer", changes))
    return run_folder.write(run, baselines.compare(run), tmp_path_factory.mktemp("finished"))


@pytest.fixture
def finished(_once: Path, tmp_path: Path) -> Path:
    """The folder of a finished run, to do anything with."""
    return Path(shutil.copytree(_once, tmp_path / "finished" / _once.name))
