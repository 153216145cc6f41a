"""Ready-made multi-party set-ups, the runner, the baselines, scikit-learn estimators and the command line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.estimators import (
        Table,
        VerticalFactorizationMachine,
        VerticalLogisticRegression,
    )

__all__ = ["Table", "VerticalFactorizationMachine", "VerticalLogisticRegression"]


def __getattr__(name: str) -> object:
    """Import the estimators when one is asked for: they bring scikit-learn, which not every command needs."""
    if name in __all__:
        return getattr(import_module("scenarios.estimators"), name)
    raise AttributeError(f"module 'scenarios' has no attribute '{name}'")
