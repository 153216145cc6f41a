"""A coordinator that deviates: it names the same run again, or meddles with the keys that it relays.

Seals used to be derived from static keys and the run's id, which the coordinator chooses. Named twice, keys and nonces
came twice, and two sealed messages gave it the XOR of what they said; and who later stole both static keys read every
run.

With session keys there was one thing left to do: put a session key of its own in the place of one party's, keep what
the other seals under it, and steal the first one's static key later. That opened what was said before the first
answer; since keys are confirmed nothing is.

A party that has results of a run used to hear of the other one of that name at its end, when both had been played and
the later one could not be kept; it now says nothing in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.errors import PartyUnavailableError, ProtocolError, RemoteProtocolError
from protocol.ledger import Ledger
from protocol.messages.message import Role
from protocol.messages.scoring import ScoreRequest
from protocol.messages.setup import SessionKey
from protocol.transport.channel import Channel, split
from protocol.transport.codec import decode, encode
from protocol.transport.in_process import InProcessTransport
from protocol.transport.link import Chunk, Frame
from protocol.transport.relay import CoordinatorTransport
from protocol.transport.roster import Member, Roster
from protocol.transport.sealing import PROTOCOL_VERSION, Seals
from scenarios.running import processes
from scenarios.running.organisation import Organisation
from scenarios.scenario import Scenario

NAMES = ("shop", "bank")
RUN = bytes(16)
RUNS = 1000
WORDS = (b"batches of the first run", b"batches of another one!!")


@pytest.fixture(scope="module")
def statics() -> dict[str, X25519PrivateKey]:
    return {name: X25519PrivateKey.generate() for name in NAMES}


def roster(statics: dict[str, X25519PrivateKey]) -> Roster:
    members = {
        name: Member(name, role, statics[name].public_key().public_bytes_raw())
        for name, role in zip(NAMES, (Role.LABEL, Role.FEATURE), strict=True)
    }
    return Roster(RUN, members)


class StaticSeals:
    """The weaker variant: keys from static keys and the run alone."""

    def __init__(self, name: str, other: str, statics: dict[str, X25519PrivateKey]) -> None:
        theirs: X25519PublicKey = statics[other].public_key()
        derivation = HKDF(SHA256(), length=32, salt=RUN, info=b"shop to bank")
        self._cipher = ChaCha20Poly1305(derivation.derive(statics[name].exchange(theirs)))

    def close(self, receiver: str, sequence: int, body: bytes, header: bytes) -> bytes:
        return self._cipher.encrypt(sequence.to_bytes(12, "little"), body, header)


def fresh(statics: dict[str, X25519PrivateKey]) -> tuple[Seals, Seals]:
    shop, bank = (Seals(name, roster(statics), statics[name]) for name in NAMES)
    shop.agree("bank", bank.session_key)
    bank.agree("shop", shop.session_key)
    return shop, bank


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def test_with_static_keys_a_run_named_twice_gives_away_what_was_said(
    statics: dict[str, X25519PrivateKey],
) -> None:
    closed = [
        StaticSeals("shop", "bank", statics).close("bank", 0, words, b"header") for words in WORDS
    ]
    assert xor(closed[0][:24], closed[1][:24]) == xor(*WORDS)


def test_with_session_keys_no_key_comes_twice_however_the_run_is_named(
    statics: dict[str, X25519PrivateKey],
) -> None:
    # Equal key and nonce would close equal words to equal bytes.
    closed = {
        shop.close("bank", 0, WORDS[0], b"header")
        for shop, _ in (fresh(statics) for _ in range(RUNS))
    }
    assert len(closed) == RUNS
    streams = np.frombuffer(b"".join(xor(one[:24], WORDS[0]) for one in closed), dtype=np.uint64)
    assert len(set(streams.tolist())) == len(streams)


def test_who_steals_static_keys_later_reads_a_static_seal_and_no_other(
    statics: dict[str, X25519PrivateKey],
) -> None:
    recorded = StaticSeals("shop", "bank", statics).close("bank", 0, WORDS[0], b"header")
    thief = StaticSeals("bank", "shop", statics)._cipher
    assert thief.decrypt(bytes(12), recorded, b"header") == WORDS[0]

    shop, bank = fresh(statics)
    recorded = shop.close("bank", 0, WORDS[0], b"header")
    # Both static keys and every byte that went by give three exchanges of four, and all that is public.
    sessions = {"shop": shop.session_key, "bank": bank.session_key}
    publics = {name: X25519PublicKey.from_public_bytes(key) for name, key in sessions.items()}
    known = [
        statics["shop"].exchange(publics["bank"]),
        statics["bank"].exchange(publics["shop"]),
        statics["shop"].exchange(statics["bank"].public_key()),
    ]
    names = [
        (name, statics[name].public_key().public_bytes_raw(), sessions[name]) for name in NAMES
    ]
    purpose: bytes = msgpack.packb(["colonnade seal", PROTOCOL_VERSION, *names])

    def opens(sealed: bytes, exchanged: list[bytes]) -> bool:
        key = HKDF(SHA256(), length=32, salt=RUN, info=purpose).derive(b"".join(exchanged))
        try:
            return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, b"header") == WORDS[0]
        except InvalidTag:
            return False

    for order in permutations(known):
        for guess in (b"", bytes(32), *sessions.values(), *known):
            assert not opens(recorded, [guess, *order])
    # The weaker variant: the same without the exchange of the two session keys.
    key = HKDF(SHA256(), length=32, salt=RUN, info=purpose).derive(b"".join(known))
    assert opens(ChaCha20Poly1305(key).encrypt(bytes(12), WORDS[0], b"header"), known)


def test_a_coordinator_that_puts_its_own_session_keys_in_between_reads_nothing(
    statics: dict[str, X25519PrivateKey],
) -> None:
    own = X25519PrivateKey.generate().public_key().public_bytes_raw()
    shop, bank = (Seals(name, roster(statics), statics[name]) for name in NAMES)
    shop.agree("bank", own)
    bank.agree("shop", own)
    closed = shop.close("bank", 0, WORDS[0], b"header")
    with pytest.raises(RemoteProtocolError, match="sealed under other keys than agreed"):
        bank.open("shop", 0, closed, b"header")


class Meddling(InProcessTransport):
    """The coordinator's hands: shop gets another session key than bank's, and what goes by is recorded."""

    def __init__(self, meddle: Callable[[bytes, bytes], bytes]) -> None:
        super().__init__()
        self._meddle = meddle
        self.keys: dict[str, bytes] = {}
        self.sealed: list[bytes] = []
        self.of_shop: list[bytes] = []

    async def deliver(self, sender: str, receiver: str, envelope: bytes) -> None:
        header, body = split(envelope, sender)
        if sender == "shop":
            self.of_shop.append(envelope)
        if b"SessionKey" not in header:
            self.sealed.append(envelope)
        else:
            self.keys[sender] = decode(SessionKey, body).key
            if sender == "bank":
                key = self._meddle(self.keys["bank"], self.keys["shop"])
                envelope = msgpack.packb([header, encode(SessionKey(key))])
        await super().deliver(sender, receiver, envelope)


async def greet_without_confirmation(channel: Channel) -> None:
    """The weaker variant: session keys are taken as they come."""
    other = NAMES[1 - NAMES.index(channel.name)]
    channel._greeted.add(other)
    await channel.send(other, SessionKey(channel._seals.session_key))
    channel._seals.agree(other, (await channel.receive(other, SessionKey)).key)


def talk(
    transport: Meddling,
    statics: dict[str, X25519PrivateKey],
    greet: Callable[[Channel], Coroutine[Any, Any, None]],
) -> None:
    """Have shop say one thing to bank, once they have greeted each other."""
    channels = {
        name: Channel(name, roster(statics), transport, Ledger(name), statics[name])
        for name in NAMES
    }

    async def shop() -> None:
        await greet(channels["shop"])
        await channels["shop"].send("bank", ScoreRequest(np.arange(3), np.array([3])))

    roles = {"shop": shop(), "bank": greet(channels["bank"])}
    ledgers = {name: channel.ledger for name, channel in channels.items()}
    asyncio.run(transport.run(roles, ledgers))


def steal_and_read(
    transport: Meddling, statics: dict[str, X25519PrivateKey], own: X25519PrivateKey
) -> list[int]:
    """Return what shop asked: with bank's static key and a session key of one's own that is bank's half."""
    thief = Seals("bank", roster(statics), statics["bank"])
    thief._session, thief.session_key = own, own.public_key().public_bytes_raw()
    thief.agree("shop", transport.keys["shop"])
    header, body = split(transport.sealed[-1], "shop")
    *_, sequence = msgpack.unpackb(header)
    asked = decode(ScoreRequest, thief.open("shop", sequence, body, header))
    return [int(entity) for entity in asked.entities]


def test_a_session_key_put_in_between_and_a_static_key_stolen_later_open_what_was_not_confirmed(
    statics: dict[str, X25519PrivateKey],
) -> None:
    own = X25519PrivateKey.generate()
    transport = Meddling(lambda bank, shop: own.public_key().public_bytes_raw())
    talk(transport, statics, greet_without_confirmation)
    assert steal_and_read(transport, statics, own) == [0, 1, 2]


def of_an_earlier_run() -> bytes:
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


MEDDLINGS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "its own, or one of an earlier run": lambda bank, shop: of_an_earlier_run(),
    "one bit altered": lambda bank, shop: bytes([bank[0] ^ 1]) + bank[1:],
    # X25519 ignores the last bit: all exchanges come out the same.
    "the same key spelled otherwise": lambda bank, shop: bank[:-1] + bytes([bank[-1] ^ 128]),
    "sent back": lambda bank, shop: shop,
    "of low order": lambda bank, shop: bytes(32),
}


@pytest.mark.parametrize("meddle", MEDDLINGS.values(), ids=MEDDLINGS)
def test_whatever_is_done_to_a_session_key_ends_the_run_before_anything_is_said(
    meddle: Callable[[bytes, bytes], bytes], statics: dict[str, X25519PrivateKey]
) -> None:
    transport = Meddling(meddle)
    with pytest.raises(RemoteProtocolError, match=r"sealed message from (shop|bank)|as bank's"):
        talk(transport, statics, Channel.greet)
    assert all(b"KeyConfirmation" in envelope for envelope in transport.sealed)


def test_a_run_named_again_and_played_back_to_one_party_ends_there(
    statics: dict[str, X25519PrivateKey],
) -> None:
    recorded = Meddling(lambda bank, shop: bank)
    talk(recorded, statics, Channel.greet)

    async def play_back() -> None:
        transport = InProcessTransport()
        bank = Channel("bank", roster(statics), transport, Ledger("bank"), statics["bank"])
        for envelope in recorded.of_shop:
            await transport.deliver("shop", "bank", envelope)
        await bank.greet()

    with pytest.raises(RemoteProtocolError, match="sealed message from shop"):
        asyncio.run(play_back())


class NamingAgain(CoordinatorTransport):
    """A coordinator that names a run as it likes, and hangs up on the first thing that is said in it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.run = RUN
        self.said = 0

    async def _handle(self, name: str, frame: Frame) -> None:
        if isinstance(frame, Chunk):
            self.said += 1
            raise RemoteProtocolError("enough was heard")
        await super()._handle(name, frame)


def name_again(configurations: Mapping[str, Path], party: str) -> tuple[int, str]:
    """Have a party take part in a run of that name; return how much it said before the end, and why it ended."""
    own = Organisation.read(configurations["coordinator"])
    coordinator = NamingAgain(own.identity, own.roster, own.common, own.configuration.limits)

    async def hold() -> None:
        async with coordinator:
            await coordinator.collect("coordinator", party)

    with ThreadPoolExecutor(1) as thread:
        holding = thread.submit(asyncio.run, hold())
        with pytest.raises(ProtocolError) as ended:
            Organisation.read(configurations[party]).take_part(lambda _: None, lambda *_: None)
        with pytest.raises(PartyUnavailableError, match=f"{party} stopped"):
            holding.result()
    return coordinator.said, str(ended.value)


@pytest.mark.parametrize("party", NAMES)
def test_a_run_that_a_party_has_results_of_ends_before_anything_is_sent(
    party: str,
    load_scenario: Callable[..., Scenario],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.transport.relay.FAREWELL_SECONDS", 0.2)
    folder = tmp_path / "deployed"
    folder.mkdir()
    configurations = processes.prepare(load_scenario(), folder)
    organisation = Organisation.read(configurations[party])
    said, _ = name_again(configurations, party)
    assert said == 1  # a new name is a name like any other
    results = organisation.results / RUN.hex()
    results.mkdir(parents=True)
    (results / "model.json").write_text("of the first run", encoding="utf-8")
    checkpoint = organisation.checkpoints / "epoch-000001"
    checkpoint.mkdir(parents=True)
    said, why = name_again(configurations, party)
    assert said == 0
    assert f"coordinator names a run that {party} has results of in {results}" in why
    assert checkpoint.exists()
    # Who looks at its results at the end alone finds them in the way when all has been said.
    with monkeypatch.context() as weaker:
        weaker.setattr(Organisation, "_place_for", lambda self, run: self.results / run.hex())
        said, _ = name_again(configurations, party)
    assert said == 1
    assert [path.read_text(encoding="utf-8") for path in results.iterdir()] == ["of the first run"]
