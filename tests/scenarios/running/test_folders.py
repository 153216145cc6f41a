from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import SettingsError
from scenarios.running.folders import read_half, write_json, written_whole


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


@pytest.mark.usefixtures("umask")
def test_what_a_run_leaves_is_its_owners_alone(tmp_path: Path) -> None:
    seen = list[int]()
    with written_whole(tmp_path / "runs" / "one") as folder:
        seen.append(folder.stat().st_mode & 0o777)
        (folder / "parties" / "bank").mkdir(parents=True)
        write_json(folder / "parties" / "bank" / "model.json", {"weights": [1.0]})
    assert seen == [0o700]
    assert modes(tmp_path / "runs" / "one") == {0o700, 0o600}
    files = (tmp_path / "runs" / "one").rglob("*.json")
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_json_that_is_nested_without_end_is_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"model\.json is missing or damaged"):
        read_half(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"weights": []}), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"model\.json is missing or damaged"):
        read_half(tmp_path)
