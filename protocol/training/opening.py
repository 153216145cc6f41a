"""From encrypted residuals to a data party's own gradient: multiply, pack, mask, have it opened, unmask.

data party -> coordinator    MaskedGradients    X^T [d | d S], packed, plus a uniform mask, at full-size randomness
coordinator -> data party    OpenedGradients    decrypted, still masked
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from parties.features import FixedPointMatrix
from parties.model import LocalModel
from protocol.batches import Batch
from protocol.encryption import certificate
from protocol.encryption.encryptors import Encryptor, Masks
from protocol.encryption.keys import EncryptedVector, PrivateKey, PublicKey
from protocol.errors import RemoteProtocolError
from protocol.messages.rounds import (
    EncryptedResiduals,
    EncryptedShares,
    MaskedGradients,
    OpenedGradients,
    PlainResiduals,
)
from protocol.messages.setup import PublicKeyAnnouncement
from protocol.numbers import FloatArray, IntArray, Residues
from protocol.settings import ProtocolSettings
from protocol.training.gradients import GradientForm, Integers, Slots
from protocol.training.limits import Allowances
from protocol.transport.channel import Channel


def announce(private_key: PrivateKey) -> PublicKeyAnnouncement:
    """Coordinator: return the public key with the proof that it is sound."""
    public_key = private_key.public_key
    roots = Residues.of(certificate.certify(private_key), public_key.plaintext_bytes)
    return PublicKeyAnnouncement(public_key.to_bytes(), roots)


async def _receive_public_key(channel: Channel, settings: ProtocolSettings) -> PublicKey:
    """Take the coordinator's key; raises RemoteProtocolError unless it is of the size agreed and proved sound."""
    coordinator, encryption = channel.roster.coordinator, settings.encryption
    announced = await channel.receive(coordinator, PublicKeyAnnouncement)
    n = certificate.verify(
        announced.modulus, announced.roots, encryption.key_bits, sender=coordinator
    )
    return PublicKey.accept(n, insecure_key=encryption.insecure_key, engine=encryption.engine)


async def pass_on(
    channel: Channel, batch: Batch, form: GradientForm, slots: Slots, encryptor: Encryptor
) -> None:
    """Label party: send each feature party its residuals, which were encrypted by the coordinator, summed by entity.

    The coordinator's randomness serves one recipient; any other gets fresh one, or two could compare ciphertexts.
    """
    for position, (party, entities) in enumerate(batch.entities.items()):
        sums = form.sum_by(slots, batch.entity_of[party], len(entities))
        if position:
            sums = sums.randomised(encryptor)
        await channel.send(party, EncryptedResiduals(*sums.to_wire()))


@dataclass(frozen=True)
class GradientOpener:
    """A data party's way to its own gradient; ``public_key`` is None where nothing is encrypted."""

    channel: Channel
    settings: ProtocolSettings
    public_key: PublicKey | None

    @classmethod
    async def set_up(cls, channel: Channel, settings: ProtocolSettings) -> Self:
        """Begin with the coordinator's public key; raises RemoteProtocolError unless it is of the size agreed."""
        encrypts = settings.training.disclosure != "none"
        key = await _receive_public_key(channel, settings) if encrypts else None
        return cls(channel, settings, key)

    def accept(
        self,
        form: GradientForm,
        received: EncryptedResiduals | EncryptedShares,
        n_rows: int,
        sender: str,
    ) -> Slots:
        """Take encrypted residuals, or shares of them, of so many rows; raises RemoteProtocolError for others."""
        assert self.public_key is not None, "nothing is encrypted under disclosure 'none'"
        return form.slots_from_wire(
            self.public_key, received.values, received.alone, n_rows, sender
        )

    async def receive(
        self, form: GradientForm, rows: FixedPointMatrix, model: LocalModel, columns: IntArray
    ) -> Gradient:
        """Feature party: receive residuals, one row an entity in the order of ``rows``, and open their gradient."""
        label = self.channel.roster.label
        if self.public_key is None:
            plain = (await self.channel.receive(label, PlainResiduals)).values
            if plain.shape != (rows.n_rows, 1 + form.factors):
                raise RemoteProtocolError(
                    f"{label} sent {plain.shape} residuals where {(rows.n_rows, 1 + form.factors)} were expected"
                )
            integers = form.in_the_clear(rows, plain, model.factors)[columns]
            return Gradient(form, rows, model, columns, integers)
        received = await self.channel.receive(label, EncryptedResiduals)
        slots = self.accept(form, received, rows.n_rows, label)
        return await self.open(form, rows, slots, model, columns)

    async def open(
        self,
        form: GradientForm,
        rows: FixedPointMatrix,
        slots: Slots,
        model: LocalModel,
        columns: IntArray,
    ) -> Gradient:
        """Return the gradient of the given columns; the coordinator sees uniform numbers."""
        coordinator, key = self.channel.roster.coordinator, slots.values.public_key
        memory_budget = 1_000_000 * self.settings.encryption.memory_budget
        packed = form.combine(rows, slots, model.factors, columns, memory_budget)
        masks = Masks.draw(key, len(packed))
        await self.channel.send(coordinator, MaskedGradients(masks.apply(packed).to_wire()))
        opened = await self.channel.receive(coordinator, OpenedGradients)
        integers = form.separate(masks.remove(opened.values.integers()), key, len(columns))
        return Gradient(form, rows, model, columns, integers)


@dataclass(frozen=True, eq=False)
class Gradient:
    """The integers (n_opened, 1 + k) of a party's gradient in the opened ``columns``."""

    form: GradientForm
    rows: FixedPointMatrix
    model: LocalModel
    columns: IntArray
    integers: Integers

    @property
    def exceeded(self) -> bool:
        """Whether a number is beyond its bound, so that a share must have wrapped."""
        return self.form.exceeded(self.integers, self.rows.fraction_bits[self.columns])

    def mean(self) -> FloatArray:
        """Return the batch mean gradient (n_columns, 1 + k), zero in the columns that stay closed."""
        gradient = np.zeros((self.rows.n_columns, 1 + self.form.factors))
        gradient[self.columns] = self.form.to_gradient(
            self.integers, self.rows.fraction_bits[self.columns], self.model.factors[self.columns]
        )
        return gradient


async def open_gradient(
    channel: Channel, private_key: PrivateKey, party: str, number: int, allowances: Allowances
) -> None:
    """Coordinator: decrypt what one data party has masked in a batch's round, as much as it is allowed."""
    masked = await channel.receive(party, MaskedGradients)
    allowances.check(party, number, len(masked.values))
    public_key = private_key.public_key
    encrypted = EncryptedVector.from_wire(public_key, masked.values, sender=party)
    opened = Residues.of(private_key.decrypt(encrypted), public_key.plaintext_bytes)
    await channel.send(party, OpenedGradients(opened))
