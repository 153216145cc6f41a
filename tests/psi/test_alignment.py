from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.dataset import PartyDataset
from protocol.channel import Channel
from protocol.errors import AlignmentError, RemoteProtocolError
from protocol.in_process import InProcessTransport
from protocol.messages import BlindedIds, BlindingKey, SharedPositions
from psi.alignment import (
    align_feature_party,
    align_label_party,
    coordinate_alignment,
    intersect,
)
from psi.blinding import as_digests
from scenarios.runner import connect
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


def dataset(party: str, ids: list[str], *, label: bool = False) -> PartyDataset:
    values = np.array(ids, dtype=object)
    columns = pd.DataFrame({"x": np.arange(len(ids), dtype=float)})
    outcome = (np.arange(len(ids)) % 2).astype(np.float64) if label else None
    return PartyDataset(party, {"user": values}, columns, {}, outcome)


def align(
    scenario: Scenario, shop: list[str], bank: list[str], telco: list[str]
) -> tuple[dict[str, Any], dict[str, Channel]]:
    transport = InProcessTransport()
    channels = connect(scenario, transport)
    for channel in channels.values():
        channel.view = []
    roles = {
        "coordinator": coordinate_alignment(channels["coordinator"]),
        "shop": align_label_party(channels["shop"], dataset("shop", shop, label=True)),
        "bank": align_feature_party(channels["bank"], dataset("bank", bank)),
        "telco": align_feature_party(channels["telco"], dataset("telco", telco)),
    }
    ledgers = {name: channel.ledger for name, channel in channels.items()}
    return asyncio.run(transport.run(roles, ledgers)), channels


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
id_sets = st.tuples(*[st.sets(names, max_size=25)] * 3, st.sets(names, min_size=1, max_size=15))


@given(id_sets, st.randoms())
@settings(deadline=None, max_examples=40)
def test_alignment_equals_plain_intersection(
    scenario: Scenario, sets: tuple[set[str], ...], random: object
) -> None:
    *own, common = sets
    shop, bank, telco = (list(ids | common) for ids in own)
    shop = shop + shop[: len(shop) // 2]  # the label party may hold many rows a user
    results, _ = align(scenario, shop, bank, telco)
    expected = set(shop) & set(bank) & set(telco)
    aligned = [bank[row] for row in results["bank"]]
    assert set(aligned) == expected
    assert len(aligned) == len(expected)
    assert [telco[row] for row in results["telco"]] == aligned
    for identifier, position in zip(shop, results["shop"]["bank"].tolist(), strict=True):
        assert (position == -1) == (identifier not in expected)
        assert position == -1 or aligned[position] == identifier
    assert results["coordinator"] == {"users": len(expected)}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    parties = [
        {"name": "shop", "role": "label", "csv": "-", "id": "user", "label": "y"},
        {"name": "bank", "role": "feature", "csv": "-", "id": "user"},
        {"name": "telco", "role": "feature", "csv": "-", "id": "user"},
    ]
    return Scenario.model_validate({"name": "three", "parties": parties})


def test_nobody_sends_an_id_and_the_coordinator_gets_no_key(scenario: Scenario) -> None:
    ids = [f"someone{number}@example.org" for number in range(30)]
    _, channels = align(scenario, ids[:20], ids[5:], ids[8:25])
    seen = {name: channel.view or [] for name, channel in channels.items()}
    assert {type(message) for _, message in seen["coordinator"]} == {BlindedIds}
    for name in ("shop", "bank", "telco"):
        assert {type(message) for _, message in seen[name]} <= {BlindingKey, SharedPositions}
    everything = b"".join(
        value if isinstance(value, bytes) else bytes(str(value), "utf-8")
        for view in seen.values()
        for _, message in view
        for value in dataclasses.asdict(message).values()
    )
    assert not any(identifier.encode() in everything for identifier in ids)


def test_the_agreed_order_is_drawn_afresh(scenario: Scenario) -> None:
    ids = [str(number) for number in range(40)]
    orders = {tuple(align(scenario, ids, ids, ids)[0]["bank"].tolist()) for _ in range(3)}
    assert len(orders) == 3


def test_an_empty_intersection_says_what_to_check(scenario: Scenario) -> None:
    with pytest.raises(
        AlignmentError, match=r"shares no 'user' .* Check that every party"
    ) as error:
        align(scenario, ["anna"], ["bert"], ["carl"])
    assert not any(name in str(error.value) for name in ("anna", "bert", "carl"))


def test_repeated_digests_are_refused(scenario: Scenario) -> None:
    ids = ["a", "b", "c"]
    with pytest.raises(RemoteProtocolError, match="bank was expected to send each"):
        align(scenario, ids, [*ids, "a"], ids)


def test_intersect_keeps_one_order() -> None:
    first, second = as_digests(b"A" * 16 + b"B" * 16 + b"C" * 16), as_digests(b"C" * 16 + b"B" * 16)
    assert [found.tolist() for found in intersect([first, second])] == [[1, 2], [1, 0]]
