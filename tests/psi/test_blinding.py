from __future__ import annotations

import hashlib
import hmac
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config

from protocol.errors import SettingsError
from psi.blinding import (
    ELEMENT_BYTES,
    Secret,
    as_digests,
    draw_key,
    draw_order,
    keyed_hashes,
    truncate,
)


def test_digest_is_truncated_hmac_of_type_and_id() -> None:
    key = bytes(range(32))
    expected = hmac.new(key, b"\x04\x00\x00\x00useranna", hashlib.sha256).digest()[:16]
    assert keyed_hashes(key, "user", ["anna"]) == expected


@given(st.lists(st.text(st.characters(codec="utf-8")), unique=True, max_size=50))
def test_distinct_ids_have_distinct_digests(ids: list[str]) -> None:
    digests = as_digests(keyed_hashes(draw_key(), "user", ids))
    assert digests.shape == (len(ids), 2)
    assert len(np.unique(digests, axis=0)) == len(ids)


def test_key_and_entity_type_change_every_digest() -> None:
    key = draw_key()
    assert keyed_hashes(key, "user", ["a"]) != keyed_hashes(draw_key(), "user", ["a"])
    assert keyed_hashes(key, "user", ["a"]) != keyed_hashes(key, "item", ["a"])
    # The prefix keeps type and id apart.
    assert keyed_hashes(key, "usera", [""]) != keyed_hashes(key, "user", ["a"])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_secrets_commute_and_are_counted(n_jobs: int) -> None:
    ids = [str(number) for number in range(250)]
    one, other = Secret(), Secret()
    with parallel_config(n_jobs=n_jobs):
        there = other.raise_elements(one.raise_ids("user", ids))
        back = one.raise_elements(other.raise_ids("user", ids))
    assert there == back
    assert len(there) == 250 * ELEMENT_BYTES
    assert one.raise_ids("user", ids[:1]) != one.raise_ids("item", ids[:1])
    assert one.raise_ids("user", ids[:1]) != other.raise_ids("user", ids[:1])


def test_elements_are_those_of_the_standard() -> None:
    """RFC 9496, appendix A.1: the generator and its double."""
    generator = bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")
    twice = "6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919"
    secret = Secret()
    secret._exponent = (2).to_bytes(32, "little")
    assert secret.raise_elements(generator).hex() == twice


@pytest.mark.parametrize("bad", [bytes(32), b"\xff" * 32, bytes(31) + b"\x80"])
def test_bytes_that_are_no_element_are_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match="no element of ristretto255"):
        Secret().raise_elements(bad)


def test_truncation_keeps_the_first_half_of_each() -> None:
    assert truncate(b"a" * 16 + b"b" * 16 + b"c" * 16 + b"d" * 16) == b"a" * 16 + b"c" * 16


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rbcl", None)
    with pytest.raises(SettingsError, match=r"install the extra: colonnade\[ecdh\]"):
        Secret()


def test_keys_are_fresh_and_of_256_bits() -> None:
    keys = {draw_key() for _ in range(20)}
    assert len(keys) == 20
    assert {len(key) for key in keys} == {32}


@given(st.integers(0, 300))
def test_an_order_is_a_permutation(number: int) -> None:
    assert sorted(draw_order(number).tolist()) == list(range(number))


def test_orders_differ() -> None:
    assert draw_order(50).tolist() != draw_order(50).tolist()
