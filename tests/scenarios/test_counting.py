from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from joblib import parallel_config

from protocol.exponentiation import MODULAR_MULTIPLICATIONS
from protocol.native import choose_path
from scenarios import runner
from scenarios.counting import Conversation
from scenarios.runner import Run
from scenarios.scenario import Scenario
from scenarios.shapes import Shapes

LoadScenario = Callable[..., Scenario]

CASES = {
    "open": ["disclosure=open"],
    "shared": ["disclosure=shared"],
    "none": ["disclosure=none"],
    "factors, open": ["disclosure=open", "model=factorization-machine", "factors=3"],
    "factors in several chunks": [
        "disclosure=shared",
        "model=factorization-machine",
        "factors=5",
        "logit_bound=4",
        "latent_bound=2",
    ],
    "rows that a party lacks": ["disclosure=shared", 'parties.bank.missing="neutral"'],
    "by phe": ["disclosure=open", "engine=phe", "epochs=1"],
}


@pytest.fixture(params=CASES)
def counted(
    request: pytest.FixtureRequest, load_scenario: LoadScenario
) -> tuple[Conversation, Run]:
    """A conversation as counted, and the run of it."""
    changes = CASES[request.param]
    scenario = load_scenario(
        "epochs=2", "patience=100", "guard=warn", "batch_size=70", "split.test=0.3", *changes
    )
    return Conversation(scenario, Shapes.of(scenario)), runner.run(scenario)


def test_operations_are_those_of_the_run(counted: tuple[Conversation, Run]) -> None:
    conversation, run = counted
    expected = Counter[tuple[str, str]]()
    for step in conversation.steps():
        expected[step.party, step.operation.kind] += step.times * step.operation.number
    measured = {
        (party, kind): ledger.counts[phase, kind]
        for party, ledger in run.ledgers.items()
        for phase, kind in ledger.operation_seconds
        if phase == "training" and ledger.counts[phase, kind]
    }
    assert dict(expected) == measured


def test_modular_multiplications_are_those_of_the_run(counted: tuple[Conversation, Run]) -> None:
    conversation, run = counted
    expected = sum(step.times * step.operation.multiplications for step in conversation.steps())
    measured = sum(
        ledger.counts["training", MODULAR_MULTIPLICATIONS] for ledger in run.ledgers.values()
    )
    subtracts = any(step.operation.kind == "subtractions" for step in conversation.steps())
    if choose_path()[0] == "gmpy2" or subtracts or conversation.arithmetic.naive:
        # With gmpy2 it depends on the columns' bits, and a subtraction's on the factors'.
        assert measured <= 1.1 * expected
    else:
        assert measured == expected


def test_messages_are_those_of_the_run(counted: tuple[Conversation, Run]) -> None:
    conversation, run = counted
    expected, size = Counter[tuple[str, str, str]](), 0
    for sent in conversation.transfers():
        expected[sent.sender, sent.receiver, sent.kind] += sent.times
        size += sent.times * sent.size
    records = [
        record
        for ledger in run.ledgers.values()
        for record in ledger.sent
        if record.phase == "training"
    ]
    assert expected == Counter((one.sender, one.receiver, one.kind) for one in records)
    assert size == pytest.approx(sum(record.size for record in records), rel=0.05)


def test_longer_tables_have_more_rounds_of_the_same_size(load_scenario: LoadScenario) -> None:
    scenario = load_scenario("disclosure=open", "guard=warn", "batch_size=30")
    shapes = Shapes.of(scenario)
    longer = shapes.with_rows(10 * shapes.parties["shop"].rows, 30)
    assert longer.rounds == pytest.approx(10 * shapes.rounds, rel=0.2)
    assert longer.samples == pytest.approx(10 * shapes.samples, rel=0.05)
    assert longer.parties["bank"].columns == shapes.parties["bank"].columns
    with parallel_config(n_jobs=1):
        masks, more = (
            sum(
                step.times * step.operation.number
                for step in Conversation(scenario, these).steps()
                if step.operation.kind == "masks"
            )
            for these in (shapes, longer)
        )
    assert more == pytest.approx(10 * masks, rel=0.2)
