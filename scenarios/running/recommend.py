"""Top-K lists for some users from trained halves: every party brings its own one and its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parties.catalogue import ITEM, USER, Catalogue
from parties.columns import counted
from parties.dataset import PartyDataset, normalise_id
from parties.model import sigmoid
from protocol.errors import DataError
from protocol.numbers import IntArray
from protocol.scoring import request_pairs
from protocol.transport.channel import Channel
from psi.alignment import align_label_party
from scenarios import consent
from scenarios.judging.evaluation import BoolArray, top_k
from scenarios.running import folders
from scenarios.running.prediction import Datasets, Halves, converse
from scenarios.scenario import Scenario


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
    """Return :func:`list_items` of one user, from the folder of a finished run.

    Raises also SettingsError for a bad run folder.
    """
    scenario = folders.read_settings(folder)
    if any(party.function not in consent.READY_MADE for party in scenario.parties):
        # Its settings, which somebody may have sent, say in which folder they have any rights.
        elsewhere = (
            [] if folder.resolve().is_relative_to(scenario.folder.resolve()) else [scenario.folder]
        )
        consent.require(map(consent.Request.file, elsewhere), folder, str(folder))
    datasets = {party.name: scenario.dataset(party) for party in scenario.parties}
    halves = {name: folders.read_half(folder / "parties" / name) for name in datasets}
    (found,) = list_items(scenario, datasets, halves, [user], k, items)
    return found


def list_items(
    scenario: Scenario,
    datasets: Datasets,
    halves: Halves,
    users: Sequence[object],
    k: int,
    items: Sequence[object] = (),
) -> list[Recommendations]:
    """Return, for each of some users, the best ``k`` items not met yet, of the catalogue or of the given ``items``.

    Raises DataError for a user or an item that the label party does not know, or where a user has met all of them.
    """
    label = scenario.label_party.name
    dataset, half = datasets[label], halves[label]
    question = _Question.about(dataset, users, items)
    catalogue = question.catalogue

    async def ask(channel: Channel) -> list[Recommendations]:
        positions = await align_label_party(channel, scenario.alignment, dataset, may_be_empty=True)
        pairs = await request_pairs(
            channel,
            scenario,
            half.model,
            half.encoder.transform(dataset),
            positions,
            catalogue,
            question.users,
            catalogue.describe_items(half.encoder.sources),
        )
        of_users = [
            name for name in channel.roster.features if channel.roster.members[name].entity == USER
        ]
        lists = []
        for number, user in enumerate(question.users):
            logits = pairs(np.array([number]))[0]
            row = catalogue.user_rows[user]
            lists.append(
                Recommendations(
                    [
                        Recommendation(
                            item=str(catalogue.items[item]),
                            title=question.title(dataset, item),
                            probability=float(sigmoid(logits[[item]])[0]),
                        )
                        for item in top_k(logits, question.excluded[number], k, scenario.seed)
                    ],
                    [name for name in of_users if positions[name][row] < 0],
                )
            )
        return lists

    found: list[Recommendations] = converse(scenario, datasets, halves, ask)
    return found


@dataclass(frozen=True, eq=False)
class _Question:
    """Some users' numbers in the catalogue (n_users,), and the items (n_users, n_items) not to be listed for them."""

    catalogue: Catalogue
    users: IntArray
    excluded: BoolArray

    @classmethod
    def about(
        cls, dataset: PartyDataset, users: Sequence[object], items: Sequence[object]
    ) -> _Question:
        """Look users and items up, before anybody is asked anything."""
        catalogue = Catalogue.of(dataset)
        numbers = np.array(_numbers(dataset, USER, catalogue.users, users), dtype=np.int64)
        met = catalogue.interactions(np.arange(dataset.n_rows))
        excluded = met[numbers].toarray() > 0
        if len(items):
            wanted = np.zeros(len(catalogue.items), dtype=bool)
            wanted[_numbers(dataset, ITEM, catalogue.items, items)] = True
            excluded |= ~wanted
        return cls(catalogue, numbers, excluded)

    def title(self, dataset: PartyDataset, item: int) -> str:
        """Return what to call an item, nothing if there are no titles."""
        titles = dataset.titles
        return "" if titles is None else str(titles.iloc[self.catalogue.item_rows[item]])


def _numbers(
    dataset: PartyDataset, entity: str, known: np.ndarray[Any, Any], ids: Sequence[object]
) -> list[int]:
    number_of = {identifier: number for number, identifier in enumerate(known)}
    kind = dataset.id_kinds.get(entity)
    try:
        found = [number_of.get(normalise_id(identifier, kind)) for identifier in ids]
    except TypeError as error:
        raise DataError(f"{dataset.party}: {entity}s asked for: {error}") from None
    if None in found:
        raise DataError(
            f"{dataset.party}: its table lacks {found.count(None)} of {counted(len(ids), entity)} asked for; "
            "check how they are written"
        )
    return [number for number in found if number is not None]
