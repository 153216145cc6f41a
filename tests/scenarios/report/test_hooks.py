from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from protocol.errors import SettingsError
from scenarios.judging.baselines import JOINT
from scenarios.report.hooks import Hooks


def events(folder: Path) -> Iterator[tuple[int, str, float]]:
    """Read every scalar of an event file: records of a length, its checksum, the event, its checksum."""
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    data = file.read_bytes()
    start = 0
    while start < len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        event = Event.FromString(data[start + 12 : start + 12 + length])
        start += length + 16
        for value in event.summary.value:
            yield event.step, value.tag, value.simple_value


def test_tensorboard_gets_the_course_and_the_scores(finished: Path, tmp_path: Path) -> None:
    Hooks(tensorboard=tmp_path / "board").log(finished)
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    logged = {(step, tag): value for step, tag, value in events(tmp_path / "board")}
    for number, epoch in enumerate(metrics["history"], 1):
        expected = pytest.approx(epoch["validation_loss"], rel=1e-6)
        assert logged[number, "epoch/validation_loss"] == expected
    auc = next(
        value for (_, tag), value in logged.items() if tag.endswith("/auc") and "joint" in tag
    )
    assert auc == pytest.approx(metrics["scores"][JOINT]["auc"], rel=1e-6)
    assert not any("training_loss" in tag for _, tag in logged)  # nobody saw one


class FakeMlflow(ModuleType):
    """Notes what it is asked to log."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.noted: dict[str, Any] = {}
        self.steps: list[tuple[str, int]] = []
        self.files: list[str] = []

    def set_tracking_uri(self, uri: str) -> None:
        self.noted["uri"] = uri

    def set_experiment(self, name: str) -> None:
        self.noted["experiment"] = name

    @contextmanager
    def start_run(self, run_name: str) -> Iterator[None]:
        self.noted["run"] = run_name
        yield

    def log_params(self, params: dict[str, object]) -> None:
        self.noted["params"] = params

    def log_metrics(self, metrics: dict[str, float]) -> None:
        self.noted["metrics"] = metrics

    def log_metric(self, name: str, value: float, step: int) -> None:
        self.steps.append((name, step))

    def log_artifact(self, path: str) -> None:
        self.files.append(Path(path).name)


def test_mlflow_gets_settings_scores_and_no_partys_model(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    Hooks(mlflow="file:///store").log(finished)
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert fake.noted["uri"] == "file:///store"
    assert fake.noted["run"] == finished.name
    assert fake.noted["params"]["training.disclosure"] == "shared"
    assert fake.noted["metrics"]["joint federated/auc"] == metrics["scores"][JOINT]["auc"]
    assert ("epoch/validation_loss", len(metrics["history"])) in fake.steps
    assert fake.files == ["metrics.json", "settings.json", "costs.csv"]


@pytest.mark.parametrize(
    ("hooks", "module", "extra"),
    [
        (Hooks(mlflow="file:///store"), "mlflow", "colonnade[mlflow]"),
        (Hooks(tensorboard=Path("board")), "tensorboardX", "colonnade[tensorboard]"),
    ],
)
def test_a_missing_library_is_named_beforehand(
    hooks: Hooks, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError) as caught:
        hooks.check()
    assert extra in str(caught.value)


def test_no_hooks_need_nothing(tmp_path: Path) -> None:
    Hooks().check()
    Hooks().log(tmp_path / "nowhere")
