"""Joint prediction: the label party learns the logits of the rows it asks for (disclosures ``open`` and ``none``).

step 1  label -> feature parties    ScoreRequest     which of their aligned rows
step 2  feature parties -> label    PartialLogits    partial logit and latent sums of each
"""

from __future__ import annotations

import numpy as np

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
    logits, latent_sums = model.partial_logits(own), model.latent_sums(own)
    for party in channel.roster.features:
        theirs = await channel.receive(party, PartialLogits)
        expected = (len(rows.entities[party]), latent_sums.shape[1])
        if theirs.latent_sums.shape != expected:
            raise RemoteProtocolError(
                f"{party} sent {theirs.latent_sums.shape} latent sums where {expected} were expected"
            )
        logits = logits + rows.to_samples(party, theirs.values)
        latent_sums = latent_sums + rows.to_samples(party, theirs.latent_sums)
    return joint_logits(logits, latent_sums), latent_sums


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
