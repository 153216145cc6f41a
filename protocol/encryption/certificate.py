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

A value that is a unit has units alone for roots, so that whatever is no unit is refused among the roots as well.

A product of more than two primes passes: it decrypts as well, masks hide as well, and only its maker gains or loses
by it. Nor does anything keep its maker from publishing the factors.
"""

from __future__ import annotations

import math
from functools import cache
from hashlib import shake_256

import gmpy2
from gmpy2 import mpz

from protocol import ledger
from protocol.encryption.exponentiation import MODULAR_MULTIPLICATIONS
from protocol.encryption.keys import ChineseRemainder, PrivateKey
from protocol.errors import RemoteProtocolError
from protocol.numbers import Residues

SOUNDNESS_BITS = 128
ALPHA = 1 << 16
ROOTS = math.ceil(SOUNDNESS_BITS / math.log2(ALPHA))

_DOMAIN = b"colonnade modulus 1"


def certify(key: PrivateKey) -> list[int]:
    """Return the n-th roots that prove a key sound: ROOTS integers in [0, n)."""
    n = key.public_key.n
    with ledger.operation("certificates", 1):
        ledger.count(MODULAR_MULTIPLICATIONS, ROOTS * key.public_key.bits)
        roots = (
            [gmpy2.powmod(value, gmpy2.invert(n, prime - 1), prime) for value in _values(n)]
            for prime in (key.p, key.q)
        )
        return [int(root) for root in ChineseRemainder(key.p, key.q).join(*roots)]


def verify(modulus: bytes, roots: Residues, bits: int, *, sender: str) -> int:
    """Return n from its little-endian bytes, if it is of ``bits`` and its certificate is right.

    Raises RemoteProtocolError for anything but an odd composite of that length without small factors and with ROOTS
    roots, all right. Lengths are looked at before anything is computed.
    """
    n, width = int.from_bytes(modulus, "little"), -(-bits // 8)
    if n.bit_length() != bits:
        raise RemoteProtocolError(
            f"{sender} announced a key of {n.bit_length()} bits where key_bits = {bits} was agreed; nothing was "
            "encrypted. All parties need one settings file"
        )
    if (len(modulus), roots.width, len(roots.data)) != (width, width, ROOTS * width):
        raise RemoteProtocolError(
            f"{sender} announced a key of {len(modulus)} bytes with {len(roots)} roots of {roots.width} bytes, where "
            f"{width} and {ROOTS} of {width} were expected; nothing was encrypted. All parties need one version of "
            "Colonnade"
        )
    with ledger.operation("verifications", 1):
        fault = _fault(mpz(n), roots.integers())
    if fault:
        raise RemoteProtocolError(
            f"{sender} announced a public key that cannot be trusted: {fault}. Under such a key what is sent back "
            f"masked could be read; nothing was encrypted. Ask who runs {sender} how the key was made"
        )
    return n


def _fault(n: mpz, roots: list[int]) -> str:
    """Return what is wrong with a modulus, or nothing."""
    if gmpy2.gcd(n, _small_primes()) != 1:
        return f"it has a prime factor below {ALPHA}"
    if gmpy2.is_prime(n):
        return "it is a prime, so that anybody could decrypt"
    values = _values(n)
    if any(gmpy2.gcd(value, n) != 1 for value in values):
        return "a value that its certificate answers has a factor in common with it"
    if not all(0 < root < n for root in roots):
        return "a root of its certificate does not lie between 0 and n"
    ledger.count(MODULAR_MULTIPLICATIONS, ROOTS * n.bit_length())
    if any(gmpy2.powmod(root, n, n) != value for root, value in zip(roots, values, strict=True)):
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
