"""A party's end of the conversation: typed ``send`` and ``receive``, envelopes, sealing, the byte codec.

Everything that leaves a role becomes bytes here, in process too, so that sizes are true and nothing
is shared by accident. What one data party says to another is sealed: ChaCha20-Poly1305 under a key
that X25519 and HKDF-SHA256 derive for this run, this sender and this receiver; the envelope's
header is authenticated with it.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Protocol

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ledger import Ledger, MessageRecord
from protocol.messages import MESSAGES
from protocol.messages.message import Message, Role
from protocol.transport.codec import M, ciphertexts, decode, encode, unpack
from protocol.transport.roster import Roster

PROTOCOL_VERSION = 1


class Transport(Protocol):
    """What carries envelopes between parties, each pair in order. Knows names and bytes only."""

    async def deliver(self, sender: str, receiver: str, envelope: bytes) -> None:
        """Hand an envelope over for delivery."""

    async def collect(self, receiver: str, sender: str) -> bytes:
        """Wait for the next envelope from ``sender``; raises a ProtocolError where none can come."""


class Channel:
    """One party's end: sends and receives whole messages, in lockstep with everyone else."""

    def __init__(
        self,
        name: str,
        roster: Roster,
        transport: Transport,
        ledger: Ledger,
        seal_key: X25519PrivateKey,
    ) -> None:
        self.name = name
        self.roster = roster
        self.ledger = ledger
        self._transport = transport
        self._seal_key = seal_key
        # An audit sets this to a list: then all that this party received and could open is kept.
        self.view: list[tuple[str, Message]] | None = None
        self._seeds: set[bytes] = set()
        self._ciphers: dict[tuple[str, str], ChaCha20Poly1305] = {}
        self._sent: Counter[str] = Counter()
        self._received: Counter[str] = Counter()

    async def send(self, receiver: str, message: Message) -> None:
        """Send a message; raises LocalProtocolError if it is not ours to say or not theirs to read."""
        mine, theirs = self.roster.members[self.name].role, self.roster.members[receiver].role
        kind = type(message).__name__
        if mine not in message.senders or theirs not in message.receivers:
            raise LocalProtocolError(f"a {mine} party does not send {kind} to a {theirs} party")
        sealed = Role.COORDINATOR not in (mine, theirs)
        sequence = self._sent[receiver]
        self._sent[receiver] += 1
        header = self._header(self.name, receiver, kind, sequence)
        body = encode(message)
        if sealed:
            body = self._cipher(self.name, receiver).encrypt(_nonce(sequence), body, header)
        envelope: bytes = msgpack.packb([header, body])
        self.ledger.record_sent(
            MessageRecord(
                time.monotonic_ns(),
                self.ledger.phase,
                self.name,
                receiver,
                kind,
                len(envelope),
                sealed,
                message.discloses,
                ciphertexts(message),
                self.ledger.round,
            )
        )
        await self._transport.deliver(self.name, receiver, envelope)

    async def receive(self, sender: str, kind: type[M]) -> M:
        """Wait for the next message of ``sender``; raises RemoteProtocolError if it is not of this kind or altered."""
        envelope = await self._transport.collect(self.name, sender)
        sequence = self._received[sender]
        self._received[sender] += 1
        header, body = split(envelope, sender)
        if header != self._header(sender, self.name, kind.__name__, sequence):
            raise RemoteProtocolError(
                f"{sender} was expected to send {kind.__name__} as message {sequence} of this run to {self.name}, "
                f"but sent {_describe(header)}"
            )
        roles = {self.roster.members[name].role for name in (sender, self.name)}
        sealed = Role.COORDINATOR not in roles
        if sealed:
            try:
                body = self._cipher(sender, self.name).decrypt(_nonce(sequence), body, header)
            except InvalidTag:
                raise RemoteProtocolError(
                    f"a sealed {kind.__name__} from {sender} was altered on its way"
                ) from None
        message = decode(kind, body)
        self.ledger.record_received(
            sender, kind.__name__, len(envelope), sealed=sealed, discloses=kind.discloses
        )
        if self.view is not None:
            self.view.append((sender, message))
        return message

    def accept_seed(self, seed: bytes, *, sender: str) -> bytes:
        """Return a seed of randomness as it came; raises RemoteProtocolError if it has come before in this run.

        A mask that is used twice hides nothing, on a repeated round neither.
        """
        if seed in self._seeds:
            raise RemoteProtocolError(f"{sender} sent the same randomness a second time")
        self._seeds.add(seed)
        return seed

    def _header(self, sender: str, receiver: str, kind: str, sequence: int) -> bytes:
        packed: bytes = msgpack.packb(
            [PROTOCOL_VERSION, self.roster.run, sender, receiver, kind, sequence]
        )
        return packed

    def _cipher(self, sender: str, receiver: str) -> ChaCha20Poly1305:
        """Derive the key for one direction; with the run in it, a sequence number never meets a key twice."""
        if (sender, receiver) in self._ciphers:
            return self._ciphers[sender, receiver]
        other = receiver if sender == self.name else sender
        theirs = X25519PublicKey.from_public_bytes(self.roster.members[other].seal_key)
        purpose: bytes = msgpack.packb(
            [
                "colonnade seal",
                PROTOCOL_VERSION,
                *((name, self.roster.members[name].seal_key) for name in (sender, receiver)),
            ]
        )
        derivation = HKDF(SHA256(), length=32, salt=self.roster.run, info=purpose)
        cipher = ChaCha20Poly1305(derivation.derive(self._seal_key.exchange(theirs)))
        self._ciphers[sender, receiver] = cipher
        return cipher


def _nonce(sequence: int) -> bytes:
    return sequence.to_bytes(12, "little")


def split(envelope: bytes, sender: str) -> tuple[bytes, bytes]:
    """Return an envelope's header and body; raises RemoteProtocolError if it has none."""
    match unpack(envelope):
        case [bytes(header), bytes(body)]:
            return header, body
    raise RemoteProtocolError(f"{sender} sent bytes that are not an envelope")


def _describe(header: bytes) -> str:
    match unpack(header):
        case [int(version), bytes(), str(), str(), str(kind), int(sequence)]:
            if version != PROTOCOL_VERSION:
                return f"a message of protocol version {version}; all parties need one version"
            if kind in MESSAGES:
                return f"{kind} as message {sequence}"
    return "something else"
