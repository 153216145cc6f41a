"""The label party's view under 'shared': joint results, and nothing that depends on one feature party's part in them.

And what it can infer all the same: from many scores about one entity, and from its own gradients.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from audit.recording import (
    BANK,
    FACTORIZATION,
    FEATURE_PARTIES,
    SHOP,
    Recording,
    load_parties,
    record,
)
from audit.statistics import SIGNIFICANCE, independence, sameness, uniformity
from parties.features import FixedPointMatrix
from parties.model import joint_logits
from protocol.batches import Batch
from protocol.errors import GuardError
from protocol.messages.forward import ContributionSeed, PartialLogits
from protocol.numbers import FloatArray
from protocol.scoring import LogitCount, Scorer, coordinate_logits, request_logits
from protocol.settings import ProtocolSettings, ScoringSettings
from protocol.sharing.shares import Stream
from protocol.transport.channel import Channel
from protocol.transport.in_process import InProcessTransport
from scenarios.running import runner


def contributed(recording: Recording, party: str) -> FloatArray:
    values = [words for name, words in recording.contributed if name == party]
    joined = np.concatenate([words.ravel() for words in values])
    return joined.view(np.int64).astype(np.float64)


def test_it_sees_no_partial_logit(recorded: Recording, recorded_open: Recording) -> None:
    assert not recorded.received(SHOP, PartialLogits)
    assert recorded_open.received(SHOP, PartialLogits)


def test_what_it_expands_receives_and_opens_is_uniform(recorded: Recording) -> None:
    for what, words in recorded.label_party_words().items():
        assert uniformity(words) > SIGNIFICANCE, what


def test_its_share_of_a_contribution_says_nothing_on_the_contribution(recorded: Recording) -> None:
    for party in FEATURE_PARTIES:
        seeds = [
            message.seed
            for sender, message in recorded.run.views[SHOP]
            if sender == party and isinstance(message, ContributionSeed)
        ]
        values = [words for name, words in recorded.contributed if name == party]
        halves = [
            Stream(seed, recorded.roster.run).words(*words.shape).ravel()
            for seed, words in zip(seeds, values, strict=True)
        ]
        values_seen = contributed(recorded, party)
        assert independence(np.concatenate(halves), values_seen) > SIGNIFICANCE


def test_it_cannot_tell_who_contributed_what(recorded: Recording, shifted: Recording) -> None:
    """Bank and telco moved in opposite directions, by more than their contributions vary: the view stays the same."""
    by = contributed(shifted, BANK).mean() - contributed(recorded, BANK).mean()
    assert abs(by) > contributed(recorded, BANK).std()
    ours, theirs = recorded.label_party_words(), shifted.label_party_words()
    for what in ours:
        assert sameness(ours[what], theirs[what]) > SIGNIFICANCE, what

    # What is not uniform follows from the joint result, and that is the same but for roundings.
    results, others = (recording.run.label_party for recording in (recorded, shifted))
    losses, other_losses = (
        [epoch.validation_loss for epoch in result.trained.history] for result in (results, others)
    )
    np.testing.assert_allclose(losses, other_losses, atol=1e-3)
    np.testing.assert_allclose(results.test_logits, others.test_logits, atol=0.02)
    np.testing.assert_allclose(
        results.trained.model.parameters, others.trained.model.parameters, atol=0.02
    )


def test_the_shift_would_show_where_something_is_not_hidden(
    recorded: Recording, shifted: Recording
) -> None:
    ours, theirs = (
        np.concatenate([w.ravel() for name, w in one.contributed if name == BANK])
        for one in (recorded, shifted)
    )
    assert sameness(ours, theirs) < SIGNIFICANCE


@pytest.fixture(scope="module")
def factorization(folder: Path) -> Recording:
    return record(load_parties(folder, FACTORIZATION, "epochs=3"))


def ask_about_one_entity(
    recording: Recording, columns: FixedPointMatrix, settings: ProtocolSettings
) -> FloatArray:
    """Have the label party score rows with columns of its choosing, all about the first user and item."""
    transport = InProcessTransport()
    channels, coordinator = (
        runner.connect(recording.run.scenario, transport),
        recording.roster.coordinator,
    )
    trained, n_rows = recording.run.label_party.trained, columns.n_rows
    rows = Batch(
        np.arange(n_rows),
        {party: np.array([0]) for party in FEATURE_PARTIES},
        {party: np.zeros(n_rows, dtype=np.int64) for party in FEATURE_PARTIES},
    )

    def scorer(channel: Channel) -> Scorer:
        half = recording.run.feature_parties[channel.name]
        return Scorer(channel, settings, half.model, half.matrix)

    roles = {
        coordinator: coordinate_logits(
            channels[coordinator], settings, LogitCount.of(channels[coordinator], settings)
        ),
        SHOP: request_logits(channels[SHOP], settings, trained.model, columns, rows),
        **{party: scorer(channels[party]).answer() for party in FEATURE_PARTIES},
    }
    ledgers = {name: channel.ledger for name, channel in channels.items()}
    logits: FloatArray = asyncio.run(transport.run(roles, ledgers))[SHOP]
    return logits


def varied(recording: Recording) -> FixedPointMatrix:
    """Return 1 + k rows that differ in the label party's own columns."""
    matrix = recording.run.label_party.trained.matrix
    draw = np.random.default_rng(1)
    n_rows = 1 + recording.run.scenario.training.n_factors
    scaled = draw.integers(-(6 << 12), 6 << 12, (n_rows, matrix.scaled.shape[1]))
    indicators = matrix.indicators[np.zeros(n_rows, dtype=np.int64)]
    return FixedPointMatrix(scaled.astype(np.int16), indicators, 0)


def test_a_few_scores_about_one_entity_give_the_others_sums_away(factorization: Recording) -> None:
    """The attack of arXiv 2207.11788, for this model: 1 + k linear equations in what the others contribute."""
    run = factorization.run
    columns, model = varied(factorization), run.label_party.trained.model
    logits = ask_about_one_entity(factorization, columns, run.scenario)
    own, sums = model.partial_logits(columns), model.latent_sums(columns)
    equations = np.column_stack([np.ones(columns.n_rows), sums])
    score, *latent = np.linalg.solve(equations, logits - joint_logits(own, sums))

    halves = list(run.feature_parties.values())
    first = np.array([0])
    rows = [(half.model, half.matrix.take(first)) for half in halves]
    true_sums = np.asarray(sum(model.latent_sums(row) for model, row in rows))
    true_logits = np.asarray(sum(model.partial_logits(row) for model, row in rows))
    np.testing.assert_allclose(latent, true_sums[0], atol=0.02)
    assert score == pytest.approx(joint_logits(true_logits, true_sums)[0], abs=0.02)


def test_a_limit_on_scores_ends_that(factorization: Recording) -> None:
    columns, scenario = varied(factorization), factorization.run.scenario
    capped = scenario.model_copy(update={"scoring": ScoringSettings(limit=columns.n_rows - 1)})
    with pytest.raises(GuardError, match=r"scoring.limit = 2: .* solve for what others contribute"):
        ask_about_one_entity(factorization, columns, capped)
