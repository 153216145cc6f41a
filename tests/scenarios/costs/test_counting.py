from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from joblib import parallel_config

from protocol.encryption.encryptors import KEY_HOLDER_TABLE_BYTES
from protocol.encryption.exponentiation import MODULAR_MULTIPLICATIONS, TABLE_BYTES, FixedBase
from protocol.encryption.native import choose_path
from scenarios.costs.counting import Conversation
from scenarios.costs.operations import Arithmetic
from scenarios.costs.shapes import Shapes
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario

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
    "steps of second order": ["disclosure=shared", "epochs=12", "training.tolerance=1e-30"],
    "steps of second order, open": ["disclosure=open", "epochs=4", "training.tolerance=1e-30"],
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
    if request.param.startswith("steps of second order"):
        training = scenario.training.model_copy(update={"batch_size": None})
        scenario = scenario.model_copy(update={"training": training})
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


@pytest.mark.parametrize("holder", [False, True])
def test_tables_are_as_large_as_they_are(*, holder: bool) -> None:
    arithmetic = Arithmetic(512, "colonnade", 0)
    modulus_bits, limit = (512, KEY_HOLDER_TABLE_BYTES) if holder else (1024, TABLE_BYTES)
    combs = (2 if holder else 1) * [FixedBase(3, (1 << modulus_bits) - 1, 256, limit)]
    entries = sum(len(table) for comb in combs for table in comb._table)
    assert arithmetic.table_bytes(holder=holder) == entries * modulus_bits // 8


def test_only_who_encrypts_holds_tables(load_scenario: LoadScenario) -> None:
    held = {}
    for disclosure in ("none", "open", "shared"):
        scenario = load_scenario(f"disclosure={disclosure}")
        held[disclosure] = {
            party: needed.lasting
            for party, needed in Conversation(scenario, Shapes.of(scenario)).memory().items()
        }
    assert held["none"]["coordinator"] == held["open"]["coordinator"] == 0
    tables = Arithmetic(512, "colonnade", 0).table_bytes(holder=True)
    assert held["shared"]["coordinator"] == tables
    assert held["open"]["shop"] > held["none"]["shop"]
    assert held["shared"]["bank"] == held["none"]["bank"]
