"""The forward pass: what is contributed, what is dealt, and how two parties compute on shares of it.

For the samples of one batch, under ``disclosure = "shared"``:

    step a  feature parties -> label         ContributionSeed    its share of 2u and S, by entity
            feature parties -> coordinator   ContributionShare   the other share
    step b  dealer -> label                  DealtSeed
            dealer -> coordinator            DealtShare          masks, and products of masks, in shares
    step c  label <-> coordinator            Opening             S - r     gives shares of S^2, so of 2z
            label <-> coordinator            Opening             2z - t    gives shares of d = sigmoid(z) - y
            label <-> coordinator            Opening             d - b     gives shares of d S

Logistic models need the second opening alone. The label party and the coordinator run the same code,
:class:`Evaluator`; the label party *leads*: it adds what both know, and its own columns and labels.

Otherwise there is one step: the feature parties send the label party PartialLogits, u and S themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protocol.batches import Batch
from protocol.errors import RemoteProtocolError
from protocol.messages.forward import (
    ContributionSeed,
    ContributionShare,
    DealtSeed,
    DealtShare,
    Opening,
)
from protocol.numbers import FloatArray, Words
from protocol.settings import ProtocolSettings
from protocol.sharing import shares
from protocol.sharing.dealing import dealer
from protocol.sharing.shares import Dealt, Series, Stream
from protocol.transport.channel import Channel


@dataclass(frozen=True)
class Evaluator:
    """One of the two that compute on shares: the label party, who leads, or the coordinator.

    Here a logit is the sum of what is contributed, u; :class:`FactorEvaluator` has latent sums besides.
    """

    channel: Channel
    settings: ProtocolSettings

    @staticmethod
    def of(channel: Channel, settings: ProtocolSettings) -> Evaluator:
        """Return the evaluator of the model that the settings name."""
        kind = FactorEvaluator if settings.training.n_factors else Evaluator
        return kind(channel, settings)

    @property
    def leads(self) -> bool:
        """Whether this is the label party."""
        return self.channel.name == self.channel.roster.label

    @property
    def factors(self) -> int:
        """The latent sums of a sample."""
        return self.settings.training.n_factors

    @property
    def _dealer(self) -> str:
        return dealer(self.settings, self.channel.roster)

    async def gather(self, batch: Batch) -> Words:
        """Return this side's share of the feature parties' contributions, summed: (n_samples, 1 + k) (step a)."""
        total = np.zeros((len(batch), 1 + self.factors), dtype=np.uint64)
        for party, entities in batch.entities.items():
            total = total + batch.to_samples(party, await self._contribution(party, len(entities)))
        return total

    async def _contribution(self, party: str, n_entities: int) -> Words:
        shape = n_entities, 1 + self.factors
        if self.leads:
            return self._stream(
                (await self.channel.receive(party, ContributionSeed)).seed, party
            ).words(*shape)
        values = (await self.channel.receive(party, ContributionShare)).values
        check_shape(values, shape, party)
        return values

    async def dealt(self, n_samples: int, series: Series | None) -> Dealt:
        """Return this side's half of what was dealt for the samples (step b)."""
        waves = 2 * series.harmonics if series else 0
        if self.leads:
            seed, dependent = (await self.channel.receive(self._dealer, DealtSeed)).seed, None
        else:
            message = await self.channel.receive(self._dealer, DealtShare)
            seed, dependent = message.seed, message.dependent
            check_shape(dependent, (n_samples, 2 + self.factors + waves), self._dealer)
        stream = self._stream(seed, self._dealer)
        return Dealt.expand(stream, n_samples, self.factors, waves, dependent)

    def _stream(self, seed: bytes, sender: str) -> Stream:
        return Stream(self.channel.accept_seed(seed, sender=sender), self.channel.roster.run)

    async def open(self, share: Words) -> Words:
        """Exchange shares with the other side and return what they add up to: a masked value (step c)."""
        roster = self.channel.roster
        other = roster.coordinator if self.leads else roster.label
        await self.channel.send(other, Opening(share))
        theirs = (await self.channel.receive(other, Opening)).values
        check_shape(theirs, share.shape, other)
        return share + theirs

    async def doubled_logits(self, sums: Words) -> Words:
        """Return a share of twice the logits (n,), of shares (n, 1 + k) of ``[2u | S]``."""
        return sums[:, 0]

    async def doubled_pair_logits(self, users: Words, items: Words) -> Words:
        """Return a share of twice the logits (n_users, n_items) of all pairs, of shares of both sides' ``[2u | S]``."""
        return users[:, :1] + items[:, 0]

    async def residual_slots(self, series: Series, sums: Words, labels: FloatArray | None) -> Words:
        """Return a share of ``[d | d S]`` (n, 1 + k), of shares of ``[2u | S]``.

        ``labels`` (n,) are given by the side that has them.
        """
        dealt = await self.dealt(len(sums), series)
        return (await self._residuals(series, sums[:, 0], labels, dealt))[:, None]

    async def squared_residuals(
        self, series: Series, sums: Words, labels: FloatArray | None
    ) -> Words:
        """Return a share of the sum of all ``d^2`` (1,); as above."""
        dealt = await self.dealt(len(sums), series)
        doubled, _ = await self._double(sums, dealt)
        opened = await self._open_residuals(
            await self._residuals(series, doubled, labels, dealt), dealt
        )
        return shares.squared_residuals(opened, dealt, leads=self.leads)

    async def _double(self, sums: Words, dealt: Dealt) -> tuple[Words, Words]:
        """Return a share of twice the logits (n,), and the opened ``S - r`` (n, k)."""
        return sums[:, 0], sums[:, 1:]

    async def _residuals(
        self, series: Series, doubled: Words, labels: FloatArray | None, dealt: Dealt
    ) -> Words:
        """Return a share of the residuals (n,), of twice the logits (n,)."""
        opened = await self.open(doubled - dealt.angles)
        share = shares.probabilities(opened, series, dealt, leads=self.leads)
        if labels is not None:
            share = share - shares.to_words(labels, shares.RESIDUAL_BITS)
        return share

    async def _open_residuals(self, residuals: Words, dealt: Dealt) -> Words:
        bits = shares.RESIDUAL_BITS - shares.TRUNCATED_BITS
        return await self.open(
            shares.truncate(residuals, bits, leads=self.leads) - dealt.multipliers
        )


@dataclass(frozen=True)
class FactorEvaluator(Evaluator):
    """Computes logits and residuals of a factorization machine, which has squares and products of latent sums."""

    async def doubled_logits(self, sums: Words) -> Words:
        """Return a share of twice the logits (n,), of shares (n, 1 + k) of ``[2u | S]``."""
        return (await self._double(sums, await self.dealt(len(sums), None)))[0]

    async def doubled_pair_logits(self, users: Words, items: Words) -> Words:
        """Return a share of twice the logits (n_users, n_items) of all pairs, of shares of both sides' ``[2u | S]``."""
        of_users, of_items = [await self.dealt(len(sums), None) for sums in (users, items)]
        of_pairs = await self._dealt_products(len(users), len(items))
        doubled_users, opened_users = await self._double(users, of_users)
        doubled_items, opened_items = await self._double(items, of_items)
        products = shares.pair_products(
            (opened_users, opened_items),
            (of_users.masks, of_items.masks),
            of_pairs,
            leads=self.leads,
        )
        return doubled_users[:, None] + doubled_items + 2 * products

    async def residual_slots(self, series: Series, sums: Words, labels: FloatArray | None) -> Words:
        """Return a share of ``[d | d S]`` (n, 1 + k), of shares of ``[2u | S]``."""
        dealt = await self.dealt(len(sums), series)
        doubled, opened_sums = await self._double(sums, dealt)
        residuals = await self._residuals(series, doubled, labels, dealt)
        opened = await self._open_residuals(residuals, dealt)
        products = shares.products(opened_sums, opened, dealt, leads=self.leads)
        return np.column_stack([residuals, products])

    async def _double(self, sums: Words, dealt: Dealt) -> tuple[Words, Words]:
        doubled, latent_sums = sums[:, 0], sums[:, 1:]
        opened = await self.open(latent_sums - dealt.masks)
        return doubled + shares.square_sums(opened, dealt, leads=self.leads), opened

    async def _dealt_products(self, n_users: int, n_items: int) -> Words:
        if self.leads:
            seed = (await self.channel.receive(self._dealer, DealtSeed)).seed
            return self._stream(seed, self._dealer).words(n_users, n_items)
        dependent = (await self.channel.receive(self._dealer, DealtShare)).dependent
        check_shape(dependent, (n_users, n_items), self._dealer)
        return dependent


def check_shape(words: Words, shape: tuple[int, ...], sender: str, what: str = "shares") -> None:
    """Raise RemoteProtocolError unless what came has the shape expected."""
    if words.shape != shape:
        raise RemoteProtocolError(f"{sender} sent {what} {words.shape} where {shape} were expected")
