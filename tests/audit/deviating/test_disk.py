"""Somebody else on the machine, and the author of a file: what lies on the disk, and what is read from it.

Run folders and local models were readable by everybody who could reach them; a compressed table of a few megabytes
could unpack to as many gigabytes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from parties.errors import DataError
from parties.sources import CsvSource
from protocol.training import checkpoints
from scenarios import run_folder
from scenarios.judging import baselines
from scenarios.running import runner
from scenarios.scenario import Scenario

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
