"""Small parties and a small key. Nothing outside the tests may use ``insecure_test_key``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from protocol.paillier import PrivateKey
from scenarios.scenario import Scenario

Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="session")
def insecure_test_key() -> PrivateKey:
    return PrivateKey.generate(512, insecure_key=True)


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


@pytest.fixture
def load_scenario(scenario_file: Path) -> LoadScenario:
    """Load the three-party scenario with changes such as ``epochs=1``."""
    from scenarios.scenario import load

    def load_with(*changes: str) -> Scenario:
        return load(str(scenario_file), changes)

    return load_with
