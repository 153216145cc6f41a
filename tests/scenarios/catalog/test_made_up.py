from __future__ import annotations

import numpy as np
import pytest

from protocol.errors import SettingsError
from scenarios.catalog.made_up import table


def test_tables_have_the_size_asked_for_and_share_their_users() -> None:
    label, other = (table(part, rows=50, columns=3, binary=2, parties=3) for part in (0, 2))
    assert list(label.columns) == ["user", "outcome", "x0", "x1", "x2", "b0", "b1"]
    assert list(other.columns) == ["user", "x0", "x1", "x2", "b0", "b1"]
    assert len(label) == len(other) == 50
    assert set(np.unique(other[["b0", "b1"]])) == {0, 1}
    assert not np.array_equal(label["x0"], other["x0"])


@pytest.mark.parametrize("wrong", [{"rows": 3}, {"columns": 0}, {"parties": "many"}])
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=f"needs {next(iter(wrong))} of"):
        table(0, **wrong)
