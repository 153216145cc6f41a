from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import grpc
import msgpack
import pytest
from contracts import Alter, End, Play, TransportContract, hears, says, unaltered
from grpc import aio
from star import AGREEMENT, LIMITS, Proxy, Star, free_port, raise_first

from protocol.errors import (
    DataError,
    LocalProtocolError,
    PartyUnavailableError,
    RemoteProtocolError,
    SettingsError,
)
from protocol.transport import network
from protocol.transport.identity import HOST, Identity
from protocol.transport.link import FRAME_BYTES, Acknowledgement, Chunk, Ended, Frame, Hello, pack
from protocol.transport.network import METHOD, SERVICE, Limits, on_network
from protocol.transport.sealing import PROTOCOL_VERSION


@pytest.fixture(scope="module")
def keys() -> Star:
    return Star()


@pytest.fixture
def star(keys: Star) -> Star:
    """Four parties at an address of their own."""
    keys.listen = keys.dial = f"127.0.0.1:{free_port()}"
    keys.limits = LIMITS
    return keys


class TestNetwork(TransportContract):
    @pytest.fixture(autouse=True)
    def _use(self, star: Star) -> None:
        self.star = star

    def run(self, plays: Mapping[str, Play], alter: Alter = unaltered) -> dict[str, Any]:
        self.star.listen = self.star.dial = f"127.0.0.1:{free_port()}"
        outcomes = asyncio.run(self.star.outcomes(plays, alter))
        raise_first(outcomes)
        return outcomes


class Gathering:
    """A run in which everyone comes, and stays until it is told to go on."""

    def __init__(self) -> None:
        self.complete = asyncio.Event()
        self.release = asyncio.Event()

    async def play(self, end: End) -> list[bytes]:
        parties = ("shop", "bank", "telco")
        if end.name == "coordinator":
            for name in parties:
                await end.transport.collect(end.name, name)
            self.complete.set()
            await self.release.wait()
            for name in parties:
                await end.transport.deliver(end.name, name, b"well")
            return []
        await end.transport.deliver(end.name, "coordinator", b"here")
        return [await end.transport.collect(end.name, "coordinator")]

    def start(self, star: Star, *without: str) -> asyncio.Task[dict[str, Any]]:
        plays = dict.fromkeys(star.identities.keys() - set(without), self.play)
        return asyncio.create_task(star.outcomes(plays))


def meanwhile(star: Star, others: Callable[[], Coroutine[Any, Any, None]]) -> dict[str, Any]:
    """Let others act while everyone is in a run; return how that ends."""

    async def gather() -> dict[str, Any]:
        gathering = Gathering()
        run = gathering.start(star)
        await gathering.complete.wait()
        await others()
        gathering.release.set()
        return await run

    return asyncio.run(gather())


ALL_WELL = {"coordinator": [], "shop": [b"well"], "bank": [b"well"], "telco": [b"well"]}


async def intruder(star: Star, *frames: bytes, identity: Identity | None = None) -> tuple[Any, str]:
    """Dial the coordinator and say something; return how it ended."""
    identity = identity or star.identities["bank"]
    credentials = grpc.ssl_channel_credentials(
        star.identities["coordinator"].certificate.encode(),
        identity.tls_key.encode(),
        identity.certificate.encode(),
    )
    options = [("grpc.ssl_target_name_override", HOST)]
    async with aio.secure_channel(star.listen, credentials, options) as channel:
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
        try:
            for frame in frames:
                await call.write(frame)
            while await call.read() is not aio.EOF:
                pass
        except (aio.AioRpcError, asyncio.InvalidStateError):
            pass
        return await call.code(), await call.details()


def hello(name: str, **changes: Any) -> bytes:
    fields = {"agreement": AGREEMENT, "session": bytes(16), "run": b"", "accepted": 0, **changes}
    return pack(Hello(PROTOCOL_VERSION, name, **fields))


REFUSED_GREETINGS: dict[str, tuple[bytes, str]] = {
    "malformed bytes": (b"\xde\xad\xbe\xef", "bytes came that are not a frame"),
    "empty": (b"", "bytes came that are not a frame"),
    "no greeting": (pack(Acknowledgement(0)), "expected a greeting"),
    **{
        f"a version {when}": (
            msgpack.packb([0, version, "bank", "whatever comes"]),
            f"protocol version {PROTOCOL_VERSION} is spoken here, {version} came",
        )
        for when, version in (("before", PROTOCOL_VERSION - 1), ("after", PROTOCOL_VERSION + 1))
    },
    "an unknown name": (hello("stranger"), "lists no data party of that name"),
    "another's name": (hello("shop"), "not the one the roster lists for shop"),
    "the coordinator's name": (hello("coordinator"), "lists no data party of that name"),
    "other settings": (hello("bank", agreement=bytes([1] * 32)), "bank has other settings or"),
    "another run": (hello("bank", run=bytes([1] * 16)), "bank comes from another run"),
    "a second one": (hello("bank"), "there is a bank in this run already"),
    "a short digest": (hello("bank", agreement=bytes(31)), "bytes came that are not a frame"),
}


def test_whoever_is_refused_leaves_one_line_and_the_run_goes_on(
    star: Star, caplog: pytest.LogCaptureFixture
) -> None:
    async def intrude() -> None:
        for case, (frame, words) in REFUSED_GREETINGS.items():
            caplog.clear()
            code, details = await on_network(intruder(star, frame))
            assert code is grpc.StatusCode.FAILED_PRECONDITION, case
            assert words in details, case
            (record,) = caplog.records
            assert record.getMessage().startswith("refused a connection from bank at ")
            assert words in record.getMessage()
            assert "\n" not in record.getMessage()

    with caplog.at_level(logging.WARNING):
        assert meanwhile(star, intrude) == ALL_WELL


def test_an_oversized_frame_or_no_greeting_is_not_read(
    star: Star, caplog: pytest.LogCaptureFixture
) -> None:
    async def intrude() -> None:
        code, _ = await on_network(intruder(star, bytes(FRAME_BYTES + 1)))
        assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION)

    with caplog.at_level(logging.WARNING):
        assert meanwhile(star, intrude) == ALL_WELL
    (record,) = caplog.records
    assert "refused a connection" in record.getMessage()


def test_a_certificate_nobody_listed_gets_nowhere(
    star: Star, capfd: pytest.CaptureFixture[str]
) -> None:
    async def intrude() -> None:
        impostor = Identity.generate("bank")
        code, _ = await on_network(intruder(star, hello("bank"), identity=impostor))
        assert code is grpc.StatusCode.UNAVAILABLE

    assert meanwhile(star, intrude) == ALL_WELL
    assert "CERTIFICATE_VERIFY_FAILED" in capfd.readouterr().err  # gRPC's own log, one line


BROKEN_FRAMES: dict[str, tuple[bytes | Frame, str]] = {
    "malformed bytes": (b"\x93\x01", "bytes came that are not a frame"),
    "an oversized message": (Chunk("shop", 1 << 27, 0, bytes(1 << 20)), "at most 67,108,864"),
    "a chunk out of turn": (Chunk("shop", 10, 5, bytes(5)), "does not follow the one before"),
    "a short chunk": (Chunk("shop", 10, 0, bytes(5)), "does not follow the one before"),
    "a message to itself": (Chunk("bank", 1, 0, b"x"), "not its sender's to send"),
    "a message to nobody": (Chunk("stranger", 1, 0, b"x"), "not its sender's to send"),
    "another's goodbye": (Ended("shop", ""), "not its sender's to send"),
    "frames never sent": (Acknowledgement(5), "acknowledged that were never sent"),
    "a second greeting": (hello("bank"), "greeting came in the middle"),
}


@pytest.mark.parametrize("case", BROKEN_FRAMES)
def test_who_breaks_the_protocol_has_left_the_run(
    case: str, star: Star, caplog: pytest.LogCaptureFixture
) -> None:
    frame, words = BROKEN_FRAMES[case]

    async def talk() -> list[Any]:
        plays = {"coordinator": hears("bank"), "shop": hears("bank"), "telco": hears("shop")}
        run = [star.play(name, play) for name, play in plays.items()]
        data = frame if isinstance(frame, bytes) else pack(frame)
        broken = on_network(intruder(star, hello("bank"), data))
        ended: list[Any] = await asyncio.gather(*run, broken, return_exceptions=True)
        *outcomes, (code, details) = ended
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert words in details
        return outcomes

    with caplog.at_level(logging.WARNING):
        for outcome in asyncio.run(talk()):
            assert isinstance(outcome, PartyUnavailableError)
            assert "bank stopped with a RemoteProtocolError" in str(outcome)
    (record,) = (r for r in caplog.records if "broke the protocol" in r.getMessage())
    assert words in record.getMessage()


def test_a_party_hears_why_it_is_refused(star: Star) -> None:
    async def come_again() -> None:
        with pytest.raises(RemoteProtocolError, match="coordinator refuses bank: there is a bank"):
            await star.play("bank")
        with pytest.raises(RemoteProtocolError, match="bank has other settings or another roster"):
            await star.play("bank", agreement=bytes([1] * 32))

    assert meanwhile(star, come_again) == ALL_WELL


def test_keys_that_are_not_the_rosters_are_refused_before_dialling(star: Star) -> None:
    other = Star()
    with pytest.raises(SettingsError, match="lists other keys for bank"):
        star.transport("bank", roster=other.roster)


def test_two_coordinators_do_not_listen_at_one_address(star: Star) -> None:
    async def listen() -> None:
        with pytest.raises(SettingsError, match="cannot listen at"):
            await star.play("coordinator")

    assert meanwhile(star, listen) == ALL_WELL


def test_a_failing_role_is_named_but_not_its_reason(star: Star) -> None:
    async def fails(end: End) -> None:
        raise DataError("column salary of bank is constant")

    outcomes = asyncio.run(
        star.outcomes(dict.fromkeys(("coordinator", "shop"), hears("bank")) | {"bank": fails})
    )
    assert isinstance(outcomes["bank"], DataError)
    for name in ("coordinator", "shop"):
        assert str(outcomes[name]) == "bank stopped with a DataError; its own log says why"


def test_a_failing_coordinator_is_named(star: Star) -> None:
    async def fails(end: End) -> None:
        await end.transport.collect("coordinator", "bank")
        raise ValueError("broken")

    async def waits(end: End) -> None:
        await end.transport.deliver("bank", "coordinator", b"here")
        await end.transport.collect("bank", "telco")

    async def late(end: End) -> None:
        await end.transport.collect("telco", "bank")

    plays = {"coordinator": fails, "bank": waits, "telco": late}
    outcomes = asyncio.run(star.outcomes(plays))
    assert str(outcomes["bank"]) == "coordinator stopped with an error; its own log says why"


def test_who_comes_after_the_coordinator_has_failed_hears_of_it(star: Star) -> None:
    async def fails(end: End) -> None:
        raise DataError("broken")

    async def talk() -> Any:
        failing = asyncio.create_task(star.play("coordinator", fails))
        await asyncio.sleep(0.5)
        parties = [star.play(name) for name in ("shop", "bank", "telco")]
        return await asyncio.gather(failing, *parties, return_exceptions=True)

    _, *others = asyncio.run(talk())
    for outcome in others:
        assert str(outcome) == "coordinator stopped with a DataError; its own log says why"


def test_a_party_that_never_comes_is_missed(star: Star) -> None:
    limits = Limits(time_limit=1, absence_limit=1)

    async def talk() -> list[Any]:
        plays = {"coordinator": hears("bank"), "shop": hears("bank")}
        run = [star.play(name, play, limits=limits) for name, play in plays.items()]
        return await asyncio.gather(*run, return_exceptions=True)

    for outcome in asyncio.run(talk()):
        assert isinstance(outcome, PartyUnavailableError)
        assert "bank" in str(outcome)


def test_a_coordinator_that_never_comes_is_missed(star: Star) -> None:
    limits = Limits(time_limit=1, absence_limit=1)
    with pytest.raises(PartyUnavailableError, match=r"coordinator at 127\.0\.0\.1:.* out of reach"):
        asyncio.run(star.play("bank", limits=limits))


def test_who_dials_in_vain_says_so(
    star: Star, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_SECONDS_BETWEEN_WARNINGS", 0.1)
    limits = Limits(time_limit=1, absence_limit=1)
    with caplog.at_level(logging.WARNING), pytest.raises(PartyUnavailableError):
        asyncio.run(star.play("bank", limits=limits))
    said = f"bank: no answer from coordinator at {star.dial} for "
    assert said in caplog.messages[0]
    assert "check the address" in caplog.messages[0]


def test_nobody_has_finished_before_everyone_has(star: Star) -> None:
    async def talk() -> Any:
        release = asyncio.Event()

        async def late(end: End) -> None:
            await release.wait()

        run = asyncio.create_task(star.outcomes({"telco": late}))
        await asyncio.sleep(1)
        assert not run.done()
        release.set()
        return await run

    assert asyncio.run(talk()) == dict.fromkeys(star.identities)


def test_who_has_ended_hears_of_who_fails_later(star: Star) -> None:
    async def fails(end: End) -> None:
        await asyncio.sleep(0.5)
        raise DataError("column salary of telco is constant")

    outcomes = asyncio.run(star.outcomes({"telco": fails}))
    for name in ("coordinator", "shop", "bank"):
        assert str(outcomes[name]) == "telco stopped with a DataError; its own log says why"


def test_a_wait_has_an_end(star: Star) -> None:
    limits = Limits(time_limit=1, absence_limit=1)

    async def silent(end: End) -> None:
        await asyncio.sleep(3)

    async def talk() -> list[Any]:
        plays = {"coordinator": hears("bank"), "shop": silent, "bank": silent, "telco": silent}
        run = [star.play(name, play, limits=limits) for name, play in plays.items()]
        return await asyncio.gather(*run, return_exceptions=True)

    assert "has waited 1 s for a message of bank" in str(asyncio.run(talk())[0])


def test_a_message_beyond_the_limit_is_not_sent(star: Star) -> None:
    limits = Limits(time_limit=20, absence_limit=1, message_limit=1000)
    star.limits = limits
    outcomes = asyncio.run(star.outcomes({"shop": says("bank", bytes(1001))}))
    assert isinstance(outcomes["shop"], LocalProtocolError)
    assert "raise it everywhere" in str(outcomes["shop"])


def test_a_receiver_that_does_not_read_stops_a_sender_that_floods(star: Star) -> None:
    """Two of the largest messages are kept for a role that computes; a third is refused, not stored."""
    star.limits = Limits(time_limit=20, absence_limit=1, message_limit=1000)
    plays = {"shop": says("coordinator", *[bytes(900)] * 3), "coordinator": hears("bank")}
    outcomes = asyncio.run(star.outcomes({**plays, "bank": hears("telco"), "telco": hears("bank")}))
    assert "shop stopped with a RemoteProtocolError" in str(outcomes["coordinator"])


@pytest.mark.parametrize("cut_after", [70_000, 1_500_000])
def test_cut_connections_lose_and_repeat_nothing(star: Star, cut_after: int) -> None:
    """A connection that is cut early may carry the greeting, which takes about 3 kB, and no whole message."""
    sizes = [7, 100_000, 3, 1_100_000, 20_000, 0, 90_000] * 3
    envelopes = [number.to_bytes(4, "big") * (size // 4 + 1) for number, size in enumerate(sizes)]
    star.dial = f"127.0.0.1:{free_port()}"
    star.limits = Limits(time_limit=60, absence_limit=30)

    async def echo(end: End) -> None:
        for _ in envelopes:
            await end.transport.deliver("bank", "shop", await end.transport.collect("bank", "shop"))

    async def asks(end: End) -> list[bytes]:
        await says("bank", *envelopes)(end)
        heard: list[bytes] = await hears(*["bank"] * len(envelopes))(end)
        return heard

    async def talk() -> dict[str, Any]:
        proxy = Proxy(star.listen)
        async with proxy.listening(int(star.dial.split(":")[1])):
            proxy.cut_after = cut_after
            run = asyncio.create_task(star.outcomes({"shop": asks, "bank": echo}))
            while not run.done() and proxy.connections < 20:
                await asyncio.sleep(0.05)
            proxy.cut_after = None
            return await run

    outcomes = asyncio.run(talk())
    assert outcomes["shop"] == envelopes


def test_a_network_that_is_down_for_a_while_is_waited_for(star: Star) -> None:
    star.dial = f"127.0.0.1:{free_port()}"
    star.limits = Limits(time_limit=20, absence_limit=10)

    async def talk() -> dict[str, Any]:
        proxy, gathering = Proxy(star.listen), Gathering()
        async with proxy.listening(int(star.dial.split(":")[1])):
            run = gathering.start(star)
            await gathering.complete.wait()
            proxy.up = False
            proxy.cut()
            await asyncio.sleep(1)
            gathering.release.set()
            await asyncio.sleep(0.5)
            assert not run.done()
            proxy.up = True
            return await run

    assert asyncio.run(talk()) == ALL_WELL


def test_a_network_that_stays_down_ends_the_run_everywhere(star: Star) -> None:
    star.dial = f"127.0.0.1:{free_port()}"

    async def talk() -> dict[str, Any]:
        proxy, gathering = Proxy(star.listen), Gathering()
        async with proxy.listening(int(star.dial.split(":")[1])):
            run = gathering.start(star)
            await gathering.complete.wait()
            proxy.up = False
            proxy.cut()
            gathering.release.set()
            return await run

    outcomes = asyncio.run(talk())
    assert "out of reach" in str(outcomes["coordinator"])
    assert "coordinator at 127.0.0.1" in str(outcomes["bank"])
