"""What each kind of encrypted operation takes, counted: modular multiplications, and places in vector lanes.

The counts are those that the ledger of a run has; with gmpy2 the products of a matrix depend on its entries and are
counted as if it were full.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from protocol.encryption.certificate import ROOTS
from protocol.encryption.encryptors import KEY_HOLDER_TABLE_BYTES
from protocol.encryption.exponentiation import comb_cost, comb_shape
from protocol.encryption.keys import PublicKey
from protocol.encryption.packing import SlotLayout
from protocol.encryption.ring import Ring
from protocol.settings import Engine

TABLES, ENCRYPTIONS, BY_HOLDER = "tables of powers", "encryptions", "encryptions by the key holder"
PRODUCTS, ADDITIONS, SUBTRACTIONS = "products", "additions", "subtractions"
PACKINGS, MASKS, DECRYPTIONS = "packings", "masks", "decryptions"
CHECKS, WRITES, PLAIN_ADDITIONS = "checks", "writes", "plain additions"
CERTIFICATES, VERIFICATIONS = "certificates", "verifications"
KINDS = frozenset(
    {
        *(ENCRYPTIONS, BY_HOLDER, PRODUCTS, ADDITIONS, SUBTRACTIONS, PACKINGS, MASKS, DECRYPTIONS),
        *(CHECKS, WRITES, PLAIN_ADDITIONS, CERTIFICATES, VERIFICATIONS),
    }
)
"""Those of every engine: phe has no tables."""


@dataclass(frozen=True)
class Operation:
    """``number`` operations of a kind in one call.

    ``multiplications`` are modular ones, as counted; ``work`` is what they take: more where vector lanes stay empty.
    """

    kind: str
    number: int
    multiplications: int
    work: int


@dataclass(frozen=True)
class Arithmetic:
    """The operations under a key of ``bits``; ``memory_budget`` in bytes is that of a product."""

    bits: int
    engine: Engine
    memory_budget: int

    @cached_property
    def key(self) -> PublicKey:
        """A key of which only the size counts."""
        return PublicKey((1 << self.bits) - 1, self.engine)

    @cached_property
    def ring(self) -> Ring:
        """Arithmetic modulo n^2."""
        return self.key.ring

    @cached_property
    def half_ring(self) -> Ring:
        """Arithmetic modulo the square of a prime."""
        return PublicKey((1 << self.bits // 2) - 1).ring

    @property
    def naive(self) -> bool:
        """Whether phe encrypts and decrypts."""
        return self.engine == "phe"

    def comb(self, *, holder: bool) -> tuple[int, int, int]:
        """The shape of an encryptor's table modulo n^2, or of each of the key holder's two of half the size."""
        if holder:
            return comb_shape(self.bits // 2, self.bits, KEY_HOLDER_TABLE_BYTES)
        return comb_shape(self.bits // 2, 2 * self.bits)

    def table_bytes(self, *, holder: bool) -> int:
        """The memory of an encryptor's tables: the key holder's two have entries of half the size."""
        rows, tables, _ = self.comb(holder=holder)
        return int(tables * 2**rows * self.key.ciphertext_bytes)

    def certificate(self) -> Operation:
        """Prove the key sound: its roots modulo p and q apart."""
        return Operation(CERTIFICATES, 1, ROOTS * self.bits, 1)

    def verification(self) -> Operation:
        """Hold a key against its certificate."""
        return Operation(VERIFICATIONS, 1, ROOTS * self.bits, 1)

    def tables(self, *, holder: bool) -> Operation:
        """An encryptor's tables: one modulo n^2, or the key holder's two of half the size."""
        return Operation(TABLES, 2 if holder else 1, self.bits, 2 if holder else 4)

    def encryption(self, number: int, *, adding: bool = False) -> Operation:
        """Encrypt, and with ``adding`` multiply each to another ciphertext."""
        each = comb_cost(self.comb(holder=False))
        if self.naive:
            return Operation(ENCRYPTIONS, number, number * (self.bits + adding), number)
        work = each * self.ring.places(number, each)
        return Operation(ENCRYPTIONS, number, number * (each + 1 + adding), work)

    def key_holder_encryption(self, number: int) -> Operation:
        """Encrypt modulo p^2 and q^2 apart."""
        each = comb_cost(self.comb(holder=True))
        if self.naive:
            return Operation(BY_HOLDER, number, number * self.bits, number)
        work = 2 * each * self.half_ring.places(number, each)
        return Operation(BY_HOLDER, number, number * (2 * each + 1), work)

    def decryption(self, number: int) -> Operation:
        """Decrypt modulo p^2 and q^2."""
        half = self.bits // 2
        if self.naive:
            return Operation(DECRYPTIONS, number, 0, number)
        work = 2 * half * self.half_ring.places(number, half)
        return Operation(DECRYPTIONS, number, 2 * number * half, work)

    def product(self, rows: int, columns: int) -> Operation:
        """Multiply a matrix of scaled columns by ciphertexts."""
        planned = self.ring.planned_multiplications(rows, columns, self.memory_budget)
        return Operation(PRODUCTS, rows * columns, planned, planned)

    def addition(self, number: int) -> Operation:
        """Add up ciphertexts by groups, as a 0/1 matrix does."""
        return Operation(ADDITIONS, number, number, number)

    def plain_addition(self, number: int) -> Operation:
        """Add integers in the clear."""
        return Operation(PLAIN_ADDITIONS, number, number, number)

    def subtraction(self, columns: int, bits: int, shift: int) -> Operation:
        """Subtract squares under encryption, by exponents of so many bits; shift what they are subtracted from."""
        shifting = columns * (shift + 2)
        work = columns * bits + (shift + 1) * self.ring.places(columns, shift + 1)
        return Operation(SUBTRACTIONS, columns, columns * bits + shifting, work)

    def packing(self, layout: SlotLayout, number: int) -> Operation:
        """Move so many ciphertexts into the slots of fewer."""
        multiplications, work, begun = 0, 0, 0
        for slot in reversed(range(min(layout.slots, number))):
            multiplications += begun * (layout.width + 2)
            work += (layout.width + 1) * self.ring.places(begun, layout.width + 1)
            begun = -(-(number - slot) // layout.slots)
        return Operation(PACKINGS, number, multiplications, work)

    def masking(self, number: int) -> Operation:
        """Mask, at full-size randomness."""
        work = self.bits * self.ring.places(number, self.bits)
        return Operation(MASKS, number, number * (self.bits + 2), work)

    def write(self, number: int) -> Operation:
        """Write ciphertexts down for the other side."""
        return Operation(WRITES, number, 0, number)

    def check(self, number: int) -> Operation:
        """Take ciphertexts from the other side."""
        return Operation(CHECKS, number, max(0, number - 1), number)
