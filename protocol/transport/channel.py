"""A party's end of the conversation: typed ``send`` and ``receive``, envelopes, sealing, the byte codec.

Everything that leaves a role becomes bytes here, in process too, so that sizes are true and nothing
is shared by accident. What one data party says to another is sealed (sealing.py).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import msgpack
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ledger import Ledger, MessageRecord
from protocol.messages import MESSAGES
from protocol.messages.message import Message, Role
from protocol.messages.setup import KeyConfirmation, SessionKey
from protocol.transport.codec import M, ciphertexts, decode, encode, unpack
from protocol.transport.roster import Roster
from protocol.transport.sealing import PROTOCOL_VERSION, Seals


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
        self._seals = Seals(name, roster, seal_key)
        self._greeted: set[str] = set()
        # An audit sets this to a list: then all that this party received and could open is kept.
        self.view: list[tuple[str, Message]] | None = None
        self._seeds: set[bytes] = set()
        self._sent: Counter[str] = Counter()
        self._received: Counter[str] = Counter()

    async def greet(self, others: Sequence[str] | None = None) -> None:
        """Agree on keys with other data parties, by default with all, unless that is done.

            step 1  data parties <-> data parties  SessionKey       in the clear, through the coordinator's hands
            step 2  data parties <-> data parties  KeyConfirmation  the first sealed word: is it the same key?

        A conversation begins with it; else it comes before the first sealed word between two. Raises
        RemoteProtocolError where somebody on the way has changed a key, before anything is said under it.
        """
        everyone = [self.roster.label, *self.roster.features]
        new = [other for other in others or everyone if other not in {self.name, *self._greeted}]
        self._greeted.update(new)
        for other in new:
            await self.send(other, SessionKey(self._seals.session_key))
        for other in new:
            self._seals.agree(other, (await self.receive(other, SessionKey)).key)
        for other in new:
            await self.send(other, KeyConfirmation())
        for other in new:
            await self.receive(other, KeyConfirmation)

    async def send(self, receiver: str, message: Message) -> None:
        """Send a message; raises LocalProtocolError if it is not ours to say or not theirs to read."""
        mine, theirs = self.roster.members[self.name].role, self.roster.members[receiver].role
        kind = type(message).__name__
        if mine not in message.senders or theirs not in message.receivers:
            raise LocalProtocolError(f"a {mine} party does not send {kind} to a {theirs} party")
        sealed = message.sealed and Role.COORDINATOR not in (mine, theirs)
        if sealed:
            await self.greet([receiver])
        sequence = self._sent[receiver]
        self._sent[receiver] += 1
        header = self._header(self.name, receiver, kind, sequence)
        body = encode(message)
        if sealed:
            body = self._seals.close(receiver, sequence, body, header)
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
        """Wait for ``sender``'s next message; raises RemoteProtocolError if it is another, altered or malformed."""
        roles = {self.roster.members[name].role for name in (sender, self.name)}
        sealed = kind.sealed and Role.COORDINATOR not in roles
        if sealed:
            await self.greet([sender])
        envelope = await self._transport.collect(self.name, sender)
        sequence = self._received[sender]
        self._received[sender] += 1
        header, body = split(envelope, sender)
        if header != self._header(sender, self.name, kind.__name__, sequence):
            raise RemoteProtocolError(
                f"{sender} was expected to send {kind.__name__} as message {sequence} of this run to {self.name}, "
                f"but sent {self._describe(header)}"
            )
        if sealed:
            body = self._seals.open(sender, sequence, body, header)
        try:
            message = decode(kind, body)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(
                f"{sender} sent {self.name} a {kind.__name__} that is {error}; both need one version of Colonnade"
            ) from None
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

    def _describe(self, header: bytes) -> str:
        match unpack(header):
            case [int(version), bytes(run), str(), str(), str(kind), int(sequence)]:
                if version != PROTOCOL_VERSION:
                    return f"a message of protocol version {version}; all parties need one version"
                if kind in MESSAGES:
                    another = "" if run == self.roster.run else " of another"
                    return f"{kind} as message {sequence}{another}"
        return "something else"


def split(envelope: bytes, sender: str) -> tuple[bytes, bytes]:
    """Return an envelope's header and body; raises RemoteProtocolError if it has none."""
    match unpack(envelope):
        case [bytes(header), bytes(body)]:
            return header, body
    raise RemoteProtocolError(f"{sender} sent bytes that are not an envelope")
