from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.messages import MESSAGES
from protocol.messages.alignment import (
    BlindedIds,
    BlindingKey,
    IdKindAnnouncement,
    PartlyBlindedIds,
    SharedPositions,
)
from protocol.messages.forward import PartialLogits
from protocol.messages.planning import BatchPlan, Schedule
from protocol.messages.rounds import EncryptedResiduals, EpochEnd, MaskedGradients, PlainResiduals
from protocol.messages.scoring import ScoreRequest
from protocol.messages.setup import SessionKey
from protocol.numbers import Ciphertexts, Residues
from protocol.transport.channel import Channel
from protocol.transport.codec import ciphertexts, decode, encode
from protocol.transport.in_process import InProcessTransport
from scenarios.running.runner import connect
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


class Recorder(InProcessTransport):
    """Keeps every envelope and can alter the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[bytes] = []
        self.alter: Callable[[bytes], bytes] = lambda envelope: envelope

    async def deliver(self, sender: str, receiver: str, envelope: bytes) -> None:
        self.envelopes.append(envelope)
        await super().deliver(sender, receiver, self.alter(envelope))


@pytest.fixture
def transport() -> Recorder:
    return Recorder()


@pytest.fixture
def channels(load_scenario: LoadScenario, transport: Recorder) -> dict[str, Channel]:
    """Channels of parties that have their session keys, as after the first step of every run."""
    connected = connect(load_scenario(), transport)
    greet(connected, transport)
    transport.envelopes.clear()
    for channel in connected.values():
        channel.ledger.sent.clear()
        channel.ledger.counts.clear()
    return connected


def greet(channels: Mapping[str, Channel], transport: InProcessTransport) -> None:
    data_parties = {name: one for name, one in channels.items() if name != "coordinator"}
    ledgers = {name: one.ledger for name, one in data_parties.items()}
    roles = {name: one.greet() for name, one in data_parties.items()}
    asyncio.run(transport.run(roles, ledgers))


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float64, st.integers(0, 20), elements=finite))
def test_arrays_round_trip(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    again = decode(PartialLogits, encode(PartialLogits(values, values.reshape(-1, 1))))
    assert again.values.tobytes() == again.latent_sums.tobytes() == values.tobytes()
    assert again.latent_sums.shape == (len(values), 1)
    integers = values.view(np.int64)
    assert (
        decode(ScoreRequest, encode(ScoreRequest(integers, np.array([20])))).entities.tolist()
        == integers.tolist()
    )


@given(st.lists(st.integers(0, 2**512 - 1)), st.booleans(), st.integers(1, 2**31))
def test_other_fields_round_trip(integers: list[int], flag: bool, number: int) -> None:
    residues = Residues.of(integers, 64)
    assert residues.integers() == integers
    message = EncryptedResiduals(Ciphertexts(64, residues.data), Ciphertexts(8, b""))
    again = decode(EncryptedResiduals, encode(message))
    assert (again.values.width, again.values.data) == (64, residues.data)
    assert ciphertexts(message) == len(integers)
    assert decode(EpochEnd, encode(EpochEnd(flag, not flag))).best is flag
    assert decode(Schedule, encode(Schedule(number, 1))).rounds == number
    key = decode(BlindingKey, encode(BlindingKey("user", bytes(32))))
    assert (key.entity, key.key) == ("user", bytes(32))


def test_equal_messages_give_equal_bytes() -> None:
    assert encode(Schedule(2, 3)) == encode(Schedule(2, 3)) != encode(Schedule(3, 2))


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=200))
def test_bytes_nobody_wrote_are_refused_without_a_crash(kind: str, data: bytes) -> None:
    try:
        message = decode(MESSAGES[kind], data)
    except RemoteProtocolError:
        return
    assert encode(message)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Schedule, [1]),
        (Schedule, [1, 2, 3]),
        (Schedule, [1, "2"]),
        (Schedule, [True, 1]),
        (Schedule, [0, 1]),
        (EpochEnd, [1, True]),
        (ScoreRequest, [[[2], bytes(8)]]),
        (ScoreRequest, [[[True], bytes(8)]]),
        (ScoreRequest, [[[-1, -1], bytes(8)]]),
        (ScoreRequest, [[[1, 1, 1], bytes(8)]]),
        (ScoreRequest, [[[2**40, 0], b""]]),
        (ScoreRequest, [[[], bytes(8)]]),
        (ScoreRequest, [bytes(8)]),
        (PartialLogits, [[[1], np.float64(np.nan).tobytes()], [[1, 0], b""]]),
        (PartialLogits, [[[1], bytes(8)], [[2, 0], b""]]),
        (PartialLogits, [[[1], bytes(8)], [[1], bytes(8)]]),
        (EncryptedResiduals, [[0, b""], [1, b""]]),
        (EncryptedResiduals, [[1, b""], [3, bytes(4)]]),
        (BlindedIds, [bytes(17), 0]),
        (BlindedIds, [bytes(16), -1]),
        (BlindedIds, [b"", 1]),
        (PartlyBlindedIds, [bytes(48), 0]),
        (SharedPositions, [[[1, 1], bytes(8)], 0]),
        (IdKindAnnouncement, ["user", "float"]),
        (BlindingKey, ["user", bytes(31)]),
        (BatchPlan, [[[2], bytes(16)], [[1], np.int64(3).tobytes()], [[1], np.int64(3).tobytes()]]),
    ],
)
def test_malformed_messages_are_refused(kind: type[Schedule], fields: list[object]) -> None:
    with pytest.raises(RemoteProtocolError, match=r"declared fields|malformed"):
        decode(kind, msgpack.packb(fields))


def exchange(channels: dict[str, Channel]) -> list[float]:
    async def talk() -> list[float]:
        for values in ([1.0], [2.0]):
            await channels["bank"].send("shop", PartialLogits(np.array(values), np.zeros((1, 0))))
        first = await channels["shop"].receive("bank", PartialLogits)
        second = await channels["shop"].receive("bank", PartialLogits)
        return [*first.values.tolist(), *second.values.tolist()]

    return asyncio.run(talk())


def test_messages_arrive_in_order_and_are_counted(channels: dict[str, Channel]) -> None:
    channels["shop"].view = []
    assert exchange(channels) == [1.0, 2.0]
    ledger = channels["bank"].ledger
    assert ledger.counts["setup", "messages sent"] == 2
    assert ledger.counts["setup", "bytes sent"] == sum(record.size for record in ledger.sent)
    assert [sender for sender, _ in channels["shop"].view] == ["bank", "bank"]
    assert all(record.sealed for record in ledger.sent)


def test_what_the_coordinator_relays_it_cannot_read(
    channels: dict[str, Channel], transport: Recorder
) -> None:
    exchange(channels)
    plain = encode(PartialLogits(np.array([1.0]), np.zeros((1, 0))))
    assert all(plain not in envelope for envelope in transport.envelopes)
    assert np.float64(1.0).tobytes() not in b"".join(transport.envelopes)


def flip(envelope: bytes, position: int) -> bytes:
    altered = bytearray(envelope)
    altered[position] ^= 1
    return bytes(altered)


@pytest.mark.parametrize(
    ("alter", "match"),
    [
        (lambda envelope: flip(envelope, -1), "altered on its way"),
        (lambda envelope: flip(envelope, -20), "altered on its way"),
        (lambda envelope: flip(envelope, 6), "was expected to send PartialLogits as message 2"),
        (lambda envelope: envelope[:-1], "not an envelope"),
        (lambda envelope: b"", "not an envelope"),
        (lambda envelope: msgpack.packb([1, 2]), "not an envelope"),
    ],
)
def test_an_altered_envelope_is_refused(
    channels: dict[str, Channel],
    transport: Recorder,
    alter: Callable[[bytes], bytes],
    match: str,
) -> None:
    transport.alter = alter
    with pytest.raises(RemoteProtocolError, match=match):
        exchange(channels)


def test_a_replayed_envelope_is_refused(channels: dict[str, Channel], transport: Recorder) -> None:
    transport.alter = lambda envelope: transport.envelopes[0]
    with pytest.raises(RemoteProtocolError, match="as message 3 of this run to shop, but sent Par"):
        exchange(channels)


def test_another_run_does_not_understand(load_scenario: LoadScenario, transport: Recorder) -> None:
    sender, receiver = (connect(load_scenario(), transport) for _ in range(2))
    for channels in (sender, receiver):
        greet(channels, transport)
    with pytest.raises(RemoteProtocolError):
        exchange({"bank": sender["bank"], "shop": receiver["shop"]})


def test_another_kind_or_version_is_named(
    channels: dict[str, Channel], transport: Recorder
) -> None:
    async def talk() -> None:
        await channels["shop"].send("bank", ScoreRequest(np.arange(2), np.array([2])))
        await channels["bank"].receive("shop", BatchPlan)

    with pytest.raises(RemoteProtocolError, match="but sent ScoreRequest as message 2"):
        asyncio.run(talk())

    def other_version(envelope: bytes) -> bytes:
        header, body = msgpack.unpackb(envelope)
        return bytes(msgpack.packb([msgpack.packb([99, *msgpack.unpackb(header)[1:]]), body]))

    transport.alter = other_version
    with pytest.raises(RemoteProtocolError, match="protocol version 99"):
        exchange(channels)


def test_a_role_says_only_what_is_its_to_say(channels: dict[str, Channel]) -> None:
    residuals = PlainResiduals(np.arange(3))
    with pytest.raises(LocalProtocolError, match="a feature party does not send PlainResiduals"):
        asyncio.run(channels["bank"].send("telco", residuals))
    masked = MaskedGradients(Ciphertexts(1, b""))
    with pytest.raises(LocalProtocolError, match="to a label party"):
        asyncio.run(channels["bank"].send("shop", masked))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (msgpack.packb([bytes(31)]), "a session key of 32 bytes"),
        (msgpack.packb([1]), r"the declared fields \(key\)"),
        (msgpack.packb([]), r"the declared fields \(key\)"),
        (b"\xc1", r"the declared fields \(key\)"),
    ],
)
def test_whose_message_was_malformed_and_what_was_expected_is_said(
    load_scenario: LoadScenario, transport: Recorder, body: bytes, expected: str
) -> None:
    channels = connect(load_scenario(), transport)

    async def talk() -> None:
        await channels["bank"].send("shop", SessionKey(bytes(32)))
        await channels["shop"].receive("bank", SessionKey)

    transport.alter = lambda envelope: msgpack.packb([msgpack.unpackb(envelope)[0], body])
    words = f"^bank sent shop a SessionKey that is malformed: expected {expected}; both need one"
    with pytest.raises(RemoteProtocolError, match=words):
        asyncio.run(talk())


def test_a_sealed_message_that_is_malformed_names_its_sender(
    channels: dict[str, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    malformed = msgpack.packb([[[1], bytes(8)], [[2, 0], b""]])
    monkeypatch.setattr("protocol.transport.channel.encode", lambda message: malformed)
    with pytest.raises(
        RemoteProtocolError, match=r"^bank sent shop a PartialLogits that is malformed"
    ):
        exchange(channels)
