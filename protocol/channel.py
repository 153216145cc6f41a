"""A party's end of the conversation: typed ``send`` and ``receive``, envelopes, sealing, the byte codec.

Everything that leaves a role becomes bytes here, in process too, so that sizes are true and nothing
is shared by accident. What one data party says to another is sealed: ChaCha20-Poly1305 under a key
that X25519 and HKDF-SHA256 derive for this run, this sender and this receiver; the envelope's
header is authenticated with it.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Protocol, TypeVar, get_type_hints

import msgpack
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.ledger import Ledger, MessageRecord
from protocol.messages import (
    MESSAGES,
    Ciphertexts,
    FloatArray,
    IntArray,
    Message,
    Residues,
    Role,
    Words,
)

PROTOCOL_VERSION = 1

# No message has more fields, no field more parts.
_MOST_ENTRIES = 16

M = TypeVar("M", bound=Message)


class Transport(Protocol):
    """What carries envelopes between parties, each pair in order. Knows names and bytes only."""

    async def deliver(self, sender: str, receiver: str, envelope: bytes) -> None:
        """Hand an envelope over for delivery."""

    async def collect(self, receiver: str, sender: str) -> bytes:
        """Wait for the next envelope from ``sender``; raises a ProtocolError where none can come."""


@dataclass(frozen=True)
class Member:
    """One entry of the roster. ``seal_key`` is the raw X25519 public key, 32 bytes, of a data party.

    A feature party joins on one ``entity`` type; samples whose entity it does not know are dropped if it is
    ``required``, else it contributes nothing to them.
    """

    name: str
    role: Role
    seal_key: bytes
    entity: str | None = None
    required: bool = True


@dataclass(frozen=True)
class Roster:
    """Who takes part in one run; everyone holds the same one. ``run`` is 16 fresh random bytes."""

    run: bytes
    members: Mapping[str, Member]

    @property
    def coordinator(self) -> str:
        """The coordinator's name."""
        return self.having(Role.COORDINATOR)[0]

    @property
    def label(self) -> str:
        """The label party's name."""
        return self.having(Role.LABEL)[0]

    @property
    def features(self) -> list[str]:
        """The feature parties' names, in the roster's order."""
        return self.having(Role.FEATURE)

    @property
    def n_data_parties(self) -> int:
        """How many parties have columns."""
        return 1 + len(self.features)

    def having(self, role: Role) -> list[str]:
        """Return the names of everyone in a role."""
        return [member.name for member in self.members.values() if member.role is role]

    def holding(self, entity: str) -> list[str]:
        """Return the feature parties that join on an entity type."""
        return [name for name in self.features if self.members[name].entity == entity]

    def groups(self) -> list[tuple[str, list[str]]]:
        """Return which feature parties are aligned together: (entity type, names), the same list for everyone.

        All that are required share one intersection for each entity type; any other has its own with the label party.
        """
        groups: list[tuple[str, list[str]]] = []
        for entity in sorted({self.members[name].entity or "" for name in self.features}):
            holding = self.holding(entity)
            required = [name for name in holding if self.members[name].required]
            groups += [(entity, required)] if required else []
            groups += [(entity, [name]) for name in holding if name not in required]
        return groups


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


def encode(message: Message) -> bytes:
    """Write a message's fields in order; the same message gives the same bytes."""
    hints = _field_types(type(message).__name__)
    packed: bytes = msgpack.packb(
        [_WRITERS[hint](getattr(message, name)) for name, hint in hints.items()]
    )
    return packed


def decode(kind: type[M], body: bytes) -> M:
    """Read a message back; raises RemoteProtocolError for anything but the declared fields and types."""
    hints = _field_types(kind.__name__)
    values = unpack(body)
    if not isinstance(values, list) or len(values) != len(hints):
        raise _malformed(kind.__name__)
    return kind(
        *(
            _READERS[hint](value, kind.__name__)
            for value, hint in zip(values, hints.values(), strict=True)
        )
    )


def unpack(data: bytes) -> Any:
    """Read hostile bytes; None for what nobody here writes.

    An array announces its length before its entries come, and nests: without a bound on both, kilobytes could
    ask for gigabytes.
    """
    try:
        return msgpack.unpackb(
            data, max_array_len=_MOST_ENTRIES, max_map_len=0, max_ext_len=0, max_str_len=1024
        )
    except (ValueError, msgpack.UnpackException):
        return None


def ciphertexts(message: Message) -> int:
    """Return the number of ciphertexts a message carries."""
    values = (getattr(message, field.name) for field in fields(message))
    return sum(len(value) for value in values if isinstance(value, Ciphertexts))


@cache  # to look them up takes longer than all else that writes a small message
def _field_types(kind: str) -> dict[str, Any]:
    hints = get_type_hints(MESSAGES[kind])
    return {field.name: hints[field.name] for field in fields(MESSAGES[kind])}


def _array_writer(dtype: str) -> Callable[[Any], list[object]]:
    def write(array: Any) -> list[object]:
        return [list(array.shape), np.ascontiguousarray(array, dtype=dtype).tobytes()]

    return write


def _array_reader(dtype: str) -> Callable[[Any, str], Any]:
    def read(value: object, kind: str) -> Any:
        match value:
            case [[*shape], bytes(data)] if _holds(shape, len(data) // 8) and len(data) % 8 == 0:
                return np.frombuffer(data, dtype=dtype).reshape(shape)
        raise _malformed(kind)

    return read


def _holds(shape: list[object], number: int) -> bool:
    """Whether one or two dimensions are those of ``number`` entries."""
    sizes = [size for size in shape if type(size) is int and 0 <= size < 2**32]
    return len(sizes) == len(shape) in (1, 2) and math.prod(sizes) == number


def _number_reader(number: type[Ciphertexts] | type[Residues]) -> Callable[[Any, str], Any]:
    def read(value: object, kind: str) -> Any:
        match value:
            case [int(width), bytes(data)] if width > 0 and len(data) % width == 0:
                return number(width, data)
        raise _malformed(kind)

    return read


def _plain_reader(plain: type) -> Callable[[Any, str], Any]:
    def read(value: object, kind: str) -> Any:
        if type(value) is not plain:
            raise _malformed(kind)
        return value

    return read


_PLAIN: tuple[type, ...] = (int, bool, str, bytes)

_WRITERS: dict[Any, Callable[[Any], Any]] = {
    **{plain: lambda value: value for plain in _PLAIN},
    FloatArray: _array_writer("<f8"),
    IntArray: _array_writer("<i8"),
    Words: _array_writer("<u8"),
    Ciphertexts: lambda value: [value.width, value.data],
    Residues: lambda value: [value.width, value.data],
}

_READERS: dict[Any, Callable[[Any, str], Any]] = {
    **{plain: _plain_reader(plain) for plain in _PLAIN},
    FloatArray: _array_reader("<f8"),
    IntArray: _array_reader("<i8"),
    Words: _array_reader("<u8"),
    Ciphertexts: _number_reader(Ciphertexts),
    Residues: _number_reader(Residues),
}


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


def _malformed(kind: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"a {kind} message does not have the declared fields")
