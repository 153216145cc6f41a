"""What nobody else can draw again: who is held out, how rows and entities follow each other, how weights begin.

A run's seed is public, and whoever receives an order can undo what the seed alone has done to it. What is left must not
be the order of somebody's file: files are often sorted, by label even. Nor may a feature party's first weights be drawn
by the seed: whoever is sent sums of a first round would solve them for its columns. So a party draws under a key, of

    SHA-256 of the table's contents    the same data and seed give the same orders, hence the same model
    the seed and the party's name
    a secret of the party, if it has   without one, who knows a whole table but for one cell could confirm a guess at it
    one                                by the order that follows
    for orders, which of its rows      else who comes back with one id fewer would see the rows after it move, and those
    each feature party knows           before it stay

by HMAC-SHA256 and ChaCha20. What another seed gives is unrelated, so that runs put together tell no more than one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from parties.dataset import PartyDataset

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class PrivateOrder:
    """Draws orders under a key of 32 bytes; each ``purpose`` has its own."""

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, dataset: PartyDataset, seed: int, secret: bytes = b"") -> Self:
        """Make the key of a table's owner for the runs with one seed."""
        text = f"colonnade order 2 {seed} {dataset.party} ".encode()
        return cls(hmac.digest(secret, text + _digest(dataset), "sha256"))

    def given(self, known: Mapping[str, BoolArray]) -> Self:
        """Return what draws all anew where any party knows other rows: ``known[party]`` (n_rows,) tells which."""
        digest = hashlib.sha256()
        for party in sorted(known):
            for part in (party.encode(), np.packbits(known[party]).tobytes()):
                digest.update(len(part).to_bytes(8, "little") + part)
        return type(self)(hmac.digest(self.key, b"known " + digest.digest(), "sha256"))

    @classmethod
    def fresh(cls) -> Self:
        """Draw a key that nothing reproduces, for what is asked once."""
        return cls(secrets.token_bytes(32))

    def words(self, n: int, purpose: str) -> Words:
        """Return uniform integers of 64 bits (n,)."""
        stream = Cipher(ChaCha20(self._key_for(purpose), bytes(16)), None).encryptor()
        return np.frombuffer(stream.update(bytes(8 * n)), dtype="<u8").astype(np.uint64)

    def permutation(self, n: int, purpose: str) -> IntArray:
        """Return 0 to n - 1 in a uniform order."""
        # Two equal words would keep their order, once in 2^64 / n^2 permutations.
        return np.argsort(self.words(n, purpose), kind="stable").astype(np.int64)

    def ranks(self, of_row: IntArray, purpose: str) -> Words:
        """Return a uniform number for each entity (n_entities,), from the rows about it: entity or -1 (n_rows,).

        It depends on the entity's first row alone, and so not on how many there are, nor on how entities are numbered.
        """
        entities, first = np.unique(of_row, return_index=True)
        ranks = np.zeros(max(int(of_row.max(initial=-1)) + 1, 0), dtype=np.uint64)
        known = entities >= 0
        ranks[entities[known]] = self.words(len(of_row), purpose)[first[known]]
        return ranks

    def generator(self, purpose: str) -> np.random.Generator:
        """Return a generator for what is drawn beside orders."""
        return np.random.default_rng(int.from_bytes(self._key_for(purpose), "little"))

    def _key_for(self, purpose: str) -> bytes:
        return hmac.digest(self.key, purpose.encode(), "sha256")


def _digest(dataset: PartyDataset) -> bytes:
    """Return the SHA-256 of a table's ids, labels, columns and times, in the order of its rows."""
    digest = hashlib.sha256()
    for name, values in _columns(dataset):
        for part in (name.encode(), *_parts(values)):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _columns(dataset: PartyDataset) -> Iterator[tuple[str, Any]]:
    yield from (("id " + entity, values) for entity, values in dataset.ids.items())
    yield from (("column " + str(name), dataset.columns[name]) for name in dataset.columns)
    for name in ("label", "time"):
        values = getattr(dataset, name)
        if values is not None:
            yield name, values


def _parts(values: Any) -> Iterator[bytes]:
    """Give a column as bytes: numbers as they are, else the distinct values and which of them stands where."""
    array = np.asarray(values)
    if array.dtype.kind in "fiub":
        yield np.ascontiguousarray(array, dtype="<f8").tobytes()
        return
    codes, distinct = pd.factorize(array)
    yield codes.astype("<i8").tobytes()
    yield from (str(one).encode() for one in distinct)
