from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from protocol.contributions import Contribution
from protocol.errors import GuardError, RemoteProtocolError
from protocol.messages.forward import PartialLogits
from protocol.messages.scoring import LogitShare, ScoreRequest, ScoreSchedule
from protocol.scoring import LogitCount, Scorer, SumScores, request_pairs
from protocol.transport.in_process import InProcessTransport
from scenarios.judging import baselines
from scenarios.judging.baselines import JOINT, POOLED
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario, load

LoadScenario = Callable[..., Scenario]


def tiny_recommender(*changes: str) -> Scenario:
    small = [
        "key_bits=1024",
        "insecure_key=true",
        "guard=warn",
        "truth.arguments.size=tiny",
        *changes,
    ]
    small += [f"parties.{name}.arguments.size=tiny" for name in ("shop", "bank", "telco")]
    return load("shop-bank-telco", small)


@pytest.fixture(scope="module")
def recommender() -> Run:
    return runner.run(tiny_recommender("epochs=12", "disclosure=open"), record_views=True)


@pytest.fixture(scope="module")
def plain_and_shared() -> tuple[Run, Run]:
    """A run in the clear and one on shares, of a few epochs."""
    shared = tiny_recommender("epochs=3", "disclosure=shared", "scoring.limit=1000000")
    plain = tiny_recommender("epochs=3", "disclosure=none")
    return runner.run(plain), runner.run(shared, record_views=True)


def test_pair_scores_are_the_logits_of_the_pairs(recommender: Run) -> None:
    """Scores by sums over users and items equal scores of rows that hold both."""
    trained, pairs = recommender.label_party.trained, recommender.label_party.pairs
    catalogue = recommender.label_party.catalogue
    assert pairs is not None
    assert catalogue is not None
    # On a user's first row the occasion is that of the row itself.
    test = trained.split.test.samples
    place = np.flatnonzero(np.isin(test, catalogue.user_rows))
    assert len(place) > 100
    rows = test[place]
    scores = pairs(catalogue.user_of[rows])[np.arange(len(rows)), catalogue.item_of[rows]]
    np.testing.assert_allclose(scores, recommender.label_party.test_logits[place], atol=1e-9)


def test_the_joint_recommender_is_the_pooled_one(recommender: Run) -> None:
    comparison = baselines.compare(recommender)
    joint, pooled = comparison.scores[JOINT], comparison.scores[POOLED]
    assert abs(joint.auc - pooled.auc) < 2e-3
    assert abs(comparison.rankings[JOINT].ndcg - comparison.rankings[POOLED].ndcg) < 2e-3
    assert comparison.weight_distance < 1e-2
    assert joint.auc > comparison.scores[baselines.ALONE].auc + 0.05
    assert comparison.scores[baselines.BAYES].auc > joint.auc
    assert set(comparison.rankings) >= {baselines.CONSTANT, baselines.POPULARITY}


def test_encrypted_and_plain_factorization_machines_agree_to_the_last_bit(recommender: Run) -> None:
    scenario = recommender.scenario
    plain = runner.run(
        scenario.model_copy(
            update={"training": scenario.training.model_copy(update={"disclosure": "none"})}
        )
    )
    for name, half in recommender.feature_parties.items():
        assert (
            half.model.parameters.tobytes()
            == plain.feature_parties[name].model.parameters.tobytes()
        )
    ours, theirs = recommender.label_party, plain.label_party
    assert ours.trained.model.parameters.tobytes() == theirs.trained.model.parameters.tobytes()
    assert ours.test_logits.tobytes() == theirs.test_logits.tobytes()


def test_a_feature_party_is_asked_once_an_entity_and_counts_it(recommender: Run) -> None:
    learned = recommender.ledgers["shop"].total("logits learned")
    for name in ("bank", "telco"):
        asked = [m for _, m in recommender.views[name] if isinstance(m, ScoreRequest)]
        assert all(len(np.unique(m.entities)) == len(m.entities) for m in asked)
        assert recommender.ledgers[name].total("logits scored") == learned > 0


def test_scores_on_shares_are_the_plain_ones(plain_and_shared: tuple[Run, Run]) -> None:
    plain, shared = (run.label_party for run in plain_and_shared)
    np.testing.assert_allclose(shared.test_logits, plain.test_logits, atol=0.02)
    assert plain.pairs is not None
    assert shared.pairs is not None
    users = np.arange(60)
    np.testing.assert_allclose(shared.pairs(users), plain.pairs(users), atol=0.02)


def test_on_shares_the_label_party_is_told_logits_and_no_sums(
    plain_and_shared: tuple[Run, Run],
) -> None:
    _, run = plain_and_shared
    heard = [message for _, message in run.views["shop"]]
    assert not any(isinstance(message, PartialLogits) for message in heard)
    learned = sum(message.values.size for message in heard if isinstance(message, LogitShare))
    assert learned == run.ledgers["shop"].total("logits learned")
    for name in ("bank", "telco"):
        assert run.ledgers[name].total("logits scored") == learned


def test_more_scores_than_agreed_are_refused(load_scenario: LoadScenario) -> None:
    for disclosure in ("open", "shared"):
        run = runner.run(load_scenario(f"disclosure={disclosure}", "epochs=1"))
        learned = run.ledgers["shop"].total("logits learned")
        scenario = load_scenario(
            f"disclosure={disclosure}", "epochs=1", f"scoring.limit={learned - 1}"
        )
        with pytest.raises(GuardError, match=rf"asked for {learned} joint logits, but scoring"):
            runner.run(scenario)


def test_logits_are_counted_without_coming_round() -> None:
    count = LogitCount("bank", limit=10)
    count.add(np.array([2, 5]))
    with pytest.raises(GuardError, match=f"asked for {10 + 2**64} joint logits"):
        count.add(np.array([2**32, 2**32]))


def test_the_coordinator_counts_logits_too(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label party may declare fewer to those it asks than it has computed."""
    scenario = load_scenario("disclosure=shared", "epochs=1", "scoring.limit=1000")
    honest = ScoreSchedule.__init__

    def many(self: ScoreSchedule, logits: object) -> None:
        honest(self, np.array([1001]))

    monkeypatch.setattr(ScoreSchedule, "__init__", many)
    with pytest.raises(GuardError, match="coordinator was asked for 1001 joint logits"):
        runner.run(scenario)


def test_more_entities_than_their_side_of_the_pairs_are_refused(recommender: Run) -> None:
    transport, half = InProcessTransport(), recommender.feature_parties["bank"]
    channels = runner.connect(recommender.scenario, transport)
    scorer = Scorer(channels["bank"], recommender.scenario, half.model, half.matrix)

    async def ask() -> None:
        await channels["shop"].send("bank", ScoreRequest(np.arange(3), np.array([2, 9])))
        await channels["shop"].receive("bank", PartialLogits)

    roles = {"shop": ask(), "bank": scorer.answer()}
    ledgers = {name: channels[name].ledger for name in roles}
    with pytest.raises(RemoteProtocolError, match="shop named 3 entities of bank but declared 2"):
        asyncio.run(transport.run(roles, ledgers))


def test_pair_scores_by_hand() -> None:
    pairs = SumScores(
        Contribution(np.array([1.0, 2.0]), np.array([[1.0], [2.0]])),
        Contribution(np.array([0.5]), np.array([[3.0]])),
    )
    assert pairs(np.array([1, 0])).tolist() == [[2 + 0.5 + 25 / 2], [1 + 0.5 + 16 / 2]]


def test_answers_of_another_shape_are_refused(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = PartialLogits.__init__

    def with_factors(self: PartialLogits, values: object, latent_sums: object) -> None:
        honest(self, values, np.zeros((len(values), 2)))  # type: ignore[arg-type]

    monkeypatch.setattr(PartialLogits, "__init__", with_factors)
    with pytest.raises(RemoteProtocolError, match=r"bank sent \(\d+, 2\) latent sums where"):
        runner.run(load_scenario())


def test_lists_refuse_answers_of_another_length(recommender: Run) -> None:
    trained, catalogue = recommender.label_party.trained, recommender.label_party.catalogue
    assert catalogue is not None
    transport = InProcessTransport()
    channels = runner.connect(recommender.scenario, transport)
    short = PartialLogits(np.zeros(3), np.zeros((3, trained.model.factors.shape[1])))

    async def answer(name: str) -> None:
        await channels[name].receive("shop", ScoreRequest)
        await channels[name].send("shop", short)

    async def ask() -> None:
        await request_pairs(
            channels["shop"],
            recommender.scenario,
            trained.model,
            trained.matrix,
            trained.samples.positions,
            catalogue,
            np.arange(50),
            catalogue.describe_items(trained.encoder.sources),
        )

    roles = {"shop": ask(), "bank": answer("bank"), "telco": answer("telco")}
    ledgers = {name: channels[name].ledger for name in roles}
    with pytest.raises(
        RemoteProtocolError, match=r"bank sent \(3, 4\) latent sums where \(\d+, 4\)"
    ):
        asyncio.run(transport.run(roles, ledgers))
