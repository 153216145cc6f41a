"""A finished run handed to MLflow or TensorBoard: settings, aggregates, the report; never a party's model.

Both are extras. ``check`` asks for them before anybody computes, so that no run is lost to a missing library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from protocol.errors import SettingsError
from scenarios.report.record import Record

_FILES = ("metrics.json", "settings.json", "costs.csv", "report.html")


@dataclass(frozen=True)
class Hooks:
    """Where to log: the URI of an MLflow tracking server or store, a folder of TensorBoard's; None for neither."""

    mlflow: str | None = None
    tensorboard: Path | None = None

    def check(self) -> None:
        """Raise SettingsError where what is asked for is not installed."""
        if self.mlflow:
            _require("mlflow", "mlflow")
        if self.tensorboard:
            _require("tensorboardX", "tensorboard")

    def log(self, folder: Path) -> None:
        """Log the run that left this folder; raises SettingsError, and whatever the library raises."""
        if self.mlflow:
            _log_to_mlflow(Record.read(folder), self.mlflow)
        if self.tensorboard:
            _log_to_tensorboard(Record.read(folder), self.tensorboard)


def scalars(record: Record) -> dict[str, float]:
    """Return a run's final numbers by name, such as ``joint, federated/auc`` and ``cost/seconds``."""
    metrics = record.metrics
    judged = {
        f"{model}/{name}": value
        for group in ("scores", "rankings")
        for model, values in metrics[group].items()
        for name, value in values.items()
        if value is not None
    }
    return judged | {
        "cost/seconds": metrics["seconds"],
        "cost/seconds per epoch": metrics["seconds_per_epoch"],
        "cost/bytes sent": record.cost("bytes sent"),
        "cost/messages sent": record.cost("messages sent"),
        "cost/peak memory bytes": metrics["peak_memory_bytes"],
    }


def course(record: Record) -> Iterator[tuple[int, str, float]]:
    """Yield (epoch, name, value) of the course of training, epochs from 1."""
    for number, epoch in enumerate(record.metrics["history"], 1):
        for name in ("validation_loss", "training_loss", "seconds"):
            if epoch[name] is not None:
                yield number, f"epoch/{name}", epoch[name]


def _log_to_mlflow(record: Record, uri: str) -> None:
    mlflow = _require("mlflow", "mlflow")
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(record.settings.name)
    with mlflow.start_run(run_name=record.folder.name):
        mlflow.log_params(record.flat_settings)
        # A metric's name there has no commas.
        mlflow.log_metrics({_plain(name): value for name, value in scalars(record).items()})
        for number, name, value in course(record):
            mlflow.log_metric(name, value, step=number)
        for file in _FILES:
            if (record.folder / file).exists():
                mlflow.log_artifact(str(record.folder / file))


def _log_to_tensorboard(record: Record, folder: Path) -> None:
    library = _require("tensorboardX", "tensorboard")
    place = folder / record.settings.name / record.folder.name
    with library.SummaryWriter(logdir=str(place)) as writer:
        for number, name, value in course(record):
            writer.add_scalar(name, value, number)
        for name, value in scalars(record).items():
            writer.add_scalar(name, value, 0)


def _plain(name: str) -> str:
    return name.replace(",", "").replace("(", "").replace(")", "")


def _require(module: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError:
        raise SettingsError(
            f"--{extra} needs a library that is not installed: pip install 'colonnade[{extra}]'"
        ) from None
