from __future__ import annotations

import pandas as pd
import pytest

from protocol.errors import SettingsError
from scenarios.catalog.bundled import breast_cancer


def test_the_two_tables_overlap_in_part_and_differ_in_order() -> None:
    clinic, laboratory = breast_cancer("clinic"), breast_cancer("laboratory")
    assert clinic.shape[1] == 2 + 10
    assert laboratory.shape[1] == 1 + 20
    shared = set(clinic["patient"]) & set(laboratory["patient"])
    assert len(shared) < min(len(clinic), len(laboratory)) < 569
    order = [
        list(table.loc[table["patient"].isin(shared), "patient"]) for table in (clinic, laboratory)
    ]
    assert order[0] != order[1]
    assert set(clinic["malignant"]) == {0, 1}
    pd.testing.assert_frame_equal(clinic, breast_cancer("clinic"))


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(SettingsError, match="clinic and laboratory"):
        breast_cancer("pharmacy")
