"""Somebody else on the machine, and the author of a file: what lies on the disk, and what is read from it.

Run folders and local models were readable by everybody who could reach them; a compressed table of a few megabytes
could unpack to as many gigabytes. A party whose configuration kept checkpoints in a folder with other things lost the
other things.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from parties import files
from parties.errors import DataError
from parties.model import LocalModel, Optimizer
from parties.sources import CsvSource, ParquetSource
from protocol.errors import CheckpointError, SettingsError
from protocol.training import checkpoints
from scenarios import run_folder
from scenarios.judging import baselines
from scenarios.running import folders, organisation, processes, runner
from scenarios.scenario import Scenario, load

LoadScenario = Callable[..., Scenario]


def test_a_table_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"user,x\n")
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 400_000
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than 64 MB, as no table does"):
        CsvSource(path).read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6


def test_a_compressed_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"user,x\n" + b"1,2\n" * 100_000))
    assert len(CsvSource(path).read()) == 100_000


def test_nobody_else_reads_a_run_or_its_checkpoints(
    load_scenario: LoadScenario, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        keep_in = tmp_path / "kept"
        keep_in.mkdir(mode=0o777)
        run = runner.run(load_scenario("epochs=1"), keep_in=keep_in)
        folder = run_folder.write(run, baselines.compare(run), tmp_path / "runs")
    finally:
        os.umask(before)
    for path in folder.rglob("*"):
        assert not path.stat().st_mode & 0o077, path
    assert not folder.stat().st_mode & 0o077
    kept = list(keep_in.rglob("epoch-*"))
    assert kept
    for path in kept:
        assert not path.stat().st_mode & 0o077
        assert not path.parent.stat().st_mode & 0o077


def test_a_checkpoint_that_is_no_msgpack_is_none(tmp_path: Path) -> None:
    body = b"\xc1" * 10
    path = tmp_path / "epoch-000001"
    path.write_bytes(checkpoints._MAGIC + hashlib.sha256(body).digest() + body)
    assert checkpoints._read(path) is None


def test_a_pipe_or_a_device_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "epoch-000001")
    assert checkpoints._read(tmp_path / "epoch-000001") is None
    assert checkpoints._read(Path("/dev/zero")) is None


Forget = Callable[[Path], None]


def forget_as_before(folder: Path) -> None:
    """The weaker variant: whatever is in a folder for checkpoints is one."""
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("forget", [checkpoints.forget, forget_as_before])
def test_who_keeps_checkpoints_among_other_things_loses_nothing_else(
    tmp_path: Path, forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(organisation, "forget", forget)
    changes = ["epochs=2", "encryption.key_bits=512", "insecure_key=true", "n_jobs=1"]
    configurations = processes.prepare(load("breast-cancer", changes), tmp_path)
    clinic = configurations["clinic"]
    clinic.write_text(f'checkpoints = "."\n{clinic.read_text()}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    begun = tmp_path / ".epoch-000001.0a1b2c3d.unfinished"
    begun.write_bytes(checkpoints._MAGIC[:10])
    mode = tmp_path.stat().st_mode
    ours = checkpoints.Checkpoints(tmp_path)
    model = LocalModel(np.zeros((1, 1)), None, np.zeros((1, 1)), Optimizer("sgd", 1.0))
    state = checkpoints.TrainingState(model, model.copy(), done=3)
    ours.save(state)
    assert (tmp_path / "epoch-000003").is_file()
    assert not begun.exists()
    organisation.Organisation.read(clinic)._forget()
    left = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    if forget is forget_as_before:
        assert not left
    else:
        assert left == before
        assert tmp_path.stat().st_mode == mode


def test_what_only_has_the_name_of_a_checkpoint_is_kept(tmp_path: Path) -> None:
    (tmp_path / "epoch-000001").write_text("notes of the first epoch")
    (tmp_path / "epoch-000002").mkdir()
    secret = tmp_path / "elsewhere"
    secret.write_bytes(checkpoints._MAGIC)
    (tmp_path / "epoch-000003").symlink_to(secret)
    before = set(tmp_path.rglob("*"))
    checkpoints.forget(tmp_path)
    assert set(tmp_path.rglob("*")) == before
    model = LocalModel(np.zeros((1, 1)), None, np.zeros((1, 1)), Optimizer("sgd", 1.0))
    for done in (1, 2, 3):
        state = checkpoints.TrainingState(model, model.copy(), done=done)
        with pytest.raises(CheckpointError, match="is no checkpoint and is not overwritten"):
            checkpoints.Checkpoints(tmp_path).save(state)
    assert set(tmp_path.rglob("*")) == before


ROWS = 1 << 16


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """A folder of Parquet files that are small, and large when read."""
    column = pyarrow.array(np.zeros(ROWS))
    table = pyarrow.table({f"x{number}": column for number in range(16)})
    (tmp_path / "parts").mkdir()
    for part in range(4):
        parquet.write_table(table, tmp_path / "parts" / f"part-{part}.parquet", compression="zstd")
    return tmp_path / "parts"


@pytest.mark.parametrize("bound", ["TABLE_CELLS", "TABLE_BYTES"])
def test_parquet_files_are_not_read_when_their_metadata_say_too_much(
    bomb: Path, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sum(path.stat().st_size for path in bomb.iterdir()) < 100_000
    assert len(ParquetSource(bomb).read()) == 4 * ROWS
    one = bomb / "part-0.parquet"
    assert len(ParquetSource(one).read()) == ROWS
    kept = parquet.read_metadata(one).row_group(0)
    each = {"TABLE_CELLS": kept.num_rows * kept.num_columns, "TABLE_BYTES": kept.total_byte_size}

    def read(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(pd, "read_parquet", read)
    monkeypatch.setattr(files, bound, 4 * each[bound] - 1)
    with pytest.raises(DataError, match="unpacks to 4,194,304 cells"):
        ParquetSource(bomb).read()
    monkeypatch.setattr(files, bound, each[bound] - 1)
    with pytest.raises(DataError, match="unpacks to 1,048,576 cells"):
        ParquetSource(one).read()


def test_a_table_without_end_is_not_begun(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(DataError, match="is a device or a pipe"):
            CsvSource(path).read()
        with pytest.raises(DataError, match="is a device or a pipe"):
            ParquetSource(path).read()
        with pytest.raises(SettingsError):
            load(str(path))


def test_tables_settings_models_and_checkpoints_have_bounds(tmp_path: Path) -> None:
    huge = tmp_path / "huge"  # a hole takes no room
    with huge.open("wb") as file:
        file.truncate(files.TABLE_BYTES + 1)
    for name in ("three.toml", "model.json", "settings.json", "epoch-000001"):
        (tmp_path / name).symlink_to(huge)
    tracemalloc.start()
    with pytest.raises(DataError, match="it is larger than 4,295 MB"):
        CsvSource(huge).read()
    with pytest.raises(SettingsError, match="it is larger than 1 MB"):
        load(str(tmp_path / "three.toml"))
    with pytest.raises(SettingsError):
        folders.read_half(tmp_path)
    with pytest.raises(SettingsError):
        folders.read_settings(tmp_path)
    assert checkpoints._read(tmp_path / "epoch-000001") is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
