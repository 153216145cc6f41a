"""The coordinator's view: uniform numbers, whatever the data."""

from __future__ import annotations

import numpy as np

from audit.recording import FEATURE_PARTIES, Recording
from audit.statistics import SIGNIFICANCE, independence, sameness, uniformity
from protocol.messages.alignment import SharedPositions
from protocol.messages.forward import ContributionShare
from protocol.messages.message import Message
from protocol.messages.planning import SamplePositions, Schedule, SigmoidSeries
from protocol.messages.scoring import ScoreSchedule
from protocol.transport.codec import encode

PUBLIC = (Schedule, ScoreSchedule, SigmoidSeries, SamplePositions)


def coordinator_view(recording: Recording) -> list[tuple[str, Message]]:
    return recording.run.views[recording.roster.coordinator]


def test_all_it_decrypts_opens_and_holds_a_share_of_is_uniform(recorded: Recording) -> None:
    for what, words in recorded.coordinator_words().items():
        assert len(words) > 100, what
        assert uniformity(words) > SIGNIFICANCE, what


def test_what_it_decrypts_is_uniform_in_an_open_run_too(recorded_open: Recording) -> None:
    for words in recorded_open.decrypted_words().values():
        assert len(words) > 100
        assert uniformity(words) > SIGNIFICANCE


def test_it_cannot_tell_one_set_of_data_from_another(
    recorded: Recording, on_other_data: Recording
) -> None:
    ours, others = recorded.coordinator_words(), on_other_data.coordinator_words()
    for what in ours:
        assert sameness(ours[what], others[what]) > SIGNIFICANCE, what


def test_messages_are_as_many_and_as_long_whatever_the_data(
    recorded: Recording, on_other_data: Recording
) -> None:
    ours, others = coordinator_view(recorded), coordinator_view(on_other_data)
    lengths = [
        [(sender, type(message), len(encode(message))) for sender, message in view]
        for view in (ours, others)
    ]
    assert lengths[0] == lengths[1]
    for (_, message), (_, other) in zip(ours, others, strict=True):
        if isinstance(message, PUBLIC):
            assert encode(message) == encode(other)
    assert not any(isinstance(message, SharedPositions) for _, message in ours)


def test_its_share_of_a_contribution_says_nothing_on_the_contribution(recorded: Recording) -> None:
    shares = recorded.received(recorded.roster.coordinator, ContributionShare)
    for party in FEATURE_PARTIES:
        sent = [m for s, m in coordinator_view(recorded) if s == party]
        theirs = [m.values for m in sent if isinstance(m, ContributionShare)]
        values = [words for name, words in recorded.contributed if name == party]
        share = np.concatenate([one.ravel() for one in theirs])
        value = np.concatenate([one.view(np.int64).ravel() for one in values])
        assert independence(share, value.astype(np.float64)) > SIGNIFICANCE
    assert len(shares) == len(recorded.contributed)


def test_these_tests_do_notice_what_is_not_hidden(
    recorded: Recording, on_other_data: Recording
) -> None:
    ours, others = (
        np.concatenate([words.ravel() for _, words in recording.contributed])
        for recording in (recorded, on_other_data)
    )
    assert uniformity(ours) < SIGNIFICANCE
    assert sameness(ours, others) < SIGNIFICANCE
    assert independence(ours, ours.astype(np.float64)) < SIGNIFICANCE
