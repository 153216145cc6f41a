"""Hostile bytes for everything that reads bytes: a RemoteProtocolError may come out, nothing else.

python tests/fuzz/codec.py [INPUTS]             random mutations of true messages, hypothesis first
python tests/fuzz/codec.py --atheris [INPUTS]   guided by coverage (pip install atheris)
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.dataset import IdKind
from protocol.errors import RemoteProtocolError
from protocol.messages import MESSAGES
from protocol.messages.alignment import (
    BlindedIds,
    BlindingKey,
    IdKindAnnouncement,
    PartlyBlindedIds,
    SharedPositions,
)
from protocol.messages.forward import (
    ContributionSeed,
    ContributionShare,
    DealtSeed,
    DealtShare,
    Opening,
    PartialLogits,
)
from protocol.messages.planning import (
    Allowance,
    BatchPlan,
    KeptEpochs,
    OpenedColumns,
    SamplePositions,
    Schedule,
    SigmoidSeries,
    TrainingStart,
)
from protocol.messages.rounds import (
    BrierShare,
    EncryptedResiduals,
    EncryptedShares,
    EpochEnd,
    MaskedGradients,
    OpenedGradients,
    PlainResiduals,
    ProductSeed,
    ProductShare,
    ProductSum,
    RoundCheck,
    RoundEnd,
    Step,
)
from protocol.messages.scoring import LogitShare, ScoreRequest, ScoreSchedule
from protocol.messages.setup import KeyConfirmation, PublicKeyAnnouncement, SessionKey
from protocol.numbers import Ciphertexts, Residues
from protocol.transport.channel import split
from protocol.transport.codec import decode, encode, unpack
from protocol.transport.link import Chunk, Ended, Frame, Hello, Mailbox, Welcome, cut, pack
from protocol.transport.link import unpack as unpack_frame

KINDS = [MESSAGES[name] for name in sorted(MESSAGES)]
MEMORY_LIMIT = 1 << 24


def read_everything(data: bytes) -> None:
    """Feed bytes to every reader; raises whatever is not a RemoteProtocolError."""
    choice, data = (data[0] if data else 0), data[1:]
    mailbox = Mailbox(1 << 16)
    try:
        match choice % 4:
            case 0:
                kind = KINDS[choice // 4 % len(KINDS)]
                message = decode(kind, data)
                assert decode(kind, encode(message)) is not None
            case 1:
                header, _ = split(data, "bank")
                unpack(header)
            case 2:
                unpack_frame(data)
            case _:
                for piece in data.split(b"\x00\xff"):
                    frame = unpack_frame(piece)
                    if isinstance(frame, Chunk):
                        mailbox.add(frame)
                        mailbox.take()
    except RemoteProtocolError:
        pass


def seeds() -> list[bytes]:
    """Return true messages and frames, each behind the byte that chooses its reader."""
    numbers, words = np.arange(4), np.arange(6, dtype=np.uint64).reshape(3, 2)
    secret, some, none = bytes(32), Ciphertexts(8, bytes(24)), Ciphertexts(8, b"")
    true = [
        SessionKey(secret),
        KeyConfirmation(),
        PublicKeyAnnouncement(secret, Residues(1, secret)),
        IdKindAnnouncement("user", IdKind.INTEGER),
        BlindingKey("user", secret),
        PartlyBlindedIds(secret, 1),
        BlindedIds(secret, 0),
        SharedPositions(numbers, 2),
        BatchPlan(numbers, np.array([2, 2]), np.array([2, 3])),
        KeptEpochs(bytes(16), numbers),
        TrainingStart(bytes(16), 1, 2),
        OpenedColumns(numbers, True),
        Allowance("bank", numbers),
        Schedule(3, 4),
        SigmoidSeries(32, numbers),
        SamplePositions("bank", numbers % 2, np.array([2, 2]), np.array([2, 2])),
        PartialLogits(np.ones(3), np.ones((3, 2))),
        ContributionSeed(secret),
        ContributionShare(words),
        DealtSeed(secret),
        DealtShare(secret, words),
        Opening(words),
        EncryptedShares(some, none, words[:1, 0]),
        EncryptedResiduals(some, none),
        PlainResiduals(numbers[:, None]),
        MaskedGradients(some),
        OpenedGradients(Residues(8, bytes(16))),
        ProductSeed(secret),
        ProductShare(words[:, 0]),
        ProductSum(words[:, 0]),
        Step(np.ones(3), np.array([3]), np.array([1]), np.array([0]), False),
        RoundCheck(False),
        RoundEnd(True),
        BrierShare(words[:1, 0]),
        ScoreRequest(numbers, np.array([5])),
        ScoreSchedule(np.array([2, 3])),
        LogitShare(words),
        EpochEnd(True, False),
    ]
    assert {type(message) for message in true} == set(KINDS), "a kind of message has no seed"
    found = [bytes([4 * KINDS.index(type(message))]) + encode(message) for message in true]
    chunks = list(cut(bytes(100), "bank"))
    hello = Hello(1, "bank", bytes(32), bytes(16), b"", 0)
    said: list[Frame] = [hello, Welcome(bytes(16), 3), Ended("bank", ""), *chunks]
    frames = [pack(frame) for frame in said]
    found += [b"\x02" + frame for frame in frames]
    found += [b"\x03" + b"\x00\xff".join(frames[-1:] * 3), b"\x01\x92\xc4\x03abc\xc4\x02de"]
    return found


def mutate(draw: random.Random, data: bytes) -> bytes:
    """Flip, cut, repeat and splice: what a random attacker would try."""
    altered = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(altered) + 1)
        match draw.randrange(5):
            case 0 if at < len(altered):
                altered[at] ^= 1 << draw.randrange(8)
            case 1:
                altered[at:at] = draw.randbytes(draw.randint(1, 8))
            case 2:
                del altered[at : at + draw.randint(1, 8)]
            case 3:
                altered[at:at] = draw.choice(
                    (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff")
                )
            case _ if at < len(altered):
                altered[at] = draw.choice((0x00, 0x7F, 0x80, 0xC0, 0xC4, 0xD3, 0xFF))
    return bytes(altered)


@settings(max_examples=20_000, deadline=None, database=None)
@given(st.binary(max_size=400))
def any_bytes(data: bytes) -> None:
    read_everything(data)


def main() -> None:
    """Try as many inputs as asked for, a million if nothing is said."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--atheris"]
    inputs = int(arguments[0]) if arguments else 1_000_000
    if "--atheris" in sys.argv:
        try:
            import atheris
        except ImportError:
            sys.exit("atheris is not installed; pip install 'colonnade[fuzz]'")
        atheris.instrument_all()
        start = tempfile.mkdtemp(prefix="colonnade-fuzz-")
        for number, seed in enumerate(seeds()):
            Path(start, str(number)).write_bytes(seed)
        limits = [f"-runs={inputs}", "-max_len=4096"]
        atheris.Setup([sys.argv[0], *limits, start], read_everything)
        atheris.Fuzz()
        return
    any_bytes()
    draw, corpus = random.Random(0), seeds()
    slowest = 0.0
    for seed in corpus:
        read_everything(seed)
    for number in range(inputs):
        data = mutate(draw, draw.choice(corpus))
        if number % 1000 == 0:
            tracemalloc.start()
        started = time.perf_counter()
        read_everything(data)
        slowest = max(slowest, time.perf_counter() - started)
        if number % 1000 == 0:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < MEMORY_LIMIT, f"{len(data)} bytes took {peak:,} bytes of memory"
    print(f"{inputs + 20_000:,} inputs, no crash; the slowest took {1000 * slowest:.1f} ms")


if __name__ == "__main__":
    main()
