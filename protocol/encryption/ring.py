"""Vectors of integers modulo a square, and the few operations on them that everything else is made of.

A :class:`Ring` works modulo ``root ** 2``: with ``root = n`` for ciphertexts, with ``root = p`` or ``q`` for the key
holder. :class:`PureRing` uses gmpy2 and is always there; :class:`protocol.encryption.native.NativeRing` uses the
compiled kernel where it was built and the processor has the instructions. Both give the same numbers.

Elements are a numpy array with one row (or one object) an element, so that they can be sliced and joined; what
stands in it is the ring's own affair. Large tasks are split over cores through joblib: ``n_jobs`` is joblib's own
setting, and so a user's own back end (Dask, Ray) can take over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray
from phe.paillier import EncryptedNumber, PaillierPublicKey

from protocol import ledger
from protocol.cores import Preference, cores_for, split, spread
from protocol.encryption import exponentiation
from protocol.encryption.exponentiation import (
    MODULAR_MULTIPLICATIONS,
    SCALED_BITS,
    TABLE_BYTES,
    FixedBase,
    comb_cost,
    comb_shape,
    product_cost,
)
from protocol.numbers import IntArray

Elements = NDArray[Any]
Matrix = NDArray[np.int16]


class Ring(ABC):
    """Integers modulo ``root ** 2``. The methods that start with an underscore do one core's share."""

    path: str
    lanes = 1  # elements that are worked on at once: fewer take as long
    share: int  # multiplications worth handing to another core
    prefers: Preference = "threads"  # what reaches that core

    def __init__(self, root: int) -> None:
        self.root = root
        self.modulus = root * root
        self.width = -(-self.modulus.bit_length() // 8)  # bytes of an integer below the modulus

    @abstractmethod
    def read(self, data: bytes, width: int) -> Elements:
        """Take little-endian integers of ``width`` bytes each; raises ValueError beyond the modulus."""

    @abstractmethod
    def write(self, elements: Elements, width: int) -> bytes:
        """Return little-endian integers of ``width`` bytes each."""

    @abstractmethod
    def multiply(self, a: Elements, b: Elements) -> Elements:
        """Multiply element by element; ``b`` may have one element for all of ``a``."""

    @abstractmethod
    def quotients(self, elements: Elements) -> list[int]:
        """Return ``x // root`` of each element: of ``1 + m root`` that is ``m``."""

    @abstractmethod
    def _power(self, elements: Elements, exponent: int) -> Elements: ...

    @abstractmethod
    def _fixed_base_powers(
        self, base: int, exponent_bits: int, exponents: bytes, table_bytes: int
    ) -> Elements: ...

    @abstractmethod
    def _column_products(self, elements: Elements, matrix: Matrix) -> Elements: ...

    @abstractmethod
    def _indicator_products(
        self, elements: Elements, starts: IntArray, rows: IntArray
    ) -> Elements: ...

    @abstractmethod
    def _planned_multiplications(self, n_rows: int, n_columns: int) -> int: ...

    def elements(self, integers: Sequence[int]) -> Elements:
        """Take integers below the modulus."""
        data = b"".join(integer.to_bytes(self.width, "little") for integer in integers)
        return self.read(data, self.width)

    def integers(self, elements: Elements) -> list[int]:
        """Return the elements as integers below the modulus."""
        return from_little_endian(self.write(elements, self.width), self.width)

    def product(self, elements: Elements) -> int:
        """Return the product of all elements."""
        while len(elements) > 1:
            half = len(elements) // 2
            pairs = self.multiply(elements[:half], elements[half : 2 * half])
            elements = np.concatenate([pairs, elements[2 * half :]])
        return self.integers(elements)[0] if len(elements) else 1

    def inverses(self, elements: Elements) -> Elements:
        """Return the inverse of each element, by one inversion and three multiplications each (Montgomery 1987)."""
        if len(elements) <= 1:
            return self.elements([pow(i, -1, self.modulus) for i in self.integers(elements)])
        half = len(elements) // 2
        a, b, rest = elements[:half], elements[half : 2 * half], elements[2 * half :]
        inverted = self.inverses(np.concatenate([self.multiply(a, b), rest]))
        of_pairs = inverted[:half]
        return np.concatenate(
            [self.multiply(of_pairs, b), self.multiply(of_pairs, a), inverted[half:]]
        )

    def power(self, elements: Elements, exponent: int) -> Elements:
        """Raise every element to one exponent."""
        workers = cores_for(len(elements) * exponent.bit_length(), self.share)
        tasks = [(elements[part], exponent) for part in split(len(elements), workers)]
        # Powers with one exponent leave Python's lock even where nothing else does.
        return np.concatenate(spread(self._power, tasks, prefers="threads"))

    def fixed_base_powers(
        self, base: int, exponent_bits: int, exponents: bytes, table_bytes: int = TABLE_BYTES
    ) -> Elements:
        """Raise one base to many exponents, little-endian integers of whole bytes each.

        The table of the base's powers takes at most ``table_bytes`` and is kept for the rounds to come.
        """
        width = -(-exponent_bits // 8)
        number = len(exponents) // width
        shape = comb_shape(exponent_bits, self.modulus.bit_length(), table_bytes)
        workers = cores_for(number * comb_cost(shape), self.share)
        tasks = [
            (base, exponent_bits, exponents[part.start * width : part.stop * width], table_bytes)
            for part in split(number, workers)
        ]
        return np.concatenate(spread(self._fixed_base_powers, tasks, self.prefers))

    def column_products(self, elements: Elements, matrix: Matrix, memory_budget: int) -> Elements:
        """Return ``prod_i elements[i] ** matrix[i, j]`` for each column ``j`` of (n_rows, n_columns).

        Goes through the matrix in blocks of rows whose working memory is at most ``memory_budget`` bytes (see
        :func:`block_rows`), or a single row's. Cores share a block by columns or by rows, whichever costs less.
        """
        n_rows, n_columns = matrix.shape
        if not matrix.size:
            return self.elements([1] * n_columns)
        block = block_rows(n_columns, memory_budget)
        result = None
        for start in range(0, n_rows, block):
            rows = slice(start, start + block)
            part = self._shared_products(elements[rows], matrix[rows])
            result = part if result is None else self.multiply(result, part)
        assert result is not None
        return result

    def _shared_products(self, elements: Elements, matrix: Matrix) -> Elements:
        of_rows, of_columns = self._cut(*matrix.shape)
        if len(of_rows) == 1:
            tasks = [(elements, np.ascontiguousarray(matrix[:, part])) for part in of_columns]
            return np.concatenate(spread(self._column_products, tasks, self.prefers))
        tasks = [(elements[part], matrix[part]) for part in of_rows]
        result, *others = spread(self._column_products, tasks, self.prefers)
        for other in others:
            result = self.multiply(result, other)
        return result

    def _cut(self, n_rows: int, n_columns: int) -> tuple[list[slice], list[slice]]:
        """Return the runs of rows and of columns in which cores share a block: one of either."""
        planes = n_columns * SCALED_BITS
        workers = cores_for(product_cost(n_rows, planes), self.share)
        by_columns = product_cost(n_rows, -(-planes // workers))
        by_rows = product_cost(-(-n_rows // workers), planes) + 2 * planes
        if by_columns <= by_rows:
            return split(n_rows, 1), split(n_columns, workers)
        return split(n_rows, workers), split(n_columns, 1)

    def planned_multiplications(self, n_rows: int, n_columns: int, memory_budget: int) -> int:
        """Return the modular multiplications that :meth:`column_products` counts; with gmpy2, at most."""
        if not n_rows * n_columns:
            return 0
        block = block_rows(n_columns, memory_budget)
        total = (-(-n_rows // block) - 1) * n_columns
        for size, times in ((block, n_rows // block), (n_rows % block, 1)):
            if not size * times:
                continue
            of_rows, of_columns = self._cut(size, n_columns)
            parts = sum(
                self._planned_multiplications(rows.stop - rows.start, columns.stop - columns.start)
                for rows in of_rows
                for columns in of_columns
            )
            total += times * (parts + (len(of_rows) - 1) * n_columns)
        return total

    def places(self, n_elements: int, each: int) -> int:
        """Return how many elements' time ``n_elements`` take, of ``each`` multiplications: empty lanes count too."""
        parts = split(n_elements, cores_for(n_elements * each, self.share))
        return sum(-(-(part.stop - part.start) // self.lanes) * self.lanes for part in parts)

    def indicator_products(self, elements: Elements, starts: IntArray, rows: IntArray) -> Elements:
        """Return the product of the elements at ``rows[starts[j]:starts[j + 1]]`` for each column ``j``."""
        workers = cores_for(len(rows), self.share)
        shares = np.linspace(0, len(rows), workers + 1)[1:-1]
        bounds = [0, *np.searchsorted(starts, shares).tolist(), len(starts) - 1]
        tasks = [
            (elements, starts[low : high + 1] - starts[low], rows[starts[low] : starts[high]])
            for low, high in pairwise(bounds)
        ]
        return np.concatenate(spread(self._indicator_products, tasks, self.prefers))


class PureRing(Ring):
    """Arithmetic by gmpy2. Elements are an object array of ``mpz``, (n_elements,)."""

    path = "gmpy2"
    share = 10_000  # about 40 ms at 2048 bits, several times what a process costs to reach
    prefers = "processes"  # loops over Python objects hold the lock

    def read(self, data: bytes, width: int) -> Elements:
        """Take little-endian integers of ``width`` bytes each; raises ValueError beyond the modulus."""
        integers = [
            mpz.from_bytes(data[start : start + width], byteorder="little")
            for start in range(0, len(data), width)
        ]
        return self.elements(integers)

    def elements(self, integers: Sequence[int]) -> Elements:
        """Take integers below the modulus."""
        if any(integer >= self.modulus for integer in integers):
            raise ValueError("an integer is not below the modulus")
        return _objects([mpz(integer) for integer in integers])

    def integers(self, elements: Elements) -> list[int]:
        """Return the elements as integers below the modulus."""
        integers: list[int] = elements.tolist()
        return integers

    def write(self, elements: Elements, width: int) -> bytes:
        """Return little-endian integers of ``width`` bytes each."""
        return b"".join(element.to_bytes(width, "little") for element in elements)

    def multiply(self, a: Elements, b: Elements) -> Elements:
        """Multiply element by element; ``b`` may have one element for all of ``a``."""
        ledger.count(MODULAR_MULTIPLICATIONS, len(a))
        return np.asarray(a * b % self.modulus, dtype=object)

    def quotients(self, elements: Elements) -> list[int]:
        """Return ``x // root`` of each element: of ``1 + m root`` that is ``m``."""
        return [int(element // self.root) for element in elements]

    def _power(self, elements: Elements, exponent: int) -> Elements:
        ledger.count(MODULAR_MULTIPLICATIONS, len(elements) * exponent.bit_length())
        return _objects(gmpy2.powmod_base_list(elements.tolist(), exponent, self.modulus))

    def _fixed_base_powers(
        self, base: int, exponent_bits: int, exponents: bytes, table_bytes: int
    ) -> Elements:
        table = _fixed_base(base, self.modulus, exponent_bits, table_bytes)
        return _objects(table.powers(exponents))

    def _column_products(self, elements: Elements, matrix: Matrix) -> Elements:
        return _objects(exponentiation.column_products(elements.tolist(), matrix, self.modulus))

    def _planned_multiplications(self, n_rows: int, n_columns: int) -> int:
        joining = n_columns * (2 * (SCALED_BITS - 1) + 3)
        return product_cost(n_rows, n_columns * SCALED_BITS) + joining

    def _indicator_products(self, elements: Elements, starts: IntArray, rows: IntArray) -> Elements:
        columns = (
            [part.tolist() for part in np.split(rows, starts[1:-1])] if len(starts) > 1 else []
        )
        return _objects(exponentiation.indicator_products(elements.tolist(), columns, self.modulus))


class PheRing(PureRing):
    """phe's own arithmetic modulo n^2, as a baseline: products of a matrix take one modular power an entry."""

    path = "phe"

    def __init__(self, root: int) -> None:
        super().__init__(root)
        self._key = PaillierPublicKey(root)

    def _planned_multiplications(self, n_rows: int, n_columns: int) -> int:
        return n_rows * n_columns * 3 * SCALED_BITS // 2

    def _column_products(self, elements: Elements, matrix: Matrix) -> Elements:
        vector = [EncryptedNumber(self._key, int(element)) for element in elements]
        products = []
        for column in matrix.T.tolist():
            terms = (number * factor for number, factor in zip(vector, column, strict=True))
            products.append(mpz(sum(terms, start=EncryptedNumber(self._key, 1)).ciphertext(False)))
        # One inversion or none, squarings and multiplications bit by bit, and the sum.
        bits = np.bitwise_count(np.abs(matrix.astype(np.int32))).sum()
        squarings = np.ceil(np.log2(np.abs(matrix.astype(np.float64)) + 1)).sum()
        ledger.count(MODULAR_MULTIPLICATIONS, int(bits + squarings))
        return _objects(products)


def from_little_endian(data: bytes | bytearray, width: int) -> list[int]:
    """Return the integers that stand one after another in ``width`` bytes each."""
    return [
        int.from_bytes(data[start : start + width], "little")
        for start in range(0, len(data), width)
    ]


def block_rows(n_columns: int, memory_budget: int) -> int:
    """Return how many rows of a matrix are worked on at a time.

    A row needs, for each column, 16 bit planes of two bytes while they are cut and one byte once they are, and at
    most 8 bytes of table index for each of them: ``16 * (2 + 1 + 8)`` bytes.
    """
    return max(1, memory_budget // (SCALED_BITS * 11 * max(1, n_columns)))


@lru_cache(maxsize=8)
def _fixed_base(base: int, modulus: int, exponent_bits: int, table_bytes: int) -> FixedBase:
    """Return a table of powers, kept for the rounds to come; a helper process makes its own once."""
    return FixedBase(mpz(base), mpz(modulus), exponent_bits, table_bytes)


def _objects(integers: Sequence[int]) -> Elements:
    """Make an object array of integers; numpy, left to itself, would look for digits in them."""
    elements = np.empty(len(integers), dtype=object)
    elements[:] = integers
    return elements
