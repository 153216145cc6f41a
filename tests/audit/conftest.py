"""Runs that several audits look at, recorded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.recording import FACTORIZATION, LOGISTIC, Recording, load_parties, record


@pytest.fixture(scope="session", params=[LOGISTIC, FACTORIZATION])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="session")
def recorded(folder: Path, model: str) -> Recording:
    return record(load_parties(folder, model))


@pytest.fixture(scope="session")
def on_other_data(folder: Path, model: str) -> Recording:
    return record(load_parties(folder, model, data_seed=2))


@pytest.fixture(scope="session")
def shifted(folder: Path, model: str) -> Recording:
    return record(load_parties(folder, model), shifted=True)


@pytest.fixture(scope="session")
def recorded_open(folder: Path, model: str) -> Recording:
    return record(load_parties(folder, model, "disclosure=open"))


@pytest.fixture(scope="session", params=["shared", "open"])
def encrypted(
    request: pytest.FixtureRequest, recorded: Recording, recorded_open: Recording
) -> Recording:
    """Under either disclosure that encrypts."""
    return recorded if request.param == "shared" else recorded_open
