"""Paillier keys, encrypted vectors and masks. Only this file and ring.py import phe or gmpy2.

Notation: public modulus ``n = p q``; a ciphertext of ``m`` is ``(1 + m n) r_n mod n^2`` with
``r_n`` an n-th power (Paillier, EUROCRYPT 1999, with generator ``1 + n`` as in phe). Multiplying
ciphertexts adds plaintexts modulo n; a signed plaintext stands for its residue and must stay below
n / 2 in size.

Two ways to hide a plaintext, for two adversaries:

- towards those *without* the key: ``h^r`` with a short exponent ``r`` of half the key's bits
  (Damgård, Jurik and Nielsen, IJIS 2010). ``h`` is made from a random number the encryptor draws
  itself.
- towards the key *holder*: a uniform ``rho^n`` at full size, and a uniform mask on the plaintext.
  ``h^r`` would hide nothing from whoever knows the factors.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import gmpy2
import numpy as np
from gmpy2 import mpz
from phe.paillier import PaillierPrivateKey, PaillierPublicKey

from protocol import ledger
from protocol.encryption.exponentiation import MODULAR_MULTIPLICATIONS
from protocol.encryption.native import open_ring
from protocol.encryption.ring import Elements, PheRing, Ring
from protocol.errors import GuardError, LayoutError, RemoteProtocolError, SettingsError
from protocol.numbers import Ciphertexts, IntArray
from protocol.settings import Engine

SECURE_KEY_BITS = 2048
_SMALLEST_KEY_BITS = 256


@dataclass(frozen=True)
class PublicKey:
    """The modulus everyone encrypts under.

    ``engine`` says who computes under it: "phe" leaves encryption, decryption and the products of a matrix to phe's own
    routines, one modular power each. Either can read what the other has written.
    """

    n: mpz
    engine: Engine = "colonnade"

    @classmethod
    def accept(cls, n: int, *, insecure_key: bool, engine: Engine = "colonnade") -> Self:
        """Take a modulus from the other side, proved sound by its certificate; raises GuardError if it is too short."""
        check_key_bits(n.bit_length(), insecure_key=insecure_key)
        return cls(mpz(n), engine)

    @cached_property
    def ring(self) -> Ring:
        """Arithmetic modulo n^2: phe's, or that of the fastest path this machine has."""
        return PheRing(int(self.n)) if self.engine == "phe" else open_ring(int(self.n))

    @cached_property
    def n_squared(self) -> mpz:
        """The modulus of ciphertexts."""
        return self.n * self.n

    @property
    def bits(self) -> int:
        """Size of the modulus n in bits."""
        return int(self.n.bit_length())

    @property
    def ciphertext_bytes(self) -> int:
        """Size of one ciphertext in bytes."""
        return 2 * self.plaintext_bytes

    @property
    def plaintext_bytes(self) -> int:
        """Size of one plaintext residue in bytes."""
        return -(-self.bits // 8)

    def to_bytes(self) -> bytes:
        """Return the modulus, little-endian."""
        return int(self.n).to_bytes(self.plaintext_bytes, "little")

    @cached_property
    def phe(self) -> PaillierPublicKey:
        """The same key as phe's own class."""
        return PaillierPublicKey(int(self.n))

    def fitting(self, integer: int) -> mpz:
        """Return a signed integer; raises LayoutError at n / 2 in size and beyond."""
        if 2 * abs(integer) >= self.n:
            raise LayoutError(
                f"an integer of {integer.bit_length()} bits does not fit a signed plaintext of a "
                f"{self.bits}-bit key; use a larger key or fewer fractional bits"
            )
        return mpz(integer)

    def signed(self, residue: int) -> int:
        """Return the signed integer that a residue modulo n stands for."""
        return int(residue if 2 * residue < self.n else residue - self.n)


class ChineseRemainder:
    """Residues modulo ``a b`` from those modulo a and modulo b, which have no common factor."""

    def __init__(self, a: mpz, b: mpz) -> None:
        self._a, self._b = a, b
        self._a_inverse = gmpy2.invert(a, b)

    def join(self, of_a: Sequence[mpz], of_b: Sequence[mpz]) -> list[mpz]:
        """Return the residues modulo ``a b`` with the given ones modulo a and b."""
        a, b, inverse = self._a, self._b, self._a_inverse
        return [x + a * ((y - x) * inverse % b) for x, y in zip(of_a, of_b, strict=True)]


@dataclass(frozen=True, repr=False)
class PrivateKey:
    """The factors of n: decrypts modulo p^2 and q^2 apart and joins by the Chinese remainder theorem."""

    p: mpz
    q: mpz
    engine: Engine = "colonnade"

    @classmethod
    def generate(
        cls, bits: int, *, insecure_key: bool = False, engine: Engine = "colonnade"
    ) -> Self:
        """Draw p, q = 3 mod 4 with gcd(p - 1, q - 1) = 2, which short-exponent encryption needs.

        Raises GuardError under 2048 bits unless ``insecure_key``, SettingsError if there can be no
        such key.
        """
        check_key_bits(bits, insecure_key=insecure_key)
        while True:
            p, q = _draw_prime(bits // 2), _draw_prime(bits // 2)
            if gmpy2.gcd(p - 1, q - 1) == 2 and p != q:
                return cls(p, q, engine)

    def __repr__(self) -> str:
        return f"PrivateKey({self.public_key.bits} bits)"

    @cached_property
    def public_key(self) -> PublicKey:
        """The key everyone else gets."""
        return PublicKey(self.p * self.q, self.engine)

    @cached_property
    def phe(self) -> PaillierPrivateKey:
        """The same key as phe's own class."""
        return PaillierPrivateKey(self.public_key.phe, int(self.p), int(self.q))

    @cached_property
    def rings(self) -> tuple[Ring, Ring]:
        """Arithmetic modulo p^2 and q^2."""
        return open_ring(int(self.p)), open_ring(int(self.q))

    def decrypt(self, encrypted: EncryptedVector) -> list[int]:
        """Return the plaintexts as residues in [0, n)."""
        with ledger.operation("decryptions", len(encrypted)):
            ciphertexts = encrypted.integers()
            if self.engine == "phe":
                return [self.phe.raw_decrypt(int(ciphertext)) for ciphertext in ciphertexts]
            from_p, from_q = (self._decrypt_modulo(ciphertexts, ring) for ring in self.rings)
            joined = ChineseRemainder(self.p, self.q).join(from_p, from_q)
            return [int(plaintext) for plaintext in joined]

    def _decrypt_modulo(self, ciphertexts: Sequence[mpz], ring: Ring) -> list[mpz]:
        """Return plaintexts modulo one prime: L(c^(p-1) mod p^2) / L((1 + n)^(p-1) mod p^2)."""
        prime, square = mpz(ring.root), mpz(ring.modulus)
        reduced = ring.elements([ciphertext % square for ciphertext in ciphertexts])
        # (1 + n)^(p-1) = 1 + (p-1) n mod p^2, so its L is (p-1) q = -q mod p.
        correction = gmpy2.invert(-self.public_key.n // prime, prime)
        powers = ring.power(reduced, ring.root - 1)
        return [quotient * correction % prime for quotient in ring.quotients(powers)]


@dataclass(frozen=True, eq=False)
class EncryptedVector:
    """Ciphertexts under one public key, as elements of its ring. ``len`` is their number."""

    public_key: PublicKey
    values: Elements

    def __len__(self) -> int:
        return len(self.values)

    def __add__(self, other: EncryptedVector) -> EncryptedVector:
        """Add plaintexts entry by entry."""
        if self.public_key != other.public_key or len(self) != len(other):
            raise ValueError("encrypted vectors to add need one key and one length")
        return EncryptedVector(
            self.public_key, self.public_key.ring.multiply(self.values, other.values)
        )

    def plus(self, integers: Sequence[int]) -> EncryptedVector:
        """Add signed integers in the clear, one an entry, without randomising anew."""
        n, ring = self.public_key.n, self.public_key.ring
        with ledger.operation("plain additions", len(self)):
            factors = [1 + self.public_key.fitting(integer) % n * n for integer in integers]
            values = ring.multiply(self.values, ring.elements(factors))
        return EncryptedVector(self.public_key, values)

    def sum_by(self, groups: IntArray, n_groups: int) -> EncryptedVector:
        """Add up the entries of each group, -1 being none: (n_groups,); without randomising anew."""
        order = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[order], np.arange(n_groups + 1))
        with ledger.operation("additions", int(starts[-1] - starts[0])):
            members = self.public_key.ring.indicator_products(self.values, starts, order)
        return EncryptedVector(self.public_key, members)

    def shifted_less(
        self, shift: int, others: EncryptedVector, factors: Sequence[int]
    ) -> EncryptedVector:
        """Return ``2^shift`` times each entry less a factor times another, without randomising anew."""
        key, ring = self.public_key, self.public_key.ring
        with ledger.operation("subtractions", len(self)):
            pairs = zip(others.integers(), factors, strict=True)
            subtracted = [pow(other, -factor, key.n_squared) for other, factor in pairs]
            bits = sum(factor.bit_length() for factor in factors)
            ledger.count(MODULAR_MULTIPLICATIONS, bits)
            shifted = ring.power(self.values, 1 << shift)
            return EncryptedVector(key, ring.multiply(shifted, ring.elements(subtracted)))

    def take(self, entries: IntArray) -> EncryptedVector:
        """Return the ciphertexts at the given entries."""
        return EncryptedVector(self.public_key, self.values[entries])

    def integers(self) -> list[mpz]:
        """Return the ciphertexts as numbers below n^2."""
        return [mpz(integer) for integer in self.public_key.ring.integers(self.values)]

    def to_bytes(self) -> bytes:
        """Return the ciphertexts one after another, little-endian, ``ciphertext_bytes`` each."""
        with ledger.operation("writes", len(self)):
            return self.public_key.ring.write(self.values, self.public_key.ciphertext_bytes)

    def to_wire(self) -> Ciphertexts:
        """Return the ciphertexts as they travel."""
        return Ciphertexts(self.public_key.ciphertext_bytes, self.to_bytes())

    @classmethod
    def from_wire(cls, public_key: PublicKey, sent: Ciphertexts, *, sender: str) -> EncryptedVector:
        """Take ciphertexts from the other side.

        Raises RemoteProtocolError unless each lies in (0, n^2) and is invertible: the product over a matrix has
        to invert, and a common factor with n would give away the key.
        """
        data, width = sent.data, public_key.ciphertext_bytes
        if sent.width != width or len(data) % width:
            raise RemoteProtocolError(
                f"{sender} sent {len(data)} bytes, {sent.width} a ciphertext, where ciphertexts of {width} bytes "
                "were expected"
            )
        unfit = RemoteProtocolError(f"{sender} sent a number that is not a ciphertext of this key")
        with ledger.operation("checks", len(data) // width):
            try:
                values = public_key.ring.read(data, width)
            except ValueError:
                raise unfit from None
            if gmpy2.gcd(public_key.ring.product(values), public_key.n) != 1:
                raise unfit
        return cls(public_key, values)


def check_key_bits(bits: int, *, insecure_key: bool) -> None:
    """Refuse a key that nobody can make (SettingsError) or that somebody can break (GuardError)."""
    if bits < _SMALLEST_KEY_BITS or bits % 2:
        raise SettingsError(
            f"key_bits is {bits}; expected an even number of at least {_SMALLEST_KEY_BITS}, "
            f"and {SECURE_KEY_BITS} or more for real data"
        )
    if bits < SECURE_KEY_BITS and not insecure_key:
        raise GuardError(
            f"a key of {bits} bits can be broken; use key_bits = {SECURE_KEY_BITS} or more, "
            "or set insecure_key = true for tests on data that need no protection"
        )


def _draw_prime(bits: int) -> mpz:
    """Draw a prime = 3 mod 4 with its two top bits set, so that a product of two has all its bits."""
    while True:
        candidate = mpz(secrets.randbits(bits) | (0b11 << (bits - 2)) | 0b11)
        if gmpy2.is_prime(candidate, 40):
            return candidate
