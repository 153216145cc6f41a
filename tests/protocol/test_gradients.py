from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from parties.features import FixedPointMatrix
from protocol.errors import LayoutError
from protocol.gradients import GradientForm, residual_slots
from protocol.messages import FloatArray, IntArray
from protocol.paillier import Encryptor, PrivateKey
from protocol.settings import ProtocolSettings, TrainingSettings

N_ROWS, SAMPLES = 30, 45


@pytest.fixture(scope="module")
def encryptor(insecure_test_key: PrivateKey) -> Encryptor:
    return Encryptor(insecure_test_key.public_key)


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
    form = GradientForm(factors, 20, 16, SAMPLES, scaled=n_scaled > 0)
    columns = np.arange(rows.n_columns)[::2]
    key = insecure_test_key.public_key
    slots, alone = form.encrypt(encryptor, sums)
    assert len(slots) == N_ROWS * form.chunks(key)
    assert len(alone) == (N_ROWS if n_scaled and factors else 0)
    packed = form.combine(rows, slots, alone, V, columns, 10**8)
    opened = [key.signed(residue) for residue in insecure_test_key.decrypt(packed)]
    integers = form.separate(opened, key, len(columns))
    assert integers.tolist() == form.in_the_clear(rows, sums, V)[columns].tolist()
    gradient = form.to_gradient(integers, rows.fraction_bits[columns], V[columns])
    # Squares are rounded to 2^-9, factors to 2^-13; both stand beside sums over 30 rows.
    np.testing.assert_allclose(gradient, exact_gradient(rows, V, exact)[columns], atol=0.03)


def test_without_scaled_columns_or_factors_only_rounding_of_residuals_remains() -> None:
    for n_scaled, n_indicators, factors in ((3, 2, 0), (0, 4, 3)):
        rows, V, exact, sums = batch(n_scaled, n_indicators, factors)
        form = GradientForm(factors, 20, 16, SAMPLES, scaled=n_scaled > 0)
        gradient = form.to_gradient(form.in_the_clear(rows, sums, V), rows.fraction_bits, V)
        np.testing.assert_allclose(gradient, exact_gradient(rows, V, exact), atol=2e-5)


def test_slots_that_do_not_fit_take_several_ciphertexts(insecure_test_key: PrivateKey) -> None:
    key = insecure_test_key.public_key
    assert GradientForm(4, 20, 16, SAMPLES, scaled=True).chunks(key) == 1
    wide = GradientForm(9, 20, 16, SAMPLES, scaled=True)
    assert wide.chunks(key) == 2
    assert wide.slots(key).slots * wide.slots(key).width <= key.bits - 1
    with pytest.raises(LayoutError, match="do not fit a 512-bit key"):
        GradientForm(4, 20, 16, 1 << 480, scaled=True).slots(key)


def test_declared_bounds_hold_at_the_extremes(
    insecure_test_key: PrivateKey, encryptor: Encryptor
) -> None:
    """All entries as large as declared, all factors at their bound: no slot runs into the next."""
    scaled = np.full((N_ROWS, 2), -(2**15), np.int16)
    rows = FixedPointMatrix(scaled, sparse.csr_array(np.ones((N_ROWS, 1), np.int8)), 0)
    for sign in (1, -1):
        V = np.full((3, 2), sign * 7.999)
        sums = np.tile(np.array([1 << 20, -sign * 16 << 20, sign * 16 << 20]), (N_ROWS, 1))
        form = GradientForm(2, 20, 16, N_ROWS, scaled=True)
        packed = form.combine(rows, *form.encrypt(encryptor, sums), V, np.arange(3), 10**8)
        key = insecure_test_key.public_key
        opened = [key.signed(residue) for residue in insecure_test_key.decrypt(packed)]
        integers = form.separate(opened, key, 3)
        assert integers.tolist() == form.in_the_clear(rows, sums, V).tolist()
        assert max(map(abs, integers.ravel().tolist())) <= form.largest


def test_a_factor_beyond_its_bound_is_refused() -> None:
    rows, V, _, sums = batch(2, 0, 1)
    form = GradientForm(1, 20, 16, SAMPLES, scaled=True)
    with pytest.raises(LayoutError, match="a factor has grown to 8 or more"):
        form.in_the_clear(rows, sums, V + 10)


def test_products_beyond_the_latent_bound_are_clipped_and_counted() -> None:
    settings = ProtocolSettings(
        training=TrainingSettings(model="factorization-machine", factors=2, latent_bound=3)
    )
    slots, clipped = residual_slots(
        np.array([0.5, -1.0]), np.array([[2.0, -7.0], [1.0, 3.5]]), settings
    )
    assert clipped == 2
    assert (slots / 2**20).tolist() == [[0.5, 1.0, -3.0], [-1.0, -1.0, -3.0]]
