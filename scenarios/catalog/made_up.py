"""Tables of any size, number of columns and number of parties, made up from a seed: for cost studies."""

from __future__ import annotations

import numpy as np
import pandas as pd

from parties.model import FloatArray, generator, sigmoid
from protocol.errors import SettingsError


def table(
    part: int, rows: int = 2000, columns: int = 10, binary: int = 0, parties: int = 2, seed: int = 0
) -> pd.DataFrame:
    """Return a party's table: ``rows`` users, ``columns`` numeric columns and ``binary`` ones of 0 and 1.

    Party 0 has the outcome too, which follows from the columns of all ``parties``. Raises SettingsError for sizes that
    cannot be.
    """
    sizes = {"part": part, "rows": rows, "columns": columns, "binary": binary, "parties": parties}
    lowest = {"rows": 10, "columns": 1, "parties": 2}
    for name, size in sizes.items():
        if not (isinstance(size, int) and size >= lowest.get(name, 0)):
            raise SettingsError(
                f"a made-up table needs {name} of {lowest.get(name, 0)} or more, but got {size!r}"
            )
    numbers, ones = _cells(part, rows, columns, binary, seed)
    made = pd.DataFrame(np.hstack([numbers, ones]))
    made.columns = [f"x{j}" for j in range(columns)] + [f"b{j}" for j in range(binary)]
    made[made.columns[columns:]] = ones.astype(int)
    made.insert(0, "user", np.arange(rows))
    if part == 0:
        score = sum(
            np.hstack(_cells(other, rows, columns, binary, seed)).sum(axis=1)
            for other in range(parties)
        ) / np.sqrt(parties * (columns + binary))
        chosen = generator(seed, "outcome").random(rows) < sigmoid(2 * score)
        made.insert(1, "outcome", chosen.astype(int))
    return made


def _cells(
    part: int, rows: int, columns: int, binary: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Return numbers (rows, columns) and, centred nowhere, zeros and ones (rows, binary)."""
    draw = generator(seed, f"part {part}")
    numbers = draw.normal(size=(rows, columns))
    return numbers, (draw.random((rows, binary)) < 0.3).astype(np.float64)
