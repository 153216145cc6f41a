from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteProtocolError, SettingsError
from protocol.messages.alignment import BlindedIds, PartlyBlindedIds
from protocol.transport.channel import Channel
from protocol.transport.in_process import InProcessTransport
from psi.submission import (
    Rounds,
    check_method,
    cut,
    expected_rounds,
    receive_parts,
    send_part,
    submit,
    submitters,
)
from scenarios.running.runner import connect
from scenarios.scenario import Scenario

SCENARIO = Scenario.model_validate(
    {
        "name": "two",
        "parties": [
            {"name": "shop", "role": "label", "csv": "-", "id": "user", "label": "y"},
            {"name": "bank", "role": "feature", "csv": "-", "id": "user"},
        ],
    }
)


def converse(**roles: Any) -> dict[str, Any]:
    """Run one coroutine function of a channel for each party."""
    transport = InProcessTransport()
    channels = connect(SCENARIO, transport)
    running: dict[str, Coroutine[Any, Any, Any]] = {
        name: role(channels[name]) for name, role in roles.items()
    }
    ledgers = {name: channels[name].ledger for name in roles}
    return asyncio.run(transport.run(running, ledgers))


@given(st.integers(0, 100), st.integers(1, 30))
def test_parts_cover_a_list_once_and_are_never_too_long(number: int, size: int) -> None:
    parts = cut(number, size)
    assert [entry for part in parts for entry in range(number)[part]] == list(range(number))
    assert max(part.stop - part.start for part in parts) <= size
    assert parts[-1].stop == number
    assert number == 0 or all(part.stop > part.start for part in parts)


@pytest.mark.parametrize(
    ("sizes", "whole"), [([0], True), ([3], True), ([2, 1], True), ([2, 2], False), ([1, 1], False)]
)
def test_parts_that_do_not_add_up_are_refused(sizes: Sequence[int], whole: bool) -> None:
    remaining = [3 - size if position == 0 else 0 for position, size in enumerate(sizes)]
    remaining = [0] if sizes == [0] else remaining

    async def bank(channel: Channel) -> None:
        for size, left in zip(sizes, remaining, strict=True):
            await send_part(channel, "coordinator", BlindedIds(bytes(16 * size), left))

    async def coordinator(channel: Channel) -> int:
        return sum([len(part) async for part in receive_parts(channel, "bank", BlindedIds)])

    if whole:
        assert converse(bank=bank, coordinator=coordinator)["coordinator"] == sum(sizes)
    else:
        with pytest.raises(RemoteProtocolError, match=r"bank was expected to send \d more entries"):
            converse(bank=bank, coordinator=coordinator)


def test_what_is_no_element_is_laid_at_its_senders_door() -> None:
    ids = np.array(["a", "b"], dtype=object)

    async def shop(channel: Channel) -> None:
        rounds = Rounds(lambda done, total: None)
        await submit(channel, "ecdh", "user", ["shop", "bank"], ids, rounds)

    async def bank(channel: Channel) -> None:
        await send_part(channel, "shop", PartlyBlindedIds(b"\xff" * 32, 0))

    with pytest.raises(RemoteProtocolError, match="bank was expected to pass blinded ids on"):
        converse(shop=shop, bank=bank)


def test_who_brings_a_list_is_never_its_owner_under_ecdh() -> None:
    parties = ["shop", "bank", "telco"]
    assert submitters("keyed-hash", parties) == parties
    assert submitters("ecdh", parties) == ["telco", "shop", "bank"]


def test_rounds_are_parts_of_all_lists_under_ecdh() -> None:
    assert expected_rounds("keyed-hash", 3, 250_000) == 3
    assert expected_rounds("ecdh", 3, 25_000) == 9


def test_a_method_without_its_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rbcl", None)
    check_method("keyed-hash")
    with pytest.raises(SettingsError, match="needs the library rbcl"):
        check_method("ecdh")
