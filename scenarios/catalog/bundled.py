"""Real data that comes with scikit-learn, cut into columns the way two organisations would hold it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from protocol.errors import SettingsError

# Each side lacks some of the other's patients and keeps its table in an order of its own.
_KEPT = {"clinic": 0.96, "laboratory": 0.95}


def breast_cancer(part: str) -> pd.DataFrame:
    """Return one organisation's table of the Wisconsin diagnostic data set (569 patients, 30 measurements).

    ``clinic`` holds 10 mean measurements and the diagnosis, ``laboratory`` the 20 others. Raises SettingsError for
    any other part.
    """
    if part not in _KEPT:
        raise SettingsError(
            f"breast_cancer has the parts {' and '.join(_KEPT)}, but '{part}' was asked for"
        )
    data = load_breast_cancer(as_frame=True)
    measurements = data.data.columns
    table: pd.DataFrame = data.data[
        measurements[:10] if part == "clinic" else measurements[10:]
    ].copy()
    table.insert(0, "patient", [f"patient-{number:04d}" for number in range(len(table))])
    if part == "clinic":
        table.insert(1, "malignant", (data.target == 0).astype(int))
    draw = np.random.default_rng([20 if part == "clinic" else 21])
    kept = draw.permutation(len(table))[: round(_KEPT[part] * len(table))]
    return table.iloc[kept].reset_index(drop=True)
