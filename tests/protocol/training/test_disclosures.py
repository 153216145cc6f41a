"""A recorded run, message by message: nobody reads what the table of disclosures does not grant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd
import pytest

from parties.model import sigmoid
from protocol.messages import MESSAGES
from protocol.messages.forward import PartialLogits
from protocol.messages.message import Message
from protocol.messages.planning import BatchPlan
from protocol.messages.rounds import PlainResiduals
from protocol.messages.scoring import ScoreRequest
from protocol.transport.codec import encode
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]
Tables = dict[str, pd.DataFrame]


@pytest.fixture(params=["shared", "open"])
def recorded(load_scenario: LoadScenario, request: pytest.FixtureRequest) -> Run:
    """A run under either disclosure that encrypts; tests/audit looks closer."""
    scenario = load_scenario("epochs=2", f"disclosure={request.param}")
    return runner.run(scenario, record_views=True)


def read_by(run: Run, *names: str) -> Iterator[tuple[str, str, Message]]:
    for name in names:
        for sender, message in run.views[name]:
            yield name, sender, message


def found(needles: Iterable[bytes], messages: Iterable[tuple[str, str, Message]]) -> set[str]:
    """Return the kinds of messages in which any needle occurs."""
    wanted = re.compile(b"|".join(re.escape(needle) for needle in sorted(set(needles))))
    return {type(message).__name__ for _, _, message in messages if wanted.search(encode(message))}


def as_bytes(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> set[bytes]:
    """Return how numbers that are neither 0 nor 1 would stand in a message.

    2.0 is seven bytes of zero and a 64, and so stands in any list with a position 64.
    """
    return {value.tobytes() for value in values if value not in (0.0, 1.0, 2.0)}


def everyone(run: Run) -> list[str]:
    return list(run.views)


def test_roles_receive_only_the_kinds_that_are_theirs(recorded: Run) -> None:
    roles = {"coordinator": "coordinator", "shop": "label", "bank": "feature", "telco": "feature"}
    for name, sender, message in read_by(recorded, *everyone(recorded)):
        kind = MESSAGES[type(message).__name__]
        assert roles[name] in kind.receivers
        assert roles[sender] in kind.senders
    assert not any(
        isinstance(message, PlainResiduals)
        for _, _, message in read_by(recorded, *everyone(recorded))
    )


def test_no_message_holds_an_id(recorded: Run, tables: Tables) -> None:
    ids = {user.encode() for table in tables.values() for user in table["user"]}
    assert not found(ids, read_by(recorded, *everyone(recorded)))
    assert found({b"user"}, read_by(recorded, "bank"))  # the search does find the type


def test_no_message_holds_a_feature_value(recorded: Run, tables: Tables) -> None:
    halves = {"shop": recorded.label_party.trained, **recorded.feature_parties}
    for name, half in halves.items():
        raw = tables[name].drop(columns=["user", "bought", "colour"], errors="ignore")
        exact = half.encoder.transform_exact(recorded.datasets[name])
        fixed = half.matrix.scaled.astype(np.float64) / 2**12
        values = np.concatenate([raw.to_numpy().ravel(), exact.scaled.ravel(), fixed.ravel()])
        others = [other for other in everyone(recorded) if other != name]
        assert not found(as_bytes(values), read_by(recorded, *others))


def test_partial_logits_go_to_the_label_party_alone_and_only_where_open(recorded: Run) -> None:
    readers = {
        name
        for name, _, message in read_by(recorded, *everyone(recorded))
        if isinstance(message, PartialLogits)
    }
    assert readers == ({"shop"} if recorded.scenario.training.disclosure == "open" else set())


def test_no_residual_or_label_leaves_the_label_party(
    recorded: Run, load_scenario: LoadScenario
) -> None:
    # The run without cryptography sends the very same residuals in the clear, so we know what to look for.
    plain = runner.run(load_scenario("epochs=2", "disclosure=none"), record_views=True)
    residuals = {
        value.tobytes()
        for _, _, message in read_by(plain, "bank", "telco")
        if isinstance(message, PlainResiduals)
        for value in message.values
    }
    assert len(residuals) > 100
    feature_parties = ("bank", "telco")
    assert found(residuals, read_by(plain, *feature_parties)) == {"PlainResiduals"}
    assert not found(residuals, read_by(recorded, *everyone(recorded)))

    trained = recorded.label_party.trained
    labels = recorded.datasets["shop"].label
    assert labels is not None
    as_floats = sigmoid(recorded.label_party.test_logits) - labels[trained.split.test.samples]
    assert not found(as_bytes(as_floats), read_by(recorded, *everyone(recorded)))


def test_the_order_of_rows_says_nothing_about_labels(recorded: Run) -> None:
    trained, labels = recorded.label_party.trained, recorded.datasets["shop"].label
    assert labels is not None
    for party in ("bank", "telco"):
        for _, _, message in read_by(recorded, party):
            if isinstance(message, BatchPlan | ScoreRequest):
                listed = message.entities
                assert len(np.unique(listed)) == len(listed)
                # Nothing but positions of the agreed order, which is drawn without regard to labels.
                assert set(listed.tolist()) <= set(range(recorded.shared["users"]))
    ordered = labels[trained.split.training_samples]
    runs = np.count_nonzero(np.diff(ordered)) + 1
    ones = ordered.sum()
    expected = 2 * ones * (len(ordered) - ones) / len(ordered) + 1  # Wald and Wolfowitz 1940
    assert abs(runs - expected) < 5 * np.sqrt(len(ordered)) / 2


def test_the_coordinator_opens_only_what_is_masked(
    load_scenario: LoadScenario,
) -> None:
    """Opened integers fill the whole range of n, run after run, though the gradients are small."""
    run = runner.run(load_scenario("epochs=4"), record_views=True)
    n = next(
        int.from_bytes(message.modulus, "little")
        for _, _, message in read_by(run, "bank")
        if hasattr(message, "modulus")
    )
    opened = [
        integer / n
        for _, _, message in read_by(run, "bank", "telco")
        if type(message).__name__ == "OpenedGradients" and hasattr(message, "values")
        for integer in message.values.integers()
    ]
    assert len(opened) >= 16
    assert 0.2 < np.mean(opened) < 0.8
    assert np.std(opened) > 0.15
