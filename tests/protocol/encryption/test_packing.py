from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from key_holder import opened

from protocol.encryption.encryptors import Encryptor
from protocol.encryption.keys import PrivateKey
from protocol.encryption.packing import SlotLayout
from protocol.errors import LayoutError


@given(
    st.integers(1, 200).flatmap(
        lambda bits: st.tuples(
            st.just(2**bits - 1),
            st.lists(
                st.one_of(
                    st.sampled_from([0, 2**bits - 1, 1 - 2**bits]),
                    st.integers(1 - 2**bits, 2**bits - 1),
                ),
                max_size=12,
            ),
        )
    )
)
@settings(deadline=None, max_examples=60)
def test_packing_round_trip(
    insecure_test_key: PrivateKey, encryptor: Encryptor, case: tuple[int, list[int]]
) -> None:
    largest, integers = case
    layout = SlotLayout.for_bound(largest, encryptor.public_key)
    packed = layout.pack(encryptor.encrypt(integers))
    assert len(packed) == -(-len(integers) // layout.slots)
    assert layout.unpack(opened(insecure_test_key, packed), len(integers)) == integers


def test_a_slot_wider_than_the_key_is_refused(insecure_test_key: PrivateKey) -> None:
    with pytest.raises(LayoutError, match="do not fit a 512-bit key"):
        SlotLayout.for_bound(2**511, insecure_test_key.public_key)
