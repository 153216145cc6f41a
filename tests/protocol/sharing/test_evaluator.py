"""What is contributed, and what two parties make of it, against plain arithmetic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from parties.features import FixedPointMatrix
from parties.model import LocalModel, Optimizer, joint_logits
from protocol.batches import Batch
from protocol.contributions import Bounds, Contribution, contribute
from protocol.errors import RemoteProtocolError
from protocol.messages.forward import ContributionSeed, DealtShare, Opening
from protocol.messages.planning import SamplePositions
from protocol.numbers import Words
from protocol.settings import ProtocolSettings, TrainingSettings
from protocol.sharing.agreement import receive_positions, send_positions
from protocol.sharing.dealing import deal, deal_pairs
from protocol.sharing.evaluator import Evaluator, FactorEvaluator, check_shape
from protocol.sharing.shares import LOGIT_BITS, RESIDUAL_BITS, Series, to_reals
from protocol.transport.channel import Channel
from protocol.transport.in_process import InProcessTransport
from scenarios.running.runner import connect
from scenarios.scenario import Scenario

SETTINGS = ProtocolSettings(
    training=TrainingSettings(model="factorization-machine", factors=3, latent_bound=2.0)
)
SERIES = Series.fit(56.0)


@pytest.fixture
def scenario() -> Scenario:
    party = {"csv": "unread.csv", "id": "user"}
    return Scenario.model_validate(
        {
            "name": "three",
            "training": SETTINGS.training.model_dump(),
            "parties": [
                {"name": "shop", "role": "label", "label": "bought", **party},
                {"name": "bank", "role": "feature", **party},
                {"name": "telco", "role": "feature", **party},
            ],
        }
    )


class Parties:
    """Three data parties and a coordinator, whose contributions are drawn at random."""

    def __init__(self, scenario: Scenario, n_samples: int = 40) -> None:
        self.transport = InProcessTransport()
        self.channels = connect(scenario, self.transport)
        draw = np.random.default_rng(3)
        positions = {
            name: draw.integers(-1, n_entities, n_samples)
            for name, n_entities in (("bank", 12), ("telco", 30))
        }
        self.batch = Batch.of(np.arange(n_samples), positions)
        self.labels = draw.integers(0, 2, n_samples).astype(float)
        self.contributions = {
            name: Contribution(draw.normal(0, 2, n), draw.normal(0, 1, (n, 3)))
            for name, n in [
                ("shop", n_samples),
                *((name, len(self.batch.entities[name])) for name in positions),
            ]
        }

    def sums(self) -> Contribution:
        """What all contribute, expanded to samples, in the clear."""
        own = self.contributions["shop"]
        logits, latent_sums = own.logits, own.latent_sums
        for name in self.batch.entities:
            logits = logits + self.batch.to_samples(name, self.contributions[name].logits)
            latent_sums = latent_sums + self.batch.to_samples(
                name, self.contributions[name].latent_sums
            )
        return Contribution(logits, latent_sums)

    def play(self, **roles: Coroutine[Any, Any, Any]) -> dict[str, Any]:
        ledgers = {name: channel.ledger for name, channel in self.channels.items()}
        return asyncio.run(self.transport.run(roles, ledgers))

    async def feature(self, name: str, series: Series | None) -> None:
        await contribute(self.channels[name], self.contributions[name])
        if name == "bank":
            await deal(self.channels[name], len(self.batch), 3, series)

    def evaluate(self, what: Callable[..., Coroutine[Any, Any, Words]]) -> Words:
        """Compute ``what`` on shares of everybody's sums; return what the two shares add up to."""

        async def side(name: str) -> Words:
            evaluator = Evaluator.of(self.channels[name], SETTINGS)
            sums = await evaluator.gather(self.batch)
            if evaluator.leads:
                sums = sums + self.contributions["shop"].to_words()
            return await what(evaluator, SERIES, sums, self.labels if evaluator.leads else None)

        found = self.play(
            shop=side("shop"),
            coordinator=side("coordinator"),
            bank=self.feature("bank", SERIES),
            telco=self.feature("telco", SERIES),
        )
        total: Words = found["shop"] + found["coordinator"]
        return total


@given(st.integers(0, 2**32), st.floats(0.5, 20), st.floats(0.5, 4), st.integers(2, 5))
def test_clipped_contributions_keep_every_logit_in_its_bound(
    seed: int, logit: float, latent: float, parties: int
) -> None:
    draw = np.random.default_rng(seed)
    settings = ProtocolSettings(
        training=TrainingSettings(
            model="factorization-machine", factors=2, logit_bound=logit, latent_bound=latent
        )
    )
    bounds = Bounds.of(settings, parties)
    total = Contribution(np.zeros(20), np.zeros((20, 2)))
    for _ in range(parties):
        scaled = draw.integers(-(2**15), 2**15, (20, 4)).astype(np.int16)
        rows = FixedPointMatrix.of_scaled(scaled)
        parameters = draw.normal(0, draw.uniform(0.01, 3), (4, 3))
        model = LocalModel(parameters, None, np.zeros((4, 3)), Optimizer("sgd", 1.0))
        one = bounds.contribution(model, rows)
        total = Contribution(total.logits + one.logits, total.latent_sums + one.latent_sums)
        raw = model.partial_logits(rows), model.latent_sums(rows)
        inside = (np.abs(joint_logits(*raw)) <= logit) & (np.linalg.norm(raw[1], axis=1) <= latent)
        assert one.logits[inside].tolist() == raw[0][inside].tolist()
        assert one.latent_sums[inside].tolist() == raw[1][inside].tolist()
    assert np.abs(joint_logits(total.logits, total.latent_sums)).max() <= bounds.joint + 1e-9


def test_residuals_and_products_come_out_of_shares(scenario: Scenario) -> None:
    parties = Parties(scenario)
    slots = to_reals(parties.evaluate(FactorEvaluator.residual_slots), RESIDUAL_BITS)
    exact = parties.sums()
    d = expit(joint_logits(exact.logits, exact.latent_sums)) - parties.labels
    np.testing.assert_allclose(slots[:, 0], d, atol=1e-3)
    np.testing.assert_allclose(slots[:, 1:], d[:, None] * exact.latent_sums, atol=4e-3)


def test_the_brier_score_comes_out_as_one_number(scenario: Scenario) -> None:
    parties = Parties(scenario)
    squares = parties.evaluate(FactorEvaluator.squared_residuals)
    assert squares.shape == (1,)
    exact = parties.sums()
    d = expit(joint_logits(exact.logits, exact.latent_sums)) - parties.labels
    total = to_reals(squares, 32).item()
    assert total == pytest.approx((d**2).sum(), rel=2e-3)


def test_logits_of_all_pairs_come_out_of_shares(scenario: Scenario) -> None:
    parties = Parties(scenario)
    draw = np.random.default_rng(8)
    sides = [Contribution(draw.normal(size=n), draw.normal(size=(n, 3))) for n in (6, 9)]

    async def side(name: str) -> Any:
        evaluator = Evaluator.of(parties.channels[name], SETTINGS)
        own = [
            one.to_words() if evaluator.leads else np.zeros((n, 4), dtype=np.uint64)
            for one, n in zip(sides, (6, 9), strict=True)
        ]
        return await evaluator.doubled_pair_logits(*own)

    found = parties.play(
        shop=side("shop"),
        coordinator=side("coordinator"),
        bank=deal_pairs(parties.channels["bank"], 6, 9, 3),
    )
    logits = to_reals(found["shop"] + found["coordinator"], LOGIT_BITS + 1)
    for user in range(6):
        for item in range(9):
            expected = joint_logits(
                sides[0].logits[[user]] + sides[1].logits[[item]],
                sides[0].latent_sums[[user]] + sides[1].latent_sums[[item]],
            )
            assert logits[user, item] == pytest.approx(expected.item(), abs=2e-3)


def test_the_coordinator_knows_positions_and_no_names(scenario: Scenario) -> None:
    parties = Parties(scenario)
    other = Batch.of(np.arange(3), {"bank": np.array([7, 7, -1]), "telco": np.array([0, 1, 1])})

    async def ask() -> Any:
        return await receive_positions(parties.channels["coordinator"], ["bank", "telco"])

    found = parties.play(
        shop=send_positions(parties.channels["shop"], [parties.batch, other]), coordinator=ask()
    )["coordinator"]
    for theirs, ours in zip(found, (parties.batch, other), strict=True):
        assert len(theirs) == len(ours)
        for name in ours.entities:
            assert theirs.entity_of[name].tolist() == ours.entity_of[name].tolist()
            assert theirs.entities[name].tolist() == list(range(len(ours.entities[name])))


def test_shares_of_another_shape_are_refused(scenario: Scenario) -> None:
    parties = Parties(scenario)

    async def open_words(name: str, number: int) -> None:
        share = np.zeros(number, dtype=np.uint64)
        await Evaluator.of(parties.channels[name], SETTINGS).open(share)

    with pytest.raises(RemoteProtocolError, match=r"sent shares \(\d,\) where \(\d,\) were"):
        parties.play(shop=open_words("shop", 3), coordinator=open_words("coordinator", 4))
    assert Opening(np.zeros(3, dtype=np.uint64)).discloses.startswith("uniform integers")


def test_what_is_dealt_twice_is_refused(scenario: Scenario) -> None:
    parties = Parties(scenario)

    async def deal_again(channel: Channel) -> None:
        for _ in range(2):
            await channel.send("shop", ContributionSeed(b"s" * 32))

    async def take_both() -> None:
        evaluator = Evaluator.of(parties.channels["shop"], SETTINGS)
        batch = Batch.of(np.arange(4), {"bank": np.arange(4)})
        await evaluator.gather(batch)
        await evaluator.gather(batch)

    with pytest.raises(RemoteProtocolError, match="bank sent the same randomness a second time"):
        parties.play(bank=deal_again(parties.channels["bank"]), shop=take_both())


def test_the_coordinator_refuses_them_too(scenario: Scenario) -> None:
    parties = Parties(scenario)
    message = DealtShare(b"s" * 32, np.zeros((4, 5), dtype=np.uint64))

    async def deal_again() -> None:
        for _ in range(2):
            await parties.channels["bank"].send("coordinator", message)

    async def take_both() -> None:
        evaluator = Evaluator.of(parties.channels["coordinator"], SETTINGS)
        for _ in range(2):
            await evaluator.dealt(4, None)

    with pytest.raises(RemoteProtocolError, match="bank sent the same randomness a second time"):
        parties.play(bank=deal_again(), coordinator=take_both())


def test_positions_of_other_batches_are_refused(scenario: Scenario) -> None:
    parties = Parties(scenario)

    async def ask() -> Any:
        return await receive_positions(parties.channels["coordinator"], ["bank"], [5])

    with pytest.raises(
        RemoteProtocolError, match="positions of 1 batches at bank, but sent others"
    ):
        parties.play(
            shop=send_positions(parties.channels["shop"], [parties.batch]), coordinator=ask()
        )
    with pytest.raises(RemoteProtocolError, match="the row of each sample"):
        SamplePositions("bank", np.array([0, 5]), np.array([2]), np.array([5]))


def test_numbers_of_another_shape_are_named() -> None:
    words = np.zeros((3, 1), dtype=np.uint64)
    check_shape(words, (3, 1), "coordinator", "logits")
    with pytest.raises(
        RemoteProtocolError, match=r"sent logits \(3, 1\) where \(3,\) were expected"
    ):
        check_shape(words, (3,), "coordinator", "logits")
