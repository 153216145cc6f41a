"""From residuals to a gradient under encryption: the arithmetic of one round.

For each entity the label party encrypts ``1 + k`` signed integers side by side, in *slots*:

    [ d | d S_1 | ... | d S_k ]      summed over the entity's samples, with ``residual_bits`` fractional bits

so that one exponentiation by a column's entry serves a weight and all its factors. A feature party computes
``X^T [d | d S]`` slot by slot. What it still has to subtract, ``V * (X * X)^T d``, it knows for 0/1 columns once the
first slot is opened, as ``x * x = x``. For scaled columns that would tell it more than its gradient does, so there it
subtracts under encryption, from ciphertexts that carry ``d`` alone. Without factors all this is one slot.

Fixed point: columns have 12 fractional bits, their squares 8, factors 12; shifting the first term by 8 makes both
terms' scales equal.

Under ``disclosure = "shared"`` a plaintext is the sum of two shares, less 2^64. That is right but with probability
``|value| / 2^64``, when it comes out too large by 2^64, or too small. Slots are wide enough to show that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.features import FRACTION_BITS, HIGHEST, LOWEST, SQUARE_BITS, FixedPointMatrix
from protocol import ledger
from protocol.encryption.encryptors import Encryptor
from protocol.encryption.keys import EncryptedVector, PublicKey
from protocol.encryption.packing import SlotLayout
from protocol.errors import LayoutError, RemoteProtocolError
from protocol.numbers import Ciphertexts, FloatArray, IntArray, Words
from protocol.settings import ProtocolSettings
from protocol.sharing.shares import MODULUS, RESIDUAL_BITS

FACTOR_BITS = 12
SHIFT_BITS = SQUARE_BITS + FACTOR_BITS - FRACTION_BITS
LARGEST_FACTOR = 8
MEMORY_BUDGET = 256_000_000

Integers = NDArray[Any]  # of Python integers: sums may exceed 64 bits


@dataclass(frozen=True, eq=False)
class Slots:
    """Encrypted residuals: ``[d | d S]`` in slots, chunk after chunk, and where needed ``d`` alone."""

    values: EncryptedVector
    alone: EncryptedVector

    def to_wire(self) -> tuple[Ciphertexts, Ciphertexts]:
        """Return both as they travel."""
        return self.values.to_wire(), self.alone.to_wire()

    def randomised(self, encryptor: Encryptor) -> Slots:
        """Return other ciphertexts of the same residuals, which nobody can tell belong to these."""
        return Slots(encryptor.randomise(self.values), encryptor.randomise(self.alone))


@dataclass(frozen=True)
class GradientForm:
    """How large the integers of one batch can get towards one data party, so where they stand.

    Here a gradient is ``X^T d``; :class:`FactorForm` has factors besides. ``samples`` is the batch's rows at the
    label party, ``scaled`` whether there may be columns other than 0/1 ones, ``shared`` whether plaintexts are sums
    of two shares. All sides derive the same form from what all know.
    """

    factors: int
    residual_bits: int
    latent_bound: int
    samples: int
    scaled: bool
    shared: bool

    @staticmethod
    def of(settings: ProtocolSettings, samples: int, parties: int, *, scaled: bool) -> GradientForm:
        """Derive the form of a batch of ``samples`` rows among so many data parties, for the model of the settings."""
        training = settings.training
        shared = training.disclosure == "shared"
        kind = FactorForm if training.n_factors else GradientForm
        return kind(
            training.n_factors,
            RESIDUAL_BITS if shared else settings.encryption.residual_bits,
            math.ceil(parties * training.latent_bound),
            samples,
            scaled,
            shared,
        )

    @property
    def largest(self) -> int:
        """The largest size of an integer in any slot of a gradient."""
        largest = self._largest_of(self.samples << self.residual_bits, scaled=self.scaled)
        return largest + (self._largest_of(MODULUS, scaled=self.scaled) if self.shared else 0)

    def _largest_of(self, residuals: int, *, scaled: bool) -> int:
        """Return the largest size of a column's integers when its residuals add up to ``residuals`` in size."""
        return residuals * (max(HIGHEST, -LOWEST) if scaled else 1)

    def exceeded(self, integers: Integers, fraction_bits: IntArray) -> bool:
        """Tell whether one of a gradient's integers (n_columns, 1 + k) is larger than residuals can have made it."""
        residuals = self.samples << self.residual_bits
        sizes = [self._largest_of(residuals, scaled=scaled) for scaled in (False, True)]
        of_columns = np.array(sizes, dtype=object)[(fraction_bits != 0).astype(np.int64)]
        return bool(np.any(np.abs(integers) > of_columns[:, None]))

    def slots(self, public_key: PublicKey) -> SlotLayout:
        """Return the layout of one entity's, and one column's, slots; several ciphertexts where they do not fit."""
        fitting = SlotLayout.for_bound(self.largest, public_key)
        return SlotLayout(fitting.width, min(1 + self.factors, fitting.slots))

    def columns(self, public_key: PublicKey) -> SlotLayout:
        """Return the layout in which several columns' slots are opened together."""
        slots = self.slots(public_key)
        width = slots.width * slots.slots
        return SlotLayout(width, (public_key.bits - 1) // width)

    def slots_from_wire(
        self,
        public_key: PublicKey,
        values: Ciphertexts,
        alone: Ciphertexts,
        n_rows: int,
        sender: str,
    ) -> Slots:
        """Take the encrypted residuals of so many rows from the other side; raises RemoteProtocolError for others."""
        expected = n_rows * self.chunks(public_key), n_rows * self.needs_squares
        if (len(values), len(alone)) != expected:
            raise RemoteProtocolError(
                f"{sender} sent {len(values)} and {len(alone)} encrypted residuals where {expected[0]} and "
                f"{expected[1]} were expected"
            )
        return Slots(
            *(
                EncryptedVector.from_wire(public_key, vector, sender=sender)
                for vector in (values, alone)
            )
        )

    def ciphertexts(self, public_key: PublicKey, n_columns: int) -> int:
        """Return how many ciphertexts the gradient of so many columns takes to be opened."""
        return self.chunks(public_key) * -(-n_columns // self.columns(public_key).slots)

    def chunks(self, public_key: PublicKey) -> int:
        """Return how many ciphertexts the slots of one entity take."""
        return -(-(1 + self.factors) // self.slots(public_key).slots)

    def encrypt(self, encryptor: Encryptor, sums: IntArray | Words) -> Slots:
        """Encrypt residuals (n_rows, 1 + k), or a share of them."""
        values, alone = self._plaintexts(sums.tolist(), encryptor.public_key)
        return Slots(encryptor.encrypt(values), encryptor.encrypt(alone))

    def complete(self, theirs: Slots, share: Words) -> Slots:
        """Add one share of residuals (n_rows, 1 + k) in the clear to the other, which is encrypted."""
        rows = [[word - MODULUS for word in row] for row in share.tolist()]
        values, alone = self._plaintexts(rows, theirs.values.public_key)
        return Slots(theirs.values.plus(values), theirs.alone.plus(alone))

    def sum_by(self, slots: Slots, groups: IntArray, n_groups: int) -> Slots:
        """Add up the rows of each group (n_rows,), -1 being none."""
        n_rows = len(groups)
        chunks = [
            slots.values.take(np.arange(start, start + n_rows)).sum_by(groups, n_groups)
            for start in range(0, len(slots.values), n_rows)
        ]
        alone = slots.alone.sum_by(groups, n_groups) if self.needs_squares else slots.alone
        return Slots(_concatenate(chunks), alone)

    def _plaintexts(
        self, rows: Sequence[Sequence[int]], public_key: PublicKey
    ) -> tuple[list[int], list[int]]:
        """Return residuals side by side in slots, chunk after chunk, and ``d`` alone where needed."""
        layout = self.slots(public_key)
        values = [
            layout.join(row[start : start + layout.slots])
            for start in range(0, 1 + self.factors, layout.slots)
            for row in rows
        ]
        return values, [row[0] for row in rows] if self.needs_squares else []

    @property
    def needs_squares(self) -> bool:
        """Whether ``V * (X * X)^T d`` has to be subtracted under encryption."""
        return False

    def combine(
        self,
        rows: FixedPointMatrix,
        slots: Slots,
        factors: FloatArray,
        columns: IntArray,
        memory_budget: int,
    ) -> EncryptedVector:
        """Return the encrypted gradient of the given columns, packed to be opened, chunk after chunk.

        ``rows`` (n_entities, n_columns) in the order of ``slots``; ``factors`` (n_columns, k). Raises LayoutError if a
        factor has left its bound.
        """
        key = slots.values.public_key
        finish = self._finish(rows, slots, factors, memory_budget)
        packed = []
        for chunk in range(self.chunks(key)):
            entries = np.arange(chunk * rows.n_rows, (chunk + 1) * rows.n_rows)
            sums = transposed_product(rows, slots.values.take(entries), memory_budget)
            packed.append(self.columns(key).pack(finish(sums, chunk).take(columns)))
        return _concatenate(packed)

    def _finish(
        self, rows: FixedPointMatrix, slots: Slots, factors: FloatArray, memory_budget: int
    ) -> Callable[[EncryptedVector, int], EncryptedVector]:
        """Return what makes a chunk's gradient of its products ``X^T [d | d S]``."""
        return lambda sums, chunk: sums

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
        return rows.transposed_dot(sums).astype(object)

    def to_gradient(
        self, integers: Integers, fraction_bits: IntArray, factors: FloatArray
    ) -> FloatArray:
        """Return the batch mean gradient (n_columns, 1 + k) from its integers.

        ``fraction_bits`` (n_columns,) is 0 for the 0/1 columns.
        """
        return self._mean(integers, fraction_bits + self.residual_bits)

    def _mean(self, integers: Integers, bits: IntArray) -> FloatArray:
        mean: FloatArray = integers.astype(np.float64) / (2.0 ** bits[:, None] * self.samples)
        return mean


@dataclass(frozen=True)
class FactorForm(GradientForm):
    """The form of a factorization machine's gradient: ``X^T [d | d S]`` less ``V * (X * X)^T d``."""

    def _largest_of(self, residuals: int, *, scaled: bool) -> int:
        if not scaled:
            return residuals * self.latent_bound
        first = residuals * self.latent_bound * max(HIGHEST, -LOWEST) << SHIFT_BITS
        second = residuals * ((HIGHEST >> FRACTION_BITS) + 1) ** 2 << SQUARE_BITS
        return first + (second * LARGEST_FACTOR << FACTOR_BITS)

    @property
    def needs_squares(self) -> bool:
        """Whether there may be scaled columns: for 0/1 ones the party subtracts what it knows."""
        return self.scaled

    def _finish(
        self, rows: FixedPointMatrix, slots: Slots, factors: FloatArray, memory_budget: int
    ) -> Callable[[EncryptedVector, int], EncryptedVector]:
        if not self.needs_squares:
            return super()._finish(rows, slots, factors, memory_budget)
        layout, n_scaled = self.slots(slots.values.public_key), rows.scaled.shape[1]
        squares = transposed_product(rows.scaled_squares(), slots.alone, memory_budget)
        in_fixed_point = _fixed_factors(factors[:n_scaled]).tolist()

        def subtract(sums: EncryptedVector, chunk: int) -> EncryptedVector:
            first = chunk * layout.slots
            exponents = [
                layout.join([0, *row][first : first + layout.slots]) for row in in_fixed_point
            ]
            scaled = sums.take(np.arange(n_scaled)).shifted_less(SHIFT_BITS, squares, exponents)
            return _concatenate([scaled, sums.take(np.arange(n_scaled, rows.n_columns))])

        return subtract

    def in_the_clear(self, rows: FixedPointMatrix, sums: IntArray, factors: FloatArray) -> Integers:
        """Return the very integers that :meth:`combine` would, of residuals (n_entities, 1 + k) in the clear."""
        gradient = super().in_the_clear(rows, sums, factors)
        if self.needs_squares:
            n_scaled = rows.scaled.shape[1]
            squares = rows.scaled_squares().transposed_dot(sums[:, 0]).astype(object)
            gradient[:n_scaled] *= 1 << SHIFT_BITS
            gradient[:n_scaled, 1:] -= _fixed_factors(factors[:n_scaled]) * squares[:, None]
        return gradient

    def to_gradient(
        self, integers: Integers, fraction_bits: IntArray, factors: FloatArray
    ) -> FloatArray:
        """Return the batch mean gradient (n_columns, 1 + k) from its integers; subtract the squares of 0/1 columns."""
        shift = SHIFT_BITS if self.needs_squares else 0
        indicators = fraction_bits == 0
        bits = np.where(indicators, 0, fraction_bits + shift) + self.residual_bits
        gradient = self._mean(integers, bits)
        gradient[indicators, 1:] -= factors[indicators] * gradient[indicators, :1]
        return gradient


def transposed_product(
    matrix: FixedPointMatrix, encrypted: EncryptedVector, memory_budget: int = MEMORY_BUDGET
) -> EncryptedVector:
    """Return the encrypted ``X^T m`` in the matrix' raw integers, one ciphertext a column.

    ``matrix`` is (n_rows, n_columns), ``encrypted`` (n_rows,), ``memory_budget`` in bytes bounds the working memory.
    The results are *not* randomised anew: who can see the inputs could test guesses at a column. Mask them before
    they leave.
    """
    if matrix.n_rows != len(encrypted):
        raise ValueError("the matrix needs one row for each ciphertext")
    ring = encrypted.public_key.ring
    by_column = matrix.indicators.tocsc()
    starts, rows = (index.astype(np.int64) for index in (by_column.indptr, by_column.indices))
    products = [encrypted.values[:0]]
    if matrix.scaled.shape[1]:
        with ledger.operation("products", matrix.scaled.size):
            products.append(ring.column_products(encrypted.values, matrix.scaled, memory_budget))
    if by_column.shape[1]:
        with ledger.operation("additions", len(rows)):
            products.append(ring.indicator_products(encrypted.values, starts, rows))
    return EncryptedVector(encrypted.public_key, np.concatenate(products))


def residual_slots(
    residuals: FloatArray, latent_sums: FloatArray, settings: ProtocolSettings
) -> IntArray:
    """Return ``[d | d S]`` (n_samples, 1 + k) in fixed point."""
    slots = np.column_stack([residuals, residuals[:, None] * latent_sums])
    return np.rint(slots * 2.0**settings.encryption.residual_bits).astype(np.int64)


def _fixed_factors(factors: FloatArray) -> Integers:
    """Return factors in fixed point, as Python integers; raises LayoutError beyond their bound."""
    if factors.size and float(np.abs(factors).max()) >= LARGEST_FACTOR:
        raise LayoutError(
            f"a factor has grown to {LARGEST_FACTOR} or more, which its slots do not allow for; "
            "use a smaller learning rate or a larger l2_factors"
        )
    integers: Integers = np.rint(factors * 2.0**FACTOR_BITS).astype(np.int64).astype(object)
    return integers


def _concatenate(vectors: Sequence[EncryptedVector]) -> EncryptedVector:
    """Join encrypted vectors, at least one, under one key."""
    return EncryptedVector(
        vectors[0].public_key, np.concatenate([vector.values for vector in vectors])
    )
