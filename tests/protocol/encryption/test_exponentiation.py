from __future__ import annotations

import itertools
import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.encryption import exponentiation
from protocol.encryption.exponentiation import (
    TABLE_BYTES,
    FixedBase,
    binary_products,
    column_products,
    columns_cost,
    comb_cost,
    comb_shape,
    indicator_products,
    rows_cost,
    subset_products,
)
from protocol.ledger import Ledger, _current

MODULUS = (2**127 - 1) * (2**89 - 1)

units = st.integers(2, MODULUS - 1).filter(
    lambda value: value % (2**127 - 1) and value % (2**89 - 1)
)


@given(st.lists(units, min_size=1, max_size=5))
def test_subset_products(values: list[int]) -> None:
    products = subset_products(values, MODULUS)
    for subset, product in enumerate(products):
        expected = 1
        for position, value in enumerate(values):
            if subset >> position & 1:
                expected = expected * value % MODULUS
        assert product == expected


@pytest.mark.parametrize("exponent_bits", [1, 8, 13, 64, 250])
def test_fixed_base_powers_equal_pow(exponent_bits: int) -> None:
    base = FixedBase(3, MODULUS, exponent_bits)
    extremes = [0, 1, 2**exponent_bits - 1]
    exponents = extremes + [secrets.randbits(exponent_bits) for _ in range(20)]
    data = b"".join(exponent.to_bytes(base.exponent_bytes, "little") for exponent in exponents)
    assert base.powers(data) == [pow(3, exponent, MODULUS) for exponent in exponents]


class CountingModulus(int):
    """Counts how often something is reduced modulo it."""

    reductions = 0

    def __rmod__(self, other: int) -> int:
        self.reductions += 1
        remainder: int = other % int(self)
        return remainder


def test_fixed_base_ignores_bits_beyond_the_exponent() -> None:
    base = FixedBase(3, MODULUS, 13)
    assert base.powers(b"\xff\xff") == [pow(3, 2**13 - 1, MODULUS)]


@pytest.mark.parametrize("table_bytes", [100_000, TABLE_BYTES, 24_000_000])
@pytest.mark.parametrize("modulus_bits", [2048, 3072, 4096, 6144])
def test_a_comb_is_the_cheapest_within_its_budget(modulus_bits: int, table_bytes: int) -> None:
    rows, tables, columns = comb_shape(1024, modulus_bits, table_bytes)
    assert rows * tables * columns >= 1024
    assert tables * 2**rows * modulus_bits // 8 <= table_bytes
    for other_rows, other_tables in itertools.product(range(1, 15), range(1, 17)):
        if other_tables * 2**other_rows * modulus_bits // 8 <= table_bytes:
            other = (other_rows, other_tables, -(-1024 // (other_rows * other_tables)))
            assert comb_cost((rows, tables, columns)) <= comb_cost(other)


@pytest.mark.parametrize(("key_bits", "most"), [(2048, 135), (3072, 200)])
def test_a_power_for_public_encryption_stays_within_its_bound(key_bits: int, most: int) -> None:
    assert comb_cost(comb_shape(key_bits // 2, 2 * key_bits)) < most


@pytest.mark.parametrize("table_bytes", [2_000, TABLE_BYTES])
def test_the_cost_of_a_comb_is_what_it_multiplies(table_bytes: int) -> None:
    base = FixedBase(3, MODULUS, 64, table_bytes)
    base.modulus = counting = CountingModulus(MODULUS)
    assert base.powers(b"\xff" * base.exponent_bytes) == [pow(3, 2**64 - 1, MODULUS)]
    # The first lookup is multiplied by one, which the cost leaves out.
    assert counting.reductions - 1 == comb_cost((base.rows, base.tables, base.columns))


matrices = st.integers(1, 12).flatmap(
    lambda n_rows: st.integers(1, 5).flatmap(
        lambda n_columns: st.lists(
            st.lists(
                st.one_of(st.sampled_from([0, 1, -1, 32767, -32768]), st.integers(-32768, 32767)),
                min_size=n_columns,
                max_size=n_columns,
            ),
            min_size=n_rows,
            max_size=n_rows,
        )
    )
)


@given(matrices, st.data())
@settings(deadline=None)
def test_column_products_equal_powers(matrix: list[list[int]], data: st.DataObject) -> None:
    values = data.draw(st.lists(units, min_size=len(matrix), max_size=len(matrix)))
    products = column_products(values, np.array(matrix, dtype=np.int16), MODULUS)
    for column, product in enumerate(products):
        expected = 1
        for value, row in zip(values, matrix, strict=True):
            expected = expected * pow(value, row[column], MODULUS) % MODULUS
        assert product == expected


@pytest.mark.parametrize("group", range(1, 9))
def test_both_methods_agree_for_every_group_size(group: int) -> None:
    draw = np.random.default_rng(group)
    chosen = draw.integers(0, 2, (23, 9)).astype(bool)
    values = [secrets.randbelow(MODULUS) for _ in range(23)]
    expected = []
    for column in chosen.T:
        product = 1
        for row in np.flatnonzero(column):
            product = product * values[row] % MODULUS
        expected.append(product)
    assert exponentiation._products_by_rows(values, chosen, MODULUS, group) == expected
    assert exponentiation._products_by_columns(values, chosen, MODULUS, group) == expected
    assert binary_products(values, chosen, MODULUS) == expected


def test_a_method_is_chosen_by_its_cost() -> None:
    wide = min(rows_cost(256, 1024, group) for group in range(1, 13))
    assert wide < min(columns_cost(256, 1024, group) for group in range(1, 15))
    tall = min(columns_cost(30_000, 160, group) for group in range(1, 15))
    assert tall < min(rows_cost(30_000, 160, group) for group in range(1, 13))


@pytest.mark.parametrize(
    ("shape", "most"), [((1024, 256), 2.3), ((256, 64), 2.8), ((2048, 10), 2.8)]
)
def test_multiplications_an_entry_stay_within_their_bound(
    shape: tuple[int, int], most: float
) -> None:
    ledger = Ledger("test")
    token = _current.set(ledger)
    try:
        matrix = np.random.default_rng(0).integers(-(2**15), 2**15, shape).astype(np.int16)
        column_products([3] * shape[0], matrix, 1_000_003)
    finally:
        _current.reset(token)
    counted = ledger.counts["setup", exponentiation.MODULAR_MULTIPLICATIONS]
    assert counted / matrix.size <= most


def test_indicator_products_cost_one_multiplication_an_entry() -> None:
    values = [secrets.randbelow(MODULUS) for _ in range(4)]
    assert indicator_products(values, [[0, 2], [], [3]], MODULUS) == [
        values[0] * values[2] % MODULUS,
        1,
        values[3],
    ]
