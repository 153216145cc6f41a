"""What both sides know before they compute on shares: which contribution a sample refers to, and the series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocol.batches import Batch
from protocol.errors import RemoteProtocolError
from protocol.messages.planning import SamplePositions, SigmoidSeries
from protocol.numbers import IntArray
from protocol.settings import ProtocolSettings
from protocol.sharing.dealing import dealer
from protocol.sharing.shares import Series
from protocol.transport.channel import Channel


async def send_positions(channel: Channel, batches: Sequence[Batch]) -> None:
    """Label party: tell the coordinator which contribution each sample refers to."""
    for party in channel.roster.features:
        if party in batches[0].entities:
            message = SamplePositions(
                party,
                np.concatenate([batch.entity_of[party] for batch in batches]),
                np.array([len(batch) for batch in batches]),
                np.array([len(batch.entities[party]) for batch in batches]),
            )
            await channel.send(channel.roster.coordinator, message)


async def receive_positions(
    channel: Channel, parties: Sequence[str], samples: Sequence[int] | None = None
) -> list[Batch]:
    """Coordinator: return the batches as it may know them: numbers in place of samples and entities.

    ``samples`` says how large they are, if that is known before.
    """
    positions, entities = dict[str, list[IntArray]](), dict[str, IntArray]()
    for party in parties:
        message = await channel.receive(channel.roster.label, SamplePositions)
        samples = message.samples.tolist() if samples is None else samples
        if message.party != party or message.samples.tolist() != samples:
            raise RemoteProtocolError(
                f"{channel.roster.label} was expected to send the positions of {len(samples)} batches at {party}, "
                "but sent others"
            )
        positions[party], entities[party] = message.batches(), message.entities
    return [
        Batch(
            np.arange(size),
            {party: np.arange(numbers[number]) for party, numbers in entities.items()},
            {party: of_samples[number] for party, of_samples in positions.items()},
        )
        for number, size in enumerate(samples or [])
    ]


async def send_series(channel: Channel, settings: ProtocolSettings, series: Series) -> None:
    """Label party: tell the coordinator and the dealer the series."""
    message = SigmoidSeries(series.period, series.coefficients)
    for party in (channel.roster.coordinator, dealer(settings, channel.roster)):
        await channel.send(party, message)


async def receive_series(channel: Channel) -> Series:
    """Coordinator or dealer: take the series."""
    message = await channel.receive(channel.roster.label, SigmoidSeries)
    return Series(message.period, message.coefficients)
