from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest
from contracts import NAMES, Alter, Altering, End, Play, TransportContract, idle, unaltered
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import DeadlockError
from protocol.ledger import Ledger
from protocol.messages.message import Role
from protocol.transport.channel import Channel
from protocol.transport.in_process import InProcessTransport
from protocol.transport.roster import Member, Roster

ROLES = (Role.COORDINATOR, Role.LABEL, Role.FEATURE, Role.FEATURE)


def run(
    transport: InProcessTransport, roles: dict[str, Coroutine[Any, Any, Any]]
) -> dict[str, Any]:
    return asyncio.run(transport.run(roles, {name: Ledger(name) for name in roles}))


class TestInProcess(TransportContract):
    def run(self, plays: Mapping[str, Play], alter: Alter = unaltered) -> dict[str, Any]:
        transport = InProcessTransport()
        altering = Altering(transport, alter)
        keys = {name: X25519PrivateKey.generate() for name in NAMES}
        members = {
            name: Member(name, role, keys[name].public_key().public_bytes_raw())
            for name, role in zip(NAMES, ROLES, strict=True)
        }
        roster = Roster(secrets.token_bytes(16), members)
        roles = {
            name: plays.get(name, idle)(
                End(name, altering, Channel(name, roster, altering, Ledger(name), keys[name]))
            )
            for name in NAMES
        }
        return run(transport, roles)


def test_waiting_in_a_circle_is_a_deadlock_that_names_it() -> None:
    transport = InProcessTransport()
    roles = {name: transport.collect(name, other) for name, other in (("a", "b"), ("b", "a"))}
    with pytest.raises(DeadlockError, match="a for b, b for a"):
        run(transport, roles)
