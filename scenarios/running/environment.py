"""What computes here: the arithmetic, the machine and the versions of the libraries that shape a result."""

from __future__ import annotations

import platform
from importlib.metadata import version

from joblib import effective_n_jobs

from protocol.encryption.native import choose_path

_LIBRARIES = ("colonnade", "phe", "gmpy2", "numpy", "pandas", "scikit-learn", "joblib")


def describe() -> dict[str, str]:
    """Return names and values for people; nothing in them names the machine or who uses it."""
    path, why = choose_path()
    return {
        "arithmetic": f"{path}: {why}",
        "cores": str(effective_n_jobs(-1)),
        "system": f"{platform.system()} on {platform.machine()}",
        "python": platform.python_version(),
        **{library: version(library) for library in _LIBRARIES},
    }
