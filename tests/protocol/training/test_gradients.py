from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from key_holder import opened
from scipy import sparse

from parties.features import FixedPointMatrix
from protocol.encryption.encryptors import Encryptor, KeyHolderEncryptor
from protocol.encryption.keys import PrivateKey
from protocol.errors import LayoutError
from protocol.numbers import FloatArray, IntArray
from protocol.settings import ProtocolSettings, TrainingSettings
from protocol.training.gradients import FactorForm, GradientForm, residual_slots, transposed_product

N_ROWS, SAMPLES = 30, 45


def batch(
    n_scaled: int, n_indicators: int, factors: int
) -> tuple[FixedPointMatrix, FloatArray, FloatArray, IntArray]:
    """Return rows, factors V, per-entity residuals and products in the clear, and in fixed point."""
    draw = np.random.default_rng([n_scaled, n_indicators, factors])
    scaled = draw.integers(-(2**15), 2**15, (N_ROWS, n_scaled)).astype(np.int16)
    indicators = sparse.csr_array(draw.integers(0, 2, (N_ROWS, n_indicators)).astype(np.int8))
    V = draw.normal(size=(n_scaled + n_indicators, factors))
    exact = draw.uniform(-1, 1, (N_ROWS, 1 + factors)) * ([1.0] + [9.0] * factors)
    return (
        FixedPointMatrix(scaled, indicators, 0),
        V,
        exact,
        np.rint(exact * 2**20).astype(np.int64),
    )


def exact_gradient(rows: FixedPointMatrix, V: FloatArray, exact: FloatArray) -> FloatArray:
    X = rows.dot(np.eye(rows.n_columns))
    gradient = X.T @ exact
    gradient[:, 1:] -= V * ((X**2).T @ exact[:, :1])
    return gradient / SAMPLES


def form_of(
    factors: int, bits: int, bound: int, samples: int, *, scaled: bool, shared: bool
) -> GradientForm:
    kind = FactorForm if factors else GradientForm
    return kind(factors, bits, bound, samples, scaled=scaled, shared=shared)


@pytest.mark.parametrize("factors", [0, 1, 4, 9])
@pytest.mark.parametrize(("n_scaled", "n_indicators"), [(3, 0), (0, 4), (2, 5)])
def test_the_encrypted_gradient_is_the_plain_one(
    insecure_test_key: PrivateKey,
    encryptor: Encryptor,
    n_scaled: int,
    n_indicators: int,
    factors: int,
) -> None:
    rows, V, exact, sums = batch(n_scaled, n_indicators, factors)
    form = form_of(factors, 20, 16, SAMPLES, scaled=n_scaled > 0, shared=False)
    columns = np.arange(rows.n_columns)[::2]
    key = insecure_test_key.public_key
    slots = form.encrypt(encryptor, sums)
    assert len(slots.values) == N_ROWS * form.chunks(key)
    assert len(slots.alone) == (N_ROWS if n_scaled and factors else 0)
    packed = form.combine(rows, slots, V, columns, 10**8)
    integers = form.separate(opened(insecure_test_key, packed), key, len(columns))
    assert integers.tolist() == form.in_the_clear(rows, sums, V)[columns].tolist()
    gradient = form.to_gradient(integers, rows.fraction_bits[columns], V[columns])
    # Squares are rounded to 2^-9, factors to 2^-13; both stand beside sums over 30 rows.
    np.testing.assert_allclose(gradient, exact_gradient(rows, V, exact)[columns], atol=0.03)


def test_without_scaled_columns_or_factors_only_rounding_of_residuals_remains() -> None:
    for n_scaled, n_indicators, factors in ((3, 2, 0), (0, 4, 3)):
        rows, V, exact, sums = batch(n_scaled, n_indicators, factors)
        form = form_of(factors, 20, 16, SAMPLES, scaled=n_scaled > 0, shared=False)
        gradient = form.to_gradient(form.in_the_clear(rows, sums, V), rows.fraction_bits, V)
        np.testing.assert_allclose(gradient, exact_gradient(rows, V, exact), atol=2e-5)


def test_slots_that_do_not_fit_take_several_ciphertexts(insecure_test_key: PrivateKey) -> None:
    key = insecure_test_key.public_key
    assert form_of(4, 20, 16, SAMPLES, scaled=True, shared=False).chunks(key) == 1
    wide = form_of(9, 20, 16, SAMPLES, scaled=True, shared=False)
    assert wide.chunks(key) == 2
    assert wide.slots(key).slots * wide.slots(key).width <= key.bits - 1
    with pytest.raises(LayoutError, match="do not fit a 512-bit key"):
        form_of(4, 20, 16, 1 << 480, scaled=True, shared=False).slots(key)


def test_declared_bounds_hold_at_the_extremes(
    insecure_test_key: PrivateKey, encryptor: Encryptor
) -> None:
    """All entries as large as declared, all factors at their bound: no slot runs into the next."""
    scaled = np.full((N_ROWS, 2), -(2**15), np.int16)
    rows = FixedPointMatrix(scaled, sparse.csr_array(np.ones((N_ROWS, 1), np.int8)), 0)
    for sign in (1, -1):
        V = np.full((3, 2), sign * 7.999)
        sums = np.tile(np.array([1 << 20, -sign * 16 << 20, sign * 16 << 20]), (N_ROWS, 1))
        form = form_of(2, 20, 16, N_ROWS, scaled=True, shared=False)
        packed = form.combine(rows, form.encrypt(encryptor, sums), V, np.arange(3), 10**8)
        key = insecure_test_key.public_key
        integers = form.separate(opened(insecure_test_key, packed), key, 3)
        assert integers.tolist() == form.in_the_clear(rows, sums, V).tolist()
        assert max(map(abs, integers.ravel().tolist())) <= form.largest


def test_a_factor_beyond_its_bound_is_refused() -> None:
    rows, V, _, sums = batch(2, 0, 1)
    form = form_of(1, 20, 16, SAMPLES, scaled=True, shared=False)
    with pytest.raises(LayoutError, match="a factor has grown to 8 or more"):
        form.in_the_clear(rows, sums, V + 10)


def test_residuals_and_products_stand_side_by_side() -> None:
    training = TrainingSettings(model="factorization-machine", factors=2)
    slots = residual_slots(
        np.array([0.5, -1.0]),
        np.array([[2.0, -7.0], [1.0, 3.5]]),
        ProtocolSettings(training=training),
    )
    assert (slots / 2**20).tolist() == [[0.5, 1.0, -3.5], [-1.0, -1.0, -3.5]]


@pytest.mark.parametrize("factors", [0, 3])
def test_two_shares_make_the_encrypted_residuals(
    insecure_test_key: PrivateKey, encryptor: Encryptor, factors: int
) -> None:
    """One share encrypted by the key holder, the other added in the clear, summed by entity."""
    rows, V, _, sums = batch(2, 3, factors)
    form = form_of(factors, 28, 4, SAMPLES, scaled=True, shared=True)
    share = np.frombuffer(np.random.default_rng(0).bytes(sums.size * 8), "<u8").reshape(sums.shape)
    theirs = form.encrypt(KeyHolderEncryptor(insecure_test_key), sums.view(np.uint64) - share)
    whole = form.complete(theirs, share)
    groups = np.arange(N_ROWS) // 2 - 1  # the first two rows belong to nobody
    halves = [whole, form.sum_by(whole, groups, N_ROWS // 2 - 1).randomised(encryptor)]
    expected = [sums, sums[2:].reshape(-1, 2, sums.shape[1]).sum(axis=1)]
    key = insecure_test_key.public_key
    for slots, plain in zip(halves, expected, strict=True):
        own = rows.take(np.arange(len(plain)))
        packed = form.combine(own, slots, V, np.arange(own.n_columns), 10**8)
        integers = form.separate(opened(insecure_test_key, packed), key, own.n_columns)
        assert integers.tolist() == form.in_the_clear(own, plain, V).tolist()
        assert not form.exceeded(integers, own.fraction_bits)


def test_a_wrapped_share_exceeds_the_bound(insecure_test_key: PrivateKey) -> None:
    """A value that comes out 2^64 too large does not slip into the next slot unseen."""
    rows, V, _, sums = batch(2, 3, 2)
    form = form_of(2, 28, 4, SAMPLES, scaled=True, shared=True)
    key, columns = insecure_test_key.public_key, np.arange(rows.n_columns)
    for slot, size in product(range(3), (1 << 64, -(1 << 64))):
        wrapped = sums.astype(object)
        wrapped[5, slot] += size
        in_clear = form.in_the_clear(rows, sums, V)
        honest = in_clear.copy()
        in_clear[:, slot] += np.append(rows.scaled[5].astype(object) << 8, [0, 0, 0]) * size
        assert not form.exceeded(honest, rows.fraction_bits)
        assert form.exceeded(in_clear, rows.fraction_bits)
        assert int(np.abs(in_clear).max()) <= form.largest
        assert form.slots(key).width > form.largest.bit_length()
        assert len(columns)


@pytest.mark.parametrize(("n_rows", "n_scaled", "n_indicators"), [(1, 1, 0), (40, 3, 4), (7, 0, 2)])
def test_matrix_product_equals_integers(
    insecure_test_key: PrivateKey,
    encryptor: Encryptor,
    n_rows: int,
    n_scaled: int,
    n_indicators: int,
) -> None:
    draw = np.random.default_rng(n_rows)
    scaled = draw.integers(-(2**15), 2**15, (n_rows, n_scaled)).astype(np.int16)
    indicators = draw.integers(0, 2, (n_rows, n_indicators)).astype(np.int8)
    matrix = FixedPointMatrix(scaled, sparse.csr_array(indicators), 0)
    integers = draw.integers(-(2**24), 2**24, n_rows)
    product = transposed_product(matrix, encryptor.encrypt(integers.tolist()))
    expected = np.concatenate(
        [scaled.T.astype(int) @ integers, indicators.T.astype(int) @ integers]
    )
    assert opened(insecure_test_key, product) == expected.tolist()


def test_an_empty_batch_gives_zero_gradients(
    insecure_test_key: PrivateKey, encryptor: Encryptor
) -> None:
    no_rows = sparse.csr_array(np.zeros((0, 1), np.int8))
    empty = FixedPointMatrix(np.zeros((0, 2), np.int16), no_rows, 0)
    assert opened(insecure_test_key, transposed_product(empty, encryptor.encrypt([]))) == [0, 0, 0]
    with pytest.raises(ValueError, match="one row"):
        transposed_product(empty, encryptor.encrypt([1]))


def test_phe_multiplies_by_a_matrix_an_entry_at_a_time(insecure_test_key: PrivateKey) -> None:
    key = PrivateKey(insecure_test_key.p, insecure_test_key.q, "phe")
    scaled = np.array([[3, -2, 0], [-32768, 32767, 0]], dtype=np.int16)
    matrix = FixedPointMatrix(scaled, sparse.csr_array(np.array([[1], [1]], np.int8)), 0)
    products = transposed_product(matrix, KeyHolderEncryptor(key).encrypt([10, -1]))
    assert opened(key, products) == [30 + 32768, -20 - 32767, 0, 9]
