"""Joint prediction: the label party learns the logits of the rows it asks for (disclosures ``open`` and ``none``).

step 1  label -> feature parties    ScoreRequest     which of their aligned rows
step 2  feature parties -> label    PartialLogits    partial logit and latent sums of each
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parties.catalogue import ITEM, USER, Catalogue
from parties.features import FixedPointMatrix
from parties.model import LocalModel, joint_logits
from protocol import ledger
from protocol.batches import Batch
from protocol.channel import Channel
from protocol.errors import RemoteProtocolError
from protocol.messages import FloatArray, IntArray, PartialLogits, ScoreRequest


async def request_logits(
    channel: Channel, model: LocalModel, matrix: FixedPointMatrix, rows: Batch
) -> FloatArray:
    """Label party: return the joint logit of each sample in ``rows``; ``matrix`` is its whole table."""
    for party in channel.roster.features:
        await channel.send(party, ScoreRequest(rows.entities[party]))
    logits, _ = await collect_logits(channel, model, matrix, rows)
    return logits


async def collect_logits(
    channel: Channel, model: LocalModel, matrix: FixedPointMatrix, rows: Batch
) -> tuple[FloatArray, FloatArray]:
    """Label party: return the logits and all parties' latent sums of ``rows``, once the others have sent theirs."""
    own = matrix.take(rows.samples)
    logits, latent_sums = await _add_theirs(
        channel, channel.roster.features, rows, model.partial_logits(own), model.latent_sums(own)
    )
    return joint_logits(logits, latent_sums), latent_sums


async def _add_theirs(
    channel: Channel,
    parties: Sequence[str],
    rows: Batch,
    logits: FloatArray,
    latent_sums: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Label party: receive what some parties were asked for and add it, expanded to samples, to its own sums."""
    for party in parties:
        theirs = await channel.receive(party, PartialLogits)
        expected = (len(rows.entities[party]), latent_sums.shape[1])
        if theirs.latent_sums.shape != expected:
            raise RemoteProtocolError(
                f"{party} sent {theirs.latent_sums.shape} latent sums where {expected} were expected"
            )
        logits = logits + rows.to_samples(party, theirs.values)
        latent_sums = latent_sums + rows.to_samples(party, theirs.latent_sums)
    return logits, latent_sums


@dataclass(frozen=True, eq=False)
class PairScores:
    """The joint logit of any user with any item, from sums over parties on either side.

    Logits are (n_users,) and (n_items,), latent sums (n_users, k) and (n_items, k).
    """

    user_logits: FloatArray
    user_sums: FloatArray
    item_logits: FloatArray
    item_sums: FloatArray

    def __call__(self, users: IntArray) -> FloatArray:
        """Return the logits (n, n_items) of some users with all items."""
        ends = self.user_logits + (self.user_sums**2).sum(axis=1) / 2
        items = self.item_logits + (self.item_sums**2).sum(axis=1) / 2
        pairs = self.user_sums[users] @ self.item_sums.T
        logits: FloatArray = ends[users, None] + items[None, :] + pairs
        return logits


async def request_pairs(
    channel: Channel,
    model: LocalModel,
    matrix: FixedPointMatrix,
    positions: Mapping[str, IntArray],
    catalogue: Catalogue,
    users: IntArray,
    item_columns: NDArray[np.bool_],
) -> PairScores:
    """Label party: ask once about some users and every item, and so learn the logit of each pair.

    ``item_columns`` (n_columns,) tells which of its own columns describe the item; the others are taken as they were
    when the user occurred first. ``positions[party]`` is each own row's aligned row there.
    """
    sides: list[FloatArray] = []
    for entity, rows, columns in (
        (USER, catalogue.user_rows[users], ~item_columns),
        (ITEM, catalogue.item_rows, item_columns),
    ):
        parties = [p for p in channel.roster.features if channel.roster.members[p].entity == entity]
        asked = Batch.of(rows, {party: positions[party] for party in parties})
        own, half = matrix.take(rows), model.restricted(columns)
        for party in parties:
            await channel.send(party, ScoreRequest(asked.entities[party]))
        sides += await _add_theirs(
            channel, parties, asked, half.partial_logits(own), half.latent_sums(own)
        )
    sides[0] = sides[0] + (model.bias or 0.0)
    return PairScores(*sides)


async def answer_logits(channel: Channel, model: LocalModel, matrix: FixedPointMatrix) -> None:
    """Feature party: answer one request; ``matrix`` holds its aligned rows."""
    request = await channel.receive(channel.roster.label, ScoreRequest)
    check_positions(request.entities, matrix.n_rows, sender=channel.roster.label)
    ledger.count("rows scored", len(request.entities))
    await send_logits(channel, model, matrix.take(request.entities))


async def send_logits(channel: Channel, model: LocalModel, rows: FixedPointMatrix) -> None:
    """Feature party: send the partial logit and latent sums of each of ``rows`` to the label party."""
    message = PartialLogits(model.partial_logits(rows), model.latent_sums(rows))
    await channel.send(channel.roster.label, message)


def check_positions(positions: IntArray, n_rows: int, *, sender: str) -> None:
    """Raise RemoteProtocolError unless every position names one of the aligned rows."""
    if len(positions) and not (int(np.min(positions)) >= 0 and int(np.max(positions)) < n_rows):
        raise RemoteProtocolError(f"{sender} named a row beyond the {n_rows} aligned ones")
