from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from protocol.errors import DeadlockError, PartyUnavailableError
from protocol.in_process import InProcessTransport
from protocol.ledger import Ledger


def run(
    transport: InProcessTransport, roles: dict[str, Coroutine[Any, Any, Any]]
) -> dict[str, Any]:
    return asyncio.run(transport.run(roles, {name: Ledger(name) for name in roles}))


def test_envelopes_of_a_pair_arrive_in_order() -> None:
    transport = InProcessTransport()

    async def talker() -> None:
        for word in (b"one", b"two", b"three"):
            await transport.deliver("a", "b", word)

    async def listener() -> list[bytes]:
        return [await transport.collect("b", "a") for _ in range(3)]

    assert run(transport, {"b": listener(), "a": talker()})["b"] == [b"one", b"two", b"three"]


def test_a_wait_for_one_party_is_not_ended_by_another() -> None:
    transport = InProcessTransport()

    async def say(name: str) -> None:
        await transport.deliver(name, "c", name.encode())

    async def listener() -> list[bytes]:
        return [await transport.collect("c", "b"), await transport.collect("c", "a")]

    assert run(transport, {"c": listener(), "a": say("a"), "b": say("b")})["c"] == [b"b", b"a"]


def test_waiting_in_a_circle_is_a_deadlock_that_names_it() -> None:
    transport = InProcessTransport()
    roles = {name: transport.collect(name, other) for name, other in (("a", "b"), ("b", "a"))}
    with pytest.raises(DeadlockError, match="a for b, b for a"):
        run(transport, roles)


def test_waiting_for_a_party_that_has_ended_is_an_error() -> None:
    transport = InProcessTransport()

    async def leaves() -> None:
        return

    for order in (["a", "b"], ["b", "a"]):
        roles = {"a": leaves(), "b": transport.collect("b", "a")}
        with pytest.raises((PartyUnavailableError, DeadlockError), match="b"):
            run(transport, {name: roles[name] for name in order})


def test_the_first_error_ends_every_role() -> None:
    transport = InProcessTransport()
    ended = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise RuntimeError("broken")

    async def waits() -> None:
        try:
            await transport.collect("b", "a")
        finally:
            ended.append("b")

    with pytest.raises(RuntimeError, match="broken"):
        run(transport, {"b": waits(), "a": fails()})
    assert ended == ["b"]
