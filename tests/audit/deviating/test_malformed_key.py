"""A coordinator that deviates: it announces a modulus under which masks do not hide.

``n = r_1 r_2 Q P`` with primes r_i that divide Q - 1. Then ``rho^n`` has no part in the subgroups of order r_i modulo
Q, and ``1 + M n`` is 1 modulo Q: a masked product of its own ciphertexts keeps their character there. The coordinator
sends ciphertexts of which only one has a character of its own, and reads that row of a party's columns modulo r_1 r_2
by Pohlig and Hellman (IEEE Transactions on Information Theory 1978). Measured: 48 of 48 entries of a 4 x 12 matrix.

To look for small factors is not enough: with r = 65537, beyond them, one character tells all entries of 16 bits. A
proof is asked for, by every party that is sent a key, and whatever is malformed ends the run before anything is
encrypted under it.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz, powmod
from malformed_keys import MALFORMED, announce, best_roots, prime, sound

from parties.features import FixedPointMatrix
from protocol.encryption import certificate
from protocol.encryption.encryptors import Masks
from protocol.encryption.keys import EncryptedVector, PublicKey
from protocol.errors import RemoteProtocolError
from protocol.messages.planning import Schedule
from protocol.messages.setup import PublicKeyAnnouncement
from protocol.numbers import IntArray
from protocol.training.gradients import transposed_product
from protocol.training.opening import GradientOpener
from protocol.transport.channel import Channel
from protocol.transport.in_process import InProcessTransport
from psi.alignment import coordinate_alignment
from scenarios.running import runner
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]
SMALL = (1009, 1013)  # together they tell entries of 16 bits apart
NOT_SMALL = (65537,)
ROWS, COLUMNS = 4, 12


def malformed(orders: tuple[int, ...]) -> tuple[int, mpz, int]:
    """Return n, Q and phi(n)."""
    common = math.prod(orders)
    while True:
        large = common * 2 * (secrets.randbits(300) | 1 << 299) + 1
        other = prime(256)
        n = common * large * other
        if gmpy2.is_prime(large) and n.bit_length() % 2 == 0:
            return n, mpz(large), math.prod(one - 1 for one in (*orders, large, other))


class Deviating:
    """The coordinator's part: one telling ciphertext among others, and what comes back of it."""

    def __init__(self, orders: tuple[int, ...]) -> None:
        self.orders = orders
        self.n, self.large, self.phi = malformed(orders)
        generator = next(
            base
            for base in map(mpz, range(2, 1000))
            if all(self._character(base, order) != 1 for order in orders)
        )
        # An n-th power modulo everything else, so that it passes for a ciphertext of 0.
        self.telling = generator
        self.logarithms = {order: self._logarithms(order) for order in orders}

    def _character(self, number: mpz, order: int) -> mpz:
        return powmod(number, (self.large - 1) // order, self.large)

    def _logarithms(self, order: int) -> dict[mpz, int]:
        base, power, found = self._character(self.telling, order), mpz(1), dict[mpz, int]()
        for logarithm in range(order):
            found[power] = logarithm
            power = power * base % self.large
        return found

    def ciphertexts(self, row: int, key: PublicKey) -> EncryptedVector:
        plain = powmod(mpz(secrets.randbelow(self.n)), self.n, key.n_squared)
        values = [self.telling if position == row else plain for position in range(ROWS)]
        return EncryptedVector(key, key.ring.elements(values))

    def read(self, masked: EncryptedVector) -> list[int]:
        """Return the telling row's entries, from results that were masked."""
        modulus, read = math.prod(self.orders), []
        for result in masked.integers():
            lifted, step = 0, 1
            for order, logarithms in self.logarithms.items():  # by the Chinese remainder theorem
                residue = logarithms[self._character(mpz(result), order)]
                lifted += step * ((residue - lifted) * pow(step, -1, order) % order)
                step *= order
            read.append(lifted if 2 * lifted < modulus else lifted - modulus)
        return read


def takes_any(n: int) -> PublicKey:
    """The weaker variant, which every party was once."""
    return PublicKey.accept(n, insecure_key=True)


def looks_for_small_factors(n: int) -> PublicKey:
    """A variant less weak."""
    if gmpy2.gcd(n, certificate._small_primes()) != 1 or gmpy2.is_prime(n):
        raise RemoteProtocolError("it has a prime factor below 65536")
    return PublicKey.accept(n, insecure_key=True)


@pytest.fixture(scope="module")
def columns() -> IntArray:
    return np.random.default_rng(5).integers(-(1 << 15), 1 << 15, (ROWS, COLUMNS))


@pytest.mark.parametrize(
    ("orders", "takes"), [(SMALL, takes_any), (NOT_SMALL, looks_for_small_factors)]
)
def test_it_reads_every_entry_of_a_party_that_asks_for_no_proof(
    columns: IntArray, orders: tuple[int, ...], takes: Callable[[int], PublicKey]
) -> None:
    attacker = Deviating(orders)
    key = takes(attacker.n)
    for row in range(ROWS):
        products = transposed_product(
            FixedPointMatrix.of_scaled(columns.astype(np.int16)), attacker.ciphertexts(row, key)
        )
        masked = Masks.draw(key, len(products)).apply(products)
        assert attacker.read(masked) == columns[row].tolist()


@pytest.mark.parametrize(
    ("orders", "words"), [(SMALL, "prime factor below"), (NOT_SMALL, "does not prove")]
)
def test_a_party_that_asks_for_a_proof_refuses_the_key(orders: tuple[int, ...], words: str) -> None:
    attacker = Deviating(orders)
    announced = announce(attacker.n, best_roots(attacker.n, attacker.phi))
    bits = attacker.n.bit_length()
    with pytest.raises(RemoteProtocolError, match=f"coordinator announced .* {words}"):
        certificate.verify(announced.modulus, announced.roots, bits, sender="coordinator")


def hand_over(scenario: Scenario, party: str, announced: PublicKeyAnnouncement) -> GradientOpener:
    """Let the coordinator announce a key to one party, and no more."""
    transport = InProcessTransport()
    channels = runner.connect(scenario, transport)
    roles: dict[str, Coroutine[Any, Any, Any]] = {
        "coordinator": channels["coordinator"].send(party, announced),
        party: GradientOpener.set_up(channels[party], scenario),
    }
    ledgers = {name: channels[name].ledger for name in roles}
    opener: GradientOpener = asyncio.run(transport.run(roles, ledgers))[party]
    return opener


@pytest.mark.parametrize("party", ["shop", "bank"])
@pytest.mark.parametrize(("make", "words"), MALFORMED.values(), ids=MALFORMED)
def test_every_party_refuses_every_malformed_key(
    party: str,
    make: Callable[[], PublicKeyAnnouncement],
    words: str,
    load_scenario: LoadScenario,
) -> None:
    with pytest.raises(RemoteProtocolError, match=f"^coordinator .*{words}.*nothing was encrypted"):
        hand_over(load_scenario(), party, make())


@pytest.mark.parametrize("party", ["shop", "bank"])
def test_every_party_takes_a_sound_key(party: str, load_scenario: LoadScenario) -> None:
    n, roots = sound()
    key = hand_over(load_scenario(), party, announce(n, roots)).public_key
    assert key is not None
    assert key.n == n


@pytest.mark.parametrize("disclosure", ["open", "shared"])
@pytest.mark.parametrize("party", ["shop", "bank", "telco"])
def test_a_malformed_key_ends_the_run_before_anything_is_encrypted_or_said(
    party: str, disclosure: str, load_scenario: LoadScenario
) -> None:
    scenario = load_scenario(f"disclosure={disclosure}")
    make, words = MALFORMED["the least such that is not small"]
    datasets, channels = runner.load_datasets(scenario), dict[str, Channel]()

    async def coordinator(channel: Channel) -> None:
        with channel.ledger.during("alignment"):
            await coordinate_alignment(channel, scenario.alignment)
        with channel.ledger.during("training"):
            for name in datasets:
                await channel.send(name, make() if name == party else announce(*sound()))
            await channel.receive("shop", Schedule)

    def leader(channel: Channel) -> Coroutine[Any, Any, object]:
        channels[channel.name] = channel
        return runner.label_party(channel, scenario, datasets[channel.name], lambda *_: None)

    def follower(channel: Channel) -> Coroutine[Any, Any, object]:
        channels[channel.name] = channel
        return runner.feature_party(channel, scenario, datasets[channel.name])

    with pytest.raises(RemoteProtocolError, match=words):
        runner.play(scenario, coordinator, leader, follower)
    ledger = channels[party].ledger
    assert {kind for phase, kind in ledger.operation_seconds if phase == "training"} == {
        "verifications"
    }
    assert not [record.kind for record in ledger.sent if record.phase == "training"]
