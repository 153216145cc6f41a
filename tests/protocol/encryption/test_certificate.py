from __future__ import annotations

import secrets
from hashlib import shake_256
from math import gcd

import gmpy2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.encryption import certificate
from protocol.encryption.certificate import ALPHA, ROOTS, certify, verify
from protocol.encryption.keys import PrivateKey
from protocol.errors import RemoteProtocolError

# Two primes of 128 bits, drawn once: their product's first value and its root, worked out below without our code.
P, Q = 0xF1A1A4CF1C1B29E8E3F6F7B9C8D6E5A3, 0xE9D8C7B6A5948372615F4E3D2C1B0A8F


def prime(bits: int) -> int:
    return int(gmpy2.next_prime(secrets.randbits(bits) | 0b11 << (bits - 2)))


def dividing(prime_factor: int, bits: int) -> int:
    """Return a prime p with ``prime_factor`` dividing p - 1."""
    while True:
        candidate = prime_factor * (secrets.randbits(bits - prime_factor.bit_length()) | 1) * 2 + 1
        if gmpy2.is_prime(candidate):
            return candidate


def roots_as_far_as_they_go(n: int, phi: int) -> list[int]:
    """Return what a cheat can: n-th roots where n has an inverse modulo phi without the common factor."""
    common = gcd(n, phi)
    inverse = int(gmpy2.invert(n, phi // common**3 if common > 1 else phi) if common == 1 else 1)
    return [pow(int(value), inverse, n) for value in certificate._values(gmpy2.mpz(n))]


def test_an_honest_key_is_proved(insecure_test_key: PrivateKey) -> None:
    roots = certify(insecure_test_key)
    assert len(roots) == ROOTS == 8
    verify(int(insecure_test_key.public_key.n), roots, sender="coordinator")


def test_the_values_and_their_roots_are_those_of_a_few_plain_lines() -> None:
    p, q = int(gmpy2.next_prime(P)), int(gmpy2.next_prime(Q))
    n, phi = p * q, (p - 1) * (q - 1)
    bytes_of_n = n.to_bytes(32, "little")
    expected = []
    for number in range(8):
        digest = shake_256(b"colonnade modulus 1" + bytes([number]) + bytes_of_n).digest(32 + 16)
        expected.append(pow(int.from_bytes(digest, "little") % n, pow(n, -1, phi), n))
    assert certify(PrivateKey(gmpy2.mpz(p), gmpy2.mpz(q))) == expected


@given(st.integers(0, ROOTS - 1), st.integers(1, 1 << 64))
@settings(max_examples=20, deadline=None)
def test_no_root_may_be_another(insecure_test_key: PrivateKey, number: int, added: int) -> None:
    n, roots = int(insecure_test_key.public_key.n), certify(insecure_test_key)
    roots[number] = (roots[number] + added) % n
    with pytest.raises(RemoteProtocolError, match="does not prove"):
        verify(n, roots, sender="coordinator")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda roots, n: roots[:-1], "has 7 roots where 8"),
        (lambda roots, n: [], "has 0 roots where 8"),
        (lambda roots, n: roots[::-1], "does not prove"),
        (lambda roots, n: [root + n for root in roots], "does not prove"),
        (lambda roots, n: [0] * ROOTS, "does not prove"),
        (lambda roots, n: [-root for root in roots], "does not prove"),
    ],
    ids=["one too few", "none", "in another order", "beyond n", "zeros", "negative"],
)
def test_another_certificate_is_refused(
    insecure_test_key: PrivateKey, changed: object, words: str
) -> None:
    n, roots = int(insecure_test_key.public_key.n), certify(insecure_test_key)
    assert callable(changed)
    with pytest.raises(RemoteProtocolError, match=f"coordinator announced .*{words}"):
        verify(n, changed(roots, n), sender="coordinator")


def test_the_certificate_of_another_key_is_refused(insecure_test_key: PrivateKey) -> None:
    other = PrivateKey.generate(512, insecure_key=True)
    with pytest.raises(RemoteProtocolError, match="does not prove"):
        verify(int(other.public_key.n), certify(insecure_test_key), sender="coordinator")


def test_malformed_moduli_are_refused() -> None:
    p, q = prime(128), prime(128)
    r = prime(40)
    malformed = {
        "even": (2 * p * q, (p - 1) * (q - 1), "factor below"),
        "a small factor": (65521 * p * q, 65520 * (p - 1) * (q - 1), "factor below"),
        "a prime": (prime(256), 0, "it is a prime"),
        "p squared q": (p * p * q, p * (p - 1) * (q - 1), "does not prove"),
        "a prime's square": (p * p, p * (p - 1), "does not prove"),
        "a factor that divides another less one": (
            r * (q_ := dividing(r, 128)) * p,
            (r - 1) * (q_ - 1) * (p - 1),
            "does not prove",
        ),
    }
    for what, (n, phi, words) in malformed.items():
        roots = roots_as_far_as_they_go(n, phi) if phi else [1] * ROOTS
        with pytest.raises(RemoteProtocolError, match=words):
            verify(n, roots, sender="coordinator")
        assert what


def test_the_small_primes_are_all_those_below_the_bound() -> None:
    below = certificate._small_primes()
    assert below % 65521 == 0
    assert below % 65537 != 0
    assert gmpy2.next_prime(65521) > ALPHA
