"""From residuals to a gradient under encryption: the arithmetic of one round.

For each entity the label party encrypts ``1 + k`` signed integers side by side, in *slots*:

    [ d | d S_1 | ... | d S_k ]      summed over the entity's samples, with ``residual_bits`` fractional bits

so that one exponentiation by a column's entry serves a weight and all its factors. A feature party computes
``X^T [d | d S]`` slot by slot. What it still has to subtract, ``V * (X * X)^T d``, it knows for 0/1 columns once the
first slot is opened, as ``x * x = x``. For scaled columns that would tell it more than its gradient does, so there it
subtracts under encryption, from ciphertexts that carry ``d`` alone. Without factors all this is one slot.

Fixed point: columns have 12 fractional bits, their squares 8, factors 12; shifting the first term by 8 makes both
terms' scales equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parties.features import FRACTION_BITS, HIGHEST, LOWEST, SQUARE_BITS, FixedPointMatrix
from protocol.errors import LayoutError
from protocol.messages import FloatArray, IntArray
from protocol.paillier import (
    EncryptedVector,
    Encryptor,
    PublicKey,
    SlotLayout,
    concatenate,
    transposed_product,
)
from protocol.settings import ProtocolSettings

FACTOR_BITS = 12
SHIFT_BITS = SQUARE_BITS + FACTOR_BITS - FRACTION_BITS
LARGEST_FACTOR = 8

Integers = NDArray[Any]  # of Python integers: sums may exceed 64 bits


@dataclass(frozen=True)
class GradientForm:
    """How large the integers of one batch can get towards one feature party, so where they stand.

    ``samples`` is the batch's rows at the label party, ``scaled`` whether the feature party has columns other than
    0/1 ones. Both sides derive the same form from what both know.
    """

    factors: int
    residual_bits: int
    latent_bound: int
    samples: int
    scaled: bool

    @classmethod
    def of(cls, settings: ProtocolSettings, samples: int, *, scaled: bool) -> Self:
        """Derive the form of a batch."""
        training = settings.training
        return cls(
            training.n_factors,
            settings.encryption.residual_bits,
            training.latent_bound,
            samples,
            scaled,
        )

    @property
    def largest(self) -> int:
        """The largest size of an integer in any slot of a gradient."""
        residual = self.samples << self.residual_bits
        if not self.factors:
            return residual * (max(HIGHEST, -LOWEST) if self.scaled else 1)
        if not self.scaled:
            return residual * self.latent_bound
        first = residual * self.latent_bound * max(HIGHEST, -LOWEST) << SHIFT_BITS
        second = residual * ((HIGHEST >> FRACTION_BITS) + 1) ** 2 << SQUARE_BITS
        return first + (second * LARGEST_FACTOR << FACTOR_BITS)

    def slots(self, public_key: PublicKey) -> SlotLayout:
        """Return the layout of one entity's, and one column's, slots; several ciphertexts where they do not fit."""
        fitting = SlotLayout.for_bound(self.largest, public_key)
        return SlotLayout(fitting.width, min(1 + self.factors, fitting.slots))

    def columns(self, public_key: PublicKey) -> SlotLayout:
        """Return the layout in which several columns' slots are opened together."""
        slots = self.slots(public_key)
        width = slots.width * slots.slots
        return SlotLayout(width, (public_key.bits - 1) // width)

    def chunks(self, public_key: PublicKey) -> int:
        """Return how many ciphertexts the slots of one entity take."""
        return -(-(1 + self.factors) // self.slots(public_key).slots)

    def encrypt(
        self, encryptor: Encryptor, sums: IntArray
    ) -> tuple[EncryptedVector, EncryptedVector]:
        """Encrypt residuals (n_entities, 1 + k): their slots, chunk after chunk, and ``d`` alone where needed."""
        layout, width = self.slots(encryptor.public_key), 1 + self.factors
        plaintexts = [
            layout.join(row[start : start + layout.slots])
            for start in range(0, width, layout.slots)
            for row in sums.tolist()
        ]
        alone = sums[:, 0].tolist() if self.needs_squares else []
        return encryptor.encrypt(plaintexts), encryptor.encrypt(alone)

    @property
    def needs_squares(self) -> bool:
        """Whether ``V * (X * X)^T d`` has to be subtracted under encryption."""
        return self.scaled and self.factors > 0

    def combine(
        self,
        rows: FixedPointMatrix,
        slots: EncryptedVector,
        alone: EncryptedVector,
        factors: FloatArray,
        columns: IntArray,
        memory_budget: int,
    ) -> EncryptedVector:
        """Return the encrypted gradient of the given columns, packed to be opened, chunk after chunk.

        ``rows`` (n_entities, n_columns) in the order of ``slots`` and ``alone``; ``factors`` (n_columns, k). Raises
        LayoutError if a factor has left its bound.
        """
        key = slots.public_key
        layout, ring = self.slots(key), key.ring
        n_scaled = rows.scaled.shape[1]
        if self.needs_squares:
            squares = transposed_product(rows.scaled_squares(), alone, memory_budget).integers()
            in_fixed_point = _fixed_factors(factors[:n_scaled]).tolist()
        packed = []
        for chunk in range(self.chunks(key)):
            entries = np.arange(chunk * rows.n_rows, (chunk + 1) * rows.n_rows)
            sums = transposed_product(rows, slots.take(entries), memory_budget)
            if self.needs_squares:
                first = chunk * layout.slots
                exponents = [
                    -layout.join([0, *row][first : first + layout.slots]) for row in in_fixed_point
                ]
                subtracted = ring.elements(
                    [
                        pow(square, exponent, key.n_squared)
                        for square, exponent in zip(squares, exponents, strict=True)
                    ]
                )
                shifted = ring.power(sums.values[:n_scaled], 1 << SHIFT_BITS)
                scaled = EncryptedVector(key, ring.multiply(shifted, subtracted))
                sums = concatenate([scaled, sums.take(np.arange(n_scaled, rows.n_columns))])
            packed.append(self.columns(key).pack(sums.take(columns)))
        return concatenate(packed)

    def separate(self, opened: Sequence[int], public_key: PublicKey, n_columns: int) -> Integers:
        """Take opened plaintexts apart again: (n_columns, 1 + k)."""
        layout = self.slots(public_key)
        side_by_side = SlotLayout(layout.width, self.columns(public_key).slots * layout.slots)
        chunks, each = self.chunks(public_key), len(opened) // self.chunks(public_key)
        parts = [
            np.array(
                side_by_side.unpack(
                    opened[chunk * each : (chunk + 1) * each], n_columns * layout.slots
                ),
                dtype=object,
            ).reshape(n_columns, layout.slots)
            for chunk in range(chunks)
        ]
        return np.hstack(parts)[:, : 1 + self.factors]

    def in_the_clear(self, rows: FixedPointMatrix, sums: IntArray, factors: FloatArray) -> Integers:
        """Return the very integers that :meth:`combine` would, of residuals (n_entities, 1 + k) in the clear."""
        gradient = rows.transposed_dot(sums).astype(object)
        n_scaled = rows.scaled.shape[1]
        if self.needs_squares:
            squares = rows.scaled_squares().transposed_dot(sums[:, 0]).astype(object)
            gradient[:n_scaled] *= 1 << SHIFT_BITS
            gradient[:n_scaled, 1:] -= _fixed_factors(factors[:n_scaled]) * squares[:, None]
        return gradient

    def to_gradient(
        self, integers: Integers, fraction_bits: IntArray, factors: FloatArray
    ) -> FloatArray:
        """Return the batch mean gradient (n_columns, 1 + k) from its integers.

        ``fraction_bits`` (n_columns,) is 0 for the 0/1 columns, whose squares are subtracted here.
        """
        shift = SHIFT_BITS if self.needs_squares else 0
        bits = np.where(fraction_bits > 0, fraction_bits + shift, 0) + self.residual_bits
        gradient: FloatArray = integers.astype(np.float64) / (2.0 ** bits[:, None] * self.samples)
        indicators = fraction_bits == 0
        gradient[indicators, 1:] -= factors[indicators] * gradient[indicators, :1]
        return gradient


def residual_slots(
    residuals: FloatArray, latent_sums: FloatArray, settings: ProtocolSettings
) -> tuple[IntArray, int]:
    """Return ``[d | d S]`` (n_samples, 1 + k) in fixed point, and how many entries were clipped to their bound."""
    products = residuals[:, None] * latent_sums
    bound = float(settings.training.latent_bound)
    clipped = int(np.count_nonzero(np.abs(products) > bound))
    slots = np.column_stack([residuals, np.clip(products, -bound, bound)])
    return np.rint(slots * 2.0**settings.encryption.residual_bits).astype(np.int64), clipped


def _fixed_factors(factors: FloatArray) -> Integers:
    """Return factors in fixed point, as Python integers; raises LayoutError beyond their bound."""
    if factors.size and float(np.abs(factors).max()) >= LARGEST_FACTOR:
        raise LayoutError(
            f"a factor has grown to {LARGEST_FACTOR} or more, which its slots do not allow for; "
            "use a smaller learning rate or a larger l2_factors"
        )
    integers: Integers = np.rint(factors * 2.0**FACTOR_BITS).astype(np.int64).astype(object)
    return integers
