from __future__ import annotations

import asyncio
from dataclasses import astuple

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DataError, RemoteProtocolError
from protocol.transport.link import (
    CHUNK_BYTES,
    Acknowledgement,
    Chunk,
    Ended,
    Frame,
    Hello,
    Link,
    Mailbox,
    Welcome,
    cut,
    pack,
    reason_of,
    unpack,
)
from protocol.transport.sealing import PROTOCOL_VERSION

counts = st.integers(0, 2**48 - 1)
names = st.text("abcdefgh-_0", min_size=1, max_size=64)
run_ids = st.binary(min_size=16, max_size=16)
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        Hello,
        st.just(PROTOCOL_VERSION),
        names,
        st.binary(min_size=32, max_size=32),
        run_ids,
        st.one_of(st.just(b""), run_ids),
        counts,
    ),
    st.builds(Welcome, run_ids, counts),
    st.builds(Acknowledgement, counts),
    st.builds(Chunk, names, counts, counts, st.binary(max_size=64)),
    st.builds(Ended, names, st.sampled_from(["", "DataError", "out of reach"])),
)


@given(frames)
def test_frames_round_trip(frame: Frame) -> None:
    assert astuple(unpack(pack(frame))) == astuple(frame)


@given(st.one_of(st.binary(max_size=100), st.recursive(counts | st.binary(), st.lists)))
def test_what_is_no_frame_is_refused(data: object) -> None:
    try:
        frame = unpack(data if isinstance(data, bytes) else msgpack.packb(data))
    except RemoteProtocolError:
        return
    assert unpack(pack(frame)) == frame


def test_nesting_does_not_multiply_memory() -> None:
    """Each level could announce as many entries as the whole message has bytes."""
    with pytest.raises(RemoteProtocolError):
        unpack(b"\xdd\x00\x0f\xff\xff" * 500 + bytes(1 << 20))


def test_others_hear_the_kind_of_an_error_and_no_more() -> None:
    assert reason_of(DataError("bank: column salary is constant")) == "DataError"
    assert reason_of(ValueError("anything")) == "error"


@given(st.lists(st.integers(0, 3 * CHUNK_BYTES), max_size=3))
def test_envelopes_are_cut_and_made_whole(sizes: list[int]) -> None:
    mailbox = Mailbox(3 * CHUNK_BYTES)
    for size in sizes:
        envelope = bytes(size)
        for chunk in cut(envelope, "bank"):
            assert mailbox.take() is None
            mailbox.add(chunk)
        assert mailbox.take() == envelope


@pytest.mark.parametrize(
    "chunks",
    [
        [(11, 0, 11)],
        [(10, 0, 9)],
        [(10, 1, 9)],
        [(10, 0, 0)],
        [(0, 0, 1)],
        [(2 * CHUNK_BYTES, 0, CHUNK_BYTES), (2 * CHUNK_BYTES, 0, CHUNK_BYTES)],
        [(2 * CHUNK_BYTES, 0, CHUNK_BYTES), (CHUNK_BYTES + 1, CHUNK_BYTES, 1)],
        [(2 * CHUNK_BYTES, 0, CHUNK_BYTES), (10, 0, 10)],
        [(2 * CHUNK_BYTES, 0, CHUNK_BYTES - 1)],
        [(2**47, 0, CHUNK_BYTES)],
    ],
)
def test_chunks_that_do_not_follow_are_refused(chunks: list[tuple[int, int, int]]) -> None:
    mailbox = Mailbox(10 if chunks[0][0] < 100 else 1 << 30)
    *fitting, last = (Chunk("bank", total, offset, bytes(size)) for total, offset, size in chunks)
    for chunk in fitting:
        mailbox.add(chunk)
    with pytest.raises(RemoteProtocolError):
        mailbox.add(last)


@given(st.lists(st.integers(0, 60), max_size=8), st.integers(0, 40))
def test_a_link_survives_any_drops(drops: list[int], n_frames: int) -> None:
    """Whatever either side had read or written when a stream broke, each frame arrives once and in order."""

    async def talk() -> list[str]:
        near, far = Link(), Link()
        arrived: list[str] = []

        async def keep(frame: Frame) -> None:
            assert isinstance(frame, Chunk)
            arrived.append(frame.other)

        async def stream(frames_left: int | None) -> None:
            """Carry some frames in both directions, then break."""
            left = [frames_left]

            async def carry(data: bytes, to: Link) -> None:
                await asyncio.sleep(0)
                if left[0] == 0:
                    raise ConnectionError
                if left[0] is not None:
                    left[0] -= 1
                to.accept(data)

            ends = [
                asyncio.create_task(near.write(lambda data: carry(data, far), far.accepted)),
                asyncio.create_task(far.write(lambda data: carry(data, near), near.accepted)),
            ]
            done = asyncio.create_task(near.drain())
            await asyncio.wait([*ends, done], return_when=asyncio.FIRST_COMPLETED)
            for task in (*ends, done):
                task.cancel()
            await asyncio.gather(*ends, done, return_exceptions=True)

        handling = asyncio.create_task(far.handle(keep))

        async def send() -> None:
            for number in range(n_frames):
                await near.send(Chunk(str(number), 0, 0, b""))

        sending = asyncio.create_task(send())
        await asyncio.sleep(0)
        for frames_left in drops:
            await stream(frames_left)
        while not sending.done() or near.pending:
            await stream(None)
        handling.cancel()
        return arrived

    assert asyncio.run(talk()) == [str(number) for number in range(n_frames)]
