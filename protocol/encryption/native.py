"""The compiled kernel as a ring, and the choice between it and gmpy2.

The kernel (``protocol/encryption/native/``) holds an element modulo n^2 as two digits to the base n and multiplies
eight (AVX-512 IFMA) or four (AVX2) pairs at a time. It is built with the package where a C compiler is at hand, and
optional.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np

from protocol import ledger
from protocol.encryption.exponentiation import MODULAR_MULTIPLICATIONS, comb_cost, comb_shape
from protocol.encryption.ring import Elements, Matrix, PureRing, Ring, from_little_endian
from protocol.errors import SettingsError
from protocol.numbers import IntArray

try:
    from protocol.encryption import _kernel
except ImportError:
    _kernel = None  # type: ignore[assignment]

VARIABLE = "COLONNADE_KERNEL"
_LANES = {"ifma": 8, "avx2": 4}
_JOINING = 43  # multiplications that join a column's 16 planes


def built_paths() -> list[str]:
    """Return the kernel's paths that this machine can run, fastest first: of "ifma" and "avx2"."""
    return _kernel.paths() if _kernel is not None else []


def choose_path() -> tuple[str, str]:
    """Return the path that arithmetic takes here, and why; raises SettingsError if one is forced that cannot run."""
    built = built_paths()
    forced = os.environ.get(VARIABLE)
    if forced and forced not in ("gmpy2", *built):
        can = ", ".join(["gmpy2", *built])
        raise SettingsError(f"{VARIABLE} is '{forced}'; this machine can run {can}")
    if forced:
        return forced, f"{VARIABLE} asks for it"
    if _kernel is None:
        return (
            "gmpy2",
            "the native kernel was not built: install with a C compiler at hand to have it",
        )
    if not built:
        return "gmpy2", "the native kernel needs a processor with AVX-512 IFMA or AVX2"
    return built[0], "the fastest that this processor can run"


def open_ring(root: int) -> Ring:
    """Return arithmetic modulo ``root ** 2`` on the path of :func:`choose_path`."""
    path, _ = choose_path()
    return PureRing(root) if path == "gmpy2" else NativeRing(root, path)


class NativeRing(Ring):
    """Arithmetic by the kernel. Elements are 64-bit words in its own form, (n_elements, words)."""

    share = 4_000  # about 1 ms at 2048 bits: what a thread costs to reach, several times over

    def __init__(self, root: int, path: str) -> None:
        super().__init__(root)
        self.path, self.lanes = path, _LANES[path]
        self._kernel = _kernel.Modulus(_little_endian(root), path)
        self._words = self._kernel.element_bytes // 8

    def __reduce__(self) -> tuple[type[NativeRing], tuple[int, str]]:
        return NativeRing, (self.root, self.path)

    def _new(self, number: int) -> Elements:
        return np.empty((number, self._words), dtype=np.uint64)

    def read(self, data: bytes, width: int) -> Elements:
        """Take little-endian integers of ``width`` bytes each; raises ValueError beyond the modulus."""
        elements = self._new(len(data) // width)
        self._kernel.load(data, width, elements)
        return elements

    def write(self, elements: Elements, width: int) -> bytes:
        """Return little-endian integers of ``width`` bytes each."""
        data = bytearray(len(elements) * width)
        self._kernel.store(_whole(elements), width, data)
        return bytes(data)

    def multiply(self, a: Elements, b: Elements) -> Elements:
        """Multiply element by element; ``b`` may have one element for all of ``a``."""
        products = self._new(len(a))
        self._kernel.multiply(_whole(a), _whole(b), products)
        ledger.count(MODULAR_MULTIPLICATIONS, len(a))
        return products

    def quotients(self, elements: Elements) -> list[int]:
        """Return ``x // root`` of each element: of ``1 + m root`` that is ``m``."""
        width = -(-self.root.bit_length() // 8)
        data = bytearray(len(elements) * width)
        self._kernel.high(_whole(elements), width, data)
        return from_little_endian(data, width)

    def _power(self, elements: Elements, exponent: int) -> Elements:
        powers = self._new(len(elements))
        self._kernel.power(_whole(elements), _little_endian(exponent), powers)
        ledger.count(MODULAR_MULTIPLICATIONS, len(elements) * exponent.bit_length())
        return powers

    def _fixed_base_powers(
        self, base: int, exponent_bits: int, exponents: bytes, table_bytes: int
    ) -> Elements:
        width = -(-exponent_bits // 8)
        powers = self._new(len(exponents) // width)
        table = _fixed_base(self.root, self.path, base, exponent_bits, table_bytes)
        table.powers(exponents, width, powers)
        shape = comb_shape(exponent_bits, self.modulus.bit_length(), table_bytes)
        ledger.count(MODULAR_MULTIPLICATIONS, len(powers) * comb_cost(shape))
        return powers

    def _column_products(self, elements: Elements, matrix: Matrix) -> Elements:
        n_rows, n_columns = matrix.shape
        magnitudes, signs = self._new(n_columns), self._new(n_columns)
        matrix = _whole(matrix)
        self._kernel.dense(_whole(elements), matrix, n_rows, n_columns, magnitudes, signs)
        ledger.count(MODULAR_MULTIPLICATIONS, self._dense_multiplications(n_rows, n_columns))
        return self.multiply(magnitudes, self.inverses(signs))

    def _dense_multiplications(self, n_rows: int, n_columns: int) -> int:
        *_, planned = self._kernel.dense_plan(n_rows, n_columns)
        return round(planned) + n_columns * _JOINING

    def _planned_multiplications(self, n_rows: int, n_columns: int) -> int:
        inverting = 3 * (n_columns - 1)
        return self._dense_multiplications(n_rows, n_columns) + n_columns + inverting

    def _indicator_products(self, elements: Elements, starts: IntArray, rows: IntArray) -> Elements:
        products = self._new(len(starts) - 1)
        self._kernel.sparse(_whole(elements), _whole(starts), _whole(rows), len(products), products)
        ledger.count(MODULAR_MULTIPLICATIONS, len(rows))
        return products


@lru_cache(maxsize=8)
def _fixed_base(root: int, path: str, base: int, exponent_bits: int, table_bytes: int) -> Any:
    """Return the kernel's table of powers, kept for the rounds to come."""
    ring = NativeRing(root, path)
    rows, tables, _ = comb_shape(exponent_bits, ring.modulus.bit_length(), table_bytes)
    return _kernel.FixedBase(ring._kernel, ring.elements([base]), exponent_bits, rows, tables)


def _whole(array: Elements) -> Elements:
    """Return an array as the kernel reads it: in one piece, and aligned even if it came from another process."""
    return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"])


def _little_endian(integer: int) -> bytes:
    return integer.to_bytes(-(-integer.bit_length() // 8), "little")
