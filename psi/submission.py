"""How one party's ids come to the coordinator blinded: the methods ``keyed-hash`` and ``ecdh``.

A group's parties, the label party first, each bring a list of distinct ids in an order of their own.

``keyed-hash``

    step 1  label -> feature parties   BlindingKey        a fresh key, sealed
    step 2  everyone -> coordinator    BlindedIds         HMAC of each id

``ecdh`` (Meadows 1986; Huberman, Franklin and Hogg 1999): the lists go round all parties, each one hop at a time

    step 1  everyone -> the next       PartlyBlindedIds   the own list, raised to the own secret, sealed
    step 2  everyone -> the next       PartlyBlindedIds   the list that came, raised to the own secret, sealed; until
                                                          each list has met all parties but one
    step 3  everyone -> coordinator    BlindedIds         the list that came, raised to the own secret

Nobody else reorders a list, so that the coordinator's answer in positions means something to its owner. The last
to raise a list is the party before its owner: an owner never meets its own list again, nor two lists under the
same secrets, and so cannot compare any.

Lists travel in parts of bounded size, each sent before the next is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from protocol.errors import RemoteProtocolError
from protocol.ledger import Progress
from protocol.messages.alignment import BlindedIds, BlindingKey, PartlyBlindedIds, SharedPositions
from protocol.settings import AlignmentMethod
from protocol.transport.channel import Channel
from psi.blinding import Secret, draw_key, keyed_hashes, load_group, truncate

# Entries of a list in one message: a megabyte or two, or a second of powers on one core.
PART = 100_000
POWERS_PART = 10_000

Ids = NDArray[np.object_]
P = TypeVar("P", BlindedIds, PartlyBlindedIds, SharedPositions)


@dataclass
class Rounds:
    """Counts the parts that one party works on, for whoever watches."""

    progress: Progress
    total: int = 0
    done: int = 0

    def expect(self, parts: int) -> None:
        """Correct how many there will be by ``parts`` more or, below zero, fewer."""
        self.total += parts

    def advance(self) -> None:
        """Note that one is done."""
        self.done += 1
        self.progress(self.done, self.total)


def check_method(method: AlignmentMethod) -> None:
    """Refuse, before anything is sent, a method that this installation lacks; raises SettingsError."""
    if method == "ecdh":
        load_group()


def expected_rounds(method: AlignmentMethod, n_parties: int, n_ids: int) -> int:
    """Return how many parts a party works on if all lists are as long as its own."""
    return (
        len(cut(n_ids, PART))
        if method == "keyed-hash"
        else n_parties * len(cut(n_ids, POWERS_PART))
    )


async def submit(
    channel: Channel,
    method: AlignmentMethod,
    entity: str,
    parties: Sequence[str],
    ids: Ids,
    rounds: Rounds,
) -> None:
    """Bring this party's distinct ``ids`` (n_ids,) to the coordinator, blinded, and help the others bring theirs."""
    if method == "keyed-hash":
        await _submit_keyed_hashes(channel, entity, parties, ids, rounds)
    else:
        await _submit_powers(channel, entity, parties, ids, rounds)


def submitters(method: AlignmentMethod, parties: Sequence[str]) -> list[str]:
    """Return from whom the coordinator has each party's list."""
    return [*parties] if method == "keyed-hash" else [parties[-1], *parties[:-1]]


async def _submit_keyed_hashes(
    channel: Channel, entity: str, parties: Sequence[str], ids: Ids, rounds: Rounds
) -> None:
    label, *others = parties
    if channel.name == label:
        key = draw_key()
        for party in others:
            await channel.send(party, BlindingKey(entity, key))
    else:
        key = (await channel.receive(label, BlindingKey)).key
    for part in cut(len(ids), PART):
        digests = keyed_hashes(key, entity, ids[part].tolist())
        await send_part(
            channel, channel.roster.coordinator, BlindedIds(digests, len(ids) - part.stop)
        )
        rounds.advance()


async def _submit_powers(
    channel: Channel, entity: str, parties: Sequence[str], ids: Ids, rounds: Rounds
) -> None:
    here = parties.index(channel.name)
    before, after = parties[here - 1], parties[(here + 1) % len(parties)]
    secret = Secret()
    own_parts = cut(len(ids), POWERS_PART)
    for part in own_parts:
        elements = secret.raise_ids(entity, ids[part].tolist())
        await send_part(channel, after, PartlyBlindedIds(elements, len(ids) - part.stop))
        rounds.advance()
    for hop in range(1, len(parties)):
        last = hop == len(parties) - 1
        known = False
        async for passing in receive_parts(channel, before, PartlyBlindedIds):
            if not known:
                known = True
                n_parts = -(-(len(passing) + passing.remaining) // max(1, len(passing)))
                rounds.expect(n_parts - len(own_parts))
            try:
                elements = secret.raise_elements(passing.elements)
            except ValueError as error:
                raise RemoteProtocolError(
                    f"{before} was expected to pass blinded ids on, but sent {error}"
                ) from None
            if last:
                blinded = BlindedIds(truncate(elements), passing.remaining)
                await send_part(channel, channel.roster.coordinator, blinded)
            else:
                await send_part(channel, after, PartlyBlindedIds(elements, passing.remaining))
            rounds.advance()


def cut(number: int, size: int) -> list[slice]:
    """Cut a list into parts of at most ``size`` entries: one of none for an empty list."""
    starts = range(0, max(1, number), size)
    return [slice(start, min(start + size, number)) for start in starts]


async def send_part(channel: Channel, receiver: str, part: P) -> None:
    """Send one part of a list."""
    await channel.send(receiver, part)
    # Computing holds the event loop: let this part leave, and others work on theirs, before the next one.
    await asyncio.sleep(0)


async def receive_parts(channel: Channel, sender: str, kind: type[P]) -> AsyncIterator[P]:
    """Receive a list part by part; raises RemoteProtocolError if the parts do not add up."""
    remaining: int | None = None
    while remaining != 0:
        part = await channel.receive(sender, kind)
        if remaining is not None and part.remaining != remaining - len(part):
            raise RemoteProtocolError(
                f"{sender} was expected to send {remaining} more entries of a list, "
                f"but sent {len(part)} and announced {part.remaining}"
            )
        remaining = part.remaining
        yield part
