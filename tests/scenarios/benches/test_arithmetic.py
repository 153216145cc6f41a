from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from protocol.encryption import native
from protocol.encryption.keys import PrivateKey
from scenarios.benches import arithmetic as bench
from scenarios.benches.arithmetic import (
    DENSE,
    ENCRYPT,
    Measurement,
    epoch_table,
    on_path,
    ratio,
    write,
)

MEASURED = [
    Measurement(2048, ENCRYPT, "gmpy2", 500.0, 111.0),
    Measurement(2048, ENCRYPT, "phe", 8000.0),
    Measurement(2048, DENSE[1024, 256], "gmpy2", 9.0, 2.02),
    Measurement(2048, DENSE[256, 64], "phe", 90.0),
]


def test_ratios_compare_like_with_like() -> None:
    assert ratio(MEASURED, ENCRYPT, "gmpy2", "phe") == 16
    # A peer's product costs the same for each entry, whatever the shape.
    assert ratio(MEASURED, DENSE[1024, 256], "gmpy2", "phe") == 10
    assert ratio(MEASURED, ENCRYPT, "gmpy2", "sf-heu") is None


def test_measurements_are_kept_as_csv(tmp_path: Path) -> None:
    with (write(MEASURED, tmp_path) / "bench.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["operation"] for row in rows] == [one.operation for one in MEASURED]
    assert float(rows[0]["microseconds"]) == 500


def test_a_path_is_taken_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "gmpy2")
    for path in ["gmpy2", *native.built_paths()]:
        with on_path(path):
            assert native.choose_path()[0] == path
    assert os.environ[native.VARIABLE] == "gmpy2"


def test_phe_is_measured_on_the_same_key(insecure_test_key: PrivateKey) -> None:
    measured = list(bench.measure_phe(insecure_test_key))
    assert {one.library for one in measured} == {"phe", "phe, floats"}
    assert all(one.microseconds > 0 and one.key_bits == 512 for one in measured)


def test_both_parties_of_the_epoch_hold_the_same_users() -> None:
    left, right = epoch_table("label"), epoch_table("feature")
    assert list(left["user"]) == list(right["user"])
    assert (left.shape[1], right.shape[1]) == (14, 12)
