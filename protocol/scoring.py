"""Joint prediction: the label party learns the logits of the rows it asks for (disclosures ``open`` and ``none``).

step 1  label -> feature parties    ScoreRequest     which of their aligned rows
step 2  feature parties -> label    PartialLogits    one value an entity
"""

from __future__ import annotations

import numpy as np

from parties.features import FixedPointMatrix
from parties.model import LocalModel
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
    return await collect_logits(channel, model, matrix, rows)


async def collect_logits(
    channel: Channel, model: LocalModel, matrix: FixedPointMatrix, rows: Batch
) -> FloatArray:
    """Label party: add the partial logits that the feature parties are about to send to its own."""
    logits = partial_logits(model, matrix.take(rows.samples))
    for party in channel.roster.features:
        theirs = await channel.receive(party, PartialLogits)
        if len(theirs.values) != len(rows.entities[party]):
            raise RemoteProtocolError(
                f"{party} sent {len(theirs.values)} partial logits where {len(rows.entities[party])} were expected"
            )
        logits = logits + rows.to_samples(party, theirs.values)
    return logits


async def answer_logits(channel: Channel, model: LocalModel, matrix: FixedPointMatrix) -> None:
    """Feature party: answer one request; ``matrix`` holds its aligned rows."""
    request = await channel.receive(channel.roster.label, ScoreRequest)
    check_positions(request.entities, matrix.n_rows, sender=channel.roster.label)
    ledger.count("rows scored", len(request.entities))
    await send_logits(channel, model, matrix.take(request.entities))


async def send_logits(channel: Channel, model: LocalModel, rows: FixedPointMatrix) -> None:
    """Feature party: send the partial logit of each of ``rows`` to the label party."""
    await channel.send(channel.roster.label, PartialLogits(partial_logits(model, rows)))


def partial_logits(model: LocalModel, matrix: FixedPointMatrix) -> FloatArray:
    """Return one party's ``X w``, with its bias if it has one: (n_rows,)."""
    return matrix.dot(model.weights) + (model.bias or 0.0)


def check_positions(positions: IntArray, n_rows: int, *, sender: str) -> None:
    """Raise RemoteProtocolError unless every position names one of the aligned rows."""
    if len(positions) and not (int(np.min(positions)) >= 0 and int(np.max(positions)) < n_rows):
        raise RemoteProtocolError(f"{sender} named a row beyond the {n_rows} aligned ones")
