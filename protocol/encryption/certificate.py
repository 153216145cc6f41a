"""A proof that a modulus is fit to encrypt and to mask under: gcd(n, phi(n)) = 1, and n has no small factor.

Why it must be proved. Masks are ``rho^n`` times ``1 + M n``. If a prime r divides both n and phi(n), then x -> x^n is
no permutation, ``rho^n`` misses a subgroup of order r, and whoever chose n reads plaintexts modulo r off what was
masked.

The proof (Goldberg, Reyzin, Sagga and Baldimtsi, 'Efficient noninteractive certification of RSA moduli and beyond',
ASIACRYPT 2019): n-th roots of values that a hash of n decides. If gcd(n, phi(n)) has a prime factor, which is no less
than ``ALPHA``, a unit has a root with probability ``1 / ALPHA`` at most, and all of them with
``2^-SOUNDNESS_BITS``. Values that are no units are refused, as they have roots more often. The hash makes it
non-interactive (Fiat and Shamir, CRYPTO 1986). Roots of hashed values tell nothing: anybody can draw a root first and
take its power.

A product of more than two primes passes: it decrypts as well, masks hide as well, and only its maker gains or loses
by it.
"""

from __future__ import annotations

import math
from functools import cache
from hashlib import shake_256

import gmpy2
from gmpy2 import mpz

from protocol.encryption.keys import ChineseRemainder, PrivateKey
from protocol.errors import RemoteProtocolError

SOUNDNESS_BITS = 128
ALPHA = 1 << 16
ROOTS = math.ceil(SOUNDNESS_BITS / math.log2(ALPHA))

_DOMAIN = b"colonnade modulus 1"


def certify(key: PrivateKey) -> list[int]:
    """Return the n-th roots that prove a key sound: ROOTS integers in [0, n)."""
    n = key.public_key.n
    roots = (
        [gmpy2.powmod(value, gmpy2.invert(n, prime - 1), prime) for value in _values(n)]
        for prime in (key.p, key.q)
    )
    return [int(root) for root in ChineseRemainder(key.p, key.q).join(*roots)]


def verify(n: int, roots: list[int], *, sender: str) -> None:
    """Raise RemoteProtocolError unless n is an odd composite without small factors, and all roots are right."""
    if fault := _fault(mpz(n), roots):
        raise RemoteProtocolError(
            f"{sender} announced a public key that cannot be trusted: {fault}. Under such a key what is sent back "
            "masked could be read; nothing was encrypted"
        )


def _fault(n: mpz, roots: list[int]) -> str:
    """Return what is wrong with a modulus, or nothing."""
    if len(roots) != ROOTS:
        return f"its certificate has {len(roots)} roots where {ROOTS} are needed"
    if gmpy2.gcd(n, _small_primes()) != 1:
        return f"it has a prime factor below {ALPHA}"
    if gmpy2.is_prime(n):
        return "it is a prime, so that anybody could decrypt"
    values = _values(n)
    if any(gmpy2.gcd(value, n) != 1 for value in values):
        return "a value that its certificate answers has a factor in common with it"
    powers = (gmpy2.powmod(root, n, n) if 0 < root < n else mpz(0) for root in roots)
    if any(power != value for power, value in zip(powers, values, strict=True)):
        return "its certificate does not prove that n has no factor in common with phi(n)"
    return ""


def _values(n: mpz) -> list[mpz]:
    """Return the values in [0, n) whose roots are asked for, within 2^-128 of uniform."""
    modulus = int(n).to_bytes(-(-n.bit_length() // 8), "little")
    size = len(modulus) + SOUNDNESS_BITS // 8
    return [
        mpz(int.from_bytes(shake_256(_DOMAIN + bytes([number]) + modulus).digest(size), "little"))
        % n
        for number in range(ROOTS)
    ]


@cache
def _small_primes() -> mpz:
    """The product of all primes below ALPHA."""
    return gmpy2.primorial(ALPHA - 1)
