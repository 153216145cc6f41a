"""Keys that nobody should encrypt under, each with the best certificate that its maker can give."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from math import gcd, prod

import gmpy2
from gmpy2 import mpz

from protocol.encryption import certificate
from protocol.messages.setup import PublicKeyAnnouncement
from protocol.numbers import Residues

BITS = 512


def prime(bits: int) -> int:
    """Draw a prime with its two top bits set."""
    return int(gmpy2.next_prime(secrets.randbits(bits) | 0b11 << (bits - 2)))


def prime_beside(factor: int, bits: int) -> int:
    """Draw a prime Q with its two top bits set, of which ``factor`` divides Q - 1."""
    while True:
        drawn = secrets.randbits(bits) | 0b11 << (bits - 2)
        candidate = drawn - drawn % (2 * factor) + 1
        if gmpy2.is_prime(candidate) and candidate >> (bits - 2) == 0b11:
            return candidate


def phi(primes: list[int]) -> int:
    """Return phi of a product of primes."""
    return prod(one - 1 for one in set(primes)) * prod(primes) // prod(set(primes))


def best_roots(n: int, order: int) -> list[int]:
    """Return n-th roots that are right wherever a unit has one, of phi(n) = ``order``."""
    while (common := gcd(n, order)) > 1:
        order //= common
    return [pow(int(value), pow(n, -1, order), n) for value in certificate._values(mpz(n))]


def announce(n: int, roots: list[int], width: int | None = None) -> PublicKeyAnnouncement:
    """Write down a modulus and roots, of so many bytes each or as many as the modulus needs."""
    own = max(1, -(-n.bit_length() // 8))
    return PublicKeyAnnouncement(n.to_bytes(own, "little"), Residues.of(roots, width or own))


def announce_product(draw: Callable[[], list[int]], bits: int = BITS) -> PublicKeyAnnouncement:
    """Announce a product of primes that has so many bits."""
    while True:
        primes = draw()
        n = prod(primes)
        if n.bit_length() == bits:
            return announce(n, best_roots(n, phi(primes)))


def sound() -> tuple[int, list[int]]:
    """Return a modulus and a certificate that are both right."""
    p, q = prime(BITS // 2), prime(BITS // 2)
    return p * q, best_roots(p * q, (p - 1) * (q - 1))


def _changed(change: Callable[[int, list[int]], list[int]]) -> Callable[[], PublicKeyAnnouncement]:
    def make() -> PublicKeyAnnouncement:
        n, roots = sound()
        return announce(n, change(n, roots))

    return make


def _square() -> list[int]:
    return [prime(BITS // 2)] * 2


def _square_and_another() -> list[int]:
    return [prime(171)] * 2 + [prime(170)]


def _beside(factor: int) -> list[int]:
    rest = BITS - (factor - 2).bit_length()
    return [factor, prime_beside(factor, rest // 2), prime(rest - rest // 2)]


def _wide() -> PublicKeyAnnouncement:
    n, roots = sound()
    return announce(n, roots, BITS // 8 + 1)


def _long() -> PublicKeyAnnouncement:
    n, roots = sound()
    return PublicKeyAnnouncement(n.to_bytes(BITS // 8 + 1, "little"), announce(n, roots).roots)


_UNPROVED = "cannot be trusted: its certificate does not prove"
_RANGE = "cannot be trusted: a root of its certificate does not lie between 0 and n"
_FACTOR = "cannot be trusted: it has a prime factor below 65536"
_SIZE = "announced a key of {} bits where key_bits = 512 was agreed"

MALFORMED: dict[str, tuple[Callable[[], PublicKeyAnnouncement], str]] = {
    "even": (lambda: announce_product(lambda: [2, prime(256), prime(255)]), _FACTOR),
    "a small factor": (lambda: announce_product(lambda: [65521, prime(248), prime(248)]), _FACTOR),
    "a prime": (
        lambda: announce_product(lambda: [prime(BITS)]),
        "cannot be trusted: it is a prime",
    ),
    "a square": (lambda: announce_product(_square), _UNPROVED),
    "a square and another": (lambda: announce_product(_square_and_another), _UNPROVED),
    "a factor of another less one": (
        lambda: announce_product(lambda: _beside(prime(40))),
        _UNPROVED,
    ),
    "the least such that is not small": (
        lambda: announce_product(lambda: _beside(65537)),
        _UNPROVED,
    ),
    "too short": (
        lambda: announce_product(lambda: [prime(255), prime(255)], 510),
        _SIZE.format(510),
    ),
    "too long": (
        lambda: announce_product(lambda: [prime(257), prime(257)], 514),
        _SIZE.format(514),
    ),
    "nothing": (lambda: announce(0, [0] * 8), _SIZE.format(0)),
    "one": (lambda: announce(1, [1] * 8), _SIZE.format(1)),
    "zero bytes behind": (_long, "announced a key of 65 bytes with 8 roots of 64 bytes"),
    "a root too few": (_changed(lambda n, roots: roots[:-1]), "7 roots of 64 bytes"),
    "a root too many": (_changed(lambda n, roots: [*roots, roots[0]]), "9 roots of 64 bytes"),
    "no roots": (_changed(lambda n, roots: []), "0 roots of 64 bytes"),
    "roots of other lengths": (_wide, "8 roots of 65 bytes"),
    "a wrong root": (_changed(lambda n, roots: [*roots[:-1], roots[-1] ^ 1]), _UNPROVED),
    "in another order": (_changed(lambda n, roots: roots[::-1]), _UNPROVED),
    "of another key": (_changed(lambda n, roots: [root % n for root in sound()[1]]), _UNPROVED),
    "zeros": (_changed(lambda n, roots: [0] * 8), _RANGE),
    "n for a root": (_changed(lambda n, roots: [*roots[:-1], n]), _RANGE),
    "beyond n": (_changed(lambda n, roots: [*roots[:-1], (1 << BITS) - 1]), _RANGE),
    "ones": (_changed(lambda n, roots: [1] * 8), _UNPROVED),
}
