from __future__ import annotations

import secrets

import gmpy2
import phe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from key_holder import opened

from protocol.encryption.encryptors import Encryptor, KeyHolderEncryptor, Masks
from protocol.encryption.keys import EncryptedVector, PrivateKey, PublicKey
from protocol.errors import GuardError, LayoutError, RemoteProtocolError, SettingsError
from protocol.numbers import Ciphertexts


def test_the_key_holder_encrypts_alike(insecure_test_key: PrivateKey) -> None:
    holder, integers = KeyHolderEncryptor(insecure_test_key), extremes(insecure_test_key)
    encrypted = holder.encrypt(integers)
    assert opened(insecure_test_key, encrypted) == integers
    assert len(set(holder.encrypt([5] * 40).integers())) == 40
    private_key, n = insecure_test_key.phe, insecure_test_key.public_key.n
    assert [private_key.raw_decrypt(int(c)) for c in encrypted.integers()] == [
        integer % n for integer in integers
    ]
    # n-th residues, as an encryptor without the factors makes them.
    n_squared = insecure_test_key.public_key.n_squared
    hiding = [
        value * gmpy2.invert(1 + integer * n, n_squared) % n_squared
        for value, integer in zip(encrypted.integers(), integers, strict=True)
    ]
    assert all(value != 1 for value in hiding)
    order = (insecure_test_key.p - 1) * (insecure_test_key.q - 1) // 2
    assert {gmpy2.powmod(value, order, n_squared) for value in hiding} == {1}


def test_the_key_holder_hides_by_the_powers_that_others_use(insecure_test_key: PrivateKey) -> None:
    holder, others = KeyHolderEncryptor(insecure_test_key), Encryptor(insecure_test_key.public_key)
    base = holder._h
    exponents = secrets.token_bytes(32 * 5) + bytes(32) + b"\xff" * 32
    ring = insecure_test_key.public_key.ring
    hiding = ring.integers(holder._powers(base, exponents))
    assert hiding == ring.integers(others._powers(base, exponents))
    assert hiding[5] == 1


def extremes(key: PrivateKey) -> list[int]:
    largest = (int(key.public_key.n) - 1) // 2
    return [0, 1, -1, 2**40, -(2**40), largest, -largest]


def test_keys_are_fit_for_short_exponents() -> None:
    key = PrivateKey.generate(256, insecure_key=True)
    assert key.p % 4 == key.q % 4 == 3
    assert gmpy2.gcd(key.p - 1, key.q - 1) == 2
    assert key.public_key.bits == 256
    assert gmpy2.is_prime(key.p)
    assert gmpy2.is_prime(key.q)


@pytest.mark.parametrize("bits", [512, 1024, 2046])
def test_a_small_key_needs_the_flag(bits: int) -> None:
    with pytest.raises(GuardError, match="insecure_key = true"):
        PrivateKey.generate(bits)


@pytest.mark.parametrize("bits", [0, -2048, 64, 2049])
def test_an_impossible_key_size_is_refused(bits: int) -> None:
    with pytest.raises(SettingsError, match="key_bits"):
        PrivateKey.generate(bits, insecure_key=True)


def test_a_key_does_not_print_its_factors(insecure_test_key: PrivateKey) -> None:
    assert repr(insecure_test_key) == "PrivateKey(512 bits)"


def test_what_we_encrypt_phe_decrypts(insecure_test_key: PrivateKey, encryptor: Encryptor) -> None:
    integers = extremes(insecure_test_key)
    encrypted = encryptor.encrypt(integers)
    n = int(insecure_test_key.public_key.n)
    decrypted = [insecure_test_key.phe.raw_decrypt(int(value)) for value in encrypted.integers()]
    assert decrypted == [integer % n for integer in integers]
    assert opened(insecure_test_key, encrypted) == integers


def test_what_phe_encrypts_we_decrypt(insecure_test_key: PrivateKey) -> None:
    public_key = insecure_test_key.public_key
    integers = extremes(insecure_test_key)
    values = [
        gmpy2.mpz(public_key.phe.raw_encrypt(int(public_key.fitting(integer) % public_key.n)))
        for integer in integers
    ]
    assert (
        opened(insecure_test_key, EncryptedVector(public_key, public_key.ring.elements(values)))
        == integers
    )
    assert isinstance(public_key.phe, phe.PaillierPublicKey)


def test_equal_plaintexts_never_give_equal_ciphertexts(encryptor: Encryptor) -> None:
    encrypted = encryptor.encrypt([5] * 50).integers() + encryptor.encrypt([5] * 50).integers()
    assert len(set(encrypted)) == 100
    assert all(value % encryptor.public_key.n != 1 for value in encrypted)


def test_each_encryptor_draws_its_own_base(insecure_test_key: PrivateKey) -> None:
    first, second = (Encryptor(insecure_test_key.public_key) for _ in range(2))
    assert first._h != second._h


def test_a_plaintext_of_half_n_is_refused(encryptor: Encryptor) -> None:
    half = int(encryptor.public_key.n) // 2 + 1
    for integer in (half, -half):
        with pytest.raises(LayoutError, match="does not fit"):
            encryptor.encrypt([integer])


@given(st.lists(st.tuples(st.integers(-(2**60), 2**60), st.integers(-(2**60), 2**60)), max_size=5))
@settings(deadline=None)
def test_addition(
    insecure_test_key: PrivateKey, encryptor: Encryptor, pairs: list[tuple[int, int]]
) -> None:
    total = encryptor.encrypt([a for a, _ in pairs]) + encryptor.encrypt([b for _, b in pairs])
    assert opened(insecure_test_key, total) == [a + b for a, b in pairs]


def test_vectors_of_different_length_are_not_added(encryptor: Encryptor) -> None:
    with pytest.raises(ValueError, match="one length"):
        encryptor.encrypt([1]) + encryptor.encrypt([1, 2])


def test_bytes_round_trip(encryptor: Encryptor) -> None:
    encrypted = encryptor.encrypt([1, -2, 3])
    sent = encrypted.to_wire()
    assert len(sent.data) == 3 * encryptor.public_key.ciphertext_bytes == 3 * 128
    again = EncryptedVector.from_wire(encryptor.public_key, sent, sender="bank")
    assert again.integers() == encrypted.integers()


def test_numbers_that_are_no_ciphertexts_are_refused(insecure_test_key: PrivateKey) -> None:
    key = insecure_test_key.public_key
    unfit = [0, int(key.n_squared), int(insecure_test_key.p), int(key.n)]
    for value in unfit:
        data = (5).to_bytes(key.ciphertext_bytes, "little") + value.to_bytes(
            key.ciphertext_bytes, "little"
        )
        with pytest.raises(
            RemoteProtocolError, match="bank sent a number that is not a ciphertext"
        ):
            EncryptedVector.from_wire(key, Ciphertexts(128, data), sender="bank")
    with pytest.raises(RemoteProtocolError, match="bank sent 5 bytes"):
        EncryptedVector.from_wire(key, Ciphertexts(128, b"12345"), sender="bank")


def test_ciphertexts_are_as_wide_as_they_say(encryptor: Encryptor) -> None:
    data = encryptor.encrypt([1, 2]).to_bytes()
    with pytest.raises(RemoteProtocolError, match=r"256 bytes, 256 a ciphertext, where .* of 128"):
        EncryptedVector.from_wire(encryptor.public_key, Ciphertexts(256, data), sender="bank")


def test_short_public_keys_are_refused(insecure_test_key: PrivateKey) -> None:
    n = int(insecure_test_key.public_key.n)
    assert PublicKey.accept(n, insecure_key=True) == insecure_test_key.public_key
    with pytest.raises(GuardError):
        PublicKey.accept(n, insecure_key=False)


def test_masks_hide_and_come_off(insecure_test_key: PrivateKey, encryptor: Encryptor) -> None:
    integers = extremes(insecure_test_key)
    encrypted = encryptor.encrypt(integers)
    masks = Masks.draw(encryptor.public_key, len(integers))
    masked = masks.apply(encrypted)
    residues = insecure_test_key.decrypt(masked)
    assert masks.remove(residues) == integers
    assert not {int(residue) for residue in residues} & {
        integer % int(encryptor.public_key.n) for integer in integers
    }
    assert set(masked.integers()).isdisjoint(encrypted.integers())
    with pytest.raises(RemoteProtocolError, match="opened 1 numbers where 7"):
        masks.remove(residues[:1])


def test_masking_randomises_at_full_size(insecure_test_key: PrivateKey) -> None:
    """The randomness the key holder extracts from equal ciphertexts differs each time and is no power of one base."""
    key = insecure_test_key.public_key
    trivial = EncryptedVector(key, key.ring.elements([1] * 30))
    masked = Masks.draw(key, 30).apply(trivial)
    parts = [value % key.n for value in masked.integers()]  # rho^n mod n, free of the plaintext
    assert len(set(parts)) == 30
    # Uniform units are squares modulo p half of the time; powers of one h would nearly all be alike.
    squares = sum(gmpy2.legendre(part, insecure_test_key.p) == 1 for part in parts)
    assert 2 < squares < 28


def test_the_engines_read_each_other(insecure_test_key: PrivateKey) -> None:
    by_phe = PrivateKey(insecure_test_key.p, insecure_test_key.q, "phe")
    integers = [5, -7, 1 << 40]
    theirs = Encryptor(by_phe.public_key).encrypt(integers)
    ours = Encryptor(insecure_test_key.public_key).encrypt(integers)
    n = int(by_phe.public_key.n)
    assert insecure_test_key.decrypt(
        EncryptedVector.from_wire(insecure_test_key.public_key, theirs.to_wire(), sender="phe")
    ) == [integer % n for integer in integers]
    assert by_phe.decrypt(
        EncryptedVector.from_wire(by_phe.public_key, ours.to_wire(), sender="us")
    ) == [integer % n for integer in integers]
