"""Every computation on shares against the same one in the clear."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit

from protocol.errors import SettingsError
from protocol.numbers import FloatArray, Words
from protocol.sharing import shares
from protocol.sharing.shares import Dealt, Series, Stream, to_reals, to_words

RUN = bytes(16)
N, K = 300, 3

words = hnp.arrays(np.uint64, st.integers(1, 20), elements=st.integers(0, 2**64 - 1))


def split(values: Words, seed: int = 0) -> tuple[Words, Words]:
    half = Stream(bytes([seed]) * 32, RUN).words(*values.shape)
    return half, values - half


def dealt(
    n: int = N, factors: int = K, series: Series | None = None, seed: int = 1
) -> tuple[Dealt, Dealt]:
    """Both halves of one dealing."""
    seeds = bytes([seed]) * 32, bytes([seed + 1]) * 32
    waves = 2 * series.harmonics if series else 0
    dependent, _ = Dealt.complete(Stream(seeds[0], RUN), Stream(seeds[1], RUN), n, factors, series)
    return (
        Dealt.expand(Stream(seeds[0], RUN), n, factors, waves, None),
        Dealt.expand(Stream(seeds[1], RUN), n, factors, waves, dependent),
    )


def test_streams_go_on_and_depend_on_seed_and_run() -> None:
    stream = Stream(bytes(32), RUN)
    first, second = stream.words(4), stream.words(2, 2)
    assert Stream(bytes(32), RUN).words(8).tolist() == [*first.tolist(), *second.ravel().tolist()]
    assert len({*first.tolist(), *second.ravel().tolist()}) == 8
    for other in (Stream(bytes(31) + b"1", RUN), Stream(bytes(32), bytes(15) + b"1")):
        assert not set(other.words(4).tolist()) & set(first.tolist())
    assert shares.draw_seed() != shares.draw_seed()


@given(hnp.arrays(np.float64, st.integers(0, 20), elements=st.floats(-1e4, 1e4)))
def test_reals_survive_in_fixed_point(values: FloatArray) -> None:
    np.testing.assert_allclose(to_reals(to_words(values, 24), 24), values, atol=2**-25)


@given(words, st.integers(-(2**40), 2**40), st.integers(1, 20))
def test_truncation_is_off_by_at_most_one(masks: Words, value: int, bits: int) -> None:
    values = np.full_like(masks, value % 2**64)
    halves = (
        shares.truncate(masks, bits, leads=True),
        shares.truncate(values - masks, bits, leads=False),
    )
    exact = value / 2**bits
    # Right but where the mask lies within |value| of either end: with probability 2^-23 here.
    safe = (masks > abs(value)) & (masks < 2**64 - 1 - abs(value))
    off = (halves[0] + halves[1]).view(np.int64)[safe] - exact
    assert np.all(np.abs(off) <= 1)


@pytest.mark.parametrize("bound", [3.0, 12.0, 14.0, 28.0, 48.0, 112.0, 224.0])
def test_the_series_is_the_sigmoid_on_its_interval(bound: float) -> None:
    series = Series.fit(bound)
    assert bound <= 7 / 16 * series.period
    z = np.linspace(-bound, bound, 4001)
    waves = np.sin(2 * np.pi * np.outer(z, np.arange(1, series.harmonics + 1)) / series.period)
    fitted = 0.5 + waves @ (series.coefficients / 2**20)
    assert np.abs(fitted - expit(z)).max() < 4e-4
    assert (2 * series.period << 24) & ((2 * series.period << 24) - 1) == 0


def test_bounds_that_no_period_fits_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"allow logits up to 225, .* at most 224; lower"):
        Series.fit(225.0)


def test_public_waves_are_sines_and_cosines_in_integers() -> None:
    series = Series.fit(28.0)
    opened = Stream(bytes(32), RUN).words(200)
    exact = [Fraction(int(angle) % series.turn, series.turn) for angle in opened]
    k = np.arange(1, series.harmonics + 1)
    turns = np.array([[float((number * angle) % 1) for number in k.tolist()] for angle in exact])
    expected = np.hstack([np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)])
    expected *= np.tile(series.coefficients / 2**20, 2)
    waves = series.public_waves(opened).view(np.int64) / 2**14
    np.testing.assert_allclose(waves, expected, atol=2**-15 + 1e-8)


def test_no_entry_of_the_wave_table_can_round_two_ways() -> None:
    """So that every machine has the same table, however its last bit of a sine comes out."""
    angles = 2 * np.pi * np.arange(4096) / 4096
    for wave in (np.cos(angles), np.sin(angles)):
        scaled = np.ldexp(wave, 28)
        assert np.abs(np.abs(scaled - np.floor(scaled)) - 0.5).min() > 1e-6


@pytest.mark.parametrize("bound", [12.0, 28.0, 112.0])
def test_residuals_on_shares_are_within_a_thousandth(bound: float) -> None:
    """The claim of docs/security.md: at most 1e-3 over the whole declared interval, quantisation included."""
    series = Series.fit(bound)
    z = np.linspace(-bound, bound, 2000)
    of_label, of_coordinator = dealt(len(z), 0, series)
    doubled = split(to_words(2 * z, shares.LOGIT_BITS))
    opened = sum(
        (half - one.angles for half, one in zip(doubled, (of_label, of_coordinator), strict=True)),
        np.zeros(len(z), dtype=np.uint64),
    )
    joint = shares.probabilities(opened, series, of_label, leads=True) + shares.probabilities(
        opened, series, of_coordinator, leads=False
    )
    error = np.abs(to_reals(joint, shares.RESIDUAL_BITS) - expit(z))
    assert error.max() <= 1e-3


def test_beyond_half_a_period_the_series_turns_back() -> None:
    series = Series.fit(12.0)
    z = np.array([series.period - 6.0])  # the sigmoid is 1 there, the series has come round to -6
    of_label, of_coordinator = dealt(1, 0, series)
    opened = to_words(2 * z, shares.LOGIT_BITS) - of_label.angles - of_coordinator.angles
    joint = shares.probabilities(opened, series, of_label, leads=True) + shares.probabilities(
        opened, series, of_coordinator, leads=False
    )
    assert to_reals(joint, shares.RESIDUAL_BITS).item() == pytest.approx(expit(-6.0), abs=1e-3)


@given(st.integers(0, 2**32))
def test_squares_and_products_are_exact(seed: int) -> None:
    draw = np.random.default_rng(seed)
    sums, residuals = draw.normal(size=(N, K)), draw.uniform(-1, 1, N)
    S, d = to_words(sums, shares.LATENT_BITS), to_words(residuals, shares.TRUNCATED_BITS)
    halves = dealt(series=None, seed=seed % 200)
    opened_sums = S - halves[0].masks - halves[1].masks
    opened_residuals = d - halves[0].multipliers - halves[1].multipliers
    sides = list(zip(halves, (True, False), strict=True))
    squares = [shares.square_sums(opened_sums, half, leads=leads) for half, leads in sides]
    assert (squares[0] + squares[1]).tolist() == (S * S).sum(axis=1).tolist()
    products = [
        shares.products(opened_sums, opened_residuals, half, leads=leads) for half, leads in sides
    ]
    assert (products[0] + products[1]).tolist() == (d[:, None] * S).tolist()
    squared = [
        shares.squared_residuals(opened_residuals, half, leads=leads) for half, leads in sides
    ]
    assert (squared[0] + squared[1]).tolist() == [(d * d).sum()]


def test_products_of_all_pairs_are_exact() -> None:
    draw = np.random.default_rng(5)
    users, items = (to_words(draw.normal(size=(n, K)), shares.LATENT_BITS) for n in (7, 11))
    of_users, of_items = dealt(7, seed=1), dealt(11, seed=3)
    masks = [halves[0].masks + halves[1].masks for halves in (of_users, of_items)]
    opened = users - masks[0], items - masks[1]
    cross = split(masks[0] @ masks[1].T)
    joint = sum(
        (
            shares.pair_products(
                opened, (of_users[side].masks, of_items[side].masks), cross[side], leads=side == 0
            )
            for side in range(2)
        ),
        np.zeros((7, 11), dtype=np.uint64),
    )
    assert joint.tolist() == (users @ items.T).tolist()
