"""Ready-made multi-party set-ups, the runner, the baselines, scikit-learn estimators and the command line."""

from scenarios.estimators import Table, VerticalFactorizationMachine, VerticalLogisticRegression

__all__ = ["Table", "VerticalFactorizationMachine", "VerticalLogisticRegression"]
