"""A training that breaks at any message and is taken up again ends as if nothing had happened."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from parties.model import LocalModel, Optimizer
from protocol.errors import CheckpointError
from protocol.messages.forward import DealtSeed
from protocol.messages.message import Message
from protocol.messages.rounds import EpochEnd
from protocol.training.checkpoints import TrainingState
from protocol.transport.channel import Channel
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


class PowerCutError(Exception):
    pass


def outcome(run: Run) -> list[bytes]:
    """Everything that must come out alike, to the last bit."""
    halves = [half.model for half in run.halves.values()]
    history = run.label_party.trained.history
    return [
        *(half.parameters.tobytes() for half in halves),
        run.label_party.test_logits.tobytes(),
        repr(
            [(epoch.training_loss, epoch.validation_loss, epoch.best) for epoch in history]
        ).encode(),
        repr([(half.guard.opened, half.guard.withheld) for half in run.halves.values()]).encode(),
    ]


def cut_power(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the sending of the message with this number fail, whoever sends it."""
    honest, sent = Channel.send, [0]

    async def send(self: Channel, receiver: str, message: Message) -> None:
        sent[0] += 1
        if sent[0] > after:
            raise PowerCutError
        await honest(self, receiver, message)

    monkeypatch.setattr(Channel, "send", send)


@pytest.mark.parametrize("disclosure", ["open", "none"])
def test_broken_anywhere_and_taken_up_the_model_is_the_same(
    load_scenario: LoadScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disclosure: str
) -> None:
    scenario = load_scenario(f"disclosure={disclosure}", "epochs=5", "batch_size=90")
    undisturbed = runner.run(scenario)
    messages = sum(len(ledger.sent) for ledger in undisturbed.ledgers.values())
    taken_up = 0
    for after in range(3, messages, 7):
        folder = tmp_path / str(after)
        with monkeypatch.context() as patch:
            cut_power(patch, after)
            with pytest.raises(PowerCutError):
                runner.run(scenario, keep_in=folder)
        taken_up += len(list((folder / "shop").glob("epoch-*"))) > 0
        assert outcome(runner.run(scenario, keep_in=folder)) == outcome(undisturbed)
    assert taken_up > messages / 7 / 3


def test_on_shares_it_is_the_same_within_the_error_and_nothing_is_dealt_twice(
    load_scenario: LoadScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = load_scenario("disclosure=shared", "epochs=3", "batch_size=90")
    undisturbed = runner.run(scenario)
    seeds = list[bytes]()
    honest = Channel.send

    async def watch(self: Channel, receiver: str, message: Message) -> None:
        if isinstance(message, DealtSeed):
            seeds.append(message.seed)
        await honest(self, receiver, message)

    monkeypatch.setattr(Channel, "send", watch)
    with monkeypatch.context() as patch:
        cut_power(patch, sum(len(ledger.sent) for ledger in undisturbed.ledgers.values()) * 2 // 3)
        with pytest.raises(PowerCutError):
            runner.run(scenario, keep_in=tmp_path)
    again = runner.run(scenario, keep_in=tmp_path)
    for a, b in zip(again.halves.values(), undisturbed.halves.values(), strict=True):
        np.testing.assert_allclose(a.model.parameters, b.model.parameters, atol=2e-3)
    assert len(set(seeds)) == len(seeds) > 6


def test_parties_that_are_an_epoch_apart_go_back_to_the_same(
    load_scenario: LoadScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = load_scenario("epochs=3")
    undisturbed = runner.run(scenario)
    honest, ends = Channel.send, [0]

    async def send(self: Channel, receiver: str, message: Message) -> None:
        await honest(self, receiver, message)
        ends[0] += isinstance(message, EpochEnd)
        if (
            ends[0] == 5
        ):  # the second epoch's, to the bank alone: coordinator, bank, telco each epoch
            raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(Channel, "send", send)
        with pytest.raises(PowerCutError):
            runner.run(scenario, keep_in=tmp_path)
    assert outcome(runner.run(scenario, keep_in=tmp_path)) == outcome(undisturbed)


def test_a_finished_training_is_only_scored_again(
    load_scenario: LoadScenario, tmp_path: Path
) -> None:
    scenario = load_scenario("epochs=2")
    first = runner.run(scenario, keep_in=tmp_path)
    rounds: list[int] = []
    again = runner.run(scenario, lambda done, total: rounds.append(done), keep_in=tmp_path)
    assert not rounds
    assert outcome(again) == outcome(first)


def test_damaged_checkpoints_are_passed_over(load_scenario: LoadScenario, tmp_path: Path) -> None:
    scenario = load_scenario("epochs=3")
    first = runner.run(scenario, keep_in=tmp_path)
    newest = sorted((tmp_path / "bank").iterdir())[-1]
    assert len(list((tmp_path / "bank").iterdir())) == 2
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    rounds: list[int] = []
    again = runner.run(scenario, lambda done, total: rounds.append(done), keep_in=tmp_path)
    assert len(rounds) == len(again.label_party.trained.split.batches)
    assert outcome(again) == outcome(first)


def test_a_training_begun_anew_keeps_its_own_epochs(
    load_scenario: LoadScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario, folder = load_scenario("epochs=3"), tmp_path / "kept"
    undisturbed = runner.run(scenario, keep_in=folder)
    shutil.rmtree(folder / "telco")  # now the others keep epochs that nobody can take up
    messages = sum(len(ledger.sent) for ledger in undisturbed.ledgers.values())
    (folder / "bank" / ".epoch-000003.0a1b2c3d.unfinished").touch()
    with monkeypatch.context() as patch:
        cut_power(patch, messages * 2 // 3)
        with pytest.raises(PowerCutError):
            runner.run(scenario, keep_in=folder)
    kept = [sorted(path.name for path in party.iterdir()) for party in folder.iterdir()]
    assert kept == [["epoch-000001"]] * 3
    rounds: list[int] = []
    again = runner.run(scenario, lambda done, total: rounds.append(done), keep_in=folder)
    assert rounds[0] == len(undisturbed.label_party.trained.split.batches) + 1
    assert outcome(again) == outcome(undisturbed)


def test_other_data_or_settings_are_refused(load_scenario: LoadScenario, tmp_path: Path) -> None:
    runner.run(load_scenario("epochs=2"), keep_in=tmp_path)
    with pytest.raises(CheckpointError, match="of other rows, columns or settings than these"):
        runner.run(load_scenario("epochs=2", "l2=0.5"), keep_in=tmp_path)
    more = runner.run(load_scenario("epochs=4"), keep_in=tmp_path)  # may go on for longer
    assert len(more.label_party.trained.history) == 2


def test_a_full_disk_leaves_the_older_checkpoints(
    load_scenario: LoadScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = load_scenario("epochs=2")
    undisturbed = runner.run(scenario)
    synced = [0]

    def fsync(file: int) -> None:
        synced[0] += 1
        if synced[0] > 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fsync)
        with pytest.raises(CheckpointError, match=r"epoch 2 cannot be written .* No space left"):
            runner.run(scenario, keep_in=tmp_path)
    for party in filter(Path.is_dir, tmp_path.iterdir()):
        assert [path.name for path in party.iterdir()] == ["epoch-000001"]
    assert outcome(runner.run(scenario, keep_in=tmp_path)) == outcome(undisturbed)


def test_the_history_tells_which_epoch_is_best_and_how_long_ago() -> None:
    model = LocalModel(np.zeros((1, 1)), None, np.zeros((1, 1)), Optimizer("sgd", 1.0))
    state, best = TrainingState.begin(model), []
    for losses, loss in (([0.9, 0.7], 0.8), ([None, None], 0.6), ([0.5], 0.6), ([0.4], 0.7)):
        best.append(state.add_epoch(losses, loss, 1.0))
    assert best == [True, True, False, False]
    assert [epoch.training_loss for epoch in state.history] == [0.8, None, 0.5, 0.4]
    assert state.since_best == 2
