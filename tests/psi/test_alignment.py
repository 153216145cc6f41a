from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.dataset import IdKind, PartyDataset, normalise_id
from protocol.errors import AlignmentError, RemoteProtocolError
from protocol.ledger import Progress
from protocol.messages.alignment import (
    BlindedIds,
    BlindingKey,
    IdKindAnnouncement,
    PartlyBlindedIds,
    SharedPositions,
)
from protocol.messages.setup import KeyConfirmation, SessionKey
from protocol.settings import AlignmentSettings
from protocol.transport.channel import Channel
from protocol.transport.in_process import InProcessTransport
from psi.alignment import align_feature_party, align_label_party, coordinate_alignment, intersect
from psi.blinding import as_digests
from scenarios.running.runner import connect
from scenarios.scenario import Scenario

METHODS = [
    AlignmentSettings(),
    AlignmentSettings(method="ecdh"),
    AlignmentSettings(pad_to=50),
    AlignmentSettings(method="ecdh", pad_to=50),
]
KEYED = METHODS[0]


def dataset(party: str, ids: list[str], kind: IdKind | None = None) -> PartyDataset:
    frame = pd.DataFrame({"id": ids, "x": np.arange(len(ids), dtype=float)}, dtype=object)
    values = np.array([normalise_id(identifier, kind) for identifier in ids], dtype=object)
    kinds = {} if kind is None else {"user": kind}
    return PartyDataset(party, {"user": values}, frame[["x"]], {}, None, id_kinds=kinds)


def text(**ids: list[str]) -> dict[str, PartyDataset]:
    """Datasets of which all declare their ids to be text; the label party comes first."""
    return {party: dataset(party, listed, IdKind.TEXT) for party, listed in ids.items()}


def scenario_of(parties: Iterable[str], missing: str = "drop") -> Scenario:
    label, *others = (
        {"name": name, "role": "feature", "csv": "-", "id": "user"} for name in parties
    )
    label |= {"role": "label", "label": "y"}
    settings = [label, *({**party, "missing": missing} for party in others)]
    return Scenario.model_validate({"name": "some", "parties": settings})


def align(
    settings: AlignmentSettings,
    datasets: Mapping[str, PartyDataset],
    progress: Progress = lambda done, total: None,
    missing: str = "drop",
    *,
    may_be_empty: bool = False,
) -> tuple[dict[str, Any], dict[str, Channel]]:
    transport = InProcessTransport()
    channels = connect(scenario_of(datasets, missing), transport)
    for channel in channels.values():
        channel.view = []
    label, *others = datasets
    roles: dict[str, Coroutine[Any, Any, Any]] = {
        "coordinator": coordinate_alignment(channels["coordinator"], settings),
        label: align_label_party(
            channels[label], settings, datasets[label], progress, may_be_empty=may_be_empty
        ),
    }
    for name in others:
        roles[name] = align_feature_party(
            channels[name], settings, datasets[name], may_be_empty=may_be_empty
        )
    ledgers = {name: channel.ledger for name, channel in channels.items()}
    return asyncio.run(transport.run(roles, ledgers)), channels


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).map(normalise_id).filter(bool)
small_sets = st.sets(names, max_size=12)


@pytest.mark.parametrize("method", METHODS, ids=str)
@given(own=st.lists(small_sets, min_size=2, max_size=4), common=st.sets(names, min_size=1))
@settings(deadline=None, max_examples=15)
def test_alignment_equals_plain_intersection(
    method: AlignmentSettings, own: list[set[str]], common: set[str]
) -> None:
    common = set(sorted(common)[:12])
    lists = [list(ids | common) for ids in own]
    lists[0] += lists[0][: len(lists[0]) // 2]  # the label party may hold many rows a user
    parties = dict(zip(["shop", "bank", "telco", "press"], lists, strict=False))
    results, _ = align(method, text(**parties))
    expected = set.intersection(*map(set, lists))
    shop, *others = parties
    aligned = [parties["bank"][row] for row in results["bank"]]
    assert set(aligned) == expected
    assert len(aligned) == len(expected)
    for party in others:
        assert [parties[party][row] for row in results[party]] == aligned
        assert results[shop][party].tolist() == results[shop]["bank"].tolist()
    for identifier, position in zip(parties[shop], results[shop]["bank"].tolist(), strict=True):
        assert (position == -1) == (identifier not in expected)
        assert position == -1 or aligned[position] == identifier
    assert results["coordinator"] == {"users": len(expected)}


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_parties_that_are_not_required_are_compared_alone(method: AlignmentSettings) -> None:
    datasets = text(shop=["a", "b", "c", "d"], bank=["b", "c", "x"], telco=["d"])
    results, _ = align(method, datasets, missing="neutral")
    assert results["coordinator"] == {"users with bank": 2, "users with telco": 1}
    assert (results["shop"]["bank"] >= 0).tolist() == [False, True, True, False]
    assert (results["shop"]["telco"] >= 0).tolist() == [False, False, False, True]


EMAILS = [f"someone{number}@example.org" for number in range(30)]
AT_FIRST = {SessionKey, KeyConfirmation, IdKindAnnouncement}
MESSAGES_SEEN = {
    "keyed-hash": {*AT_FIRST, BlindingKey, SharedPositions},
    "ecdh": {*AT_FIRST, PartlyBlindedIds, SharedPositions},
}


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_nobody_sends_an_id_and_the_coordinator_gets_no_key(method: AlignmentSettings) -> None:
    _, channels = align(method, text(shop=EMAILS[:20], bank=EMAILS[5:], telco=EMAILS[8:25]))
    seen = {name: channel.view or [] for name, channel in channels.items()}
    assert {type(message) for _, message in seen["coordinator"]} == {BlindedIds}
    for name in ("shop", "bank", "telco"):
        assert {type(message) for _, message in seen[name]} <= MESSAGES_SEEN[method.method]
    everything = b"".join(
        value if isinstance(value, bytes) else bytes(str(value), "utf-8")
        for view in seen.values()
        for _, message in view
        for value in dataclasses.asdict(message).values()
    )
    assert not any(identifier.encode() in everything for identifier in EMAILS)
    between = [
        record.sealed
        for channel in channels.values()
        for record in channel.ledger.sent
        if "coordinator" not in (record.sender, record.receiver) and record.kind != "SessionKey"
    ]
    assert between
    assert all(between)


def test_under_ecdh_no_party_meets_two_lists_or_its_own_under_the_same_secrets() -> None:
    same = EMAILS[:12]
    _, channels = align(METHODS[1], text(shop=same, bank=same, telco=same))
    met: dict[str, list[set[bytes]]] = {}
    for name in ("shop", "bank", "telco"):
        lists = [
            {message.elements[start : start + 32] for start in range(0, 12 * 32, 32)}
            for _, message in channels[name].view or []
            if isinstance(message, PartlyBlindedIds)
        ]
        assert len(lists) == 2  # the two others' lists, though all three hold the same ids
        met[name] = lists
    everything = [one for lists in met.values() for one in lists]
    assert len(set.union(*everything)) == sum(map(len, everything)) == 6 * 12


@pytest.mark.parametrize("method", METHODS[2:], ids=str)
def test_padded_lists_are_all_of_one_size(method: AlignmentSettings) -> None:
    _, channels = align(method, text(shop=EMAILS[:3], bank=EMAILS[:20], telco=EMAILS[2:4]))
    lists = [
        len(message)
        for channel in channels.values()
        for _, message in channel.view or []
        if isinstance(message, BlindedIds | PartlyBlindedIds)
    ]
    assert set(lists) == {50}


@pytest.mark.parametrize("party", ["shop", "bank"])
def test_more_ids_than_lists_are_padded_to_are_refused(party: str) -> None:
    lists = {"shop": EMAILS[:2], "bank": EMAILS[:2]} | {party: EMAILS[:6]}
    with pytest.raises(AlignmentError, match=f"{party} has 6 .*pad_to = 5; raise pad_to"):
        align(AlignmentSettings(pad_to=5), text(**lists))


def test_the_agreed_order_is_drawn_afresh() -> None:
    ids = [str(number) for number in range(40)]
    orders = {tuple(align(KEYED, text(shop=ids, bank=ids))[0]["bank"].tolist()) for _ in range(3)}
    assert len(orders) == 3


def test_an_intersection_may_be_empty_where_that_is_said() -> None:
    results, _ = align(KEYED, text(shop=EMAILS[:2], bank=EMAILS[2:5]), may_be_empty=True)
    assert results["shop"]["bank"].tolist() == [-1, -1]
    assert results["bank"].tolist() == []
    assert results["coordinator"] == {"users": 0}


def test_an_empty_intersection_says_what_to_check() -> None:
    with pytest.raises(
        AlignmentError, match=r"shares no 'user' .* Check that every party"
    ) as error:
        align(KEYED, text(shop=["anna"], bank=["bert"], telco=["carl"]))
    assert not any(name in str(error.value) for name in ("anna", "bert", "carl"))


def test_repeated_digests_are_refused() -> None:
    ids = ["a", "b", "c"]
    with pytest.raises(RemoteProtocolError, match="bank was expected to bring each"):
        align(KEYED, text(shop=ids, bank=[*ids, "a"], telco=ids))


@pytest.mark.parametrize("method", METHODS[:2], ids=str)
def test_long_lists_travel_in_parts_and_are_counted(
    method: AlignmentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psi.submission.PART", 7)
    monkeypatch.setattr("psi.submission.POWERS_PART", 4)
    monkeypatch.setattr("psi.alignment.PART", 3)
    reported: list[tuple[int, int]] = []
    results, channels = align(
        method,
        text(shop=EMAILS[:20], bank=EMAILS[5:]),
        lambda done, total: reported.append((done, total)),
    )
    assert len(results["bank"]) == 15
    assert [done for done, _ in reported] == list(range(1, reported[-1][0] + 1))
    # Of its own list 20 / 7 parts; with ecdh 20 / 4 of its own and 25 / 4 of the other's.
    assert reported[-1] == ((3, 3) if method.method == "keyed-hash" else (12, 12))
    sizes = [
        len(message)
        for channel in channels.values()
        for _, message in channel.view or []
        if isinstance(message, BlindedIds | PartlyBlindedIds | SharedPositions)
    ]
    assert max(sizes) == (7 if method.method == "keyed-hash" else 4)


@pytest.mark.parametrize(
    ("shop", "bank", "shared"),
    [(["7", "12"], ["12", "7"], 2), (["007", "12"], ["007", "x"], 1), (["-3", "0"], ["0"], 1)],
)
def test_ids_of_one_kind_are_aligned(shop: list[str], bank: list[str], shared: int) -> None:
    results, _ = align(KEYED, {"shop": dataset("shop", shop), "bank": dataset("bank", bank)})
    assert results["coordinator"] == {"users": shared}


@pytest.mark.parametrize("text_at", ["shop", "bank"])
def test_numbers_here_and_text_there_are_refused_with_advice(text_at: str) -> None:
    lists = {"shop": ["7", "12"], "bank": ["7", "12"]} | {text_at: ["007", "012"]}
    (numbers_at,) = lists.keys() - {text_at}
    datasets = {party: dataset(party, ids) for party, ids in lists.items()}
    advice = f'whole numbers at {numbers_at} .* id_kind = "integer" at {text_at}'
    with pytest.raises(AlignmentError, match=advice):
        align(KEYED, datasets)
    datasets[text_at] = dataset(text_at, lists[text_at], IdKind.INTEGER)
    assert align(KEYED, datasets)[0]["coordinator"] == {"users": 2}


def test_intersect_keeps_one_order() -> None:
    a, b, c = bytes(16), b"B" * 15 + b"\0", b"B" * 15 + b"\1"  # numpy's texts would lose the zeros
    first, second = as_digests(a + b + c), as_digests(c + b)
    found = intersect([first, second])
    assert sorted(zip(*(positions.tolist() for positions in found), strict=True)) == [
        (1, 1),
        (2, 0),
    ]


def test_intersect_of_nothing_in_common_or_at_all() -> None:
    lists = [as_digests(bytes([number]) * 16) for number in range(3)]
    assert [len(positions) for positions in intersect(lists)] == [0, 0, 0]
    assert [len(positions) for positions in intersect([lists[0], as_digests(b"")])] == [0, 0]
