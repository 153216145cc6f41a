"""Every function of the native kernel against Python integers, on every path this machine has."""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol.encryption.exponentiation import FixedBase as PureFixedBase

try:
    from protocol.encryption import _kernel
except ImportError:
    pytest.skip("the native kernel was not built", allow_module_level=True)

PATHS = _kernel.paths()
LIMB_BITS = {"ifma": 52, "avx2": 27}

# R = 2^(limbs * limb bits), in whole tiles of limbs, is exactly 8 n at the limit: 205 and 2077 bits with
# 52-bit limbs, 105, 213 and 2049 with 27-bit ones. There the lazily reduced digits have least room.
TIGHT = [105, 205, 213, 2049, 2077]
SIZES = [
    64,
    65,
    104,
    108,
    127,
    206,
    208,
    214,
    256,
    521,
    1000,
    1024,
    1999,
    2048,
    3072,
    4093,
    4096,
    *TIGHT,
]

Elements = NDArray[np.uint8]
per_path = pytest.mark.parametrize("path", PATHS)


@dataclass
class Field:
    """A modulus, and conversions between lists of integers and elements."""

    n: int
    path: str

    def __post_init__(self) -> None:
        self.n_bytes = -(-self.n.bit_length() // 8)
        self.kernel = _kernel.Modulus(self.n.to_bytes(self.n_bytes, "little"), self.path)
        self.square = self.n * self.n
        self.width = 2 * self.n_bytes

    def empty(self, count: int) -> Elements:
        return np.empty(count * self.kernel.element_bytes, np.uint8)

    def load(self, values: Sequence[int]) -> Elements:
        elements = self.empty(len(values))
        data = b"".join(value.to_bytes(self.width, "little") for value in values)
        self.kernel.load(data, self.width, elements)
        return elements

    def store(self, elements: Elements) -> list[int]:
        count = len(elements) // self.kernel.element_bytes
        out = np.empty(count * self.width, np.uint8)
        self.kernel.store(elements, self.width, out)
        return integers(out, self.width)

    def high(self, elements: Elements) -> list[int]:
        count = len(elements) // self.kernel.element_bytes
        out = np.empty(count * self.n_bytes, np.uint8)
        self.kernel.high(elements, self.n_bytes, out)
        return integers(out, self.n_bytes)

    def multiply(self, a: Elements, b: Elements) -> Elements:
        out = np.empty_like(a)
        self.kernel.multiply(a, b, out)
        return out

    def power(self, elements: Elements, exponent: int, length: int | None = None) -> Elements:
        out = np.empty_like(elements)
        length = -(-exponent.bit_length() // 8) if length is None else length
        self.kernel.power(elements, exponent.to_bytes(length, "little"), out)
        return out

    def dense(self, elements: Elements, matrix: NDArray[np.int16]) -> list[int]:
        """Return magnitude / sign of each column."""
        rows, columns = matrix.shape
        magnitude, sign = self.empty(columns), self.empty(columns)
        self.kernel.dense(elements, np.ascontiguousarray(matrix), rows, columns, magnitude, sign)
        return [
            above * pow(below, -1, self.square) % self.square
            for above, below in zip(self.store(magnitude), self.store(sign), strict=True)
        ]

    def random_values(self, count: int, seed: int = 0) -> list[int]:
        draw = random.Random(seed)
        return [draw.randrange(self.square) for _ in range(count)]

    def random_units(self, count: int) -> list[int]:
        draw, units = random.Random(1), list[int]()
        while len(units) < count:
            value = draw.randrange(self.square)
            if math.gcd(value, self.n) == 1:
                units.append(value)
        return units

    def edges(self) -> list[int]:
        n, square = self.n, self.square
        return [0, 1, 2, n - 1, n, n + 1, 2 * n, square - n, square - n + 1, square - 2, square - 1]

    # The internal form, spelt out: only the tests of lazy reduction look inside.

    @property
    def limbs(self) -> int:
        return self.kernel.element_bytes // 16

    def digits(self, elements: Elements) -> list[tuple[int, int]]:
        """Return the digits (x0, x1) of each element."""
        bits = LIMB_BITS[self.path]
        words = elements.view(np.uint64).reshape(-1, 2, self.limbs).tolist()
        return [
            (
                sum(limb << bits * position for position, limb in enumerate(low)),
                sum(limb << bits * position for position, limb in enumerate(high)),
            )
            for low, high in words
        ]

    def from_digits(self, digits: Sequence[tuple[int, int]]) -> Elements:
        bits = LIMB_BITS[self.path]
        words = [
            digit >> bits * position & (1 << bits) - 1
            for pair in digits
            for digit in pair
            for position in range(self.limbs)
        ]
        return np.array(words, np.uint64).view(np.uint8)


def integers(data: NDArray[np.uint8], width: int) -> list[int]:
    raw = data.tobytes()
    return [
        int.from_bytes(raw[start : start + width], "little") for start in range(0, len(raw), width)
    ]


def odd_moduli(bits: int) -> list[int]:
    """One at random, one just below a power of two, one just above."""
    middle = random.Random(bits).getrandbits(bits) | 1 << (bits - 1) | 1
    return [middle, 2**bits - 1, 2 ** (bits - 1) + 1]


def test_paths_are_known_and_best_first() -> None:
    assert [path for path in ("ifma", "avx2") if path in PATHS] == PATHS


@per_path
@pytest.mark.parametrize("n", [3, 5, 7, 9])
def test_tiny_moduli_exhaustively(path: str, n: int) -> None:
    field = Field(n, path)
    pairs = list(itertools.product(range(n * n), repeat=2))
    a, b = field.load([x for x, _ in pairs]), field.load([y for _, y in pairs])
    assert field.store(a) == [x for x, _ in pairs]
    assert field.high(a) == [x // n for x, _ in pairs]
    product = field.multiply(a, b)
    assert field.store(product) == [x * y % (n * n) for x, y in pairs]
    assert field.high(product) == [x * y % (n * n) // n for x, y in pairs]
    assert field.store(field.power(a, 2)) == [x * x % (n * n) for x, _ in pairs]


@per_path
@pytest.mark.parametrize("bits", SIZES)
def test_conversions_and_products_of_every_size(path: str, bits: int) -> None:
    for n in odd_moduli(bits):
        field = Field(n, path)
        values = field.edges() + field.random_values(6)
        x = field.load(values)
        assert field.kernel.bits == bits
        assert field.store(x) == values
        assert field.high(x) == [value // n for value in values]
        for shift in (0, 1, 5):
            others = values[shift:] + values[:shift]
            product = field.multiply(x, field.load(others))
            expected = [a * b % field.square for a, b in zip(values, others, strict=True)]
            assert field.store(product) == expected
            assert field.high(product) == [value // n for value in expected]
        assert field.store(field.power(x, 2)) == [value**2 % field.square for value in values]
        assert field.store(field.power(x, 3)) == [value**3 % field.square for value in values]


@per_path
@pytest.mark.parametrize("bits", TIGHT)
def test_digits_between_n_and_2n(path: str, bits: int) -> None:
    """x0 + n stands for one more in x1; products of such forms are right and stay below 2n."""
    for n in odd_moduli(bits):
        field, draw = Field(n, path), random.Random(bits)
        digits = [0, 1, n - 1, n, n + 1, 2 * n - 1, *(draw.randrange(2 * n) for _ in range(6))]
        forms = list(itertools.product(digits, digits))
        radix_inverse = pow(2, -field.limbs * LIMB_BITS[path], field.square)
        values = [(x0 + x1 * n) * radix_inverse % field.square for x0, x1 in forms]
        x = field.from_digits(forms)
        assert field.store(x) == values
        assert field.high(x) == [value // n for value in values]
        draw.shuffle(forms)
        others = [(y0 + y1 * n) * radix_inverse % field.square for y0, y1 in forms]
        product = field.multiply(x, field.from_digits(forms))
        assert field.store(product) == [
            a * b % field.square for a, b in zip(values, others, strict=True)
        ]
        square = field.power(x, 2)
        assert field.store(square) == [value**2 % field.square for value in values]
        assert all(max(pair) < 2 * n for pair in field.digits(product) + field.digits(square))


@per_path
def test_the_carry_from_a_low_digit_of_n_or_more_is_met(path: str) -> None:
    """Where R is close to 8 n, z0 >= n is no rarity: the case random tests at other sizes never meet."""
    n = 2 ** (4 * LIMB_BITS[path] - 3) - 1
    field, draw = Field(n, path), random.Random(0)
    forms = [(2 * n - 1 - draw.randrange(n // 8), draw.randrange(2 * n)) for _ in range(400)]
    values = [
        (x0 + x1 * n) * pow(2, -field.limbs * LIMB_BITS[path], field.square) % field.square
        for x0, x1 in forms
    ]
    product = field.multiply(field.from_digits(forms), field.from_digits(forms[::-1]))
    assert sum(z0 >= n for z0, _ in field.digits(product)) > 100
    expected = [a * b % field.square for a, b in zip(values, values[::-1], strict=True)]
    assert field.store(product) == expected
    assert field.high(product) == [value // n for value in expected]


@per_path
def test_multiples_of_n_carry_when_they_leave_the_internal_form(path: str) -> None:
    field = Field(2**127 - 1, path)
    values = [factor * field.n for factor in (1, 2, 3, field.n - 1)]
    x = field.load(values)
    assert {low for low, _ in field.digits(x)} == {field.n}  # n itself, not zero
    assert field.store(x) == values
    assert field.high(x) == [1, 2, 3, field.n - 1]
    assert field.store(field.multiply(x, x)) == [0] * 4
    assert field.high(field.multiply(x, x)) == [0] * 4


@per_path
@given(bits=st.integers(2, 700), data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_modulus(path: str, bits: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(2 ** (bits - 1), 2**bits - 1)) | 1
    field = Field(n, path)
    values = data.draw(st.lists(st.integers(0, field.square - 1), min_size=1, max_size=9))
    x = field.load(values)
    assert field.store(x) == values
    assert field.high(field.multiply(x, x)) == [value**2 % field.square // n for value in values]
    exponent = data.draw(st.integers(0, 2**70))
    assert field.store(field.power(x, exponent)) == [
        pow(value, exponent, field.square) for value in values
    ]


@per_path
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7, 8, 9, 17])
def test_every_count(path: str, count: int) -> None:
    field = Field(2**130 + 1, path)
    values, square = field.random_values(count), field.square
    x = field.load(values)
    assert field.store(x) == values
    assert field.high(x) == [value // field.n for value in values]
    assert field.store(field.multiply(x, x)) == [value**2 % square for value in values]
    assert field.store(field.multiply(x, field.load([77]))) == [77 * v % square for v in values]
    assert field.store(field.power(x, 37)) == [pow(value, 37, square) for value in values]
    base = _kernel.FixedBase(field.kernel, field.load([5]), 16, 2, 2)
    out = field.empty(count)
    base.powers(b"".join((value % 2**16).to_bytes(2, "little") for value in values), 2, out)
    assert field.store(out) == [pow(5, value % 2**16, square) for value in values]


@per_path
def test_out_may_be_an_operand(path: str) -> None:
    field = Field(2**200 - 1, path)
    values = field.random_values(11)
    x = field.load(values)
    field.kernel.multiply(x, x, x)
    field.kernel.power(x, b"\x05", x)
    assert field.store(x) == [pow(value, 10, field.square) for value in values]


@per_path
def test_widths_of_conversions(path: str) -> None:
    field = Field(2**100 + 1, path)
    for width in (1, 3, 26, 30, 200):
        values = [value % 256**width for value in field.random_values(5)]
        x = field.empty(5)
        data = b"".join(value.to_bytes(width, "little") for value in values)
        field.kernel.load(data, width, x)
        assert field.store(x) == values
        if width >= 26:
            out = bytearray(b"\xff" * (5 * width))
            field.kernel.store(x, width, out)
            assert out == data
    out = bytearray(b"\xff" * 5 * 100)
    field.kernel.high(x, 100, out)
    assert integers(np.frombuffer(out, np.uint8), 100) == [value // field.n for value in values]


@per_path
@pytest.mark.parametrize("position", [0, 6, 8])
def test_load_refuses_what_is_not_below_n_squared(path: str, position: int) -> None:
    field = Field(2**100 + 1, path)
    for extra in (0, 1, field.square):
        values = [1] * 9
        values[position] = field.square + extra
        with pytest.raises(ValueError, match="not below"):
            field.load(values)
    data = b"\0" * 40 + b"\1"
    with pytest.raises(ValueError, match="not below"):
        field.kernel.load(data, 41, field.empty(1))


exponents = [0, 1, 2, 3, 4, 2**48, 2**48 - 1, 2**64 + 1, 0xDEADBEEF << 77, 2**300 - 1]


@per_path
@pytest.mark.parametrize("exponent", exponents)
def test_power_equals_pow(path: str, exponent: int) -> None:
    field = Field(2**150 + 25, path)
    values = field.edges() + field.random_values(3)
    expected = [pow(value, exponent, field.square) for value in values]
    assert field.store(field.power(field.load(values), exponent)) == expected
    assert field.store(field.power(field.load(values), exponent, 64)) == expected


@per_path
def test_high_of_a_power_is_the_function_l_of_paillier(path: str) -> None:
    p, q = 2**521 - 1, 2**607 - 1
    ciphertext = (1 + 123456789 * p * q) * pow(987654321, p * q, (p * q) ** 2) % (p * q) ** 2
    for prime, other in ((p, q), (q, p)):
        field = Field(prime, path)
        power = field.power(field.load([ciphertext % field.square]), prime - 1)
        factor = pow(other * (prime - 1), -1, prime)  # of p q m (p - 1), the digit of p
        assert field.high(power)[0] * factor % prime == 123456789 % prime


matrix_entries = st.one_of(
    st.sampled_from([0, 1, -1, 32767, -32768]), st.integers(-(2**15), 2**15 - 1)
)


def expected_dense(values: Sequence[int], matrix: NDArray[np.int16], modulus: int) -> list[int]:
    results = []
    for column in matrix.T.tolist():
        result = 1
        for value, entry in zip(values, column, strict=True):
            result = result * pow(value, entry, modulus) % modulus
        results.append(result)
    return results


@per_path
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_dense_equals_powers(path: str, data: st.DataObject) -> None:
    field = Field(2**89 - 1, path)
    rows, columns = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 9))
    flat = data.draw(st.lists(matrix_entries, min_size=rows * columns, max_size=rows * columns))
    matrix = np.array(flat, np.int16).reshape(rows, columns)
    values = field.random_units(rows)
    assert field.dense(field.load(values), matrix) == expected_dense(values, matrix, field.square)


@per_path
@pytest.mark.parametrize("entry", [0, 1, -1, 32767, -32768])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (33, 1), (19, 9)])
def test_dense_of_one_entry_throughout(path: str, entry: int, shape: tuple[int, int]) -> None:
    field = Field(2**107 - 1, path)
    values = field.random_units(shape[0])
    matrix = np.full(shape, entry, np.int16)
    assert field.dense(field.load(values), matrix) == expected_dense(values, matrix, field.square)


@per_path
@pytest.mark.parametrize(
    ("shape", "method"),
    [
        ((40, 30), "rows"),
        ((70, 64), "rows"),
        ((1000, 3), "columns"),
        ((700, 1), "columns"),
        ((5000, 2), "columns"),
    ],
)
def test_dense_by_either_method(path: str, shape: tuple[int, int], method: str) -> None:
    field = Field(2**61 - 1, path)
    assert field.kernel.dense_plan(*shape)[0] == method
    values = field.random_units(shape[0])
    matrix = np.random.default_rng(0).integers(-(2**15), 2**15, shape).astype(np.int16)
    matrix[::7] = 0
    assert field.dense(field.load(values), matrix) == expected_dense(values, matrix, field.square)


@per_path
def test_dense_takes_many_columns_in_blocks(path: str) -> None:
    field = Field(2**61 - 1, path)
    values = field.random_units(2)
    matrix = np.random.default_rng(0).integers(-9, 9, (2, 2051)).astype(np.int16)
    assert field.dense(field.load(values), matrix) == expected_dense(values, matrix, field.square)


@per_path
def test_dense_at_full_size(path: str) -> None:
    field = Field(odd_moduli(2048)[0], path)
    values = field.random_units(12)
    matrix = np.random.default_rng(0).integers(-(2**15), 2**15, (12, 9)).astype(np.int16)
    assert field.dense(field.load(values), matrix) == expected_dense(values, matrix, field.square)


@per_path
def test_a_plan_states_its_cost(path: str) -> None:
    """The formulas of plan.c, by hand."""
    lanes = {"ifma": 8, "avx2": 4}[path]
    kernel = Field(2**61 - 1, path).kernel
    for rows, columns in [(1, 1), (256, 64), (1024, 256), (1024, 12), (30_000, 5)]:
        planes = 16 * columns
        by_rows = [
            -(-rows // g) * (-(-(2**g) // lanes) + planes / lanes) - planes / lanes
            for g in range(1, 13)
        ]
        by_columns = [
            -(-(-(-planes // g) * strips) // lanes) * (-(-rows // strips) + 2 ** (g + 1) - 2 * g)
            + planes * (strips - 1) / lanes
            for strips in (1, 2, 4, 8)[: lanes.bit_length()]
            for g in range(1, 11)
        ]
        method, group, strips, cost = kernel.dense_plan(rows, columns)
        assert cost == pytest.approx(lanes * min(by_rows + by_columns))
        assert method == ("rows" if min(by_rows) <= min(by_columns) else "columns")
        assert group >= 1
        assert strips in (1, 2, 4, 8)
    assert kernel.dense_plan(256, 64)[3] <= 2.5 * 256 * 64
    assert kernel.dense_plan(1024, 256)[3] <= 2.0 * 1024 * 256


@per_path
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_sparse_equals_products(path: str, data: st.DataObject) -> None:
    field = Field(2**89 - 1, path)
    values = field.random_values(11)
    columns = data.draw(
        st.lists(st.one_of(st.just([]), st.lists(st.integers(0, 10), max_size=30)), max_size=20)
    )
    check_sparse(field, values, columns)


@per_path
@pytest.mark.parametrize("entries", [1, 7, 8, 9, 17, 100])
def test_sparse_columns_longer_than_a_lane(path: str, entries: int) -> None:
    field = Field(2**89 - 1, path)
    values = field.random_values(40)
    draw = random.Random(entries)
    long = [draw.randrange(40) for _ in range(entries)]
    check_sparse(field, values, [long])
    check_sparse(field, values, [[], long, [], [3], [], long, []])


def check_sparse(field: Field, values: Sequence[int], columns: Sequence[Sequence[int]]) -> None:
    indptr = np.cumsum([0, *map(len, columns)], dtype=np.int64)
    indices = np.array([row for rows in columns for row in rows], np.int64)
    out = field.empty(len(columns))
    field.kernel.sparse(field.load(values), indptr, indices, len(columns), out)
    assert field.store(out) == [
        math.prod(values[row] for row in rows) % field.square for rows in columns
    ]


@per_path
@pytest.mark.parametrize(
    ("bits", "rows", "tables"),
    [(1, 1, 1), (8, 16, 1), (13, 3, 2), (64, 4, 1), (250, 5, 3), (129, 1, 64), (1024, 8, 2)],
)
def test_fixed_base_powers(path: str, bits: int, rows: int, tables: int) -> None:
    field = Field(2**127 - 1, path)
    draw = random.Random(bits)
    for value in (0, 1, 3, field.n, draw.randrange(field.square)):
        base = _kernel.FixedBase(field.kernel, field.load([value]), bits, rows, tables)
        assert base.exponent_bytes == -(-bits // 8)
        assert base.table_bytes == tables * 2**rows * field.kernel.element_bytes
        chosen = [0, 1, 2**bits - 1, *(draw.getrandbits(bits) for _ in range(7))]
        data = b"".join(exponent.to_bytes(base.exponent_bytes, "little") for exponent in chosen)
        out = field.empty(len(chosen))
        base.powers(data, base.exponent_bytes, out)
        assert field.store(out) == [pow(value, exponent, field.square) for exponent in chosen]


@per_path
def test_fixed_base_ignores_bits_beyond_the_exponent_as_the_pure_path_does(path: str) -> None:
    field = Field(2**127 - 1, path)
    pure = PureFixedBase(3, field.square, 13)
    base = _kernel.FixedBase(field.kernel, field.load([3]), 13, pure.rows, pure.tables)
    out = field.empty(2)
    base.powers(b"\xff\xff\x12\x34", 2, out)
    assert field.store(out) == pure.powers(b"\xff\xff\x12\x34")


@per_path
def test_a_fixed_base_keeps_its_modulus(path: str) -> None:
    base = _kernel.FixedBase(Field(2**61 - 1, path).kernel, bytes(64), 8, 2, 2)
    assert base.modulus.bits == 61
    assert base.modulus.path == path


@per_path
def test_words_that_are_no_element_do_no_harm(path: str) -> None:
    field = Field(2**127 - 1, path)
    garbage = np.full(9 * field.kernel.element_bytes, 255, np.uint8)
    assert len(field.store(garbage)) == 9
    assert len(field.high(field.multiply(garbage, garbage))) == 9
    assert len(field.store(field.power(garbage, 2**9 + 1))) == 9


@per_path
def test_threads_share_a_modulus_and_a_base(path: str) -> None:
    field = Field(2**521 - 1, path)
    values = field.random_units(64)
    elements = field.load(values)
    matrix = np.random.default_rng(0).integers(-(2**15), 2**15, (64, 8)).astype(np.int16)
    base = _kernel.FixedBase(field.kernel, field.load([3]), 64, 4, 2)
    data = random.Random(0).randbytes(8 * 64)

    def work() -> tuple[list[int], list[int]]:
        out = field.empty(64)
        base.powers(data, 8, out)
        return field.dense(elements, matrix), field.store(out)

    expected, results = work(), list[object]()
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_paths_agree_with_one_another() -> None:
    fields = [Field(odd_moduli(1024)[0], path) for path in PATHS]
    values = fields[0].random_units(20)
    matrix = np.random.default_rng(0).integers(-(2**15), 2**15, (20, 5)).astype(np.int16)
    results = [field.dense(field.load(values), matrix) for field in fields]
    assert all(result == results[0] for result in results)


# ---- What is refused ----


@pytest.mark.parametrize("n", [b"", b"\0", b"\1", b"\1\0", b"\2", b"\0\1", b"\1" * 513])
def test_a_modulus_is_odd_and_not_too_large(n: bytes) -> None:
    for path in PATHS:
        with pytest.raises(ValueError, match="odd"):
            _kernel.Modulus(n, path)


def test_leading_zeros_of_a_modulus_are_no_bits() -> None:
    for path in PATHS:
        assert _kernel.Modulus(b"\x07" + bytes(600), path).bits == 3


@pytest.mark.parametrize("path", ["", "gmpy2", "IFMA", "sve"])
def test_unknown_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no path"):
        _kernel.Modulus(b"\7", path)


anything = pytest.mark.parametrize("wrong", [None, 3, "text", [1, 2], object()])


@per_path
@anything
def test_arguments_that_are_no_buffers(path: str, wrong: Any) -> None:
    field = Field(2**61 - 1, path)
    kernel, x, out = field.kernel, field.load([1, 2]), field.empty(2)
    zeros = np.zeros(3, np.int64)
    base = _kernel.FixedBase(kernel, field.load([1]), 8, 2, 2)
    calls: list[Callable[[], object]] = [
        lambda: _kernel.Modulus(wrong, path),
        lambda: kernel.load(wrong, 16, out),
        lambda: kernel.load(b"\1" * 16, 16, wrong),
        lambda: kernel.store(wrong, 16, bytearray(32)),
        lambda: kernel.store(x, 16, wrong),
        lambda: kernel.high(wrong, 8, bytearray(16)),
        lambda: kernel.high(x, 8, wrong),
        lambda: kernel.multiply(wrong, x, out),
        lambda: kernel.multiply(x, wrong, out),
        lambda: kernel.multiply(x, x, wrong),
        lambda: kernel.power(wrong, b"\1", out),
        lambda: kernel.power(x, wrong, out),
        lambda: kernel.power(x, b"\1", wrong),
        lambda: kernel.dense(wrong, np.ones((2, 2), np.int16), 2, 2, out, out),
        lambda: kernel.dense(x, wrong, 2, 2, out, out),
        lambda: kernel.dense(x, np.ones((2, 2), np.int16), 2, 2, wrong, out),
        lambda: kernel.dense(x, np.ones((2, 2), np.int16), 2, 2, out, wrong),
        lambda: kernel.sparse(wrong, zeros, zeros[:0], 2, out),
        lambda: kernel.sparse(x, wrong, zeros[:0], 2, out),
        lambda: kernel.sparse(x, zeros, wrong, 2, out),
        lambda: kernel.sparse(x, zeros, zeros[:0], 2, wrong),
        lambda: _kernel.FixedBase(wrong, field.load([1]), 8, 2, 2),
        lambda: _kernel.FixedBase(kernel, wrong, 8, 2, 2),
        lambda: base.powers(wrong, 1, out),
        lambda: base.powers(b"\1\2", 1, wrong),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()


@per_path
def test_items_of_the_wrong_kind(path: str) -> None:
    field = Field(2**61 - 1, path)
    kernel, x, out = field.kernel, field.load([1, 2]), field.empty(2)
    zeros = np.zeros(3, np.int64)
    objects = np.empty(out.size // 8, object)
    for wrong in (objects, np.empty(out.size // 8), np.empty(out.size // 4, np.int32)):
        with pytest.raises(TypeError, match="out must hold"):
            kernel.multiply(x, x, wrong)
    for dtype in (np.uint16, np.int32, np.float64, np.uint8):
        with pytest.raises(TypeError, match="matrix must hold"):
            kernel.dense(x, np.ones((2, 2), dtype), 2, 2, out, out)
    with pytest.raises(TypeError, match="matrix must hold"):
        kernel.dense(x, np.ones((2, 2), ">i2"), 2, 2, out, out)
    for other in (np.int32, np.uint64, np.float64):
        with pytest.raises(TypeError, match="indptr must hold"):
            kernel.sparse(x, zeros.astype(other), zeros[:0], 2, out)
        with pytest.raises(TypeError, match="indices must hold"):
            kernel.sparse(x, zeros, zeros[:0].astype(other), 2, out)
    kernel.multiply(x.view(np.uint64), x, out.view(np.uint64))
    assert field.store(out) == [1, 4]


@per_path
def test_wrong_lengths(path: str) -> None:
    field = Field(2**61 - 1, path)
    kernel, x, out, short = field.kernel, field.load([1, 2]), field.empty(2), field.empty(1)
    matrix, zeros = np.ones((2, 2), np.int16), np.zeros(3, np.int64)
    base = _kernel.FixedBase(kernel, field.load([1]), 8, 2, 2)
    large = Field(2**4096 - 1, path).kernel
    for call in list[Callable[[], object]](
        [
            lambda: kernel.load(b"\1" * 17, 16, out),
            lambda: kernel.load(b"\1" * 32, 16, short),
            lambda: kernel.load(b"\1" * 32, 0, out),
            lambda: kernel.load(b"\1" * 32, -16, out),
            lambda: kernel.store(x[:-8], 16, bytearray(32)),
            lambda: kernel.store(x, 16, bytearray(31)),
            lambda: kernel.store(x, 15, bytearray(30)),
            lambda: kernel.store(x, 0, bytearray(0)),
            lambda: kernel.store(x, -1, bytearray(0)),
            lambda: kernel.store(x, 2**62, bytearray(0)),
            lambda: kernel.high(x, 7, bytearray(14)),
            lambda: kernel.high(x, 8, bytearray(17)),
            lambda: kernel.multiply(x, x, short),
            lambda: kernel.multiply(x, x[:0], out),
            lambda: kernel.multiply(x, x[:-8], out),
            lambda: kernel.multiply(short, x, short),
            lambda: kernel.power(x, b"\1", short),
            lambda: kernel.power(x, bytes(4097), out),
            lambda: kernel.dense(x, matrix, 2, 3, out, out),
            lambda: kernel.dense(x, matrix, -2, -2, out, out),
            lambda: kernel.dense(x, matrix, 2**62, 2**62, out, out),
            lambda: kernel.dense(x, matrix, 1, 4, out, out),
            lambda: kernel.dense(x, matrix, 2, 2, short, out),
            lambda: kernel.dense(x, matrix, 2, 2, out, short),
            lambda: kernel.dense_plan(0, 1),
            lambda: kernel.dense_plan(1, -1),
            lambda: kernel.dense_plan(1, 2**62),
            lambda: kernel.sparse(x, zeros, zeros, 2, out),
            lambda: kernel.sparse(x, zeros, zeros[:0], 3, out),
            lambda: kernel.sparse(x, zeros, zeros[:0], -1, out),
            lambda: kernel.sparse(x, zeros, zeros[:0], 2**62, out),
            lambda: kernel.sparse(x, zeros, zeros[:0], 2, short),
            lambda: kernel.sparse(x, zeros[:0], zeros[:0], -1, x[:0]),
            lambda: _kernel.FixedBase(kernel, x, 8, 2, 2),
            lambda: _kernel.FixedBase(kernel, short, 0, 2, 2),
            lambda: _kernel.FixedBase(kernel, short, 2**40, 2, 2),
            lambda: _kernel.FixedBase(kernel, short, 8, 0, 2),
            lambda: _kernel.FixedBase(kernel, short, 8, 17, 2),
            lambda: _kernel.FixedBase(kernel, short, 8, 2, 0),
            lambda: _kernel.FixedBase(kernel, short, 8, 2, 65),
            lambda: _kernel.FixedBase(large, bytes(large.element_bytes), 8, 16, 64),
            lambda: base.powers(b"\1\2", 2, short),
            lambda: base.powers(b"\1\2", 0, out),
            lambda: base.powers(b"\1\2", -1, out),
            lambda: base.powers(b"\1\2\3", 1, out),
        ]
    ):
        with pytest.raises(ValueError, match=r"."):
            call()


@per_path
@pytest.mark.parametrize(
    ("indptr", "indices"),
    [
        ([0, 1, 2], [0, 2]),
        ([0, 1, 2], [-1, 0]),
        ([0, 0, 2], [0, 2**62]),
        ([0, 2, 2], [0, 2]),
        ([0, 2, 2], [1, -1]),
        ([0, 2, 1], [0]),
        ([0, 3, 2], [0, 1]),
        ([1, 1, 2], [0, 1]),
        ([-1, 1, 2], [0, 1]),
        ([0, -5, 2], [0, 1]),
        ([0, 1, 1], [0, 1]),
        ([0, 1, 2**62], [0, 1]),
    ],
)
def test_sparse_structures_that_are_none(path: str, indptr: list[int], indices: list[int]) -> None:
    field = Field(2**61 - 1, path)
    with pytest.raises(ValueError, match=r"indptr|row"):
        field.kernel.sparse(
            field.load([1, 2]), np.array(indptr), np.array(indices), 2, field.empty(2)
        )


@per_path
def test_buffers_that_are_read_only_strided_or_askew(path: str) -> None:
    field = Field(2**61 - 1, path)
    kernel, x, out = field.kernel, field.load([1, 2]), field.empty(2)
    with pytest.raises(ValueError, match="writable"):
        kernel.multiply(x, x, bytes(out))
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"writable|read-only"):
        kernel.multiply(x, x, out)
    with pytest.raises(ValueError, match="contiguous"):
        kernel.multiply(np.repeat(x, 2)[::2], x, field.empty(2))
    with pytest.raises(ValueError, match="contiguous"):
        kernel.dense(x, np.ones((3, 2), np.int16).T, 2, 3, field.empty(3), field.empty(3))
    askew = np.empty(x.size + 8, np.uint8)
    askew = askew[1 - askew.ctypes.data % 8 :][: x.size]
    with pytest.raises(ValueError, match="aligned"):
        kernel.multiply(x, x, askew)
    with pytest.raises(ValueError, match="aligned"):
        kernel.multiply(askew, x, field.empty(2))
    loose = bytearray(33)  # integers need no alignment
    kernel.store(x, 16, memoryview(loose)[1:])
    assert integers(np.frombuffer(loose, np.uint8)[1:], 16) == [1, 2]
