"""Joint scores of rows that nobody trained on: every party brings its own trained half and its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.dataset import PartyDataset
from parties.order import PrivateOrder
from protocol.batches import Batch
from protocol.numbers import FloatArray
from protocol.scoring import LogitCount, Scorer, coordinate_logits, request_logits
from protocol.transport.channel import Channel
from psi.alignment import align_feature_party, align_label_party, coordinate_alignment
from scenarios.running.folders import SavedHalf
from scenarios.running.runner import Part, play
from scenarios.scenario import Scenario

Datasets = Mapping[str, PartyDataset]
Halves = Mapping[str, SavedHalf]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The joint logit of each of the label party's rows (n_rows,), and which of them each feature party ``knows``.

    A party contributes nothing to a row whose entity it does not know.
    """

    logits: FloatArray
    knows: Mapping[str, NDArray[np.bool_]]


def predict(scenario: Scenario, datasets: Datasets, halves: Halves) -> Prediction:
    """Score all rows of the label party's table, in one conversation; raises any ColonnadeError of its parties."""

    async def ask(channel: Channel) -> Prediction:
        dataset, half = datasets[channel.name], halves[channel.name]
        positions = await align_label_party(channel, scenario.alignment, dataset, may_be_empty=True)
        order = PrivateOrder.fresh().permutation(dataset.n_rows, "rows")
        rows = Batch.of(order, positions)
        matrix = half.encoder.transform(dataset)
        logits = np.empty(dataset.n_rows)
        logits[order] = await request_logits(channel, scenario, half.model, matrix, rows)
        return Prediction(logits, {name: of_row >= 0 for name, of_row in positions.items()})

    prediction: Prediction = converse(scenario, datasets, halves, ask)
    return prediction


def converse(scenario: Scenario, datasets: Datasets, halves: Halves, ask: Part) -> Any:
    """Let the label party ``ask`` its one question of trained halves, and return what it makes of the answers.

    Every feature party is aligned with the label party alone: what a third does not know is no reason to go without.
    """
    alone = [party.model_copy(update={"missing": "neutral"}) for party in scenario.parties]
    scenario = scenario.model_copy(update={"parties": alone})

    async def coordinate(channel: Channel) -> None:
        await coordinate_alignment(channel, scenario.alignment)
        if scenario.training.disclosure == "shared":
            await coordinate_logits(channel, scenario, LogitCount.of(channel, scenario))

    async def answer(channel: Channel) -> None:
        dataset, half = datasets[channel.name], halves[channel.name]
        aligned = await align_feature_party(channel, scenario.alignment, dataset, may_be_empty=True)
        matrix = half.encoder.transform(dataset.take(aligned))
        await Scorer(channel, scenario, half.model, matrix).answer()

    results, _ = play(scenario, coordinate, ask, answer)
    return results[scenario.label_party.name]
