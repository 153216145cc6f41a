"""Before anything else: keys, and that they are sound."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.messages.message import DATA_ROLES, Message, Role, require
from protocol.numbers import Residues


@dataclass(frozen=True, eq=False)
class SessionKey(Message):
    """The sender's public X25519 key of this run, 32 bytes, from which seals are derived (transport/sealing.py)."""

    senders = DATA_ROLES
    receivers = DATA_ROLES
    sealed = False
    discloses = "a random public key"

    key: bytes

    def __post_init__(self) -> None:
        require(len(self.key) == 32, "a session key of 32 bytes")


@dataclass(frozen=True, eq=False)
class KeyConfirmation(Message):
    """Nothing, under a seal: only who has agreed on the same keys can say it, and nothing else is said before."""

    senders = DATA_ROLES
    receivers = DATA_ROLES
    discloses = "nothing: that its seal opens shows that both ends have the same keys"


@dataclass(frozen=True, eq=False)
class PublicKeyAnnouncement(Message):
    """The modulus n of the coordinator's Paillier key, little-endian, and the roots that prove it sound.

    What they prove, and to whom it matters, is told in protocol/encryption/certificate.py.
    """

    senders = frozenset({Role.COORDINATOR})
    receivers = DATA_ROLES
    under = ("shared", "open")
    discloses = "the public key, and that n has no factor in common with phi(n)"

    modulus: bytes
    roots: Residues
