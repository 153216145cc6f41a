from __future__ import annotations

import hashlib
import hmac

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from psi.blinding import DIGEST_BYTES, blind, draw_key, draw_order


def test_digest_is_truncated_hmac_of_type_and_id() -> None:
    key = bytes(32)
    expected = hmac.new(key, b"\x04\x00\x00\x00useranna", hashlib.sha256).digest()[:16]
    assert blind(key, "user", ["anna"]).tobytes() == expected


@given(st.lists(st.text(), unique=True, max_size=50))
def test_distinct_ids_have_distinct_digests(ids: list[str]) -> None:
    assert len(np.unique(blind(draw_key(), "user", ids))) == len(ids)


def test_key_and_entity_type_change_every_digest() -> None:
    key = draw_key()
    assert blind(key, "user", ["a"]) != blind(draw_key(), "user", ["a"])
    assert blind(key, "user", ["a"]) != blind(key, "item", ["a"])
    # The prefix keeps type and id apart.
    assert blind(key, "usera", [""]) != blind(key, "user", ["a"])


def test_keys_are_fresh_and_of_256_bits() -> None:
    keys = {draw_key() for _ in range(20)}
    assert len(keys) == 20
    assert {len(key) for key in keys} == {32}


def test_digests_take_16_bytes_even_with_trailing_zeros() -> None:
    digests = blind(bytes(32), "user", [str(number) for number in range(2000)])
    assert len(digests.tobytes()) == 2000 * DIGEST_BYTES
    assert min(map(len, digests.tolist())) < DIGEST_BYTES  # numpy hides zeros at the end of a text


@given(st.integers(0, 300))
def test_an_order_is_a_permutation(number: int) -> None:
    assert sorted(draw_order(number).tolist()) == list(range(number))


def test_orders_differ() -> None:
    assert draw_order(50).tolist() != draw_order(50).tolist()
