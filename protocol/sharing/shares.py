"""Additive shares modulo 2^64, and the dealt randomness with which two parties compute on them.

A value ``x`` is shared if the label party holds ``a`` and the coordinator ``b``, each uniform by itself, with
``x = a + b`` modulo 2^64. Sums and public multiples are local. Everything else takes a value that a third party, the
*dealer*, has dealt: uniform masks in shares, and products of them in shares (Beaver, CRYPTO 1991). What the two open to
each other is always a value minus a mask that is used once. So neither learns anything, and the dealer sees no opening.

Fixed point, in fractional bits:

    latent sums S      12     LATENT_BITS
    twice a logit, 2z  24     LOGIT_BITS: that of S^2, so that z = L + S^2 / 2 needs no halving
    residual d         28     RESIDUAL_BITS: dealt sines of WAVE_BITS times public coefficients of as many
    d, truncated       16     TRUNCATED_BITS, so that d S has 28 again

The sigmoid is a Fourier series on shares (Boura et al., FC 2018; Zheng et al., ACSAC 2023): the dealer deals a uniform
angle t with its sines and cosines, the two open 2z - t, and the theorem of addition does the rest. That is one opening
a sample. It works as the period divides 2^64, and holds on the fitted interval alone: outside, the series is wrong, and
beyond half a period even in sign. Parties therefore clip what they contribute (protocol/sharing/evaluator.py).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from parties.model import sigmoid
from protocol.errors import SettingsError
from protocol.numbers import FloatArray, IntArray, Words

LATENT_BITS = 12
LOGIT_BITS = 2 * LATENT_BITS
WAVE_BITS = 14
RESIDUAL_BITS = 2 * WAVE_BITS
TRUNCATED_BITS = RESIDUAL_BITS - LATENT_BITS
MODULUS = 1 << 64
SEED_BYTES = 32

# A sigmoid off by 3e-4 moves a gradient by less than one row in a thousand does.
SERIES_ERROR = 3e-4
_PERIODS = (32, 64, 128, 256, 512)
_WIDEST = 7 / 16  # of a period: the series needs the rest to turn back
_COEFFICIENT_BITS = 20
_TURN_BITS, _TABLE_BITS, _SINE_BITS = 32, 12, 28
_BLOCK_WORDS = 1 << 18


def draw_seed() -> bytes:
    """Draw the key of a stream: 32 bytes from the system's generator."""
    return secrets.token_bytes(SEED_BYTES)


class Stream:
    """Uniform words under a key: ChaCha20 (RFC 8439), keyed by HKDF-SHA256 from a seed and the run it serves.

    The keystream goes on from call to call, so no word comes twice.
    """

    def __init__(self, seed: bytes, run: bytes) -> None:
        derivation = HKDF(SHA256(), length=SEED_BYTES, salt=run, info=b"colonnade dealt randomness")
        self._cipher = Cipher(ChaCha20(derivation.derive(seed), bytes(16)), mode=None).encryptor()

    def words(self, *shape: int) -> Words:
        """Return the next words of the stream, in the given shape."""
        data = self._cipher.update(bytes(8 * math.prod(shape)))
        return np.frombuffer(data, dtype="<u8").reshape(shape)


def to_words(values: FloatArray, fraction_bits: int) -> Words:
    """Return real values as fixed-point words, negative ones modulo 2^64."""
    integers: IntArray = np.rint(np.ldexp(values, fraction_bits)).astype(np.int64)
    return integers.view(np.uint64)


def to_reals(words: Words, fraction_bits: int) -> FloatArray:
    """Return the real values that fixed-point words stand for, those from 2^63 on being negative."""
    reals: FloatArray = np.ldexp(words.view(np.int64).astype(np.float64), -fraction_bits)
    return reals


def truncate(share: Words, bits: int, *, leads: bool) -> Words:
    """Drop the last ``bits`` of a shared value, each party on its share alone: SecureML (Mohassel and Zhang, S&P 2017).

    The result is off by at most one unit, and wrong altogether with probability ``|value| / 2^63``: for a residual
    2^-35.
    """
    shift = np.uint64(bits)
    return share >> shift if leads else -(-share >> shift)


@dataclass(frozen=True, eq=False)
class Series:
    """``sigmoid(z) = 1/2 + sum_k a_k sin(2 pi k z / period)``, ``a_k = coefficients[k - 1] / 2^20``.

    The period is a power of two. Coefficients are public integers, sent rather than fitted on either side: two
    machines that round one of them differently would end with noise.
    """

    period: int
    coefficients: IntArray

    @classmethod
    @cache
    def fit(cls, bound: float) -> Self:
        """Fit ``[-bound, bound]`` by least squares to an error of 3e-4; raises SettingsError if it is too wide."""
        periods = [period for period in _PERIODS if bound <= _WIDEST * period]
        if not periods:
            raise SettingsError(
                f"the declared bounds allow logits up to {bound:g}, but disclosure = 'shared' can fit at most "
                f"{_WIDEST * _PERIODS[-1]:g}; lower logit_bound or latent_bound"
            )
        period = periods[0]
        z = np.linspace(0.0, bound, 4 * period)
        wanted = sigmoid(z) - 0.5
        for harmonics in range(3 * period // 8, 5 * period // 8):
            waves = np.sin(2 * np.pi * np.outer(z, np.arange(1, harmonics + 1)) / period)
            # Without a cut-off the gap beyond the bound would be filled with huge, cancelling waves.
            fitted = np.linalg.lstsq(waves, wanted, rcond=1e-3)[0]
            if float(np.abs(waves @ fitted - wanted).max()) < SERIES_ERROR:
                break
        return cls(period, np.rint(np.ldexp(fitted, _COEFFICIENT_BITS)).astype(np.int64))

    @property
    def harmonics(self) -> int:
        """The number of waves."""
        return len(self.coefficients)

    @property
    def turn(self) -> int:
        """The words after which twice a logit comes round."""
        return 2 * self.period << LOGIT_BITS

    def dealt_waves(self, angles: Words) -> Words:
        """Dealer: return cosines and sines (n, 2 K) of the multiples of angles (n,), with 14 fractional bits."""
        dealt = np.empty((len(angles), 2 * self.harmonics), dtype=np.uint64)
        for rows in _blocks(dealt):
            fractions = (angles[rows] % np.uint64(self.turn)).astype(np.float64) / self.turn
            first = np.exp(2j * np.pi * fractions)
            waves = np.cumprod(np.repeat(first[:, None], self.harmonics, axis=1), axis=1)
            dealt[rows] = to_words(np.hstack([waves.real, waves.imag]), WAVE_BITS)
        return dealt

    def public_waves(self, opened: Words) -> Words:
        """Return ``a_k sin`` and ``a_k cos`` (n, 2 K) of the multiples of opened angles (n,), with 14 fractional bits.

        In integers throughout, so that both sides get the very same on any machine.
        """
        surplus = self.turn.bit_length() - 1 - _TURN_BITS
        turns = opened % np.uint64(self.turn)
        turns = turns >> np.uint64(surplus) if surplus > 0 else turns << np.uint64(-surplus)
        multiples = np.arange(1, self.harmonics + 1, dtype=np.uint64)
        angles = (turns[:, None] * multiples).astype(np.int64) & ((1 << _TURN_BITS) - 1)
        cosines, sines = _integer_waves(angles)
        waves = np.hstack([sines, cosines]) * np.tile(self.coefficients, 2)
        surplus_bits = _SINE_BITS + _COEFFICIENT_BITS - WAVE_BITS
        return ((waves + (1 << (surplus_bits - 1))) >> surplus_bits).view(np.uint64)


@cache
def _table() -> tuple[IntArray, IntArray]:
    """Cosine and sine of 4,096 angles with 28 fractional bits; none is near enough to a half to round two ways."""
    angles = 2 * np.pi * np.arange(1 << _TABLE_BITS) / (1 << _TABLE_BITS)
    cosines, sines = (
        np.rint(np.ldexp(wave, _SINE_BITS)).astype(np.int64)
        for wave in (np.cos(angles), np.sin(angles))
    )
    return cosines, sines


def _integer_waves(angles: IntArray) -> tuple[IntArray, IntArray]:
    """Return cosine and sine, with 28 fractional bits, of angles in units of 2^-32 turns: table and small rotation."""
    rest_bits = _TURN_BITS - _TABLE_BITS
    coarse, rest = angles >> rest_bits, angles & ((1 << rest_bits) - 1)
    # The rest is below 2 pi / 4096: its sine is the angle and its cosine 1 - angle^2 / 2, to 6e-10.
    small = rest * round(2 * math.pi * (1 << 16)) >> (_TURN_BITS + 16 - _SINE_BITS)
    versed = small * small >> (_SINE_BITS + 1)
    cosines, sines = (table[coarse] for table in _table())
    turned_cosines = cosines - ((cosines * versed + sines * small) >> _SINE_BITS)
    turned_sines = sines + ((cosines * small - sines * versed) >> _SINE_BITS)
    return turned_cosines, turned_sines


def _blocks(words: Words) -> Iterator[slice]:
    """Cut the rows of (n, K) words into blocks that a cache holds, and whose memory is had again each time."""
    step = max(1, _BLOCK_WORDS // words.shape[1])
    return (slice(start, start + step) for start in range(0, len(words), step))


@dataclass(frozen=True, eq=False)
class Dealt:
    """One party's half of what was dealt for ``n`` samples with ``k`` latent sums and a series of ``K`` waves.

    Free values: ``masks`` r (n, k), ``multipliers`` b (n,), ``angles`` t (n,). What depends on them: ``squares``
    sum of r^2 (n,), ``multiplier_squares`` b^2 (n,), ``products`` b r (n, k), ``waves`` of t (n, 2 K).
    """

    masks: Words
    multipliers: Words
    angles: Words
    squares: Words
    multiplier_squares: Words
    products: Words
    waves: Words

    @classmethod
    def expand(cls, stream: Stream, n: int, k: int, waves: int, dependent: Words | None) -> Self:
        """Draw a half from its stream, ``dependent`` (n, 2 + k + waves) too unless that is given."""
        free = stream.words(n, k + 2)
        if dependent is None:
            dependent = stream.words(n, 2 + k + waves)
        return cls(
            free[:, :k],
            free[:, k],
            free[:, k + 1],
            dependent[:, 0],
            dependent[:, 1],
            dependent[:, 2 : 2 + k],
            dependent[:, 2 + k :],
        )

    @classmethod
    def complete(
        cls, of_label: Stream, of_coordinator: Stream, n: int, k: int, series: Series | None
    ) -> tuple[Words, Words]:
        """Dealer: return the coordinator's dependent values (n, 2 + k + waves), and all masks r (n, k)."""
        theirs = cls.expand(of_label, n, k, 2 * series.harmonics if series else 0, None)
        free = of_coordinator.words(n, k + 2)
        masks, multipliers = theirs.masks + free[:, :k], theirs.multipliers + free[:, k]
        waves = series.dealt_waves(theirs.angles + free[:, k + 1]) if series else theirs.waves
        dependent = np.column_stack(
            [
                (masks * masks).sum(axis=1) - theirs.squares,
                multipliers * multipliers - theirs.multiplier_squares,
                multipliers[:, None] * masks - theirs.products,
                waves - theirs.waves,
            ]
        )
        return dependent, masks


# In what follows both parties do the same with their shares; the one that leads adds what is public.


def square_sums(opened: Words, dealt: Dealt, *, leads: bool) -> Words:
    """Return a share of ``sum_f S_f^2`` (n,) from opened ``S - r`` (n, k): Beaver's pair."""
    share: Words = 2 * (opened * dealt.masks).sum(axis=1) + dealt.squares
    return share + (opened * opened).sum(axis=1) if leads else share


def probabilities(opened: Words, series: Series, dealt: Dealt, *, leads: bool) -> Words:
    """Return a share of ``sigmoid(z)`` (n,), with 28 fractional bits, from opened ``2 z - t`` (n,)."""
    share = np.empty(len(opened), dtype=np.uint64)
    for rows in _blocks(dealt.waves):
        share[rows] = (series.public_waves(opened[rows]) * dealt.waves[rows]).sum(axis=1)
    return share + np.uint64(1 << (RESIDUAL_BITS - 1)) if leads else share


def products(opened_sums: Words, opened_residuals: Words, dealt: Dealt, *, leads: bool) -> Words:
    """Return a share of ``d S`` (n, k) from opened ``S - r`` (n, k) and ``d - b`` (n,): Beaver's triple.

    Its ``r`` is that of the square, whose opening serves again.
    """
    residuals = opened_residuals[:, None]
    share: Words = (
        residuals * dealt.masks + opened_sums * dealt.multipliers[:, None] + dealt.products
    )
    return share + residuals * opened_sums if leads else share


def squared_residuals(opened: Words, dealt: Dealt, *, leads: bool) -> Words:
    """Return a share of the sum of ``d^2`` (1,), with 32 fractional bits, from opened ``d - b`` (n,)."""
    terms = 2 * opened * dealt.multipliers + dealt.multiplier_squares
    share: Words = (terms + opened * opened if leads else terms).sum(keepdims=True)
    return share


def pair_products(
    opened: tuple[Words, Words], masks: tuple[Words, Words], dealt: Words, *, leads: bool
) -> Words:
    """Return a share of ``S T^t`` (n, m) from opened ``S - r`` (n, k), ``T - s`` (m, k), and a share of ``r s^t``."""
    rows, columns = opened
    share: Words = rows @ masks[1].T + masks[0] @ columns.T + dealt
    return share + rows @ columns.T if leads else share
