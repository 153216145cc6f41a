"""The alignment conversation ``keyed-hash``: who shares which entities, without naming one.

For one entity type ('user_id'), held by the label party and one or more feature parties:

    step 1  label -> feature parties   BlindingKey       a fresh key, sealed
    step 2  everyone -> coordinator    BlindedIds        HMAC of each distinct id, in random order
    step 3  coordinator -> everyone    SharedPositions   which of them everyone has, in one order

Feature parties whose unknown entities do not matter (``required`` is false) are compared with the label party
alone. The coordinator lacks the key and cannot try ids; the parties see nobody else's digests. It does
learn set sizes and overlaps. With the help of any party that has the key it could try ids: it must
not collude with one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.dataset import PartyDataset
from protocol.channel import Channel
from protocol.errors import AlignmentError, RemoteProtocolError
from protocol.messages import BlindedIds, BlindingKey, IntArray, SharedPositions
from psi.blinding import Digests, as_digests, blind, draw_key, draw_order


async def align_label_party(channel: Channel, dataset: PartyDataset) -> Mapping[str, IntArray]:
    """Align with every feature party; return each own row's position there, -1 where it is not shared.

    Raises AlignmentError if nothing is shared.
    """
    positions: dict[str, IntArray] = {}
    for entity, parties in channel.roster.groups():
        key = draw_key()
        for party in parties:
            await channel.send(party, BlindingKey(entity, key))
        # A user with many rows is sent once: how often it repeats is nobody's business.
        of_row, distinct = _distinct(dataset.ids[entity])
        shared = await _compare(channel, entity, key, distinct)
        position_of_distinct = np.full(len(distinct), -1, dtype=np.int64)
        position_of_distinct[shared] = np.arange(len(shared))
        positions |= dict.fromkeys(parties, position_of_distinct[of_row])
    return positions


async def align_feature_party(channel: Channel, dataset: PartyDataset) -> IntArray:
    """Align this party's entity type; return which of its rows are shared, in the agreed order.

    Raises AlignmentError if no entity is shared.
    """
    (entity,) = dataset.ids
    announced = await channel.receive(channel.roster.label, BlindingKey)
    if announced.entity != entity:
        raise RemoteProtocolError(
            f"{channel.roster.label} aligns '{announced.entity}' with {channel.name}, "
            f"which joins on '{entity}'; use one roster everywhere"
        )
    return await _compare(channel, entity, announced.key, list(dataset.ids[entity]))


async def coordinate_alignment(channel: Channel) -> Mapping[str, int]:
    """Intersect the digests of every group; return how many entities it shares, by its name."""
    shared = {}
    groups = channel.roster.groups()
    for entity, others in groups:
        parties = [channel.roster.label, *others]
        digests = {party: await _receive_digests(channel, party, entity) for party in parties}
        positions = intersect(list(digests.values()))
        order = draw_order(len(positions[0]))
        for party, found in zip(parties, positions, strict=True):
            await channel.send(party, SharedPositions(found[order]))
        alone = [name for name, _ in groups].count(entity) == 1
        shared[f"{entity}s" if alone else f"{entity}s with {', '.join(others)}"] = len(order)
    return shared


async def _compare(channel: Channel, entity: str, key: bytes, ids: Sequence[str]) -> IntArray:
    """Send this party's digests; return the rows of ``ids`` that everyone has, in the agreed order."""
    order = draw_order(len(ids))
    digests = blind(key, entity, [ids[row] for row in order])
    await channel.send(channel.roster.coordinator, BlindedIds(entity, digests.tobytes()))
    answer = await channel.receive(channel.roster.coordinator, SharedPositions)
    shared = answer.positions
    if len(shared) and (shared.min() < 0 or shared.max() >= len(ids)):
        raise RemoteProtocolError(
            f"{channel.roster.coordinator} named positions beyond the {len(ids)} that were sent"
        )
    if len(np.unique(shared)) != len(shared):
        raise RemoteProtocolError(f"{channel.roster.coordinator} named a position twice")
    if not len(shared):
        raise AlignmentError(
            f"{channel.name} shares no '{entity}' with all other parties; expected at least one. "
            "Check that every party names the right id column and writes ids the same way"
        )
    return order[shared]


async def _receive_digests(channel: Channel, party: str, entity: str) -> Digests:
    message = await channel.receive(party, BlindedIds)
    digests = as_digests(message.digests)
    if message.entity != entity or len(np.unique(digests)) != len(digests):
        raise RemoteProtocolError(
            f"{party} was expected to send each of its blinded '{entity}' once, but did not"
        )
    return digests


def intersect(digests: Sequence[Digests]) -> list[NDArray[np.int64]]:
    """Return, for each list of distinct digests, the positions of those that all lists hold, in one common order."""
    common = digests[0]
    for other in digests[1:]:
        common = np.intersect1d(common, other, assume_unique=True)
    common = np.sort(common)
    positions = []
    for own in digests:
        order = np.argsort(own)
        positions.append(order[np.searchsorted(own, common, sorter=order)].astype(np.int64))
    return positions


def _distinct(ids: NDArray[np.object_]) -> tuple[IntArray, list[str]]:
    """Return each row's index into the distinct ids, and those ids."""
    of_row, distinct = pd.factorize(ids)
    return of_row.astype(np.int64), list(distinct)
