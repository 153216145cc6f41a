from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protocol.settings import Engine
from scenarios.costs import calibration
from scenarios.costs.calibration import UnitCosts
from scenarios.costs.counting import Rest
from scenarios.costs.operations import KINDS, MASKS, VERIFICATIONS, Operation


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(calibration.FOLDER_VARIABLE, str(tmp_path))


def test_a_fit_finds_what_made_the_numbers() -> None:
    rows = np.random.default_rng(0).uniform(1, 100, (20, 3))
    seconds = rows @ [0.5, 0.0, 2.0]
    found = calibration._fit(rows.tolist(), seconds.tolist())
    np.testing.assert_allclose(found, [0.5, 0, 2], atol=1e-12)


def test_unit_costs_are_times_numbers() -> None:
    units = UnitCosts({MASKS: (1.0, 2.0, 3.0)}, (10.0, *[0.0] * 10), 0)
    assert units.of_operation(Operation(MASKS, 4, 0, 5)) == 1 + 2 * 4 + 3 * 5
    assert units.of_rest(Rest(rounds=7, cells=100)) == 70


def test_what_was_measured_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    unknown = set[str]()

    def measure(key_bits: int, engine: str) -> dict[str, tuple[float, ...]]:
        measured.append(key_bits)
        return dict.fromkeys(KINDS - unknown, (0.0, 0.0, 1.0))

    monkeypatch.setattr(calibration, "calibrate_operations", measure)
    monkeypatch.setattr(calibration, "calibrate_rest", lambda: (1.0,) * 11)
    monkeypatch.setattr(calibration, "_fresh_process_memory", lambda: 100)
    assert calibration.known_unit_costs(512) is None
    first = calibration.unit_costs(512)
    assert first == calibration.known_unit_costs(512)
    assert calibration.known_unit_costs(1024) is None
    assert measured == [512]
    assert first == calibration.unit_costs(512)
    calibration.unit_costs(1024)
    assert measured == [512, 1024]
    calibration.cache_file().write_text("damaged", encoding="utf-8")
    calibration.unit_costs(512)
    assert measured == [512, 1024, 512]
    # What a version before wrote lacks an operation.
    unknown.add(VERIFICATIONS)
    calibration.calibrate([1024])
    assert calibration.known_unit_costs(1024) is None
    unknown.clear()
    assert calibration.unit_costs(1024) == calibration.known_unit_costs(1024) is not None


@pytest.mark.parametrize("engine", ["colonnade", "phe"])
def test_every_operation_of_a_training_is_measured(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_seconds", lambda kind, work: (work(), 1e-3)[1])
    kinds = set(calibration.calibrate_operations(512, engine))
    tables = {"tables of powers"} if engine == "colonnade" else set()
    assert kinds == tables | {
        "additions",
        "certificates",
        "checks",
        "decryptions",
        "encryptions",
        "encryptions by the key holder",
        "masks",
        "packings",
        "plain additions",
        "products",
        "subtractions",
        "verifications",
        "writes",
    }
