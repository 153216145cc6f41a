"""Recorded runs: what every party could see, and beside it what nobody should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pytest

from parties.order import PrivateOrder
from protocol import contributions
from protocol.contributions import Contribution
from protocol.encryption.keys import PrivateKey
from protocol.messages.forward import (
    ContributionSeed,
    ContributionShare,
    DealtSeed,
    DealtShare,
    Opening,
)
from protocol.messages.message import Message
from protocol.messages.rounds import OpenedGradients
from protocol.numbers import Ciphertexts, FloatArray, IntArray, Residues, Words
from protocol.settings import Engine
from protocol.sharing.evaluator import Evaluator
from protocol.sharing.shares import Stream
from protocol.transport.channel import Channel
from protocol.transport.in_process import InProcessTransport
from protocol.transport.roster import Roster
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario, load

M = TypeVar("M", bound=Message)

SHOP, BANK, TELCO, DIRECTORY = "shop", "bank", "telco", "directory"
FEATURE_PARTIES = (BANK, TELCO, DIRECTORY)
DATA_PARTIES = (SHOP, *FEATURE_PARTIES)
LOGISTIC, FACTORIZATION = "logistic", "factorization-machine"
_USERS, _ITEMS, _INTERACTIONS = 115, 115, 1200
_SHIFT = 2.5
_SEED_WORDS = 64


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """A run with its views, and what the audit compares them with.

    ``opened`` holds what label party and coordinator opened to each other, ``contributed`` what each feature party
    split into shares, in the order of its messages.
    """

    run: Run
    key: PrivateKey
    roster: Roster
    opened: list[Words]
    contributed: list[tuple[str, Words]]

    def received(self, party: str, kind: type[M]) -> list[M]:
        """Return the messages of one kind that a party received."""
        return [message for _, message in self.run.views[party] if isinstance(message, kind)]

    def seeds(self) -> list[bytes]:
        """Return every seed that anybody received."""
        return [
            message.seed
            for party in self.run.views
            for _, message in self.run.views[party]
            if isinstance(message, ContributionSeed | DealtSeed | DealtShare)
        ]

    def ciphertexts(self, *parties: str) -> Iterator[int]:
        """Return every ciphertext that some parties received, by default all of them."""
        for party in parties or self.run.views:
            for _, message in self.run.views[party]:
                for value in vars(message).values():
                    if isinstance(value, Ciphertexts):
                        # Ciphertexts travel as Residues do.
                        yield from Residues(value.width, value.data).integers()

    def decrypted_words(self) -> dict[str, Words]:
        """Return the integers modulo n that the coordinator decrypted, as words."""
        integers = [
            integer
            for party in DATA_PARTIES
            for message in self.received(party, OpenedGradients)
            for integer in message.values.integers()
        ]
        n = int(self.key.public_key.n)
        return {
            "decrypted, as parts of n": _words((integer << 64) // n for integer in integers),
            "decrypted, last bits": _words(integer % (1 << 64) for integer in integers),
        }

    def coordinator_words(self) -> dict[str, Words]:
        """Return the numbers that the coordinator received, decrypted or opened, as words, by what they are."""
        coordinator = self.roster.coordinator
        contributed = self.received(coordinator, ContributionShare)
        return {
            **self.decrypted_words(),
            "contributions": _joined(message.values for message in contributed),
            "dealt": _joined(m.dependent for m in self.received(coordinator, DealtShare)),
            "other side's openings": _joined(m.values for m in self.received(coordinator, Opening)),
            "opened": _joined(self.opened),
        }

    def label_party_words(self) -> dict[str, Words]:
        """Return the numbers that the label party expanded, received or opened, as words, by what they are."""
        seeds = [
            message.seed
            for _, message in self.run.views[SHOP]
            if isinstance(message, ContributionSeed | DealtSeed)
        ]
        expanded = [Stream(seed, self.roster.run).words(_SEED_WORDS) for seed in seeds]
        return {
            "expanded seeds": _joined(expanded),
            "other side's openings": _joined(m.values for m in self.received(SHOP, Opening)),
            "opened": _joined(self.opened),
        }


def record(scenario: Scenario, *, shifted: bool = False) -> Recording:
    """Run a scenario; ``shifted`` moves what bank and telco contribute by as much in opposite directions."""
    rosters, keys = list[Roster](), list[PrivateKey]()
    opened, contributed = list[Words](), list[tuple[str, Words]]()
    connect, generate = runner.connect, PrivateKey.generate
    contribute, open_shares = contributions.contribute, Evaluator.open

    def connect_and_keep(scenario: Scenario, transport: InProcessTransport) -> dict[str, Channel]:
        channels = connect(scenario, transport)
        rosters.append(channels[SHOP].roster)
        return channels

    def generate_and_keep(bits: int, *, insecure_key: bool, engine: Engine) -> PrivateKey:
        keys.append(generate(bits, insecure_key=insecure_key, engine=engine))
        return keys[-1]

    async def contribute_and_keep(channel: Channel, contribution: Contribution) -> None:
        if shifted:
            by = {BANK: _SHIFT, TELCO: -_SHIFT}.get(channel.name, 0.0)
            logits, sums = contribution.logits, contribution.latent_sums
            contribution = Contribution(logits + by, sums + by)
        contributed.append((channel.name, contribution.to_words()))
        await contribute(channel, contribution)

    async def open_and_keep(self: Evaluator, share: Words) -> Words:
        words = await open_shares(self, share)
        if self.leads:
            opened.append(words)
        return words

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "connect", connect_and_keep)
        patch.setattr(PrivateKey, "generate", generate_and_keep)
        patch.setattr(contributions, "contribute", contribute_and_keep)
        patch.setattr(Evaluator, "open", open_and_keep)
        # Whose rows stand in which batch depends on all data, by a key: here on none, so that sizes can be compared.
        patch.setattr(PrivateOrder, "of", lambda *_: PrivateOrder(bytes(32)))
        run = runner.run(scenario, record_views=True)
    return Recording(run, keys[0], rosters[0], opened, contributed)


def _words(integers: Iterator[int]) -> Words:
    return np.array(list(integers), dtype=np.uint64)


def _joined(arrays: Iterator[Words] | list[Words]) -> Words:
    return np.concatenate([array.ravel() for array in arrays])


def load_parties(folder: Path, model: str, *changes: str, data_seed: int = 1) -> Scenario:
    """Write four parties' tables and load them as a scenario.

    Users, items, who met what, and all sizes stay the same whatever ``data_seed``, which decides features and labels.
    """
    pairs = np.random.default_rng(0)
    users = pairs.permutation(np.arange(_INTERACTIONS) % _USERS)
    items = pairs.permutation(np.arange(_INTERACTIONS) % _ITEMS)
    draw = np.random.default_rng(data_seed)
    # Another seed is another distribution altogether: of scale, of shape, and of labels.
    of_users, of_items = (draw.gamma(data_seed, data_seed, (n, 4)) for n in (_USERS, _ITEMS))
    own = draw.normal(size=(_INTERACTIONS, 2)) * data_seed
    trait = of_users[users, 0] - of_items[items, 0] + own[:, 0]
    label = trait > np.quantile(trait, 0.3 * data_seed)
    _write(folder / "shop.csv", {"user": users, "item": items, "bought": label.astype(int)}, own)
    _write(folder / "bank.csv", {"user": np.arange(_USERS)}, of_users[:, :2])
    _write(folder / "telco.csv", {"user": np.arange(_USERS)}, of_users[:, 2:])
    _write(folder / "directory.csv", {"item": np.arange(_ITEMS)}, of_items)
    (folder / "audit.toml").write_text(
        f"""
        seed = 5
        [training]
        model = "{model}"
        factors = 2
        epochs = 40
        patience = 40
        batch_size = 360
        [encryption]
        key_bits = 512
        insecure_key = true
        [[parties]]
        name = "shop"
        role = "label"
        csv = "shop.csv"
        ids = {{ user = "user", item = "item" }}
        label = "bought"
        """
        + "".join(map(_feature_party, FEATURE_PARTIES, ("user", "user", "item"))),
        encoding="utf-8",
    )
    return load(str(folder / "audit.toml"), changes)


def _feature_party(name: str, entity: str) -> str:
    who = f'name = "{name}"\nrole = "feature"\ncsv = "{name}.csv"\n'
    return f'[[parties]]\n{who}id = "{entity}"\nentity = "{entity}"\n'


def _write(path: Path, named: dict[str, IntArray], values: FloatArray) -> None:
    table = pd.DataFrame(values, columns=[f"{path.stem}{n}" for n in range(values.shape[1])])
    table.assign(**named).to_csv(path, index=False)
