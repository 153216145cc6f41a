"""Where randomness hides plaintexts: encryption, with and without the private key, and masks of what is opened."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import gmpy2
from gmpy2 import mpz

from protocol import ledger
from protocol.encryption.exponentiation import MODULAR_MULTIPLICATIONS
from protocol.encryption.keys import ChineseRemainder, EncryptedVector, PrivateKey, PublicKey
from protocol.encryption.ring import Elements
from protocol.errors import RemoteProtocolError

KEY_HOLDER_TABLE_BYTES = 24_000_000


class Encryptor:
    """Encrypts under one public key, for recipients who lack the private key.

    Draws its own ``h = (-x^2)^n``, never accepted from the key holder; a table of its powers (under 8 MB) is kept for
    the rounds to come.
    """

    kind = "encryptions"
    tables = 1

    def __init__(self, public_key: PublicKey) -> None:
        self.public_key = public_key

    @cached_property
    def _h(self) -> int:
        """The base; its tables are made with it."""
        with ledger.operation("tables of powers", self.tables):
            base = _draw_hiding_base(self.public_key)
            self._powers(base, b"")
        return base

    def encrypt(self, integers: Sequence[int]) -> EncryptedVector:
        """Encrypt signed integers, each below n / 2 in size; raises LayoutError otherwise."""
        key, ring = self.public_key, self.public_key.ring
        if key.engine == "phe":
            return self._encrypt_by_phe(integers)
        hiding_base = self._h
        with ledger.operation(self.kind, len(integers)):
            plaintexts = [1 + key.fitting(integer) % key.n * key.n for integer in integers]
            hiding = self._powers(hiding_base, _draw_exponents(key, len(plaintexts)))
            return EncryptedVector(key, ring.multiply(hiding, ring.elements(plaintexts)))

    def _encrypt_by_phe(self, integers: Sequence[int]) -> EncryptedVector:
        """Encrypt as phe does, by one full-size power each."""
        key = self.public_key
        with ledger.operation(self.kind, len(integers)):
            residues = [int(key.fitting(integer) % key.n) for integer in integers]
            ledger.count(MODULAR_MULTIPLICATIONS, len(residues) * key.bits)
            ciphertexts = [key.phe.raw_encrypt(residue) for residue in residues]
            return EncryptedVector(key, key.ring.elements(ciphertexts))

    def randomise(self, encrypted: EncryptedVector) -> EncryptedVector:
        """Return other ciphertexts of the same plaintexts, which nobody without the key can tell belong to these."""
        return encrypted + self.encrypt([0] * len(encrypted))

    def _powers(self, base: int, exponents: bytes) -> Elements:
        """Return the base to each exponent of half the key's bits."""
        return self.public_key.ring.fixed_base_powers(base, self.public_key.bits // 2, exponents)


class KeyHolderEncryptor(Encryptor):
    """Encrypts as :class:`Encryptor` does, for whoever knows p and q: the powers modulo p^2 and q^2 apart.

    An element of a half has half the size, so its table has more entries (under 24 MB each): fewer multiplications.
    """

    kind = "encryptions by the key holder"
    tables = 2

    def __init__(self, private_key: PrivateKey) -> None:
        super().__init__(private_key.public_key)
        self._rings = private_key.rings
        self._squares = ChineseRemainder(private_key.p**2, private_key.q**2)

    def _powers(self, base: int, exponents: bytes) -> Elements:
        """Return the same ``h^r`` as without the factors: whoever lacks them cannot tell who encrypted."""
        bits = self.public_key.bits // 2
        halves = [
            ring.integers(
                ring.fixed_base_powers(base % ring.modulus, bits, exponents, KEY_HOLDER_TABLE_BYTES)
            )
            for ring in self._rings
        ]
        return self.public_key.ring.elements(self._squares.join(*halves))


@dataclass(frozen=True, repr=False)
class Masks:
    """What a party added to its ciphertexts before they were opened; only it can take it off again."""

    public_key: PublicKey
    values: list[int]

    @classmethod
    def draw(cls, public_key: PublicKey, number: int) -> Self:
        """Draw fresh masks, uniform modulo n, so that an opened value says nothing at all."""
        return cls(public_key, [secrets.randbelow(int(public_key.n)) for _ in range(number)])

    def apply(self, encrypted: EncryptedVector) -> EncryptedVector:
        """Add the masks and randomise at full size by ``rho^n``, hiding towards the key holder."""
        n, ring = self.public_key.n, self.public_key.ring
        with ledger.operation("masks", len(self.values)):
            units = ring.elements([_draw_unit(n) for _ in self.values])
            hiding = ring.multiply(ring.power(units, int(n)), encrypted.values)
            masks = ring.elements([1 + mask * n for mask in self.values])
            return EncryptedVector(self.public_key, ring.multiply(hiding, masks))

    def remove(self, opened: Sequence[int]) -> list[int]:
        """Return the signed plaintexts below opened residues; raises RemoteProtocolError on a wrong number."""
        if len(opened) != len(self.values):
            raise RemoteProtocolError(
                f"the coordinator opened {len(opened)} numbers where {len(self.values)} were sent"
            )
        n = self.public_key.n
        return [
            self.public_key.signed((value - mask) % n)
            for value, mask in zip(opened, self.values, strict=True)
        ]


def _draw_unit(n: mpz) -> mpz:
    """Draw uniformly from the invertible residues modulo n."""
    while True:
        unit = mpz(secrets.randbelow(int(n)))
        if gmpy2.gcd(unit, n) == 1:
            return unit


def _draw_hiding_base(public_key: PublicKey) -> int:
    """Draw ``h = (-x^2)^n``, whose powers hide plaintexts from all who lack the key."""
    x = _draw_unit(public_key.n)
    ledger.count(MODULAR_MULTIPLICATIONS, public_key.bits)
    return int(gmpy2.powmod(-x * x, public_key.n, public_key.n_squared))


def _draw_exponents(public_key: PublicKey, number: int) -> bytes:
    """Draw exponents of half the key's bits, in whole bytes each."""
    return secrets.token_bytes(number * -(-(public_key.bits // 2) // 8))
