"""Seals between two data parties: nobody else reads, alters, replays or reorders what they say to each other.

For each run both draw a key pair that lives no longer than the agreement (SessionKey). With each party's static keys
from the roster that makes four exchanges of X25519, as in Noise's pattern KK (Perrin, The Noise Protocol Framework,
revision 34):

    ee, es, se, ss  ->  HKDF-SHA256, with the run and all names and keys in it  ->  a key each way

- The static keys say who it is: the coordinator, who relays session keys, can put none of its own in their place.
- The session keys make every run's keys new, whatever run the coordinator names; and as they are gone afterwards, who
  steals static keys later reads nothing that was recorded.

Sealed is with ChaCha20-Poly1305 (RFC 8439), the sequence number as nonce and the envelope's header authenticated.
"""

from __future__ import annotations

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.errors import RemoteProtocolError
from protocol.transport.roster import Roster

PROTOCOL_VERSION = 2


class Seals:
    """One party's seals in one run. ``static`` is its private key, whose public one the roster lists."""

    def __init__(self, name: str, roster: Roster, static: X25519PrivateKey) -> None:
        self._name = name
        self._roster = roster
        self._static = static
        self._session: X25519PrivateKey | None = X25519PrivateKey.generate()
        self.session_key = self._session.public_key().public_bytes_raw()
        self._ciphers: dict[tuple[str, str], ChaCha20Poly1305] = {}

    def agreed(self, other: str) -> bool:
        """Whether there are keys between this party and another."""
        return (self._name, other) in self._ciphers

    def agree(self, other: str, session_key: bytes) -> None:
        """Derive the keys of both directions from the other's session key, 32 bytes.

        With the last other data party the own private session key is forgotten. Raises RemoteProtocolError for a key
        that nobody draws.
        """
        assert self._session is not None, "keys are agreed on once"
        theirs = [
            X25519PublicKey.from_public_bytes(key) for key in (session_key, self._seal_key(other))
        ]
        try:
            if session_key == self.session_key:
                raise ValueError("a key came back to its sender")
            exchanged = [
                own.exchange(public) for own in (self._session, self._static) for public in theirs
            ]
        except ValueError:
            raise RemoteProtocolError(
                f"the session key that came as {other}'s is none; somebody on the way put it there, or {other} is "
                "not what it should be"
            ) from None
        if self._name > other:  # both list ee, es, se, ss in the same order
            exchanged[1], exchanged[2] = exchanged[2], exchanged[1]
        keys = {self._name: self.session_key, other: session_key}
        for sender, receiver in ((self._name, other), (other, self._name)):
            purpose: bytes = msgpack.packb(
                [
                    "colonnade seal",
                    PROTOCOL_VERSION,
                    *((name, self._seal_key(name), keys[name]) for name in (sender, receiver)),
                ]
            )
            derivation = HKDF(SHA256(), length=32, salt=self._roster.run, info=purpose)
            key = derivation.derive(b"".join(exchanged))
            self._ciphers[sender, receiver] = ChaCha20Poly1305(key)
        if len(self._ciphers) == 2 * (self._roster.n_data_parties - 1):
            self._session = None

    def close(self, receiver: str, sequence: int, body: bytes, header: bytes) -> bytes:
        """Seal the body of an envelope."""
        return self._ciphers[self._name, receiver].encrypt(_nonce(sequence), body, header)

    def open(self, sender: str, sequence: int, body: bytes, header: bytes) -> bytes:
        """Open what :meth:`close` has sealed; raises RemoteProtocolError if it was altered, or sealed by another."""
        try:
            return self._ciphers[sender, self._name].decrypt(_nonce(sequence), body, header)
        except InvalidTag:
            raise RemoteProtocolError(
                f"a sealed message from {sender} was altered on its way, or sealed under other keys than agreed"
            ) from None

    def _seal_key(self, name: str) -> bytes:
        return self._roster.members[name].seal_key


def _nonce(sequence: int) -> bytes:
    return sequence.to_bytes(12, "little")
