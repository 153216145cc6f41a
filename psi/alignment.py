"""The alignment conversation: who shares which entities, without naming one.

For one entity type ('user_id'), held by the label party and one or more feature parties:

    step 0  data parties               SessionKey          for seals, before anything else is said
    step 1  label <-> feature parties  IdKindAnnouncement  are the ids numbers or text? they must agree
    step 2  everyone -> coordinator    BlindedIds          each distinct id, blinded, in random order
    step 3  coordinator -> everyone    SharedPositions     which of them everyone has, in one order

Feature parties whose unknown entities do not matter (``required`` is false) are compared with the label party
alone. How ids are blinded is told in psi/submission.py: the coordinator cannot try ids, and the parties cannot
compare each other's lists. The coordinator does learn overlaps, and set sizes unless lists are padded.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.dataset import IdKind, PartyDataset
from protocol.errors import AlignmentError, RemoteProtocolError
from protocol.ledger import Progress
from protocol.messages.alignment import BlindedIds, IdKindAnnouncement, SharedPositions
from protocol.numbers import IntArray
from protocol.settings import AlignmentSettings
from protocol.transport.channel import Channel
from psi.blinding import Digests, as_digests, draw_order
from psi.submission import (
    PART,
    Ids,
    Rounds,
    check_method,
    cut,
    expected_rounds,
    receive_parts,
    send_part,
    submit,
    submitters,
)


async def align_label_party(
    channel: Channel,
    settings: AlignmentSettings,
    dataset: PartyDataset,
    progress: Progress = lambda done, total: None,
    *,
    may_be_empty: bool = False,
) -> Mapping[str, IntArray]:
    """Align with every feature party; return each own row's position there, -1 where it is not shared.

    Raises AlignmentError if nothing is shared and that ``may_be_empty`` is not said, if ids are written in different
    ways, or if there are too many to pad.
    """
    check_method(settings.method)
    await channel.greet()
    groups = channel.roster.groups()
    # A user with many rows is sent once: how often it repeats is nobody's business.
    distinct = {entity: _distinct(dataset.ids[entity]) for entity, _ in groups}
    lists = {entity: _pad(channel, settings, entity, ids) for entity, (_, ids) in distinct.items()}
    rounds = Rounds(progress)
    for entity, others in groups:
        rounds.expect(expected_rounds(settings.method, 1 + len(others), len(lists[entity])))
    positions: dict[str, IntArray] = {}
    for entity, others in groups:
        await _agree_on_kind(channel, others, entity, dataset.id_kind(entity))
        of_row, ids = distinct[entity]
        parties = [channel.name, *others]
        shared = await _compare(
            channel, settings, entity, parties, lists[entity], len(ids), rounds, may_be_empty
        )
        position_of_distinct = np.full(len(ids), -1, dtype=np.int64)
        position_of_distinct[shared] = np.arange(len(shared))
        positions |= dict.fromkeys(others, position_of_distinct[of_row])
    return positions


async def align_feature_party(
    channel: Channel,
    settings: AlignmentSettings,
    dataset: PartyDataset,
    *,
    may_be_empty: bool = False,
) -> IntArray:
    """Align this party's entity type; return which of its rows are shared, in the agreed order.

    Raises AlignmentError as :func:`align_label_party` does.
    """
    check_method(settings.method)
    label = channel.roster.label
    await channel.greet()
    (entity,) = dataset.ids
    ids = _pad(channel, settings, entity, dataset.ids[entity])
    await _agree_on_kind(channel, [label], entity, dataset.id_kind(entity))
    others = next(names for _, names in channel.roster.groups() if channel.name in names)
    rounds = Rounds(lambda done, total: None)
    parties = [label, *others]
    return await _compare(
        channel, settings, entity, parties, ids, dataset.n_rows, rounds, may_be_empty
    )


async def coordinate_alignment(channel: Channel, settings: AlignmentSettings) -> Mapping[str, int]:
    """Intersect the lists of every group; return how many entities it shares, by its name."""
    shared = {}
    groups = channel.roster.groups()
    for entity, others in groups:
        parties = [channel.roster.label, *others]
        lists = [
            await _receive_digests(channel, sender, owner, entity)
            for sender, owner in zip(submitters(settings.method, parties), parties, strict=True)
        ]
        positions = intersect(lists)
        order = draw_order(len(positions[0]))
        for party, found in zip(parties, positions, strict=True):
            for part in cut(len(order), PART):
                answer = SharedPositions(found[order[part]], len(order) - part.stop)
                await send_part(channel, party, answer)
        alone = [name for name, _ in groups].count(entity) == 1
        shared[f"{entity}s" if alone else f"{entity}s with {', '.join(others)}"] = len(order)
    return shared


def intersect(lists: Sequence[Digests]) -> list[NDArray[np.int64]]:
    """Return, for each list of distinct digests, the positions of those that all lists hold, in one common order."""
    digests = np.concatenate(lists)
    starts = np.cumsum([0, *map(len, lists)])
    # Stable, so that equal digests stand in the order of their lists: those that all hold are runs of as many.
    order = np.lexsort(digests.T)
    ordered = digests[order]
    run = len(lists) - 1
    first = np.flatnonzero((ordered[: len(ordered) - run] == ordered[run:]).all(axis=1))
    return [order[first + number] - starts[number] for number in range(len(lists))]


async def _agree_on_kind(
    channel: Channel, parties: Sequence[str], entity: str, own: IdKind
) -> None:
    """Refuse what would be found to differ in silence: 7 here, '007' there."""
    for party in parties:
        await channel.send(party, IdKindAnnouncement(entity, own))
    for party in parties:
        theirs = await channel.receive(party, IdKindAnnouncement)
        if theirs.entity != entity:
            raise RemoteProtocolError(
                f"{party} aligns '{theirs.entity}' with {channel.name}, which aligns '{entity}'; "
                "use one roster everywhere"
            )
        if theirs.kind != own:
            of_numbers, of_text = (
                (channel.name, party) if own is IdKind.INTEGER else (party, channel.name)
            )
            raise AlignmentError(
                f"'{entity}' ids are whole numbers at {of_numbers} and text at {of_text}, so that one id may be "
                f"written in two ways ('007' is not 7). Set id_kind = \"integer\" at {of_text} if its ids are numbers "
                f'too, or id_kind = "text" at {of_numbers} if the same ids are spelled the same'
            )


def _pad(channel: Channel, settings: AlignmentSettings, entity: str, ids: Ids) -> Ids:
    """Add random ids, which nobody has, up to the declared number."""
    if settings.pad_to is None:
        return ids
    if len(ids) > settings.pad_to:
        raise AlignmentError(
            f"{channel.name} has {len(ids)} different '{entity}' ids, more than alignment.pad_to = {settings.pad_to}; "
            "raise pad_to for all parties, or leave it out"
        )
    padding = [secrets.token_hex(16) for _ in range(settings.pad_to - len(ids))]
    return np.concatenate([ids, np.array(padding, dtype=object)])


async def _compare(
    channel: Channel,
    settings: AlignmentSettings,
    entity: str,
    parties: Sequence[str],
    ids: Ids,
    n_own: int,
    rounds: Rounds,
    may_be_empty: bool,
) -> IntArray:
    """Bring ``ids``, the first ``n_own`` of them no padding; return the rows that everyone has, in the agreed order."""
    order = draw_order(len(ids))
    await submit(channel, settings.method, entity, parties, ids[order], rounds)
    coordinator = channel.roster.coordinator
    parts = [part.positions async for part in receive_parts(channel, coordinator, SharedPositions)]
    shared = np.concatenate(parts)
    if len(shared) and (shared.min() < 0 or shared.max() >= len(ids)):
        raise RemoteProtocolError(
            f"{coordinator} named positions beyond the {len(ids)} that were sent"
        )
    rows = order[shared]
    if len(np.unique(rows)) != len(rows):
        raise RemoteProtocolError(f"{coordinator} named a position twice")
    if len(rows) and rows.max() >= n_own:
        raise RemoteProtocolError(f"{coordinator} named a position that only pads the list")
    if not (len(rows) or may_be_empty):
        raise AlignmentError(
            f"{channel.name} shares no '{entity}' with all other parties; expected at least one. "
            "Check that every party names the right id column and writes ids the same way"
        )
    return rows


async def _receive_digests(channel: Channel, sender: str, owner: str, entity: str) -> Digests:
    parts = [part.digests async for part in receive_parts(channel, sender, BlindedIds)]
    digests = as_digests(b"".join(parts))
    ordered = digests[np.lexsort(digests.T)]
    if (ordered[1:] == ordered[:-1]).all(axis=1).any():
        raise RemoteProtocolError(
            f"{owner} was expected to bring each of its blinded '{entity}' once, but did not"
        )
    return digests


def _distinct(ids: Ids) -> tuple[IntArray, Ids]:
    """Return each row's index into the distinct ids, and those ids."""
    of_row, distinct = pd.factorize(ids)
    return of_row.astype(np.int64), np.asarray(distinct, dtype=object)
