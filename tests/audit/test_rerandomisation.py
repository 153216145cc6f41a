"""Why a result goes back to the key holder at full-size randomness: what an exponent-only one would give away.

The attack. The key holder made the ciphertexts ``c_i``, and gets back ``prod c_i^(x_i)`` with a mask on the plaintext
and new randomness. Modulo p the plaintext vanishes, as n = 0 there. For a small prime ell that divides p - 1, raising
to (p - 1) / ell leaves a power of one ell-th root of unity: the ell-th power residue character chi. So

    log chi(result) = sum_i x_i log chi(c_i) + r log chi(h)    modulo ell

if the result was re-randomised by ``h^r``. One h in ell has chi(h) = 1: then each round gives one linear equation in
the column modulo ell, and as many rounds as rows give the column. With a few ell, the column is known. ``rho^n`` with
a uniform unit rho has a uniform character and gives nothing.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable

import numpy as np
import pytest
from flint import nmod_mat
from gmpy2 import is_prime, mpz, next_prime, powmod
from scipy import stats

from audit.statistics import SIGNIFICANCE
from parties.features import FixedPointMatrix
from protocol.encryption.encryptors import Encryptor, KeyHolderEncryptor, Masks
from protocol.encryption.keys import EncryptedVector, PrivateKey
from protocol.numbers import IntArray
from protocol.training.gradients import transposed_product

SMALL_PRIMES = (3, 5, 7, 11, 13)  # their product, 15,015, tells entries of 13 bits apart
ROWS = 40
ROUNDS = ROWS + 20

Rerandomise = Callable[[EncryptedVector], EncryptedVector]


@pytest.fixture(scope="module")
def smooth_key() -> PrivateKey:
    """A key whose p - 1 is a multiple of all the small primes, and otherwise as keys are."""
    smooth = 2 * math.prod(SMALL_PRIMES)
    while True:
        p = mpz(secrets.randbits(240) | 1 << 239) * smooth + 1
        p = next((c for c in (p + smooth * i for i in range(4000)) if _is_good(c)), None)
        if p is not None:
            break
    q = next_prime(mpz(secrets.randbits(256) | 0b11 << 254))
    while q % 4 != 3 or math.gcd(int(p - 1), int(q - 1)) != 2:
        q = next_prime(q)
    return PrivateKey(p, q)


def _is_good(candidate: mpz) -> bool:
    return bool(candidate % 4 == 3 and is_prime(candidate))


@pytest.fixture(scope="module")
def column() -> IntArray:
    return np.random.default_rng(3).integers(-7000, 7000, ROWS)


class Characters:
    """The ell-th power residue character modulo p, as a number modulo ell."""

    def __init__(self, key: PrivateKey, ell: int) -> None:
        self.key, self.ell = key, ell
        base = next(b for b in range(2, 1000) if self._power(mpz(b)) != 1)
        root = self._power(mpz(base))
        self._logarithms = {powmod(root, exponent, key.p): exponent for exponent in range(ell)}

    def _power(self, number: mpz) -> mpz:
        return powmod(number, (self.key.p - 1) // self.ell, self.key.p)

    def of(self, encrypted: EncryptedVector) -> list[int]:
        return [self._logarithms[self._power(c)] for c in encrypted.integers()]

    def telling_encryptor(self) -> KeyHolderEncryptor:
        """The key holder makes its ciphertexts so that the attack works."""
        while True:
            encryptor = KeyHolderEncryptor(self.key)
            if any(self.of(encryptor.encrypt([0] * 8))):
                return encryptor


def equations(
    characters: Characters, column: IntArray, rerandomise: Rerandomise
) -> tuple[IntArray, IntArray]:
    """Play rounds as key holder: characters of what it sends (ROUNDS, ROWS) and of what it gets (ROUNDS,)."""
    encryptor = characters.telling_encryptor()
    rows = FixedPointMatrix.of_scaled(column[:, None].astype(np.int16))
    sent, got = [], []
    for _ in range(ROUNDS):
        residuals = encryptor.encrypt([secrets.randbelow(1000) for _ in range(ROWS)])
        result = rerandomise(transposed_product(rows, residuals))
        sent.append(characters.of(residuals))
        got += characters.of(result)
    return np.array(sent), np.array(got)


def solve_modulo(ell: int, matrix: IntArray, right: IntArray) -> IntArray | None:
    """Return the solution (ROWS,) modulo ell, or None where the equations contradict each other."""
    reduced, rank = nmod_mat(np.column_stack([matrix, right]).tolist(), ell).rref()
    entries = np.array([[int(entry) for entry in row] for row in reduced.tolist()])
    solved = entries[:ROWS, :ROWS]
    if rank != ROWS or not np.array_equal(solved, np.eye(ROWS)):
        return None
    return np.asarray(entries[:ROWS, ROWS])


def by_exponent_only(key: PrivateKey, characters: Characters) -> Rerandomise:
    """A mask on the plaintext and ``h^r``, with such an h as one honest party in ell draws."""
    while True:
        encryptor = Encryptor(key.public_key)
        if not any(characters.of(encryptor.encrypt([0] * 8))):
            break

    def rerandomise(encrypted: EncryptedVector) -> EncryptedVector:
        masks = [secrets.randbits(key.public_key.bits - 2) for _ in range(len(encrypted))]
        return encrypted + encryptor.encrypt(masks)

    return rerandomise


def by_masks(key: PrivateKey) -> Rerandomise:
    """What the system does."""
    return lambda encrypted: Masks.draw(key.public_key, len(encrypted)).apply(encrypted)


def test_exponents_alone_give_a_column_away(smooth_key: PrivateKey, column: IntArray) -> None:
    recovered, modulus = np.zeros(ROWS, dtype=np.int64), 1
    for ell in SMALL_PRIMES:
        characters = Characters(smooth_key, ell)
        sent, got = equations(characters, column, by_exponent_only(smooth_key, characters))
        solution = solve_modulo(ell, sent, got)
        assert solution is not None
        # The Chinese remainder theorem, one prime at a time.
        recovered += modulus * ((solution - recovered) * pow(modulus, -1, ell) % ell)
        modulus *= ell
    assert (np.where(recovered > modulus // 2, recovered - modulus, recovered) == column).all()


@pytest.mark.parametrize("ell", SMALL_PRIMES)
def test_full_size_randomness_gives_nothing_away(
    smooth_key: PrivateKey,
    column: IntArray,
    ell: int,
) -> None:
    characters = Characters(smooth_key, ell)
    sent, got = equations(characters, column, by_masks(smooth_key))
    assert solve_modulo(ell, sent, got) is None
    fulfilled = int(np.count_nonzero((sent @ column - got) % ell == 0))
    assert stats.binomtest(fulfilled, ROUNDS, 1 / ell).pvalue > SIGNIFICANCE
    # And the characters of what comes back are uniform.
    assert stats.chisquare(np.bincount(got, minlength=ell)).pvalue > SIGNIFICANCE


def test_an_honest_base_lies_in_a_proper_subgroup_this_often(smooth_key: PrivateKey) -> None:
    """How often the attack on exponents finds its equations modulo 3, without anybody's help: one time in three."""
    characters = Characters(smooth_key, 3)
    tries = 240
    lying = sum(
        not any(characters.of(Encryptor(smooth_key.public_key).encrypt([0] * 12)))
        for _ in range(tries)
    )
    assert stats.binomtest(lying, tries, 1 / 3).pvalue > SIGNIFICANCE
