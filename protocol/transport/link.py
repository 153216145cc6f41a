"""What crosses a connection: frames, envelopes in chunks, and a link that outlives its connections.

A link numbers the chunks and notices of each direction by counting them. Each side keeps what the
other has not acknowledged; after a drop it says how many it has accepted, and the other goes on
from there: nothing is lost, nothing comes twice. Sending waits while the window is full, so that a
slow reader slows its sender down. Nothing here knows gRPC.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import msgpack

from protocol import errors
from protocol.errors import ColonnadeError, RemoteProtocolError
from protocol.transport import codec
from protocol.transport.sealing import PROTOCOL_VERSION

CHUNK_BYTES = 1 << 20
FRAME_BYTES = CHUNK_BYTES + 1024
WINDOW_FRAMES = 16

OUT_OF_REACH = "out of reach"
OTHER_ERROR = "error"
# What a party says of its end: "" is a good one. Words, not messages: those are for its own people.
REASONS = frozenset({"", OUT_OF_REACH, OTHER_ERROR, *errors.__all__})


@dataclass(frozen=True)
class Hello:
    """A party's first frame on a stream.

    ``agreement`` is the digest of settings and roster, ``session`` 16 bytes that this process drew, ``run`` the
    run it is in, empty at first; ``accepted`` counts the numbered frames that have arrived here.
    """

    version: int
    name: str
    agreement: bytes
    session: bytes
    run: bytes
    accepted: int


@dataclass(frozen=True)
class Welcome:
    """The coordinator's answer: this run's 16 random bytes."""

    run: bytes
    accepted: int


@dataclass(frozen=True)
class Acknowledgement:
    """How many numbered frames have been dealt with."""

    handled: int


@dataclass(frozen=True)
class Chunk:
    """Numbered: a piece of an envelope of ``total`` bytes; ``other`` is its receiver, on the way down its sender."""

    other: str
    total: int
    offset: int
    data: bytes | memoryview


@dataclass(frozen=True)
class Ended:
    """Numbered: a party has ended its part of the run, for one of the ``REASONS``."""

    party: str
    reason: str


Frame = Hello | Welcome | Acknowledgement | Chunk | Ended

_KINDS: tuple[type[Any], ...] = (Hello, Welcome, Acknowledgement, Chunk, Ended)


def pack(frame: Frame) -> bytes:
    """Write a frame."""
    values = (
        (frame.other, frame.total, frame.offset, frame.data)  # astuple would copy the data
        if isinstance(frame, Chunk)
        else astuple(frame)
    )
    packed: bytes = msgpack.packb([_KINDS.index(type(frame)), *values])
    return packed


def unpack(data: bytes) -> Frame:
    """Read a frame; raises RemoteProtocolError for anything but the declared fields and types."""
    # A number on the wire is a count of bytes or frames: none reaches 2**48.
    match codec.unpack(data):
        case [0, int(version), *_] if version != PROTOCOL_VERSION:
            raise RemoteProtocolError(
                f"protocol version {PROTOCOL_VERSION} is spoken here, {version} came; install one version everywhere"
            )
        case [
            0,
            int(version),
            str(name),
            bytes(agreement),
            bytes(session),
            bytes(run),
            int(accepted),
        ] if (len(agreement), len(session)) == (32, 16) and _counts(version, accepted):
            return Hello(version, name, agreement, session, run, accepted)
        case [1, bytes(run), int(accepted)] if len(run) == 16 and _counts(accepted):
            return Welcome(run, accepted)
        case [2, int(handled)] if _counts(handled):
            return Acknowledgement(handled)
        case [3, str(other), int(total), int(offset), bytes(piece)] if _counts(total, offset):
            return Chunk(other, total, offset, piece)
        case [4, str(party), str(reason)] if reason in REASONS:
            return Ended(party, reason)
    raise RemoteProtocolError("bytes came that are not a frame of this protocol")


def _counts(*numbers: int) -> bool:
    return all(type(number) is int and 0 <= number < 1 << 48 for number in numbers)


def reason_of(error: BaseException) -> str:
    """Return the word by which the others hear of an error."""
    name = type(error).__name__
    return name if isinstance(error, ColonnadeError) and name in REASONS else OTHER_ERROR


def cut(envelope: bytes, other: str) -> Iterator[Chunk]:
    """Cut an envelope into chunks of ``CHUNK_BYTES``, the last one shorter."""
    view = memoryview(envelope)
    for offset in range(0, max(len(view), 1), CHUNK_BYTES):
        yield Chunk(other, len(view), offset, view[offset : offset + CHUNK_BYTES])


class ChunkOrder:
    """Checks that the chunks of one sender to one receiver follow each other, whole envelope by whole envelope."""

    def __init__(self, message_limit: int) -> None:
        self._limit = message_limit
        self._total = 0
        self._offset = 0

    def check(self, chunk: Chunk) -> bool:
        """Return whether this chunk ends an envelope; raises RemoteProtocolError if it is not the next one."""
        total = self._total if self._offset else chunk.total
        if chunk.total > self._limit:
            raise RemoteProtocolError(
                f"a message of {chunk.total:,} bytes was announced; at most {self._limit:,} are taken"
            )
        length = min(CHUNK_BYTES, total - self._offset)
        if (chunk.total, chunk.offset, len(chunk.data)) != (total, self._offset, length):
            raise RemoteProtocolError("a chunk came that does not follow the one before")
        self._total, self._offset = total, self._offset + length
        if self._offset < total:
            return False
        self._offset = 0
        return True


class Mailbox:
    """The envelopes of one sender, made whole again and kept until they are collected.

    Memory follows what has arrived, not what was announced; it holds at most two messages of the largest size.
    """

    def __init__(self, message_limit: int) -> None:
        self._order = ChunkOrder(message_limit)
        self._limit = 2 * message_limit
        self._pieces: list[bytes | memoryview] = []
        self._whole: deque[bytes] = deque()
        self._held = 0
        self._arrived = asyncio.Event()

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk; raises RemoteProtocolError if it is not that, or if there is no room."""
        complete = self._order.check(chunk)
        self._held += len(chunk.data)
        if self._held > self._limit:
            raise RemoteProtocolError(f"more than {self._limit:,} bytes were sent ahead of time")
        self._pieces.append(chunk.data)
        if complete:
            self._whole.append(b"".join(self._pieces))
            self._pieces.clear()
            self._arrived.set()

    def wake(self) -> None:
        """Let whoever waits look at the world again."""
        self._arrived.set()

    async def wait(self) -> None:
        """Wait for an envelope, or for ``wake``."""
        await self._arrived.wait()
        self._arrived.clear()

    def take(self) -> bytes | None:
        """Return the oldest envelope, if there is one."""
        if not self._whole:
            return None
        envelope = self._whole.popleft()
        self._held -= len(envelope)
        return envelope


class Link:
    """One side of a connection between a party and the coordinator that survives losing its streams."""

    def __init__(self) -> None:
        self.accepted = 0
        self._handled = 0
        self._inbound: asyncio.Queue[Frame] = asyncio.Queue()
        self._outbound: deque[bytes] = deque()
        self._acknowledged = 0
        self._written = 0
        self._closed = False
        self._work = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def pending(self) -> bool:
        """Whether the other side has not dealt with everything yet."""
        return bool(self._outbound)

    def close(self) -> None:
        """Nobody will read any more: let nobody wait for it."""
        self._closed = True
        self._room.set()

    async def send(self, frame: Frame) -> None:
        """Queue a numbered frame, once the window has room for it."""
        while len(self._outbound) >= WINDOW_FRAMES and not self._closed:
            self._room.clear()
            await self._room.wait()
        self.post(frame)

    def post(self, frame: Frame) -> None:
        """Queue a numbered frame at once: for the few that are no part of an envelope."""
        if not self._closed:
            self._outbound.append(pack(frame))
            self._work.set()

    async def drain(self) -> None:
        """Wait until the other side has dealt with all that was sent, or never will."""
        while self._outbound and not self._closed:
            self._room.clear()
            await self._room.wait()

    async def write(self, write: Callable[[bytes], Awaitable[Any]], accepted: int) -> None:
        """Write to a new stream, forever: what the other side has not ``accepted``, then all that is queued.

        Raises RemoteProtocolError if the other side says it has accepted what was never sent.
        """
        if not self._acknowledged <= accepted <= self._acknowledged + len(self._outbound):
            raise RemoteProtocolError(
                "the other side goes on from a frame that it cannot have reached"
            )
        self._written = accepted
        told = 0
        while True:
            if told != self._handled:
                told = self._handled
                await write(pack(Acknowledgement(told)))
            elif self._written < self._acknowledged + len(self._outbound):
                frame = self._outbound[self._written - self._acknowledged]
                self._written += 1
                await write(frame)
            else:
                self._work.clear()
                await self._work.wait()

    def accept(self, data: bytes) -> None:
        """Take one frame from the stream; raises RemoteProtocolError if it is none or out of turn."""
        match unpack(data):
            case Acknowledgement(handled):
                if not self._acknowledged <= handled <= self._written:
                    raise RemoteProtocolError("frames were acknowledged that were never sent")
                for _ in range(handled - self._acknowledged):
                    self._outbound.popleft()
                self._acknowledged = handled
                self._room.set()
            case Chunk() | Ended() as frame:
                # Ended may be sent beyond the window, once for each party.
                if self._inbound.qsize() > 2 * WINDOW_FRAMES:
                    raise RemoteProtocolError("more frames came than the window allows")
                self.accepted += 1
                self._inbound.put_nowait(frame)
            case _:
                raise RemoteProtocolError("a greeting came in the middle of a conversation")

    async def handle(self, handler: Callable[[Frame], Awaitable[None]]) -> None:
        """Hand every frame that arrives to ``handler``, one after another, and acknowledge it; forever."""
        while True:
            await handler(await self._inbound.get())
            self._handled += 1
            self._work.set()
