from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.settings import AlignmentMethod
from scenarios.benches.alignment import Case, Measurement, measure, results, table

CASE = Case("keyed-hash", 3, 40, 1)


@pytest.mark.parametrize("method", ["keyed-hash", "ecdh"])
def test_a_measurement_aligns_what_a_plain_intersection_finds(method: AlignmentMethod) -> None:
    measured = measure(replace(CASE, method=method))
    assert measured.seconds > 0
    assert measured.peak_memory > 1e6


def test_half_of_the_ids_are_shared() -> None:
    shop, bank = (set(table(party, 40)["user"]) for party in ("shop", "bank"))
    assert (len(shop), len(bank), len(shop & bank)) == (40, 40, 20)


def test_the_table_compares_with_the_reference_and_one_core() -> None:
    two = replace(CASE, n_jobs=2)
    measured = [
        Measurement(two, 6.0, 0.5, 10**8),
        Measurement(two, 4.0, 0.5, 10**8),
        Measurement(CASE, 8.0, 1.0, 10**8),
    ]
    shown = results(measured)
    cells = {str(column.header): list(column.cells) for column in shown.columns}
    assert cells["best s"] == ["4.0", "8.0"]
    assert cells["median s"] == ["5.0", "8.0"]
    assert cells["over plain"] == ["8", "8"]
    assert cells["gain"] == ["2.0", "1.0"]
