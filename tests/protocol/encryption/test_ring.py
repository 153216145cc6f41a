from __future__ import annotations

import pickle
import secrets
import threading
from collections.abc import Iterator

import gmpy2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import effective_n_jobs, parallel_config

from protocol.encryption import native
from protocol.encryption.exponentiation import MODULAR_MULTIPLICATIONS
from protocol.encryption.native import choose_path, open_ring
from protocol.encryption.ring import Elements, PureRing, Ring, block_rows
from protocol.errors import SettingsError
from protocol.ledger import Ledger, _current

ROOT = int(gmpy2.next_prime(1 << 130) * gmpy2.next_prime(1 << 125))
PATHS = ["gmpy2", *native.built_paths()]


def rings_of(root: int) -> list[Ring]:
    return [PureRing(root) if path == "gmpy2" else native.NativeRing(root, path) for path in PATHS]


@pytest.fixture(params=range(len(PATHS)), ids=PATHS)
def any_ring(request: pytest.FixtureRequest) -> Ring:
    number: int = request.param
    return rings_of(ROOT)[number]


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    charged = Ledger("test")
    token = _current.set(charged)
    yield charged
    _current.reset(token)


below = st.integers(0, ROOT**2 - 1)


@given(st.lists(st.tuples(below, below), max_size=20), st.integers(0, 2**70))
@settings(deadline=None)
def test_operations_equal_pythons(pairs: list[tuple[int, int]], exponent: int) -> None:
    for tried in rings_of(ROOT):
        a, b = (tried.elements([pair[side] for pair in pairs]) for side in (0, 1))
        assert len(a) == len(pairs)
        assert tried.integers(a) == [x for x, _ in pairs]
        assert tried.integers(tried.multiply(a, b)) == [x * y % ROOT**2 for x, y in pairs]
        assert tried.quotients(a) == [x // ROOT for x, _ in pairs]
        expected = [pow(x, exponent, ROOT**2) for x, _ in pairs]
        assert tried.integers(tried.power(a, exponent)) == expected
        product = 1
        for x, _ in pairs:
            product = product * x % ROOT**2
        assert tried.product(a) % ROOT**2 == product


def test_one_factor_serves_all(any_ring: Ring) -> None:
    a, b = any_ring.elements([2, 3, 4]), any_ring.elements([5])
    assert any_ring.integers(any_ring.multiply(a, b)) == [10, 15, 20]


def test_inverses_cost_one_inversion(any_ring: Ring) -> None:
    values = [secrets.randbelow(ROOT**2) for _ in range(9)]
    inverted = any_ring.integers(any_ring.inverses(any_ring.elements(values)))
    assert inverted == [pow(value, -1, ROOT**2) for value in values]
    assert len(any_ring.inverses(any_ring.elements([]))) == 0


def test_numbers_beyond_the_modulus_are_refused(any_ring: Ring) -> None:
    with pytest.raises(ValueError, match="not below"):
        any_ring.elements([1, ROOT**2])


@pytest.mark.parametrize("shape", [(1, 1), (17, 3), (5, 40), (64, 2)])
def test_products_are_the_same_on_every_path_in_blocks_and_on_all_cores(
    any_ring: Ring, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(shape)
    matrix = draw.integers(-(2**15), 2**15, shape).astype(np.int16)
    values = [secrets.randbelow(ROOT**2) for _ in range(shape[0])]
    expected = []
    for column in matrix.T:
        product = 1
        for value, exponent in zip(values, column.tolist(), strict=True):
            product = product * pow(value, exponent, ROOT**2) % ROOT**2
        expected.append(product)
    elements = any_ring.elements(values)
    whole = any_ring.column_products(elements, matrix, 10**9)
    assert any_ring.integers(whole) == expected
    assert any_ring.integers(any_ring.column_products(elements, matrix, 1)) == expected
    monkeypatch.setattr(type(any_ring), "share", 1)
    with parallel_config(backend="threading", n_jobs=3):
        shared = any_ring.column_products(elements, matrix, 10**9)
    assert any_ring.integers(shared) == expected


def test_powers_and_indicators_are_shared_over_cores(
    any_ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    exponents = secrets.token_bytes(16 * 11)
    starts, rows = np.array([0, 0, 3, 4, 4, 9]), np.array([0, 2, 4, 1, 0, 1, 2, 3, 4])
    elements = any_ring.elements([3, 5, 7, 11, 13])

    def results() -> list[list[int]]:
        return [
            any_ring.integers(any_ring.fixed_base_powers(3, 128, exponents)),
            any_ring.integers(any_ring.indicator_products(elements, starts, rows)),
            any_ring.integers(any_ring.power(elements, 12345)),
        ]

    alone = results()
    assert alone[0][0] == pow(3, int.from_bytes(exponents[:16], "little"), ROOT**2)
    assert alone[1] == [1, 3 * 7 * 13, 5, 1, 3 * 5 * 7 * 11 * 13]
    monkeypatch.setattr(type(any_ring), "share", 1)
    for n_jobs in (2, 3, 7):
        with parallel_config(backend="threading", n_jobs=n_jobs):
            assert results() == alone


def test_fixed_base_powers_do_not_depend_on_the_size_of_the_table(any_ring: Ring) -> None:
    exponents = secrets.token_bytes(16 * 11)
    expected = [
        pow(3, int.from_bytes(exponents[start : start + 16], "little"), ROOT**2)
        for start in range(0, len(exponents), 16)
    ]
    for table_bytes in (1_000, 50_000):
        powers = any_ring.fixed_base_powers(3, 128, exponents, table_bytes)
        assert any_ring.integers(powers) == expected


def test_empty_matrices(any_ring: Ring) -> None:
    nothing = any_ring.elements([])
    none = any_ring.column_products(nothing, np.zeros((0, 2), np.int16), 10**6)
    assert any_ring.integers(none) == [1, 1]
    assert len(any_ring.column_products(nothing, np.zeros((0, 0), np.int16), 10**6)) == 0
    index = np.array([0]), np.array([], dtype=np.int64)
    assert len(any_ring.indicator_products(any_ring.elements([2]), *index)) == 0


def test_helpers_in_other_processes_agree_and_are_counted(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    pure = PureRing(ROOT)
    matrix = np.random.default_rng(0).integers(-99, 99, (30, 4)).astype(np.int16)
    elements = pure.elements([secrets.randbelow(ROOT**2) for _ in range(30)])
    alone = pure.integers(pure.column_products(elements, matrix, 10**9))
    (counted,) = ledger.counts.values()
    monkeypatch.setattr(PureRing, "share", 1)
    with parallel_config(n_jobs=2):
        assert pure.integers(pure.column_products(elements, matrix, 10**9)) == alone
    assert ledger.counts["setup", MODULAR_MULTIPLICATIONS] > counted


@pytest.mark.parametrize("n_jobs", [1, min(2, effective_n_jobs(-1))])
def test_as_many_helpers_work_at_once_as_there_are_jobs(
    any_ring: Ring, n_jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(any_ring), "share", 1)
    all_there = threading.Barrier(n_jobs)

    def meet(*arguments: object) -> Elements:
        all_there.wait(timeout=30)
        return any_ring.elements([1])

    monkeypatch.setattr(any_ring, "_power", meet)
    with parallel_config(n_jobs=n_jobs):
        done = any_ring.power(any_ring.elements(list(range(2, 12))), 3)
    assert len(done) == n_jobs


def test_a_ring_travels_to_other_processes(any_ring: Ring) -> None:
    again = pickle.loads(pickle.dumps(any_ring))  # noqa: S301 - joblib's own way between our processes
    assert (again.root, again.path) == (any_ring.root, any_ring.path)


def test_block_memory_follows_its_formula() -> None:
    assert block_rows(64, 256_000_000) * 64 * 16 * 11 <= 256_000_000
    assert block_rows(10**6, 1) == 1


def test_a_path_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in PATHS:
        monkeypatch.setenv(native.VARIABLE, path)
        assert choose_path()[0] == path == open_ring(ROOT).path
    monkeypatch.setenv(native.VARIABLE, "abacus")
    with pytest.raises(
        SettingsError, match="COLONNADE_KERNEL is 'abacus'; this machine can run gmpy2"
    ):
        choose_path()


def test_the_reason_for_a_path_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(native.VARIABLE, raising=False)
    monkeypatch.setattr(native, "_kernel", None)
    path, why = choose_path()
    assert path == "gmpy2"
    assert "not built" in why
