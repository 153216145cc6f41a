"""Start the parties of a scenario in one process and gather what each of them ends with."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from joblib import parallel_config
from joblib.parallel import get_active_backend

from parties.catalogue import Catalogue
from parties.dataset import PartyDataset
from protocol.contributions import Bounds
from protocol.encryption.keys import PrivateKey, check_key_bits
from protocol.ledger import Ledger, Progress, peak_memory
from protocol.messages.message import Message, Role
from protocol.numbers import FloatArray, IntArray
from protocol.scoring import (
    LogitCount,
    PairScores,
    Scorer,
    coordinate_logits,
    request_logits,
    request_pairs,
)
from protocol.settings import ProtocolSettings
from protocol.sharing.shares import Series
from protocol.training.guards import Guard
from protocol.training.roles import coordinate_training, train_feature_party, train_label_party
from protocol.training.samples import draw_samples
from protocol.training.trained import TrainedHalf, TrainedLabelParty
from protocol.transport.channel import Channel
from protocol.transport.in_process import InProcessTransport
from protocol.transport.roster import Member, Roster
from psi.alignment import align_feature_party, align_label_party, coordinate_alignment
from scenarios.scenario import COORDINATOR, Scenario

Part = Callable[[Channel], Coroutine[Any, Any, Any]]
Result = TypeVar("Result")

_MANY_CLIPPED = 0.01


@dataclass(frozen=True, eq=False)
class LabelPartyResult:
    """What the label party ends with.

    ``test_logits`` belong to the rows of ``trained.split.test``; ``pairs`` score every user of ``catalogue`` with every
    item, where lists were asked for.
    """

    trained: TrainedLabelParty
    test_logits: FloatArray
    catalogue: Catalogue | None
    pairs: PairScores | None


@dataclass(frozen=True, eq=False, repr=False)  # it holds every table: nothing to print
class Run:
    """A finished run as the person who simulated all parties sees it. ``seconds`` is wall-clock time.

    ``peak_memory`` is the whole process' in bytes, since it started; where each party had a process of its own
    (``apart``) that of all of these together. ``views`` holds what each party received and could open, sender first,
    if that was asked for.
    """

    scenario: Scenario
    datasets: Mapping[str, PartyDataset]
    label_party: LabelPartyResult
    feature_parties: Mapping[str, TrainedHalf]
    shared: Mapping[str, int]
    ledgers: Mapping[str, Ledger]
    views: Mapping[str, list[tuple[str, Message]]]
    seconds: float
    peak_memory: int
    apart: bool = False

    @property
    def halves(self) -> dict[str, TrainedHalf]:
        """Every data party's half, the label party's first."""
        return {self.scenario.label_party.name: self.label_party.trained, **self.feature_parties}

    @property
    def encryption(self) -> str:
        """What protected the conversation, in words."""
        if self.scenario.training.disclosure == "none":
            return "nothing encrypted"
        return f"Paillier keys of {self.scenario.encryption.key_bits} bits"

    @property
    def warnings(self) -> list[str]:
        """What the guards would have refused."""
        said = [line for half in self.halves.values() for line in half.guard.warnings]
        for name, (clipped, contributed) in self.clipped.items():
            if clipped > _MANY_CLIPPED * contributed:
                said.append(
                    f"{name} clipped {clipped / contributed:.1%} of what it contributed; use a larger logit_bound or "
                    "latent_bound, or more l2"
                )
        trained = self.label_party.trained
        if self.scenario.training.second_order and not trained.converged:
            said.append(
                f"training ended after {len(trained.history)} epochs before it converged: the loss could still fall; "
                "use more epochs, or a larger l2"
            )
        if self.scenario.training.disclosure == "none":
            said.append(
                'disclosure = "none": nothing was encrypted and feature parties saw every residual, '
                "hence every label; for cost studies only"
            )
        return said

    @property
    def clipped(self) -> dict[str, tuple[int, int]]:
        """How many contributions of each data party were clipped to the declared bounds, and how many it made."""
        return {
            name: (ledger.total("rows clipped"), ledger.total("rows contributed"))
            for name, ledger in self.ledgers.items()
            if ledger.total("rows contributed")
        }

    @property
    def seconds_per_epoch(self) -> float:
        """Mean wall-clock seconds of an epoch, validation included."""
        history = self.label_party.trained.history
        return sum(epoch.seconds for epoch in history) / len(history)


def load_datasets(scenario: Scenario) -> dict[str, PartyDataset]:
    """Read every party's table and refuse what cannot go well, before anything is sent.

    Raises DataError, SettingsError or GuardError.
    """
    check_settings(scenario, len(scenario.parties))
    datasets = {party.name: scenario.dataset(party) for party in scenario.parties}
    for party in scenario.parties:
        check_table(scenario, datasets[party.name])
    return datasets


def check_settings(settings: ProtocolSettings, n_data_parties: int) -> None:
    """Refuse a key that is too small, or bounds that no series fits; raises SettingsError or GuardError."""
    if settings.training.disclosure != "none":
        encryption = settings.encryption
        check_key_bits(encryption.key_bits, insecure_key=encryption.insecure_key)
    if settings.training.disclosure == "shared":
        Series.fit(Bounds.of(settings, n_data_parties).joint)


def check_table(settings: ProtocolSettings, dataset: PartyDataset) -> None:
    """Refuse what one party can see alone that cannot go well; raises DataError or GuardError."""
    leads = dataset.label is not None
    if not leads or settings.training.disclosure == "shared":
        Guard(dataset.party, settings.training).check_table(dataset)
    if leads and (settings.ranking.k or settings.negatives.per_positive):
        Catalogue.check(dataset)


def run(
    scenario: Scenario,
    progress: Progress = lambda done, total: None,
    *,
    aligning: Progress = lambda done, total: None,
    keep_in: Path | None = None,
    record_views: bool = False,
) -> Run:
    """Run a scenario from alignment to test scores; raises any ColonnadeError of its parties.

    ``aligning`` follows the label party's part of the alignment, ``progress`` the rounds of training.
    Each data party keeps checkpoints in a folder of its own in ``keep_in``, and takes up a training that broke.
    ``record_views`` keeps every message that each party could read, for an audit.
    """
    started = time.perf_counter()
    datasets = load_datasets(scenario)
    label = scenario.label_party.name
    folders = {name: keep_in and keep_in / name for name in datasets}

    def leader(channel: Channel) -> Coroutine[Any, Any, LabelPartyResult]:
        return label_party(channel, scenario, datasets[label], progress, aligning, folders[label])

    def follower(channel: Channel) -> Coroutine[Any, Any, TrainedHalf]:
        name = channel.name
        return feature_party(channel, scenario, datasets[name], folders[name])

    results, channels = play(
        scenario,
        lambda channel: coordinator(channel, scenario),
        leader,
        follower,
        record_views=record_views,
    )
    return Run(
        scenario=scenario,
        datasets=datasets,
        label_party=results[label],
        feature_parties={party.name: results[party.name] for party in scenario.feature_parties},
        shared=results[COORDINATOR],
        ledgers={name: channel.ledger for name, channel in channels.items()},
        views={name: channel.view or [] for name, channel in channels.items()},
        seconds=time.perf_counter() - started,
        peak_memory=peak_memory(),
    )


def play(
    scenario: Scenario,
    coordinator: Part,
    leader: Part,
    follower: Part,
    *,
    record_views: bool = False,
) -> tuple[dict[str, Any], dict[str, Channel]]:
    """Let all parties talk in this process, the label party as ``leader``; return their results and their channels.

    Works on as many cores as the scenario says, through the joblib back end that the caller has chosen.
    """
    transport = InProcessTransport()
    channels = connect(scenario, transport)
    if record_views:
        for channel in channels.values():
            channel.view = []
    parts = {COORDINATOR: coordinator, scenario.label_party.name: leader}
    roles = {name: parts.get(name, follower)(channel) for name, channel in channels.items()}
    ledgers = {name: channel.ledger for name, channel in channels.items()}
    backend, _ = get_active_backend()  # of this thread, which need not be the one that works

    async def everyone() -> dict[str, Any]:
        with parallel_config(backend=backend, n_jobs=scenario.encryption.n_jobs):
            return await transport.run(roles, ledgers)

    return complete(everyone()), channels


def complete(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, also where an event loop is running already, as in a notebook."""
    outer = None
    with suppress(RuntimeError):
        outer = asyncio.get_running_loop()
    if outer is None:
        return asyncio.run(work)
    with closing(asyncio.new_event_loop()) as loop, ThreadPoolExecutor(1) as thread:
        task = loop.create_task(work)
        try:
            return thread.submit(loop.run_until_complete, task).result()
        except KeyboardInterrupt:  # which this thread alone hears
            loop.call_soon_threadsafe(task.cancel)
            raise


def connect(scenario: Scenario, transport: InProcessTransport) -> dict[str, Channel]:
    """Give every party a fresh sealing key, a ledger, and one roster."""
    roles = {COORDINATOR: Role.COORDINATOR} | {p.name: Role(p.role) for p in scenario.parties}
    features = {party.name: party for party in scenario.feature_parties}
    keys = {name: X25519PrivateKey.generate() for name in roles}
    members = {
        name: Member(
            name,
            role,
            keys[name].public_key().public_bytes_raw(),
            features[name].entity if name in features else None,
            name not in features or features[name].missing == "drop",
        )
        for name, role in roles.items()
    }
    roster = Roster(secrets.token_bytes(16), members)
    return {name: Channel(name, roster, transport, Ledger(name), keys[name]) for name in roles}


async def coordinator(channel: Channel, settings: ProtocolSettings) -> Mapping[str, int]:
    """Play the coordinator; return how many entities of each type are shared."""
    private_key = None
    if settings.training.disclosure != "none":
        encryption = settings.encryption
        private_key = PrivateKey.generate(
            encryption.key_bits, insecure_key=encryption.insecure_key, engine=encryption.engine
        )
    with channel.ledger.during("alignment"):
        shared = await coordinate_alignment(channel, settings.alignment)
    with channel.ledger.during("training"):
        await coordinate_training(channel, settings, private_key)
    await coordinate_scoring(channel, settings)
    return shared


async def coordinate_scoring(channel: Channel, settings: ProtocolSettings) -> None:
    """Play the coordinator when training is over: it is needed where logits are computed on shares."""
    with channel.ledger.during("scoring"):
        count = LogitCount.of(channel, settings)
        for _ in range(scorings(settings) if settings.training.disclosure == "shared" else 0):
            await coordinate_logits(channel, settings, count)


async def label_party(
    channel: Channel,
    settings: ProtocolSettings,
    dataset: PartyDataset,
    progress: Progress,
    aligning: Progress = lambda done, total: None,
    keep_in: Path | None = None,
    secret: bytes = b"",
) -> LabelPartyResult:
    """Play the label party: align, train, score the test rows; checkpoints are kept in a folder.

    ``secret`` is its own part of the key under which orders are drawn.
    """
    with channel.ledger.during("alignment"):
        positions = await align_label_party(channel, settings.alignment, dataset, aligning)
    samples = draw_samples(dataset, positions, channel.roster, settings, secret)
    with channel.ledger.during("training"):
        trained = await train_label_party(channel, settings, samples, progress, keep_in)
    return await score_test_rows(channel, settings, dataset, positions, trained)


async def score_test_rows(
    channel: Channel,
    settings: ProtocolSettings,
    dataset: PartyDataset,
    positions: Mapping[str, IntArray],
    trained: TrainedLabelParty,
) -> LabelPartyResult:
    """Play the label party when training is over: ask for the test rows, and for all pairs if lists are judged."""
    model, matrix = trained.model, trained.matrix
    with channel.ledger.during("scoring"):
        logits = await request_logits(channel, settings, model, matrix, trained.split.test)
        if not settings.ranking.k:
            return LabelPartyResult(trained, logits, None, None)
        catalogue = Catalogue.of(dataset)
        item_columns = catalogue.describe_items(trained.encoder.sources)
        everyone = np.arange(len(catalogue.users))
        pairs = await request_pairs(
            channel, settings, model, matrix, positions, catalogue, everyone, item_columns
        )
    return LabelPartyResult(trained, logits, catalogue, pairs)


async def feature_party(
    channel: Channel,
    settings: ProtocolSettings,
    dataset: PartyDataset,
    keep_in: Path | None = None,
    secret: bytes = b"",
) -> TrainedHalf:
    """Play a feature party: align, train, answer the label party's scoring; checkpoints are kept in a folder.

    ``secret`` is its own part of the key under which its first weights are drawn.
    """
    with channel.ledger.during("alignment"):
        aligned = await align_feature_party(channel, settings.alignment, dataset)
    with channel.ledger.during("training"):
        trained = await train_feature_party(channel, settings, dataset, aligned, keep_in, secret)
    await answer_test_rows(channel, settings, trained)
    return trained


async def answer_test_rows(
    channel: Channel, settings: ProtocolSettings, trained: TrainedHalf
) -> None:
    """Play a feature party when training is over."""
    with channel.ledger.during("scoring"):
        scorer = Scorer(channel, settings, trained.model, trained.matrix)
        for _ in range(scorings(settings)):
            await scorer.answer()


def scorings(settings: ProtocolSettings) -> int:
    """Return how often the label party asks for scores after training: for its test rows, and to judge lists."""
    return 2 if settings.ranking.k else 1
