"""What each party adds to a logit, clipped to the declared bounds, and how it reaches those who add it up.

In the clear it goes to the label party (disclosure ``open`` and ``none``); under ``shared`` it goes in two shares, one
to the label party and one to the coordinator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from parties.features import FixedPointMatrix
from parties.model import LocalModel
from protocol import ledger
from protocol.batches import Batch
from protocol.errors import RemoteProtocolError
from protocol.messages.forward import (
    ContributionSeed,
    ContributionShare,
    PartialLogits,
)
from protocol.numbers import FloatArray, IntArray, Words
from protocol.settings import ProtocolSettings
from protocol.sharing import shares
from protocol.sharing.shares import Stream
from protocol.transport.channel import Channel


@dataclass(frozen=True)
class Bounds:
    """How large one party's part of a logit may get: its own score, and the length of its latent sums.

    With q the own score, ``u + |S|^2 / 2``, a logit is the sum of all q and of the products ``S_a . S_b`` of any two
    parties: that bounds it, and more tightly than bounds of u and S would.
    """

    logit: float
    latent: float
    parties: int

    @classmethod
    def of(cls, settings: ProtocolSettings, parties: int) -> Self:
        """Take the bounds that the settings declare for each of so many data parties."""
        training = settings.training
        latent = training.latent_bound if training.n_factors else 0.0
        return cls(training.logit_bound, latent, parties)

    @property
    def joint(self) -> float:
        """The largest size of a joint logit."""
        return self.parties * self.logit + math.comb(self.parties, 2) * self.latent**2

    def contribution(self, model: LocalModel, rows: FixedPointMatrix) -> Contribution:
        """Return what a party adds to the logits of ``rows``, clipped to the bounds; both are counted."""
        logits, sums = model.partial_logits(rows), model.latent_sums(rows)
        length = np.sqrt((sums**2).sum(axis=1))
        own = logits + length**2 / 2
        beyond = (np.abs(own) > self.logit) | (length > self.latent)
        ledger.count("rows contributed", len(beyond))
        ledger.count("rows clipped", int(np.count_nonzero(beyond)))
        sums[beyond] *= np.minimum(1.0, self.latent / np.maximum(length[beyond], 1e-300))[:, None]
        left = np.clip(own[beyond], -self.logit, self.logit)
        logits[beyond] = left - (sums[beyond] ** 2).sum(axis=1) / 2
        return Contribution(logits, sums)


@dataclass(frozen=True, eq=False)
class Contribution:
    """One party's partial logits (n,) and latent sums (n, k), or their sums over parties."""

    logits: FloatArray
    latent_sums: FloatArray

    def take(self, rows: IntArray) -> Self:
        """Return those of some rows."""
        return replace(self, logits=self.logits[rows], latent_sums=self.latent_sums[rows])

    def to_words(self) -> Words:
        """Return ``[2u | S]`` (n, 1 + k) in fixed point, to be shared."""
        doubled = shares.to_words(2 * self.logits, shares.LOGIT_BITS)
        return np.column_stack([doubled, shares.to_words(self.latent_sums, shares.LATENT_BITS)])


async def contribute(channel: Channel, contribution: Contribution) -> None:
    """Feature party: split a contribution in two shares and send each its way (step a)."""
    values, seed = contribution.to_words(), shares.draw_seed()
    half = Stream(seed, channel.roster.run).words(*values.shape)
    await channel.send(channel.roster.label, ContributionSeed(seed))
    await channel.send(channel.roster.coordinator, ContributionShare(values - half))


async def offer(channel: Channel, settings: ProtocolSettings, contribution: Contribution) -> None:
    """Feature party: give a contribution to the label party, or to it and the coordinator in shares."""
    if settings.training.disclosure == "shared":
        await contribute(channel, contribution)
    else:
        message = PartialLogits(contribution.logits, contribution.latent_sums)
        await channel.send(channel.roster.label, message)


async def collect(channel: Channel, rows: Batch, own: Contribution) -> Contribution:
    """Label party: add what the feature parties of ``rows`` send, expanded to samples, to its own contribution."""
    logits, latent_sums = own.logits, own.latent_sums
    for party, entities in rows.entities.items():
        theirs = await channel.receive(party, PartialLogits)
        expected = (len(entities), latent_sums.shape[1])
        if theirs.latent_sums.shape != expected:
            raise RemoteProtocolError(
                f"{party} sent {theirs.latent_sums.shape} latent sums where {expected} were expected"
            )
        logits = logits + rows.to_samples(party, theirs.values)
        latent_sums = latent_sums + rows.to_samples(party, theirs.latent_sums)
    return Contribution(logits, latent_sums)
