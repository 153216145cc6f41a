from __future__ import annotations

from protocol.encryption.keys import EncryptedVector, PrivateKey


def opened(key: PrivateKey, encrypted: EncryptedVector) -> list[int]:
    return [key.public_key.signed(residue) for residue in key.decrypt(encrypted)]
