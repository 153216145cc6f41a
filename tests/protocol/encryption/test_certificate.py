from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_256
from math import prod
from random import Random

import gmpy2
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed_keys import BITS, MALFORMED, announce, prime, sound

from protocol.encryption import certificate
from protocol.encryption.certificate import ALPHA, ROOTS, certify, verify
from protocol.encryption.exponentiation import MODULAR_MULTIPLICATIONS
from protocol.encryption.keys import PrivateKey
from protocol.errors import RemoteProtocolError
from protocol.ledger import Ledger, charging
from protocol.messages.setup import PublicKeyAnnouncement

# Two primes of 128 bits, drawn once: their product's first value and its root, worked out below without our code.
P, Q = 0xF1A1A4CF1C1B29E8E3F6F7B9C8D6E5A3, 0xE9D8C7B6A5948372615F4E3D2C1B0A8F


def held_against(announced: PublicKeyAnnouncement, bits: int = BITS) -> int:
    return verify(announced.modulus, announced.roots, bits, sender="coordinator")


def test_an_honest_key_is_proved(insecure_test_key: PrivateKey) -> None:
    n, roots = int(insecure_test_key.public_key.n), certify(insecure_test_key)
    assert len(roots) == ROOTS == 8
    assert held_against(announce(n, roots)) == n


def test_more_primes_than_two_are_as_good() -> None:
    primes = [prime(129), prime(128), prime(128), prime(128)]
    n, order = prod(primes), prod(one - 1 for one in primes)
    roots = [pow(int(value), pow(n, -1, order), n) for value in certificate._values(mpz(n))]
    assert held_against(announce(n, roots), n.bit_length()) == n


def test_the_values_and_their_roots_are_those_of_a_few_plain_lines() -> None:
    p, q = int(gmpy2.next_prime(P)), int(gmpy2.next_prime(Q))
    n, phi = p * q, (p - 1) * (q - 1)
    bytes_of_n = n.to_bytes(32, "little")
    expected = []
    for number in range(8):
        digest = shake_256(b"colonnade modulus 1" + bytes([number]) + bytes_of_n).digest(32 + 16)
        expected.append(pow(int.from_bytes(digest, "little") % n, pow(n, -1, phi), n))
    assert certify(PrivateKey(mpz(p), mpz(q))) == expected


@given(st.integers(0, ROOTS - 1), st.integers(1, 1 << 64))
@settings(max_examples=20, deadline=None)
def test_no_root_may_be_another(insecure_test_key: PrivateKey, number: int, added: int) -> None:
    n, roots = int(insecure_test_key.public_key.n), certify(insecure_test_key)
    roots[number] = (roots[number] + added) % n
    with pytest.raises(RemoteProtocolError, match="does not prove"):
        held_against(announce(n, roots))


@pytest.mark.parametrize(("make", "words"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_refused(
    make: Callable[[], PublicKeyAnnouncement], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced, ledger = make(), Ledger("bank")
    if "does not prove" not in words:
        monkeypatch.setattr(gmpy2, "powmod", lambda *_: pytest.fail("a power was taken"))
    with (
        charging(ledger),
        pytest.raises(RemoteProtocolError, match=f"^coordinator .*{words}.*nothing was encrypted"),
    ):
        held_against(announced)
    # What is too long, or too much, is refused before anything is computed.
    assert ledger.total("verifications") == ("cannot be trusted" in words)


def test_a_root_that_is_no_unit_answers_no_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = prime(256), prime(256)
    n, order = p * q, (p - 1) * (q - 1)
    values = [*certificate._values(mpz(n))[:-1], mpz(5 * p)]
    monkeypatch.setattr(certificate, "_values", lambda n: values)
    roots = [pow(int(value), pow(n, -1, order), n) for value in values]
    assert pow(roots[-1], n, n) == values[-1] == 5 * p
    assert roots[-1] % p == 0
    with pytest.raises(RemoteProtocolError, match="has a factor in common with it"):
        held_against(announce(n, roots))
    monkeypatch.undo()
    n, roots = sound()
    with pytest.raises(RemoteProtocolError, match="does not prove"):
        held_against(announce(n, [*roots[:-1], p]))


@pytest.mark.parametrize("r", [3, 7])
def test_one_unit_in_r_has_a_root_where_r_divides_n_and_phi(r: int) -> None:
    # What soundness rests on, counted: all n-th powers modulo a small n, by brute force.
    large = next(q for q in range(2 * r + 1, 10**4, 2 * r) if gmpy2.is_prime(q))
    n = r * large
    powers = {pow(x, n, n) for x in range(n)}
    units = [x for x in range(n) if x % r and x % large]
    assert sum(x in powers for x in units) * r == len(units)
    # What is no unit has one more often.
    others = [x for x in range(n) if not (x % r and x % large)]
    assert sum(x in powers for x in others) * r > len(others)


def test_values_are_spread_over_all_residues() -> None:
    random = Random(1)
    moduli = [random.getrandbits(256) | 1 | 1 << 255 for _ in range(250)]
    fractions = [float(value / n) for n in map(mpz, moduli) for value in certificate._values(n)]
    assert len(fractions) == 2000
    counts = [sum(k <= 8 * fraction < k + 1 for fraction in fractions) for k in range(8)]
    assert sum((count - 250) ** 2 / 250 for count in counts) < 50  # chi square, 7: p = 1e-8


def test_both_are_charged() -> None:
    key, ledger = PrivateKey.generate(BITS, insecure_key=True), Ledger("bank")
    with charging(ledger):
        roots = certify(key)
    assert ledger.counts == {
        ("setup", "certificates"): 1,
        ("setup", MODULAR_MULTIPLICATIONS): 8 * BITS,
    }
    other = Ledger("bank")
    with charging(other):
        held_against(announce(int(key.public_key.n), roots))
    assert other.counts == {
        ("setup", "verifications"): 1,
        ("setup", MODULAR_MULTIPLICATIONS): 8 * BITS,
    }
    assert {*ledger.operation_seconds, *other.operation_seconds} == {
        ("setup", "certificates"),
        ("setup", "verifications"),
    }


def test_the_small_primes_are_all_those_below_the_bound() -> None:
    below = certificate._small_primes()
    assert below % 65521 == 0
    assert below % 65537 != 0
    assert gmpy2.next_prime(65521) > ALPHA
