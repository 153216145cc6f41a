"""Top-K lists for one user from a finished run: every party brings its own saved half and its table."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import parallel_config

from parties.catalogue import ITEM, USER, Catalogue
from parties.dataset import PartyDataset, normalise_id
from parties.model import sigmoid
from protocol.channel import Channel
from protocol.errors import DataError
from protocol.in_process import InProcessTransport
from protocol.messages import IntArray
from protocol.scoring import Scorer, coordinate_logits, request_pairs
from psi.alignment import align_feature_party, align_label_party, coordinate_alignment
from scenarios import run_folder
from scenarios.evaluation import top_k
from scenarios.run_folder import SavedHalf
from scenarios.runner import connect
from scenarios.scenario import COORDINATOR, Scenario


@dataclass(frozen=True)
class Recommendation:
    """One item of a list; ``probability`` is the model's chance of a 1."""

    item: str
    title: str
    probability: float


@dataclass(frozen=True)
class Recommendations:
    """A user's list, best first, and the feature parties that do not know the user."""

    items: Sequence[Recommendation]
    unknown_to: Sequence[str]


def recommend(folder: Path, user: str, k: int, items: Sequence[str] = ()) -> Recommendations:
    """Return the best ``k`` items that a user has not met, of the catalogue or of the given ``items``.

    Raises DataError for a user or an item that the label party does not know, SettingsError for a bad run folder.
    """
    scenario = run_folder.read_settings(folder)
    transport = InProcessTransport()
    channels = connect(scenario, transport)
    datasets = {party.name: scenario.dataset(party) for party in scenario.parties}
    halves = {name: run_folder.read_half(folder / "parties" / name) for name in datasets}
    label = scenario.label_party.name
    question = _Question.about(datasets[label], user, items)
    roles: dict[str, Coroutine[Any, Any, Any]] = {
        COORDINATOR: _coordinate(channels[COORDINATOR], scenario),
        label: _ask(channels[label], scenario, datasets[label], halves[label], question, k),
    }
    for party in scenario.feature_parties:
        name = party.name
        roles[name] = _answer(channels[name], scenario, datasets[name], halves[name])
    ledgers = {name: channel.ledger for name, channel in channels.items()}
    with parallel_config(n_jobs=scenario.encryption.n_jobs):
        answer: Recommendations = asyncio.run(transport.run(roles, ledgers))[label]
    return answer


@dataclass(frozen=True, eq=False)
class _Question:
    """A user's number in the catalogue, and the items (n_items,) not to be listed."""

    catalogue: Catalogue
    user: int
    excluded: np.ndarray[tuple[int], np.dtype[np.bool_]]

    @classmethod
    def about(cls, dataset: PartyDataset, user: str, items: Sequence[str]) -> _Question:
        """Look user and items up, before anybody is asked anything."""
        catalogue = Catalogue.of(dataset)
        (number,) = _numbers(dataset, USER, catalogue.users, [user])
        met = catalogue.interactions(np.flatnonzero(catalogue.user_of == number))
        excluded = met[[number]].toarray()[0] > 0
        if items:
            wanted = np.zeros(len(catalogue.items), dtype=bool)
            wanted[_numbers(dataset, ITEM, catalogue.items, items)] = True
            excluded |= ~wanted
        return cls(catalogue, number, excluded)


def _numbers(
    dataset: PartyDataset, entity: str, known: np.ndarray[Any, Any], ids: Sequence[str]
) -> list[int]:
    number_of = {identifier: number for number, identifier in enumerate(known)}
    kind = dataset.id_kinds.get(entity)
    found = [number_of.get(normalise_id(identifier, kind)) for identifier in ids]
    if None in found:
        raise DataError(
            f"{dataset.party}: {found.count(None)} of the {len(ids)} {entity}s asked for are not in its table"
        )
    return [number for number in found if number is not None]


async def _ask(
    channel: Channel,
    scenario: Scenario,
    dataset: PartyDataset,
    half: SavedHalf,
    question: _Question,
    k: int,
) -> Recommendations:
    """Play the label party: align, ask about one user and all items, rank."""
    catalogue = question.catalogue
    positions = await align_label_party(channel, scenario.alignment, dataset)
    users: IntArray = np.array([question.user])
    pairs = await request_pairs(
        channel,
        scenario,
        half.model,
        half.encoder.transform(dataset),
        positions,
        catalogue,
        users,
        catalogue.describe_items(half.encoder.sources),
    )
    logits = pairs(np.array([0]))[0]
    best = top_k(logits, question.excluded, k, scenario.seed)
    of_user = catalogue.user_rows[question.user]
    titles = dataset.titles
    return Recommendations(
        [
            Recommendation(
                item=str(catalogue.items[item]),
                title="" if titles is None else str(titles.iloc[catalogue.item_rows[item]]),
                probability=float(sigmoid(logits[[item]])[0]),
            )
            for item in best
        ],
        [
            name
            for name in channel.roster.features
            if channel.roster.members[name].entity == USER and positions[name][of_user] < 0
        ],
    )


async def _coordinate(channel: Channel, scenario: Scenario) -> None:
    """Play the coordinator, who decrypts nothing here."""
    await coordinate_alignment(channel, scenario.alignment)
    if scenario.training.disclosure == "shared":
        await coordinate_logits(channel, scenario)


async def _answer(
    channel: Channel, scenario: Scenario, dataset: PartyDataset, half: SavedHalf
) -> None:
    """Play a feature party: align, answer once."""
    aligned = await align_feature_party(channel, scenario.alignment, dataset)
    matrix = half.encoder.transform(dataset.take(aligned))
    await Scorer(channel, scenario, half.model, matrix).answer()
