"""What a training may open, and how often it may play a round again: counted by those whom it protects.

    feature parties -> label     OpenedColumns    of how many columns a batch's gradient is opened to the sender
    label -> coordinator         Allowance        how many ciphertexts that makes, for each feature party
    label -> everyone            OpenedColumns    its own, where residuals are hidden from it (``shared``)

Gradients of feature parties tell about labels: the label party holds what they declare against the guards and works
out what the coordinator opens to them. Its own tell about the others' logits: there the feature parties do so, and the
coordinator, who under ``shared`` knows the rows of each batch, for everyone. It opens exactly what was declared, in as
many rounds as were scheduled, and ends the run with the name of whoever asks for more. That a ciphertext holds a
gradient and nothing else nobody can see: a party that deviates has as many numbers of its choice opened as an honest
one has entries (docs/security.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy.special import pdtrc

from protocol import ledger
from protocol.batches import Batch
from protocol.encryption.keys import PublicKey
from protocol.errors import GuardError, RemoteProtocolError
from protocol.messages.planning import Allowance, OpenedColumns
from protocol.messages.rounds import RoundCheck, RoundEnd
from protocol.numbers import IntArray
from protocol.settings import ProtocolSettings
from protocol.sharing.shares import RESIDUAL_BITS
from protocol.training.gradients import GradientForm
from protocol.training.guards import Guard, most_columns
from protocol.transport.channel import Channel

_BY_CHANCE = 1e-9


async def declare(channel: Channel, receiver: str, guard: Guard, *, scaled: bool) -> None:
    """Say of how many columns each batch's gradient is opened to this party."""
    columns = np.array([len(opened) for opened in guard.columns], dtype=np.int64)
    await channel.send(receiver, OpenedColumns(columns, scaled))


async def allow(
    channel: Channel,
    settings: ProtocolSettings,
    batches: Sequence[Batch],
    guard: Guard,
    public_key: PublicKey | None,
) -> Mapping[str, bool]:
    """Label party: hold what feature parties declare against the guards, and tell the coordinator what to open.

    Returns which of them have scaled columns. Raises GuardError where a declaration asks for too much, and
    RemoteProtocolError where it makes no sense.
    """
    roster, scaled = channel.roster, dict[str, bool]()
    for party in roster.features:
        declared = await channel.receive(party, OpenedColumns)
        if len(declared.columns) != len(batches):
            raise RemoteProtocolError(
                f"{party} declared openings for {len(declared.columns)} batches where there are {len(batches)}"
            )
        scaled[party] = declared.scaled
        for batch, n_columns in zip(batches, declared.columns.tolist(), strict=True):
            guard.check(party, len(batch.entities[party]), n_columns)
        if public_key is not None:
            forms = _forms(settings, batches, roster.n_data_parties, scaled=declared.scaled)
            ciphertexts = _ciphertexts(forms, public_key, declared.columns)
            await channel.send(roster.coordinator, Allowance(party, ciphertexts))
    if settings.training.disclosure == "shared":
        for party in [roster.coordinator, *roster.features]:
            await declare(channel, party, guard, scaled=True)
    return scaled


async def be_allowed(
    channel: Channel,
    settings: ProtocolSettings,
    samples: Sequence[int],
    guard: Guard,
    *,
    scaled: bool,
) -> None:
    """Feature party: declare, and hold what the label party declares against the guards, of batches of so many samples.

    Raises GuardError where that is too much.
    """
    label = channel.roster.label
    await declare(channel, label, guard, scaled=scaled)
    if settings.training.disclosure != "shared":
        return
    declared = (await channel.receive(label, OpenedColumns)).columns
    if len(declared) != len(samples):
        raise RemoteProtocolError(
            f"{label} declared openings for {len(declared)} batches where there are {len(samples)}"
        )
    for n_rows, n_columns in zip(samples, declared.tolist(), strict=True):
        guard.check(label, n_rows, n_columns)


def _forms(
    settings: ProtocolSettings, batches: Sequence[Batch], parties: int, *, scaled: bool
) -> list[GradientForm]:
    scaled = scaled or settings.training.disclosure == "shared"
    return [GradientForm.of(settings, len(batch), parties, scaled=scaled) for batch in batches]


def _ciphertexts(
    forms: Sequence[GradientForm], public_key: PublicKey, columns: IntArray
) -> IntArray:
    pairs = zip(forms, columns.tolist(), strict=True)
    return np.array([form.ciphertexts(public_key, n) for form, n in pairs], dtype=np.int64)


def check_plan(epochs: int, settings: ProtocolSettings, *, sender: str) -> None:
    """Raise RemoteProtocolError if more epochs are planned than everyone has agreed to."""
    if epochs > settings.training.epochs:
        raise RemoteProtocolError(
            f"{sender} plans {epochs} epochs where at most {settings.training.epochs} were agreed"
        )


@dataclass(frozen=True)
class Allowances:
    """Coordinator: how many ciphertexts it opens to each party in each batch's round."""

    ciphertexts: Mapping[str, IntArray]

    @classmethod
    async def receive(
        cls,
        channel: Channel,
        settings: ProtocolSettings,
        public_key: PublicKey,
        n_batches: int,
        batches: Sequence[Batch] | None = None,
    ) -> Self:
        """Take what the label party allows; where its own gradient is opened, ``batches`` say what it may ask for.

        Raises GuardError if that is too much of too few rows.
        """
        label, ciphertexts = channel.roster.label, dict[str, IntArray]()
        if batches is not None and len(batches) != n_batches:
            raise RemoteProtocolError(
                f"{label} scheduled {n_batches} rounds an epoch and described {len(batches)} batches"
            )
        for party in channel.roster.features:
            allowance = await channel.receive(label, Allowance)
            if allowance.party != party or len(allowance.ciphertexts) != n_batches:
                raise RemoteProtocolError(
                    f"{label} was expected to say what to open to {party} in {n_batches} batches, but said "
                    "something else"
                )
            ciphertexts[party] = allowance.ciphertexts
        if batches is not None:
            declared = (await channel.receive(label, OpenedColumns)).columns
            if len(declared) != n_batches:
                raise RemoteProtocolError(
                    f"{label} declared openings for {len(declared)} batches where there are {n_batches}"
                )
            guard = Guard(channel.name, settings.training)
            for batch, n_columns in zip(batches, declared.tolist(), strict=True):
                guard.check(label, len(batch), n_columns)
            forms = _forms(settings, batches, channel.roster.n_data_parties, scaled=True)
            ciphertexts[label] = _ciphertexts(forms, public_key, declared)
            for party in channel.roster.features:
                rows = [len(batch.entities[party]) for batch in batches]
                most = np.array([most_columns(n, settings.training) for n in rows])
                allowed = _ciphertexts(forms, public_key, most)
                if settings.training.guard == "strict" and (ciphertexts[party] > allowed).any():
                    raise GuardError(
                        f"{label} lets {party} have more ciphertexts opened than the guards allow in batches of "
                        f"{min(rows)} distinct rows; use more rows or fewer columns"
                    )
        return cls(ciphertexts)

    def check(self, party: str, number: int, came: int) -> None:
        """Raise RemoteProtocolError, before anything is opened, unless as many ciphertexts came as were declared."""
        expected = int(self.ciphertexts[party][number])
        ledger.count(f"ciphertexts opened to {party}", came)
        if came != expected:
            raise RemoteProtocolError(
                f"{party} sent {came} ciphertexts to be opened where {expected} were declared for this round; "
                "nothing of them was opened"
            )


@dataclass
class Repeats:
    """Counts how often rounds are played again in a run, and who wants that; ``most`` is what chance allows.

    A share of a residual wraps with probability ``2^RESIDUAL_BITS / 2^64``, one of its product with a latent sum with
    that times the sum's bound, and a truncated residual is wrong with twice the first (sharing/shares.py). ``most`` is
    the least number, one at least, that a Poisson variable with the mean of a whole run exceeds with a probability
    below 1e-9: one in a run of up to 40 million residuals.
    """

    most: int
    wanted: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(
        cls, settings: ProtocolSettings, samples: Sequence[int], parties: int, done: int
    ) -> Self:
        """Begin to count in a run whose batches have so many samples; ``done`` were repeated before it broke."""
        training = settings.training
        bound = math.ceil(parties * training.latent_bound)
        numbers = 3 + training.n_factors * bound if training.n_factors else 1
        rate = training.epochs * sum(samples) * numbers * 2.0 ** (RESIDUAL_BITS - 64)
        most = most_by_chance(rate)
        return cls(max(0, most - done))

    def count(self, *parties: str) -> None:
        """Note who wants the round to be played again; raises RemoteProtocolError beyond what chance allows."""
        self.wanted.update(parties)
        for party, times in self.wanted.items():
            if times > self.most:
                raise RemoteProtocolError(
                    f"{party} has asked for a round to be played again more often ({times} times) than chance allows "
                    f"({self.most} in this run): somebody computes other shares than agreed, or wants to learn from it"
                )


def most_by_chance(rate: float) -> int:
    """Return the least number, one at least, that a Poisson variable exceeds with a probability below 1e-9."""
    most = 1
    while pdtrc(most, rate) >= _BY_CHANCE:
        most += 1
    return most


async def settle_round(channel: Channel, repeats: Repeats, *, exceeded: bool) -> bool:
    """Label party: hear and tell everyone whether a share has wrapped; raises RemoteProtocolError if too often."""
    roster = channel.roster
    wanting = [p for p in roster.features if (await channel.receive(p, RoundCheck)).exceeded]
    repeat = exceeded or bool(wanting)
    repeats.count(*wanting, *([channel.name] if exceeded else []))
    for party in [roster.coordinator, *roster.features]:
        await channel.send(party, RoundEnd(repeat))
    return repeat


async def end_round(channel: Channel, repeats: Repeats, *, exceeded: bool = False) -> bool:
    """Hear from the label party whether the round is repeated.

    Raises RemoteProtocolError if that is too often, or if it is not where an own number has ``exceeded`` its bound.
    """
    label = channel.roster.label
    repeat = (await channel.receive(label, RoundEnd)).repeat
    if exceeded and not repeat:
        raise RemoteProtocolError(
            f"{label} goes on from a round with numbers beyond their bounds; expected it to repeat that"
        )
    repeats.count(*([channel.roster.label] if repeat else []))
    return repeat
