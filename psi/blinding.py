"""What is compared in place of ids: keyed hashes of them, or elements of a group under every party's secret."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from protocol import ledger
from protocol.cores import cores_for, split, spread
from protocol.errors import SettingsError

KEY_BYTES = 32
DIGEST_BYTES = 16
ELEMENT_BYTES = 32

GROUP_POWERS = "group powers"

POWERS_WORTH_A_CORE = 100  # about 5 ms

# As two words each: numpy's texts of 16 bytes lose zeros at their end and are slow to compare.
Digests = NDArray[np.uint64]


def draw_key() -> bytes:
    """Draw the key of one run: 256 bits."""
    return secrets.token_bytes(KEY_BYTES)


def draw_order(number: int) -> NDArray[np.int64]:
    """Draw a random order of ``number`` things from the system's generator."""
    keys = np.frombuffer(secrets.token_bytes(16 * number), dtype=np.uint64).reshape(number, 2)
    return np.lexsort((keys[:, 0], keys[:, 1]))


def keyed_hashes(key: bytes, entity: str, ids: Sequence[str]) -> bytes:
    """Return HMAC-SHA256(key, entity type || id) of each id, truncated to 128 bits, one after another.

    The entity type is prefixed with its length, so that no two (type, id) pairs are hashed alike.
    HMAC: RFC 2104.
    """
    # A third of the time that hmac.digest takes: the key's two blocks are hashed once (RFC 2104, 4). One core, as
    # handing ids to another process takes as long as hashing them.
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + _prefix(entity))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(identifier: str) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(identifier.encode())
        second.update(first.digest())
        return second.digest()[:DIGEST_BYTES]

    return b"".join(map(digest, ids))


def as_digests(data: bytes) -> Digests:
    """Read digests that stand one after another: (n_digests, 2)."""
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


def load_group() -> ModuleType:
    """Return the library for ristretto255; raises SettingsError where it is not installed."""
    try:
        import rbcl
    except ImportError:
        raise SettingsError(
            'alignment.method = "ecdh" needs the library rbcl; install the extra: colonnade[ecdh]'
        ) from None
    module: ModuleType = rbcl
    return module


class Secret:
    """One party's secret exponent in the group ristretto255 (RFC 9496), for one run."""

    def __init__(self) -> None:
        """Draw it; raises SettingsError as :func:`load_group` does."""
        self._group = load_group()
        # 512 bits modulo the group's order, of 253 bits, are uniform.
        self._exponent = self._group.crypto_core_ristretto255_scalar_reduce(secrets.token_bytes(64))

    def raise_ids(self, entity: str, ids: Sequence[str]) -> bytes:
        """Map the SHA-512 hash of each id to the group (RFC 9496, 4.3.4) and raise it: 32 bytes an id."""
        prefix = _prefix(entity)
        hashes = [hashlib.sha512(prefix + identifier.encode()).digest() for identifier in ids]
        to_group = self._group.crypto_core_ristretto255_from_hash
        return _spread_powers(lambda hashed: self._raise(to_group(hashed)), hashes)

    def raise_elements(self, elements: bytes) -> bytes:
        """Raise elements of 32 bytes each; raises ValueError for bytes that are no element."""
        starts = range(0, len(elements), ELEMENT_BYTES)
        try:
            return _spread_powers(
                self._raise, [elements[start : start + ELEMENT_BYTES] for start in starts]
            )
        except RuntimeError:  # the library's word for it
            raise ValueError("bytes that are no element of ristretto255") from None

    def _raise(self, element: bytes) -> bytes:
        power: bytes = self._group.crypto_scalarmult_ristretto255(self._exponent, element)
        return power


def truncate(elements: bytes) -> bytes:
    """Return the first 16 bytes of each element: enough to tell a set's elements apart."""
    return np.frombuffer(elements, np.uint8).reshape(-1, ELEMENT_BYTES)[:, :DIGEST_BYTES].tobytes()


def _spread_powers(power: Callable[[bytes], bytes], items: Sequence[bytes]) -> bytes:
    ledger.count(GROUP_POWERS, len(items))
    parts = split(len(items), cores_for(len(items), POWERS_WORTH_A_CORE))
    # The library lets go of Python's lock while it computes.
    return b"".join(spread(_join, [(power, items[part]) for part in parts], "threads"))


def _join(work: Callable[[bytes], bytes], items: Sequence[bytes]) -> bytes:
    return b"".join(map(work, items))


def _prefix(entity: str) -> bytes:
    name = entity.encode()
    return len(name).to_bytes(4, "little") + name
