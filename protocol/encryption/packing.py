"""Several integers side by side in one plaintext, so that one ciphertext carries them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from protocol import ledger
from protocol.encryption.keys import EncryptedVector, PublicKey
from protocol.errors import LayoutError


@dataclass(frozen=True)
class SlotLayout:
    """How several signed integers stand side by side in one plaintext.

    ``width`` is the bits of a slot, sign included; ``slots`` the number a ciphertext carries.
    """

    width: int
    slots: int

    @classmethod
    def for_bound(cls, largest: int, public_key: PublicKey) -> Self:
        """Lay out integers of size at most ``largest``; raises LayoutError if not even one fits.

        ``slots * width <= bits - 1`` keeps the packed sum below n / 2 whatever the slots hold.
        """
        width = largest.bit_length() + 1
        slots = (public_key.bits - 1) // width
        if not slots:
            raise LayoutError(
                f"sums of up to {width} bits do not fit a {public_key.bits}-bit key; "
                "use smaller batches, fewer fractional bits or a larger key"
            )
        return cls(width, slots)

    def join(self, integers: Sequence[int]) -> int:
        """Return one signed plaintext with the given integers in its slots, the first in the lowest."""
        return sum(integer << (slot * self.width) for slot, integer in enumerate(integers))

    def pack(self, encrypted: EncryptedVector) -> EncryptedVector:
        """Move ciphertexts into the slots of as few as possible, first entry in the lowest slot."""
        ring, values = encrypted.public_key.ring, encrypted.values
        packed = values[:0]
        with ledger.operation("packings", len(values)):
            for slot in reversed(range(min(self.slots, len(values)))):
                lower = values[slot :: self.slots]
                # The last ciphertext may have fewer slots: it joins once its highest one is reached.
                shifted = ring.multiply(ring.power(packed, 1 << self.width), lower[: len(packed)])
                packed = np.concatenate([shifted, lower[len(packed) :]])
        return EncryptedVector(encrypted.public_key, packed)

    def unpack(self, packed: Sequence[int], number: int) -> list[int]:
        """Return the ``number`` signed integers that stand in the slots of signed plaintexts."""
        half, integers = 1 << (self.width - 1), []
        for position in range(number):
            index, slot = divmod(position, self.slots)
            # To the nearest integer, as a negative lower slot has borrowed one from this one.
            rounded = ((packed[index] << 1 >> self.width * slot) + 1) >> 1
            integers.append((rounded + half) % (2 * half) - half)
        return integers
