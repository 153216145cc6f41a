"""Small parties and a small key, a finished run, and a reader of pages that refuses sloppy HTML.

Nothing outside the tests may use ``insecure_test_key``.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from protocol.encryption.encryptors import Encryptor
from protocol.encryption.keys import PrivateKey
from scenarios.scenario import Scenario

Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="session")
def insecure_test_key() -> PrivateKey:
    return PrivateKey.generate(512, insecure_key=True)


@pytest.fixture(scope="session")
def encryptor(insecure_test_key: PrivateKey) -> Encryptor:
    return Encryptor(insecure_test_key.public_key)


@pytest.fixture(scope="session")
def tables() -> Tables:
    """A shop (with the label), a bank and a telco: different rows, different orders, 260 users in common."""
    draw = np.random.default_rng(7)
    n = 320
    numbers = draw.normal(size=(n, 7))
    colour = draw.choice(["red", "green", "blue"], size=n)
    score = numbers @ [1.0, -1.0, 0.8, 0.7, -0.6, 0.9, 0.5] + (colour == "red")
    label = (score + draw.logistic(size=n) > 0).astype(int)
    users = np.array([f"user{number}@example.org" for number in range(n)])
    whole = pd.DataFrame(numbers, columns=[f"x{number}" for number in range(7)])
    whole.insert(0, "user", users)
    shop = whole[["user", "x0", "x1"]].assign(bought=label).iloc[draw.permutation(300)]
    bank = whole[["user", "x2", "x3", "x4"]].assign(colour=colour).iloc[20 + draw.permutation(300)]
    telco = whole[["user", "x5", "x6"]].iloc[10 + draw.permutation(270)]
    return {
        name: table.reset_index(drop=True)
        for name, table in {"shop": shop, "bank": bank, "telco": telco}.items()
    }


@pytest.fixture
def scenario_file(tmp_path: Path, tables: Tables) -> Path:
    """A scenario of the three tables as CSV files, small and with a small key."""
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "three.toml").write_text(
        """
        title = "Three parties"
        seed = 3
        [training]
        disclosure = "open"
        epochs = 4
        batch_size = 64
        [encryption]
        key_bits = 512
        insecure_key = true
        [[parties]]
        name = "shop"
        role = "label"
        csv = "shop.csv"
        id = "user"
        label = "bought"
        [[parties]]
        name = "bank"
        role = "feature"
        csv = "bank.csv"
        id = "user"
        [[parties]]
        name = "telco"
        role = "feature"
        csv = "telco.csv"
        id = "user"
        """,
        encoding="utf-8",
    )
    return tmp_path / "three.toml"


LoadScenario = Callable[..., Scenario]


@pytest.fixture(autouse=True)
def allowing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what scenario files may name, with a memory of this test's own."""
    from scenarios import consent

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(consent, "_allowed", set[str]())
    return lambda *modules: consent.allow(modules)


@pytest.fixture
def load_scenario(scenario_file: Path) -> LoadScenario:
    """Load the three-party scenario with changes such as ``epochs=1``."""
    from scenarios.scenario import load

    def load_with(*changes: str) -> Scenario:
        return load(str(scenario_file), changes)

    return load_with


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
def _finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from scenarios import run_folder
    from scenarios.judging import baselines
    from scenarios.running import runner
    from scenarios.scenario import load

    changes = ["epochs=3", "encryption.key_bits=512", "insecure_key=true"]
    run = runner.run(load("breast-cancer", changes))
    return run_folder.write(run, baselines.compare(run), tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def _played_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from scenarios.running import processes
    from scenarios.scenario import load

    folder = tmp_path_factory.mktemp("deployed")
    changes = ["epochs=2", "encryption.key_bits=512", "insecure_key=true", "n_jobs=1"]
    configurations = processes.prepare(load("breast-cancer", changes), folder, report=True)
    asyncio.run(
        processes.supervise(configurations, processes.COLONNADE, lambda *_: None, lambda _: None)
    )
    return folder / "results"


@pytest.fixture
def parts(_played_once: Path, tmp_path: Path) -> dict[str, Path]:
    """The folder that each party of a run on the network has written, to do anything with."""
    copy = shutil.copytree(_played_once, tmp_path / "results")
    return {folder.name: next(folder.iterdir()) for folder in copy.iterdir()}


@pytest.fixture
def finished(_finished_once: Path, tmp_path: Path) -> Path:
    """The folder of a finished run, to do anything with."""
    return Path(shutil.copytree(_finished_once, tmp_path / "finished" / _finished_once.name))
