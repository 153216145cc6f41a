"""Joint prediction: the label party learns the logits of the rows it asks for.

    step 1  label -> feature parties        ScoreRequest      which of their aligned rows
    step 2  feature parties -> label        PartialLogits     partial logit and latent sums of each

Under ``disclosure = "shared"`` step 2 is a forward pass on shares (protocol/sharing/evaluator.py), at the end of which
the coordinator sends its share of the logits: the label party learns these, and no feature party's part of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from parties.catalogue import ITEM, USER, Catalogue
from parties.features import FixedPointMatrix
from parties.model import LocalModel, joint_logits
from parties.order import PrivateOrder
from protocol import ledger
from protocol.batches import Batch, check_positions
from protocol.contributions import Bounds, Contribution, collect, offer
from protocol.errors import GuardError, RemoteProtocolError
from protocol.messages.scoring import LogitShare, ScoreRequest, ScoreSchedule
from protocol.numbers import FloatArray, IntArray, Words
from protocol.settings import ProtocolSettings
from protocol.sharing import shares
from protocol.sharing.agreement import receive_positions, send_positions
from protocol.sharing.dealing import deal_logits, deals
from protocol.sharing.evaluator import Evaluator, check_shape
from protocol.transport.channel import Channel


async def request_logits(
    channel: Channel,
    settings: ProtocolSettings,
    model: LocalModel,
    matrix: FixedPointMatrix,
    rows: Batch,
) -> FloatArray:
    """Label party: return the joint logit of each sample in ``rows``; ``matrix`` is its whole table."""
    own = Bounds.of(settings, channel.roster.n_data_parties).contribution(
        model, matrix.take(rows.samples)
    )
    logits = np.array([len(rows)])
    ledger.count("logits learned", len(rows))
    await _request(channel, rows, logits)
    if settings.training.disclosure != "shared":
        joint = await collect(channel, rows, own)
        return joint_logits(joint.logits, joint.latent_sums)
    await channel.send(channel.roster.coordinator, ScoreSchedule(logits))
    await send_positions(channel, [rows])
    evaluator = Evaluator.of(channel, settings)
    sums = own.to_words() + await evaluator.gather(rows)
    return await _open_logits(channel, await evaluator.doubled_logits(sums))


class PairScores(Protocol):
    """The joint logit of any user with any item."""

    def __call__(self, users: IntArray) -> FloatArray:
        """Return the logits (n, n_items) of some users with all items."""


@dataclass(frozen=True, eq=False)
class SumScores:
    """Pair scores from sums over parties on either side, which whoever holds them sees.

    Logits are (n_users,) and (n_items,), latent sums (n_users, k) and (n_items, k).
    """

    users: Contribution
    items: Contribution

    def __call__(self, users: IntArray) -> FloatArray:
        """Return the logits (n, n_items) of some users with all items."""
        ends, items = (joint_logits(s.logits, s.latent_sums) for s in (self.users, self.items))
        pairs = self.users.latent_sums[users] @ self.items.latent_sums.T
        logits: FloatArray = ends[users, None] + items[None, :] + pairs
        return logits


@dataclass(frozen=True, eq=False)
class OpenedScores:
    """Pair scores that were computed on shares: ``logits`` (n_users, n_items) and nothing else."""

    logits: FloatArray

    def __call__(self, users: IntArray) -> FloatArray:
        """Return the logits (n, n_items) of some users with all items."""
        return self.logits[users]


async def request_pairs(
    channel: Channel,
    settings: ProtocolSettings,
    model: LocalModel,
    matrix: FixedPointMatrix,
    positions: Mapping[str, IntArray],
    catalogue: Catalogue,
    users: IntArray,
    item_columns: NDArray[np.bool_],
) -> PairScores:
    """Label party: ask once about some users and every item, and so learn the logit of each pair.

    ``item_columns`` (n_columns,) tells which of its own columns describe the item; the others are taken as they were
    when the user occurred first. ``positions[party]`` is each own row's aligned row there. Both are asked for in a
    fresh order: else the coordinator, who sees where a party knows none, would see when such a user occurred first.
    """
    bounds = Bounds.of(settings, channel.roster.n_data_parties)
    shared = settings.training.disclosure == "shared"
    numbers = np.array([len(users), len(catalogue.items)])
    ledger.count("logits learned", int(np.prod(numbers)))
    if shared:
        await channel.send(channel.roster.coordinator, ScoreSchedule(numbers))
    sides: list[tuple[Batch, Contribution]] = []
    places = list[IntArray]()
    for entity, rows, columns in (
        (USER, catalogue.user_rows[users], ~item_columns),
        (ITEM, catalogue.item_rows, item_columns),
    ):
        order = PrivateOrder.fresh().permutation(len(rows), entity)
        places.append(np.argsort(order))
        asked = Batch.of(rows[order], {p: positions[p] for p in channel.roster.holding(entity)})
        half = model.restricted(columns, bias=entity == USER)
        sides.append((asked, bounds.contribution(half, matrix.take(asked.samples))))
        await _request(channel, asked, numbers)
        if shared:
            await send_positions(channel, [asked])
    if not shared:
        summed = [await collect(channel, asked, own) for asked, own in sides]
        return SumScores(*[one.take(place) for one, place in zip(summed, places, strict=True)])
    evaluator = Evaluator.of(channel, settings)
    sums = [own.to_words() + await evaluator.gather(asked) for asked, own in sides]
    logits = await _open_logits(channel, await evaluator.doubled_pair_logits(*sums))
    return OpenedScores(logits[np.ix_(*places)])


async def _request(channel: Channel, rows: Batch, logits: IntArray) -> None:
    for party, entities in rows.entities.items():
        await channel.send(party, ScoreRequest(entities, logits))


async def _open_logits(channel: Channel, share: Words) -> FloatArray:
    """Label party: add the coordinator's share of twice the logits."""
    coordinator = channel.roster.coordinator
    theirs = (await channel.receive(coordinator, LogitShare)).values
    check_shape(theirs, share.shape, coordinator, "logits")
    return shares.to_reals(share + theirs, shares.LOGIT_BITS + 1)


@dataclass
class LogitCount:
    """How many joint logits the label party has asked this ``party`` for, and how many it may: ``scoring.limit``."""

    party: str
    limit: int | None
    asked: int = 0

    @classmethod
    def of(cls, channel: Channel, settings: ProtocolSettings) -> Self:
        """Begin to count."""
        return cls(channel.name, settings.scoring.limit)

    def add(self, logits: IntArray, entities: int = 0) -> None:
        """Count the logits (n) of samples or (n_users, n_items) of pairs, one at least for each of the entities named.

        Raises GuardError beyond the limit.
        """
        number = max(math.prod(logits.tolist()), entities)
        ledger.count("logits scored", number)
        self.asked += number
        if self.limit is not None and self.asked > self.limit:
            raise GuardError(
                f"{self.party} was asked for {self.asked} joint logits, but scoring.limit = {self.limit}: over many "
                "of them the label party can solve for what others contribute. Score fewer rows, or agree on more"
            )


async def coordinate_logits(
    channel: Channel, settings: ProtocolSettings, count: LogitCount
) -> None:
    """Coordinator: take part in one scoring on shares, of rows or of pairs; raises GuardError beyond the limit."""
    schedule = await channel.receive(channel.roster.label, ScoreSchedule)
    count.add(schedule.logits)
    numbers = schedule.logits.tolist()
    evaluator = Evaluator.of(channel, settings)
    groups = (
        [channel.roster.features]
        if len(numbers) == 1
        else [channel.roster.holding(entity) for entity in (USER, ITEM)]
    )
    batches = [
        (await receive_positions(channel, parties, [number]))[0]
        for parties, number in zip(groups, numbers, strict=True)
    ]
    sums = [await evaluator.gather(batch) for batch in batches]
    of = evaluator.doubled_logits if len(sums) == 1 else evaluator.doubled_pair_logits
    await channel.send(channel.roster.label, LogitShare(await of(*sums)))


@dataclass
class Scorer:
    """Feature party: answers requests for scores, up to the agreed limit; ``matrix`` holds its aligned rows."""

    channel: Channel
    settings: ProtocolSettings
    model: LocalModel
    matrix: FixedPointMatrix

    def __post_init__(self) -> None:
        self._count = LogitCount.of(self.channel, self.settings)

    async def answer(self) -> None:
        """Answer one request; raises GuardError where it asks for more logits than the limit leaves."""
        channel, factors = self.channel, self.settings.training.n_factors
        request = await channel.receive(channel.roster.label, ScoreRequest)
        check_positions(request.entities, self.matrix.n_rows, sender=channel.roster.label)
        self._check_side(request)
        self._count.add(request.logits, len(request.entities))
        rows = self.matrix.take(request.entities)
        contribution = Bounds.of(self.settings, channel.roster.n_data_parties).contribution(
            self.model, rows
        )
        await offer(channel, self.settings, contribution)
        if deals(channel, self.settings) and factors:
            await deal_logits(channel, request.logits.tolist(), factors)

    def _check_side(self, request: ScoreRequest) -> None:
        """Refuse pairs of more users, or items, than their side of the pairs has."""
        roster = self.channel.roster
        on_items = roster.members[self.channel.name].entity == ITEM
        declared = request.logits.tolist()[-1 if on_items else 0]
        if len(request.entities) > declared:
            raise RemoteProtocolError(
                f"{roster.label} named {len(request.entities)} entities of {self.channel.name} but declared {declared} "
                "on their side of the pairs; expected no more than declared"
            )
