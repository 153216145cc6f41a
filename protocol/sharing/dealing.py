"""The dealer: a feature party that hands out masks and products of masks, in shares, and learns nothing by it."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.messages.forward import (
    DealtSeed,
    DealtShare,
)
from protocol.numbers import Words
from protocol.settings import ProtocolSettings
from protocol.sharing import shares
from protocol.sharing.shares import Dealt, Series, Stream
from protocol.transport.channel import Channel
from protocol.transport.roster import Roster


def deals(channel: Channel, settings: ProtocolSettings) -> bool:
    """Whether this party is the dealer."""
    shared = settings.training.disclosure == "shared"
    return shared and channel.name == dealer(settings, channel.roster)


async def deal(channel: Channel, n_samples: int, factors: int, series: Series | None) -> Words:
    """Dealer: deal what ``n_samples`` need (step b); return the masks r (n_samples, k)."""
    seeds = shares.draw_seed(), shares.draw_seed()
    label, coordinator = (Stream(seed, channel.roster.run) for seed in seeds)
    dependent, masks = Dealt.complete(label, coordinator, n_samples, factors, series)
    await channel.send(channel.roster.label, DealtSeed(seeds[0]))
    await channel.send(channel.roster.coordinator, DealtShare(seeds[1], dependent))
    return masks


async def deal_logits(channel: Channel, numbers: Sequence[int], factors: int) -> None:
    """Dealer: deal what the logits of ``[n]`` samples need, or of ``[n_users, n_items]`` pairs."""
    if len(numbers) == 1:
        await deal(channel, numbers[0], factors, None)
    else:
        await deal_pairs(channel, numbers[0], numbers[1], factors)


async def deal_pairs(channel: Channel, n_users: int, n_items: int, factors: int) -> None:
    """Dealer: deal what the logits of all pairs need: both sides' masks, and the products of either with the other."""
    users, items = [await deal(channel, n, factors, None) for n in (n_users, n_items)]
    seed = shares.draw_seed()
    half = Stream(seed, channel.roster.run).words(n_users, n_items)
    await channel.send(channel.roster.label, DealtSeed(seed))
    # Of the coordinator's half nothing is free: its seed goes unused.
    await channel.send(
        channel.roster.coordinator, DealtShare(shares.draw_seed(), users @ items.T - half)
    )


def dealer(settings: ProtocolSettings, roster: Roster) -> str:
    """Return the name of the feature party that deals."""
    return settings.training.dealer or roster.features[0]
