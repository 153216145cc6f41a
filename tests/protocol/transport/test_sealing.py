from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import RemoteProtocolError
from protocol.messages.message import Role
from protocol.messages.setup import SessionKey
from protocol.transport.roster import Member, Roster
from protocol.transport.sealing import Seals

ROLES = {"hub": Role.COORDINATOR, "shop": Role.LABEL, "bank": Role.FEATURE, "telco": Role.FEATURE}


def parties(run: bytes = bytes(16)) -> dict[str, Seals]:
    statics = {name: X25519PrivateKey.generate() for name in ROLES}
    members = {
        name: Member(name, role, statics[name].public_key().public_bytes_raw())
        for name, role in ROLES.items()
    }
    return {name: Seals(name, Roster(run, members), statics[name]) for name in list(ROLES)[1:]}


def agree(one: Seals, other: Seals, names: tuple[str, str]) -> None:
    one.agree(names[1], other.session_key)
    other.agree(names[0], one.session_key)


def test_two_parties_open_what_the_other_closed() -> None:
    ends = parties()
    agree(ends["shop"], ends["bank"], ("shop", "bank"))
    closed = ends["shop"].close("bank", 3, b"words", b"header")
    assert ends["bank"].open("shop", 3, closed, b"header") == b"words"
    for sequence, body, header in (
        (4, closed, b"header"),
        (3, closed, b"another"),
        (3, closed[:-1] + bytes([closed[-1] ^ 1]), b"header"),
    ):
        with pytest.raises(RemoteProtocolError, match="sealed message from shop was altered"):
            ends["bank"].open("shop", sequence, body, header)


def test_each_direction_and_each_pair_has_a_key_of_its_own() -> None:
    ends = parties()
    agree(ends["shop"], ends["bank"], ("shop", "bank"))
    agree(ends["shop"], ends["telco"], ("shop", "telco"))
    closed = {
        ends["shop"].close("bank", 0, b"words", b""),
        ends["shop"].close("telco", 0, b"words", b""),
        ends["bank"].close("shop", 0, b"words", b""),
    }
    assert len(closed) == 3


@pytest.mark.parametrize("order", [0, 1])
def test_keys_of_no_order_and_a_key_that_came_back_are_refused(order: int) -> None:
    ends = parties()
    low = [bytes(32), b"\x01" + bytes(31)][order]
    for key in (low, ends["shop"].session_key):
        with pytest.raises(
            RemoteProtocolError, match="the session key that came as bank's is none"
        ):
            ends["shop"].agree("bank", key)


def test_a_private_session_key_lasts_no_longer_than_it_is_needed() -> None:
    ends = parties()
    agree(ends["shop"], ends["bank"], ("shop", "bank"))
    assert ends["shop"]._session is not None
    agree(ends["shop"], ends["telco"], ("shop", "telco"))
    assert ends["shop"]._session is None


def test_a_session_key_has_32_bytes() -> None:
    with pytest.raises(RemoteProtocolError, match="32 bytes"):
        SessionKey(bytes(31))
