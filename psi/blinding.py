"""Ids under a key: what is compared in place of the ids themselves."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 32
DIGEST_BYTES = 16

Digests = NDArray[np.bytes_]


def draw_key() -> bytes:
    """Draw the key of one run: 256 bits."""
    return secrets.token_bytes(KEY_BYTES)


def blind(key: bytes, entity: str, ids: Sequence[str]) -> Digests:
    """Return HMAC-SHA256(key, entity type || id) of each id, truncated to 128 bits: (n_ids,) of 16 bytes.

    The entity type is prefixed with its length, so that no two (type, id) pairs are hashed alike.
    HMAC: RFC 2104.
    """
    name = entity.encode()
    prefix = len(name).to_bytes(4, "little") + name
    digests = b"".join(
        hmac.digest(key, prefix + identifier.encode(), "sha256")[:DIGEST_BYTES]
        for identifier in ids
    )
    return as_digests(digests)


def as_digests(data: bytes) -> Digests:
    """Read digests that stand one after another."""
    return np.frombuffer(data, dtype=f"S{DIGEST_BYTES}")


def draw_order(number: int) -> NDArray[np.int64]:
    """Draw a random order of ``number`` things from the system's generator."""
    keys = np.frombuffer(secrets.token_bytes(16 * number), dtype=np.uint64).reshape(number, 2)
    return np.lexsort((keys[:, 0], keys[:, 1]))
