from __future__ import annotations

from protocol.paillier import EncryptedVector, PrivateKey


def opened(key: PrivateKey, encrypted: EncryptedVector) -> list[int]:
    return [key.public_key.signed(residue) for residue in key.decrypt(encrypted)]
