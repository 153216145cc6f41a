"""A coordinator that deviates: it announces a modulus under which masks do not hide.

``n = r_1 r_2 Q P`` with primes r_i that divide Q - 1. Then ``rho^n`` has no part in the subgroups of order r_i modulo
Q, and ``1 + M n`` is 1 modulo Q: a masked product of its own ciphertexts keeps their character there. The coordinator
sends ciphertexts of which only one has a character of its own, and reads that row of a party's columns modulo r_1 r_2
by Pohlig and Hellman (IEEE Transactions on Information Theory 1978). Measured: 48 of 48 entries of a 4 x 12 matrix.
"""

from __future__ import annotations

import math
import secrets

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz, powmod

from parties.features import FixedPointMatrix
from protocol.encryption.certificate import ROOTS, verify
from protocol.encryption.encryptors import Masks
from protocol.encryption.keys import EncryptedVector, PublicKey
from protocol.errors import RemoteProtocolError
from protocol.numbers import IntArray
from protocol.training.gradients import transposed_product

ORDERS = (1009, 1013)  # together they tell entries of 16 bits apart
ROWS, COLUMNS = 4, 12


def malformed() -> tuple[int, mpz]:
    """Return n and Q."""
    common = math.prod(ORDERS)
    while True:
        large = common * 2 * (secrets.randbits(300) | 1 << 299) + 1
        n = common * large * int(gmpy2.next_prime(secrets.randbits(256) | 0b11 << 254))
        if gmpy2.is_prime(large) and n.bit_length() % 2 == 0:
            return n, mpz(large)


class Deviating:
    """The coordinator's part: one telling ciphertext among others, and what comes back of it."""

    def __init__(self) -> None:
        self.n, self.large = malformed()
        generator = next(
            base
            for base in map(mpz, range(2, 1000))
            if all(self._character(base, order) != 1 for order in ORDERS)
        )
        # An n-th power modulo everything else, so that it passes for a ciphertext of 0.
        self.telling = generator
        self.logarithms = {
            order: {
                powmod(self._character(generator, order), k, self.large): k for k in range(order)
            }
            for order in ORDERS
        }

    def _character(self, number: mpz, order: int) -> mpz:
        return powmod(number, (self.large - 1) // order, self.large)

    def ciphertexts(self, row: int, key: PublicKey) -> EncryptedVector:
        plain = powmod(mpz(secrets.randbelow(self.n)), self.n, key.n_squared)
        values = [self.telling if position == row else plain for position in range(ROWS)]
        return EncryptedVector(key, key.ring.elements(values))

    def read(self, masked: EncryptedVector) -> list[int]:
        """Return the telling row's entries, from results that were masked."""
        modulus = math.prod(ORDERS)
        read = []
        for result in masked.integers():
            residues = [self.logarithms[o][self._character(mpz(result), o)] for o in ORDERS]
            first, second = ORDERS
            lifted = residues[0] + first * (
                (residues[1] - residues[0]) * int(gmpy2.invert(first, second)) % second
            )
            read.append(lifted if 2 * lifted < modulus else lifted - modulus)
        return read


@pytest.fixture(scope="module")
def columns() -> IntArray:
    return np.random.default_rng(5).integers(-(1 << 15), 1 << 15, (ROWS, COLUMNS))


def test_it_reads_every_entry_of_a_party_that_takes_any_key(columns: IntArray) -> None:
    attacker = Deviating()
    key = PublicKey.accept(attacker.n, insecure_key=True)  # as every party did, and no more
    for row in range(ROWS):
        products = transposed_product(
            FixedPointMatrix.of_scaled(columns.astype(np.int16)), attacker.ciphertexts(row, key)
        )
        masked = Masks.draw(key, len(products)).apply(products)
        assert attacker.read(masked) == columns[row].tolist()


def test_a_party_that_asks_for_a_proof_refuses_the_key() -> None:
    attacker = Deviating()
    with pytest.raises(RemoteProtocolError, match=r"coordinator announced .* prime factor below"):
        verify(attacker.n, [1] * ROOTS, sender="coordinator")
