"""Before anything else: keys, and that they are sound."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.messages.message import DATA_ROLES, Message, Role


@dataclass(frozen=True, eq=False)
class PublicKeyAnnouncement(Message):
    """The modulus n of the coordinator's Paillier key, little-endian."""

    senders = frozenset({Role.COORDINATOR})
    receivers = DATA_ROLES
    under = ("shared", "open")
    discloses = "the public key"

    modulus: bytes
