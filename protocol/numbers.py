"""The numbers that parties compute with and send: arrays, words modulo 2^64, ciphertexts, residues modulo n."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


IntArray = NDArray[np.int64]


Words = NDArray[np.uint64]  # integers modulo 2^64


@dataclass(frozen=True)
class Ciphertexts:
    """Paillier ciphertexts as they travel: ``width`` bytes each, little-endian, one after another."""

    width: int
    data: bytes

    def __len__(self) -> int:
        return len(self.data) // self.width


@dataclass(frozen=True)
class Residues:
    """Integers modulo n as they travel: ``width`` bytes each, little-endian, one after another."""

    width: int
    data: bytes

    def __len__(self) -> int:
        return len(self.data) // self.width

    @classmethod
    def of(cls, integers: list[int], width: int) -> Residues:
        """Write down non-negative integers of at most ``width`` bytes."""
        return cls(width, b"".join(integer.to_bytes(width, "little") for integer in integers))

    def integers(self) -> list[int]:
        """Return the integers."""
        return [
            int.from_bytes(self.data[start : start + self.width], "little")
            for start in range(0, len(self.data), self.width)
        ]
