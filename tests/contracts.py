"""What every transport must do, as one suite: a test class derives from it and says how parties are run."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest

from protocol.errors import PartyUnavailableError, RemoteProtocolError
from protocol.messages.rounds import EncryptedResiduals
from protocol.messages.scoring import ScoreRequest
from protocol.numbers import Ciphertexts
from protocol.transport.channel import Channel, Transport

NAMES = ("coordinator", "shop", "bank", "telco")
CHUNK = 1 << 20


@dataclass(frozen=True)
class End:
    """What a role in these tests has in hand."""

    name: str
    transport: Transport
    channel: Channel


Play = Callable[[End], Coroutine[Any, Any, Any]]
Alter = Callable[[bytes], Sequence[bytes]]


class Altering:
    """A transport in which somebody meddles with what is delivered."""

    def __init__(self, transport: Transport, alter: Alter) -> None:
        self._transport = transport
        self._alter = alter

    async def deliver(self, sender: str, receiver: str, envelope: bytes) -> None:
        for altered in self._alter(envelope):
            await self._transport.deliver(sender, receiver, altered)

    async def collect(self, receiver: str, sender: str) -> bytes:
        return await self._transport.collect(receiver, sender)


def unaltered(envelope: bytes) -> Sequence[bytes]:
    return [envelope]


async def idle(end: End) -> None:
    """Play a party that has nothing to say."""


def says(receiver: str, *envelopes: bytes) -> Play:
    async def play(end: End) -> None:
        for envelope in envelopes:
            await end.transport.deliver(end.name, receiver, envelope)

    return play


def hears(*senders: str) -> Play:
    async def play(end: End) -> list[bytes]:
        return [await end.transport.collect(end.name, sender) for sender in senders]

    return play


class TransportContract(ABC):
    @abstractmethod
    def run(self, plays: Mapping[str, Play], alter: Alter = unaltered) -> dict[str, Any]:
        """Run one role for each of NAMES (idle where none is given); raise the error that came first."""

    def test_envelopes_of_a_pair_arrive_in_order(self) -> None:
        words = [bytes([number]) for number in range(50)]
        ends = self.run({"shop": says("bank", *words), "bank": hears(*["shop"] * 50)})
        assert ends["bank"] == words

    @pytest.mark.parametrize("receiver", ["coordinator", "bank"])
    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
    def test_every_size_arrives_whole(self, receiver: str, size: int) -> None:
        envelopes = [np.random.default_rng(size).bytes(size), b"next"]
        ends = self.run({"shop": says(receiver, *envelopes), receiver: hears("shop", "shop")})
        assert ends[receiver] == envelopes

    def test_the_coordinator_is_heard_by_all(self) -> None:
        async def play(end: End) -> None:
            for name in NAMES[1:]:
                await end.transport.deliver(end.name, name, name.encode())

        ends = self.run({"coordinator": play, **dict.fromkeys(NAMES[1:], hears("coordinator"))})
        assert [ends[name] for name in NAMES[1:]] == [[b"shop"], [b"bank"], [b"telco"]]

    def test_a_wait_for_one_party_is_not_ended_by_another(self) -> None:
        async def late(end: End) -> None:
            await end.transport.collect("bank", "coordinator")
            await end.transport.deliver("bank", "telco", b"late")

        async def starter(end: End) -> None:
            await end.transport.collect("coordinator", "shop")
            await end.transport.deliver("coordinator", "bank", b"go")

        async def early(end: End) -> None:
            await end.transport.deliver("shop", "telco", b"early")
            await end.transport.deliver("shop", "coordinator", b"said")

        plays = {
            "coordinator": starter,
            "shop": early,
            "bank": late,
            "telco": hears("bank", "shop"),
        }
        assert self.run(plays)["telco"] == [b"late", b"early"]

    def test_everyone_may_talk_at_once(self) -> None:
        async def play(end: End) -> list[bytes]:
            others = [name for name in NAMES if name != end.name]
            for number in range(20):
                for other in others:
                    await end.transport.deliver(end.name, other, f"{end.name}{number}".encode())
            return [
                await end.transport.collect(end.name, other)
                for number in range(20)
                for other in others
            ]

        for name, heard in self.run(dict.fromkeys(NAMES, play)).items():
            others = [other for other in NAMES if other != name]
            assert heard == [
                f"{other}{number}".encode() for number in range(20) for other in others
            ]

    def test_a_wait_that_was_given_up_loses_nothing(self) -> None:
        async def impatient(end: End) -> bytes:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await end.transport.collect("bank", "shop")
            await end.transport.deliver("bank", "shop", b"now")
            return await end.transport.collect("bank", "shop")

        async def slow(end: End) -> None:
            await end.transport.collect("shop", "bank")
            await end.transport.deliver("shop", "bank", b"here")

        async def present(end: End) -> None:
            await end.transport.collect("coordinator", "telco")

        async def waker(end: End) -> None:
            await asyncio.sleep(0.05)  # in one process, somebody must not be waiting for a party
            await end.transport.deliver("telco", "coordinator", b"")

        plays = {"bank": impatient, "shop": slow, "coordinator": present, "telco": waker}
        assert self.run(plays)["bank"] == b"here"

    def test_waiting_for_a_party_that_has_ended_is_an_error(self) -> None:
        with pytest.raises(PartyUnavailableError, match="bank waits for shop, which has ended"):
            self.run({"shop": idle, "bank": hears("shop")})

    def test_what_a_party_said_before_it_ended_is_still_heard(self) -> None:
        with pytest.raises(PartyUnavailableError, match="bank waits for shop, which has ended"):
            self.run({"shop": says("bank", b"1", b"2"), "bank": hears("shop", "shop", "shop")})

    @pytest.mark.parametrize("failing", ["coordinator", "shop"])
    def test_the_first_error_ends_every_role(self, failing: str) -> None:
        ended = []

        async def fails(end: End) -> None:
            for name in NAMES:
                if name != failing:
                    await end.transport.collect(failing, name)
            raise RuntimeError("broken")

        async def waits(end: End) -> None:
            await end.transport.deliver(end.name, failing, b"here")
            try:
                await end.transport.collect(end.name, failing)
            finally:
                ended.append(end.name)

        with pytest.raises(RuntimeError, match="broken"):
            self.run({**dict.fromkeys(NAMES, waits), failing: fails})
        assert {*ended, failing} == {*NAMES}

    def test_a_hundred_thousand_ciphertexts_pass(self) -> None:
        numbers = np.random.default_rng(0).bytes(512 * 100_000)

        async def label(end: End) -> None:
            values = Ciphertexts(512, numbers)
            await end.channel.send("bank", EncryptedResiduals(values, Ciphertexts(512, b"")))

        async def feature(end: End) -> bytes:
            return (await end.channel.receive("shop", EncryptedResiduals)).values.data

        assert self.run({"shop": label, "bank": feature})["bank"] == numbers

    @pytest.mark.parametrize(
        ("attack", "match"),
        [
            ("altered", "altered on its way"),
            ("altered header", "was expected to send ScoreRequest as message 2"),
            ("truncated", "not an envelope"),
            ("cut within", "altered on its way"),
            ("replayed", "as message 3 of this run to bank, but sent ScoreRequest as message 2"),
            ("reordered", "as message 2 of this run to bank, but sent ScoreRequest as message 3"),
            ("dropped", "as message 2 of this run to bank, but sent ScoreRequest as message 3"),
            (
                "another run",
                "as message 2 of this run to bank, but sent ScoreRequest as message 2 of another",
            ),
        ],
    )
    def test_what_somebody_meddled_with_is_refused(self, attack: str, match: str) -> None:
        async def label(end: End) -> None:
            for number in range(2):
                await end.channel.send("bank", ScoreRequest(np.array([number]), np.array([1])))

        async def feature(end: End) -> list[int]:
            received = [await end.channel.receive("shop", ScoreRequest) for _ in range(2)]
            return [int(message.entities[0]) for message in received]

        held: list[bytes] = []

        def alter(envelope: bytes) -> Sequence[bytes]:
            if b"SessionKey" in envelope or b"KeyConfirmation" in envelope:
                return [envelope]
            held.append(envelope)
            header, body = msgpack.unpackb(envelope)
            match attack:
                case "altered":
                    return [envelope[:-1] + bytes([envelope[-1] ^ 1])]
                case "altered header":
                    return [envelope.replace(b"ScoreRequest", b"ScoreRequesu")]
                case "truncated":
                    return [envelope[:-1]]
                case "cut within":
                    return [msgpack.packb([header, body[:-1]])]
                case "replayed":
                    return [held[0]]
                case "reordered":
                    return held[::-1] if len(held) == 2 else []
                case "dropped":
                    return held[1:]
                case _:
                    version, run, *rest = msgpack.unpackb(header)
                    other = msgpack.packb([version, bytes(len(run)), *rest])
                    return [msgpack.packb([other, body])]

        plays = {"shop": label, "bank": feature}
        assert self.run(plays)["bank"] == [0, 1]
        with pytest.raises(RemoteProtocolError, match=match):
            self.run(plays, alter)
