"""A coordinator that deviates: it names the same run again, or meddles with the keys that it relays.

Seals used to be derived from static keys and the run's id, which the coordinator chooses. Named twice, keys and nonces
came twice, and two sealed messages gave it the XOR of what they said; and who later stole both static keys read every
run.
"""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.errors import RemoteProtocolError
from protocol.messages.message import Role
from protocol.transport.roster import Member, Roster
from protocol.transport.sealing import Seals

NAMES = ("shop", "bank")
RUN = bytes(16)
RUNS = 1000
WORDS = (b"batches of the first run", b"batches of another one!!")


@pytest.fixture(scope="module")
def statics() -> dict[str, X25519PrivateKey]:
    return {name: X25519PrivateKey.generate() for name in NAMES}


def roster(statics: dict[str, X25519PrivateKey]) -> Roster:
    members = {
        name: Member(name, role, statics[name].public_key().public_bytes_raw())
        for name, role in zip(NAMES, (Role.LABEL, Role.FEATURE), strict=True)
    }
    return Roster(RUN, members)


class StaticSeals:
    """The weaker variant: keys from static keys and the run alone."""

    def __init__(self, name: str, other: str, statics: dict[str, X25519PrivateKey]) -> None:
        theirs: X25519PublicKey = statics[other].public_key()
        derivation = HKDF(SHA256(), length=32, salt=RUN, info=b"shop to bank")
        self._cipher = ChaCha20Poly1305(derivation.derive(statics[name].exchange(theirs)))

    def close(self, receiver: str, sequence: int, body: bytes, header: bytes) -> bytes:
        return self._cipher.encrypt(sequence.to_bytes(12, "little"), body, header)


def fresh(statics: dict[str, X25519PrivateKey]) -> tuple[Seals, Seals]:
    shop, bank = (Seals(name, roster(statics), statics[name]) for name in NAMES)
    shop.agree("bank", bank.session_key)
    bank.agree("shop", shop.session_key)
    return shop, bank


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def test_with_static_keys_a_run_named_twice_gives_away_what_was_said(
    statics: dict[str, X25519PrivateKey],
) -> None:
    closed = [
        StaticSeals("shop", "bank", statics).close("bank", 0, words, b"header") for words in WORDS
    ]
    assert xor(closed[0][:24], closed[1][:24]) == xor(*WORDS)


def test_with_session_keys_no_key_comes_twice_however_the_run_is_named(
    statics: dict[str, X25519PrivateKey],
) -> None:
    # Equal key and nonce would close equal words to equal bytes.
    closed = {
        shop.close("bank", 0, WORDS[0], b"header")
        for shop, _ in (fresh(statics) for _ in range(RUNS))
    }
    assert len(closed) == RUNS
    streams = np.frombuffer(b"".join(xor(one[:24], WORDS[0]) for one in closed), dtype=np.uint64)
    assert len(set(streams.tolist())) == len(streams)


def test_who_steals_static_keys_later_reads_a_static_seal_and_no_other(
    statics: dict[str, X25519PrivateKey],
) -> None:
    recorded = StaticSeals("shop", "bank", statics).close("bank", 0, WORDS[0], b"header")
    thief = StaticSeals("bank", "shop", statics)._cipher
    assert thief.decrypt(bytes(12), recorded, b"header") == WORDS[0]

    shop, _ = fresh(statics)
    recorded = shop.close("bank", 0, WORDS[0], b"header")
    # The thief has both static keys and every byte that went by, and draws session keys of its own.
    for end in fresh(statics):
        other = "shop" if end._name == "bank" else "bank"
        sender = other if end._name == "bank" else "bank"
        with pytest.raises(RemoteProtocolError):
            end.open(sender, 0, recorded, b"header")


def test_a_coordinator_that_puts_its_own_session_keys_in_between_reads_nothing(
    statics: dict[str, X25519PrivateKey],
) -> None:
    own = X25519PrivateKey.generate().public_key().public_bytes_raw()
    shop, bank = (Seals(name, roster(statics), statics[name]) for name in NAMES)
    shop.agree("bank", own)
    bank.agree("shop", own)
    closed = shop.close("bank", 0, WORDS[0], b"header")
    with pytest.raises(RemoteProtocolError, match="sealed under other keys than agreed"):
        bank.open("shop", 0, closed, b"header")
