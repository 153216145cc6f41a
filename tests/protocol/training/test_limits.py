from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from parties.model import LocalModel, Optimizer, generator
from protocol.errors import GuardError, RemoteProtocolError
from protocol.messages.planning import Allowance, OpenedColumns, Schedule, TrainingStart
from protocol.messages.rounds import RoundEnd
from protocol.settings import ProtocolSettings, TrainingSettings
from protocol.training.checkpoints import Checkpoints, TrainingState
from protocol.training.guards import Guard, most_columns
from protocol.training.limits import Repeats, check_plan
from protocol.training.opening import Gradient
from protocol.transport.channel import Channel
from scenarios.running import runner
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


def altered(
    patch: pytest.MonkeyPatch, sender: str, kind: type, receiver: str, change: Callable[..., object]
) -> None:
    """One party says something else to one other than it should."""
    honest = Channel.send

    async def send(self: Channel, to: str, message: object) -> None:
        if self.name == sender and to == receiver and isinstance(message, kind):
            message = change(message)
        await honest(self, to, message)  # type: ignore[arg-type]

    patch.setattr(Channel, "send", send)


@pytest.mark.parametrize(
    ("kind", "receiver", "change", "error", "words"),
    [
        (
            OpenedColumns,
            "bank",
            lambda m: OpenedColumns(m.columns + 90, True),
            GuardError,
            "shop has 92 columns",
        ),
        (
            OpenedColumns,
            "coordinator",
            lambda m: OpenedColumns(m.columns + 90, True),
            GuardError,
            "shop has 92 columns",
        ),
        (
            OpenedColumns,
            "telco",
            lambda m: OpenedColumns(m.columns[1:], True),
            RemoteProtocolError,
            "shop declared openings for 1 batches where there are 2",
        ),
        (
            Allowance,
            "coordinator",
            lambda m: Allowance(m.party, m.ciphertexts + 5),
            GuardError,
            "shop lets bank have more ciphertexts opened than the guards allow",
        ),
        (
            Allowance,
            "coordinator",
            lambda m: Allowance("telco", m.ciphertexts),
            RemoteProtocolError,
            "expected to say what to open to bank",
        ),
        (
            Schedule,
            "coordinator",
            lambda m: Schedule(m.rounds, 1000),
            RemoteProtocolError,
            "shop plans 1000 epochs where at most 2 were agreed",
        ),
        (
            TrainingStart,
            "bank",
            lambda m: TrainingStart(m.training, 0, 1000),
            RemoteProtocolError,
            "shop plans 1000 epochs where at most 2 were agreed",
        ),
    ],
)
def test_a_label_party_that_says_otherwise_is_stopped(
    load_scenario: LoadScenario,
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    receiver: str,
    change: Callable[..., object],
    error: type[Exception],
    words: str,
) -> None:
    altered(monkeypatch, "shop", kind, receiver, change)
    with pytest.raises(error, match=words):
        runner.run(load_scenario("disclosure=shared", "epochs=2"))


def test_a_feature_party_that_declares_for_other_batches_is_stopped(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    altered(
        monkeypatch, "bank", OpenedColumns, "shop", lambda m: OpenedColumns(m.columns[1:], True)
    )
    with pytest.raises(RemoteProtocolError, match="bank declared openings for 1 batches"):
        runner.run(load_scenario("disclosure=open", "epochs=1"))


def test_a_round_with_numbers_beyond_their_bounds_must_be_repeated(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gradient, "exceeded", property(lambda gradient: True))
    altered(monkeypatch, "shop", RoundEnd, "bank", lambda m: RoundEnd(False))
    with pytest.raises(RemoteProtocolError, match="shop goes on from a round with numbers beyond"):
        runner.run(load_scenario("disclosure=shared", "epochs=1"))


def test_breaking_a_training_off_does_not_undo_the_count(tmp_path: Path) -> None:
    def state() -> TrainingState:
        draw, optimizer = generator(0, "bank"), Optimizer("adam", 0.1)
        l2 = np.zeros((2, 1))
        return TrainingState.begin(
            LocalModel.initialise(l2, bias=False, optimizer=optimizer, draw=draw)
        )

    guard, kept = Guard("bank", TrainingSettings()), Checkpoints(tmp_path)
    running = state()
    running.training = bytes(range(16))
    running.end_epoch(guard, best=True, proceed=True)
    kept.save(running)
    kept.note_repeats(running, 1)
    assert kept.load(state(), 1, guard).repeated == 1
    settings = ProtocolSettings()
    with pytest.raises(RemoteProtocolError, match="than chance allows"):
        Repeats.of(settings, [100], 2, kept.load(state(), 1, guard).repeated).count("shop")


def test_plans_within_what_was_agreed_pass() -> None:
    check_plan(30, ProtocolSettings(), sender="shop")
    with pytest.raises(RemoteProtocolError, match="shop plans 31 epochs where at most 30"):
        check_plan(31, ProtocolSettings(), sender="shop")


@pytest.mark.parametrize(("rows", "most"), [(63, 0), (64, 8), (79, 9), (80, 10), (1000, 125)])
def test_the_most_columns_are_those_that_the_guard_just_lets_pass(rows: int, most: int) -> None:
    settings = TrainingSettings()
    assert most_columns(rows, settings) == most
    guard = Guard("bank", settings)
    guard.check("bank", rows, most)
    with pytest.raises(GuardError):
        guard.check("bank", rows, most + 1)
