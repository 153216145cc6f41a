"""Many modular powers for a few modular multiplications each.

Two classic savings, over integers modulo any ``m`` (here the square of a Paillier modulus):

- :class:`FixedBase`: powers of one base from a table, the comb of Lim and Lee (CRYPTO 1994).
- :func:`column_products`: ``prod_i c_i ** x_ij`` for every column ``j`` of an integer matrix. Bits
  of the matrix are laid out as one wide 0/1 matrix, whose product is taken by the 'four Russians'
  method (Arlazarov et al. 1970) over groups of rows, or by its transpose over groups of columns,
  which is Pippenger's bucket method (SIAM J. Comput. 1980) with a bucket shared by several columns.

The numbers are ``gmpy2.mpz`` in use, but nothing here depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocol import ledger

MODULAR_MULTIPLICATIONS = "modular multiplications"

SCALED_BITS = 16
TABLE_BYTES = 8_000_000


class FixedBase:
    """Powers ``base ** e mod modulus`` for exponents of up to ``exponent_bits`` bits.

    The exponent is cut into ``rows`` strips of ``tables * columns`` bits. One table entry is the
    product of a subset of the strips' bases, so that one multiplication settles ``rows`` bits of
    the exponent. All entries together take at most ``table_bytes``.
    """

    def __init__(
        self, base: int, modulus: int, exponent_bits: int, table_bytes: int = TABLE_BYTES
    ) -> None:
        self.modulus = modulus
        self.exponent_bits = exponent_bits
        self.rows, self.tables, self.columns = comb_shape(
            exponent_bits, modulus.bit_length(), table_bytes
        )
        self._table: list[list[int]] = self._precompute(base)

    def _precompute(self, base: int) -> list[list[int]]:
        """Table ``t`` holds, at index ``s``, the product over bits ``i`` of ``s`` of the base of strip i, table t."""
        power, bases = base, []
        for _ in range(self.rows * self.tables):
            bases.append(power)
            for _ in range(self.columns):
                power = power * power % self.modulus
        return [
            subset_products(bases[table :: self.tables], self.modulus)
            for table in range(self.tables)
        ]

    def powers(self, exponents: bytes) -> list[int]:
        """Return the power for each exponent, given as little-endian integers of ``exponent_bytes`` each."""
        lookups = self._lookups(exponents)
        modulus, results = self.modulus, []
        for exponent in lookups:
            result = self._table[0][0]
            for position, column in enumerate(exponent):
                if position:
                    result = result * result % modulus
                for table, index in zip(self._table, column, strict=True):
                    if index:
                        result = result * table[index] % modulus
            results.append(result)
        each = comb_cost((self.rows, self.tables, self.columns))
        ledger.count(MODULAR_MULTIPLICATIONS, len(results) * each)
        return results

    @property
    def exponent_bytes(self) -> int:
        """Bytes of one exponent."""
        return -(-self.exponent_bits // 8)

    def _lookups(self, exponents: bytes) -> list[list[list[int]]]:
        """Return (n, columns, tables) table indices, most significant column first."""
        raw = np.frombuffer(exponents, dtype=np.uint8).reshape(-1, self.exponent_bytes)
        bits = np.unpackbits(raw, axis=1, bitorder="little")[:, : self.exponent_bits]
        strips = np.zeros((len(raw), self.rows * self.tables * self.columns), dtype=np.int64)
        strips[:, : self.exponent_bits] = bits
        shape = (len(raw), self.rows, self.tables, self.columns)
        indices = np.einsum("nrtc,r->nct", strips.reshape(shape), 1 << np.arange(self.rows))
        chosen: list[list[list[int]]] = indices[:, ::-1].tolist()
        return chosen


@lru_cache
def comb_shape(
    exponent_bits: int, modulus_bits: int, table_bytes: int = TABLE_BYTES
) -> tuple[int, int, int]:
    """Return the comb's rows, tables and columns: the fewest multiplications within ``table_bytes``."""
    return min(
        (
            (rows, tables, -(-exponent_bits // (rows * tables)))
            for rows in range(1, 15)
            for tables in range(1, 17)
            if tables * 2**rows * modulus_bits // 8 <= table_bytes
        ),
        key=comb_cost,
    )


def comb_cost(shape: tuple[int, int, int]) -> int:
    """Return the modular multiplications of one power from a comb, at most.

    A lookup for each table and column, the first of which has nothing to multiply yet; a squaring between columns.
    """
    _, tables, columns = shape
    return tables * columns + columns - 2


def subset_products(values: Sequence[int], modulus: int) -> list[int]:
    """Return the product of every subset of ``values``; bit ``i`` of an index says that value i is in."""
    products = [1]
    for value in values:
        products += [product * value % modulus for product in products]
    return products


def column_products(values: Sequence[int], matrix: NDArray[np.int16], modulus: int) -> list[int]:
    """Return ``prod_i values[i] ** matrix[i, j] mod modulus`` for each column ``j``.

    ``matrix`` is (n_rows, n_columns), signed 16-bit. In two's complement the sign bit weighs
    ``-2^15``: its plane is inverted once a column, and zeros stay free.
    """
    n_rows, n_columns = matrix.shape
    planes = (matrix.view(np.uint16)[:, :, None] >> np.arange(SCALED_BITS, dtype=np.uint16)) & 1
    products = binary_products(
        values, planes.reshape(n_rows, n_columns * SCALED_BITS).astype(bool), modulus
    )
    results = []
    signs = inverses(products[SCALED_BITS - 1 :: SCALED_BITS], modulus)
    for column, result in enumerate(signs):
        magnitudes = products[column * SCALED_BITS : (column + 1) * SCALED_BITS - 1]
        for plane in reversed(magnitudes):
            result = result * result % modulus * plane % modulus
        results.append(result)
    ledger.count(MODULAR_MULTIPLICATIONS, n_columns * 2 * (SCALED_BITS - 1))
    return results


def inverses(values: Sequence[int], modulus: int) -> list[int]:
    """Return the inverse of each value by one inversion, and three multiplications each (Montgomery 1987)."""
    prefixes = [1]
    for value in values:
        prefixes.append(prefixes[-1] * value % modulus)
    running = pow(prefixes[-1], -1, modulus)
    inverted = []
    for value, prefix in zip(reversed(values), reversed(prefixes[:-1]), strict=True):
        inverted.append(running * prefix % modulus)
        running = running * value % modulus
    ledger.count(MODULAR_MULTIPLICATIONS, 3 * len(values))
    return inverted[::-1]


def indicator_products(
    values: Sequence[int], rows_of_column: Sequence[Sequence[int]], modulus: int
) -> list[int]:
    """Return the product of the values at the given rows, for each column: one multiplication an entry."""
    results = []
    for rows in rows_of_column:
        result = 1
        for row in rows:
            result = result * values[row] % modulus
        results.append(result)
    ledger.count(MODULAR_MULTIPLICATIONS, sum(map(len, rows_of_column)))
    return results


def binary_products(values: Sequence[int], chosen: NDArray[np.bool_], modulus: int) -> list[int]:
    """Return ``prod of values[i] over rows i with chosen[i, j]`` for each column ``j`` of a 0/1 matrix."""
    by_rows, row_group = _cheapest(rows_cost, chosen.shape)
    by_columns, column_group = _cheapest(columns_cost, chosen.shape)
    if by_rows <= by_columns:
        return _products_by_rows(values, chosen, modulus, row_group)
    return _products_by_columns(values, chosen, modulus, column_group)


def product_cost(n_rows: int, n_columns: int) -> int:
    """Return the modular multiplications of a binary product by the cheaper method, at most."""
    shape = (n_rows, n_columns)
    return min(_cheapest(rows_cost, shape)[0], _cheapest(columns_cost, shape)[0])


def _cheapest(cost: Callable[[int, int, int], int], shape: tuple[int, int]) -> tuple[int, int]:
    """Return the least cost over all group sizes, and that size."""
    return min((cost(*shape, group), group) for group in range(1, 15))


def rows_cost(n_rows: int, n_columns: int, group: int) -> int:
    """Multiplications of a binary product over groups of rows: all subsets once, one lookup a column."""
    return -(-n_rows // group) * ((1 << group) - group - 1 + n_columns)


def columns_cost(n_rows: int, n_columns: int, group: int) -> int:
    """Multiplications of a binary product over groups of columns: one bucket a row, then the folding."""
    return -(-n_columns // group) * (n_rows + (2 << group))


def _products_by_rows(
    values: Sequence[int], chosen: NDArray[np.bool_], modulus: int, group: int
) -> list[int]:
    products, multiplications = [1] * chosen.shape[1], 0
    for start in range(0, len(values), group):
        members = values[start : start + group]
        table = subset_products(members, modulus)
        indices = _as_integers(chosen[start : start + group])
        products = [
            product * table[index] % modulus if index else product
            for product, index in zip(products, indices.tolist(), strict=True)
        ]
        multiplications += len(table) - len(members) - 1 + int(np.count_nonzero(indices))
    ledger.count(MODULAR_MULTIPLICATIONS, multiplications)
    return products


def _products_by_columns(
    values: Sequence[int], chosen: NDArray[np.bool_], modulus: int, group: int
) -> list[int]:
    products: list[int] = []
    multiplications = 0
    for start in range(0, chosen.shape[1], group):
        indices = _as_integers(chosen[:, start : start + group].T)
        buckets = [1] * 2 ** min(group, chosen.shape[1] - start)
        for value, index in zip(values, indices.tolist(), strict=True):
            if index:
                buckets[index] = buckets[index] * value % modulus
        multiplications += int(np.count_nonzero(indices)) + 2 * len(buckets)
        products += _fold(buckets, modulus)
    ledger.count(MODULAR_MULTIPLICATIONS, multiplications)
    return products


def _fold(buckets: list[int], modulus: int) -> list[int]:
    """Return for each bit ``k`` the product of the buckets whose index has bit k, lowest bit first."""
    products: list[int] = []
    while len(buckets) > 1:
        half = len(buckets) // 2
        lower, upper = buckets[:half], buckets[half:]
        product = upper[0]
        for bucket in upper[1:]:
            product = product * bucket % modulus
        products.append(product)
        buckets = [a * b % modulus for a, b in zip(lower, upper, strict=True)]
    return products[::-1]


def _as_integers(bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Read each column of a few rows of bits as one integer, the first row lowest."""
    return bits.T.astype(np.int64) @ (1 << np.arange(len(bits)))
