"""The training conversation: one function a role, in lockstep. Read a round from top to bottom.

    step 1  coordinator -> data parties     PublicKeyAnnouncement
    step 2  label -> feature parties        BatchPlan           the same batches in every epoch
            feature parties -> label        KeptEpochs          of a training that broke
            label -> feature parties        TrainingStart       where it is taken up (protocol/training/checkpoints.py)
            label -> coordinator            Schedule
            label -> coordinator            SamplePositions     which contribution a sample refers to
            data parties -> label, coord.   OpenedColumns       how much is opened to whom (limits.py)
            label -> coordinator            Allowance
    each round, for one batch:
    step 3  feature parties -> label,       shares of partial logits u and latent sums S, by entity; on them label
            coordinator                     party and coordinator compute shares of d and d S (sharing/evaluator.py)
    step 4  coordinator -> label            EncryptedShares     [d | d S] of each sample, the coordinator's share
            label -> feature parties        EncryptedResiduals  its own share added, summed by entity
    step 5  data parties -> coordinator     MaskedGradients     X^T [d | d S], packed and masked (opening.py)
    step 6  coordinator -> data parties     OpenedGradients     decrypted, still masked
    step 7  feature parties -> label        RoundCheck          has a share wrapped?
            label -> everyone               RoundEnd            then the round is repeated
    step 8  everyone                        moves its half, alone or by sums over parties (steps.py)
    each epoch:
    step 9  as step 3 for the validation rows, and coordinator -> label  BrierShare
    step 10 label -> everyone               EpochEnd            keep this model? go on?

Under ``disclosure = "open"`` the feature parties send the label party PartialLogits in steps 3 and 9. It then knows d,
encrypts it itself in step 4, and has its own gradient in the clear; step 7 falls away. Under ``"none"`` step 4
sends PlainResiduals, and steps 1, 5 and 6 fall away too; the integers are those of ``open``, so the models are, bit
for bit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from parties.dataset import PartyDataset
from parties.features import FeatureEncoder, FixedPointMatrix
from parties.model import joint_logits
from parties.order import PrivateOrder
from protocol.batches import Batch, check_positions
from protocol.contributions import Bounds, Contribution, collect, offer
from protocol.encryption.encryptors import Encryptor, KeyHolderEncryptor
from protocol.encryption.keys import PrivateKey
from protocol.ledger import Progress
from protocol.messages.planning import BatchPlan, Schedule
from protocol.messages.rounds import (
    BrierShare,
    EncryptedResiduals,
    EncryptedShares,
    EpochEnd,
    PlainResiduals,
    RoundCheck,
)
from protocol.numbers import FloatArray, IntArray
from protocol.settings import ProtocolSettings
from protocol.sharing.agreement import (
    receive_positions,
    receive_series,
    send_positions,
    send_series,
)
from protocol.sharing.dealing import deal, deals
from protocol.sharing.evaluator import Evaluator
from protocol.sharing.shares import RESIDUAL_BITS, TRUNCATED_BITS, Series, to_reals
from protocol.training import limits
from protocol.training.checkpoints import Checkpoints, TrainingState, follow_start, lead_start
from protocol.training.gradients import GradientForm, residual_slots
from protocol.training.guards import Guard
from protocol.training.opening import GradientOpener, announce, open_gradient, pass_on
from protocol.training.samples import Samples, batch_plan
from protocol.training.steps import Stepper, coordinate_step
from protocol.training.trained import TrainedHalf, TrainedLabelParty, initial_model
from protocol.transport.channel import Channel


async def train_label_party(
    channel: Channel,
    settings: ProtocolSettings,
    samples: Samples,
    progress: Progress = lambda done, total: None,
    keep_in: Path | None = None,
) -> TrainedLabelParty:
    """Lead the training; ``progress`` hears of rounds done and rounds in all. Raises GuardError before it begins.

    In the folder ``keep_in`` checkpoints are kept, and a training taken up that broke.
    """
    training, split, labels = settings.training, samples.split, samples.dataset.label
    assert labels is not None, "settings are checked: who leads has labels"
    encoder = FeatureEncoder.fit(samples.dataset, split.training_samples)
    matrix = encoder.transform(samples.dataset)
    batches = [matrix.take(batch.samples) for batch in split.batches]
    guard = Guard(channel.name, training)
    if training.disclosure == "shared":  # else it sees the residuals, and nothing is opened to it
        for rows in batches:
            guard.admit(rows, with_total=True)
    checkpoints = Checkpoints(keep_in)
    checkpoints.describe(settings, batches, labels[split.training_samples])
    state = TrainingState.begin(
        initial_model(settings, encoder, samples.order.generator("weights"), bias=True)
    )

    opener = await GradientOpener.set_up(channel, settings)  # step 1
    for party in channel.roster.features:  # step 2
        await channel.send(party, batch_plan([*split.batches, split.validation], party))
    state, to_come = await lead_start(
        channel, channel.roster.features, checkpoints, state, guard, training.epochs
    )
    await channel.send(channel.roster.coordinator, Schedule(len(batches), to_come))
    kind = _SharedRounds if training.disclosure == "shared" else _OpenRounds
    rounds = kind(
        channel, settings, samples, labels, matrix, batches, state, guard, opener, checkpoints
    )
    await rounds.agree()
    for epoch in range(state.done, state.done + to_come):
        started, losses = time.perf_counter(), list[float | None]()
        for number in range(len(batches)):
            with channel.ledger.during_round():
                losses.append(await rounds.play(number))  # steps 3 to 7
            progress(epoch * len(batches) + number + 1, training.epochs * len(batches))

        loss = await rounds.validate()  # step 9
        best = state.add_epoch(losses, loss, time.perf_counter() - started)
        over = state.since_best >= training.patience or state.converged
        proceed = not over and epoch + 1 < training.epochs
        for party in [channel.roster.coordinator, *channel.roster.features]:  # step 10
            await channel.send(party, EpochEnd(best, proceed))
        state.end_epoch(guard, best=best, proceed=proceed)
        checkpoints.save(state)
        if not proceed:
            break
    return TrainedLabelParty(state, encoder, matrix, guard, samples)


@dataclass
class _LabelRounds:
    """The label party's side of the rounds; ``batches`` are its own rows, one matrix a batch.

    Either kind can ``agree`` (the rest of step 2), ``play`` steps 3 to 8 of one batch, and ``validate`` (step 9). The
    last two return a mean loss, if this party sees it.
    """

    channel: Channel
    settings: ProtocolSettings
    samples: Samples
    labels: FloatArray
    matrix: FixedPointMatrix
    batches: list[FixedPointMatrix]
    state: TrainingState
    guard: Guard
    opener: GradientOpener
    checkpoints: Checkpoints

    @cached_property
    def stepper(self) -> Stepper:
        """What moves the own half: under ``open`` all its columns, as nothing is opened to it."""
        every = [np.arange(self.matrix.n_columns)] * len(self.batches)
        columns = self.guard.columns or every
        return Stepper.of(self.channel, self.settings, self.state, self.batches, columns)

    async def _allow(self) -> Mapping[str, bool]:
        batches, key = self.samples.split.batches, self.opener.public_key
        return await limits.allow(self.channel, self.settings, batches, self.guard, key)

    @property
    def _bounds(self) -> Bounds:
        return Bounds.of(self.settings, self.channel.roster.n_data_parties)

    def _contribution(self, rows: FixedPointMatrix) -> Contribution:
        return self._bounds.contribution(self.state.model, rows)

    def _form(self, batch: Batch, *, scaled: bool = True) -> GradientForm:
        parties = self.channel.roster.n_data_parties
        return GradientForm.of(self.settings, len(batch), parties, scaled=scaled)


@dataclass
class _SharedRounds(_LabelRounds):
    """Rounds in which nobody sees a logit or a residual."""

    def __post_init__(self) -> None:
        assert self.opener.public_key is not None, "only disclosure 'none' does without encryption"
        self.encryptor = Encryptor(self.opener.public_key)
        self.evaluator = Evaluator.of(self.channel, self.settings)
        self.series = Series.fit(self._bounds.joint)
        sizes = [len(batch) for batch in self.samples.split.batches]
        parties, done = self.channel.roster.n_data_parties, self.state.repeated
        self.repeats = limits.Repeats.of(self.settings, sizes, parties, done)

    async def agree(self) -> None:
        split = self.samples.split
        await send_series(self.channel, self.settings, self.series)
        await send_positions(self.channel, [*split.batches, split.validation])
        await self._allow()

    async def play(self, number: int) -> None:
        batch, rows = self.samples.split.batches[number], self.batches[number]
        form, columns = self._form(batch), self.guard.columns[number]
        coordinator, model = self.channel.roster.coordinator, self.state.model
        own, labels = self._contribution(rows).to_words(), self.labels[batch.samples]
        repeat = True
        while repeat:
            sums = own + await self.evaluator.gather(batch)  # step 3
            share = await self.evaluator.residual_slots(self.series, sums, labels)
            theirs = await self.channel.receive(coordinator, EncryptedShares)  # step 4
            slots = form.complete(self.opener.accept(form, theirs, len(batch), coordinator), share)
            await pass_on(self.channel, batch, form, slots, self.encryptor)
            gradient = await self.opener.open(form, rows, slots, model, columns)  # steps 5, 6
            repeat = await limits.settle_round(
                self.channel, self.repeats, exceeded=gradient.exceeded
            )  # 7
            self.checkpoints.note_repeats(self.state, self.state.repeated + repeat)
        total = to_reals(share[:, 0].sum(keepdims=True) + theirs.total, RESIDUAL_BITS)
        await self.stepper.take(gradient.mean(), total.item() / len(batch))
        self.guard.count(number, rows.n_columns)

    async def validate(self) -> float:
        batch = self.samples.split.validation
        own = self._contribution(self.matrix.take(batch.samples)).to_words()
        sums, labels = own + await self.evaluator.gather(batch), self.labels[batch.samples]
        share = await self.evaluator.squared_residuals(self.series, sums, labels)
        theirs = (await self.channel.receive(self.channel.roster.coordinator, BrierShare)).total
        return to_reals(share + theirs, 2 * TRUNCATED_BITS).item() / len(batch)


@dataclass
class _OpenRounds(_LabelRounds):
    """Rounds in which this party sees every logit, encrypted (``open``) or not (``none``)."""

    def __post_init__(self) -> None:
        self.encryptor = Encryptor(key) if (key := self.opener.public_key) is not None else None

    async def agree(self) -> None:
        self.scaled = await self._allow()

    async def play(self, number: int) -> float:
        batch, rows = self.samples.split.batches[number], self.batches[number]
        labels, form, model = self.labels[batch.samples], self._form(batch), self.state.model
        joint = await collect(self.channel, batch, self._contribution(rows))  # step 3
        logits = joint_logits(joint.logits, joint.latent_sums)
        residuals = self.settings.training.link.residuals(logits, labels)
        slots = residual_slots(residuals, joint.latent_sums, self.settings)
        for party in batch.entities:  # step 4
            sums = batch.sum_by_entity(party, slots)
            if self.encryptor is None:
                await self.channel.send(party, PlainResiduals(sums))
            else:
                encrypted = self._form(batch, scaled=self.scaled[party]).encrypt(
                    self.encryptor, sums
                )
                await self.channel.send(party, EncryptedResiduals(*encrypted.to_wire()))
        integers = form.in_the_clear(rows, slots, model.factors)
        total = float(slots[:, 0].sum()) / 2.0**self.settings.encryption.residual_bits
        gradient = form.to_gradient(integers, rows.fraction_bits, model.factors)
        await self.stepper.take(gradient, total / len(batch))
        return self.settings.training.link.loss(logits, labels)

    async def validate(self) -> float:
        batch = self.samples.split.validation
        own = self._contribution(self.matrix.take(batch.samples))
        joint = await collect(self.channel, batch, own)
        logits = joint_logits(joint.logits, joint.latent_sums)
        return self.settings.training.link.loss(logits, self.labels[batch.samples])


async def train_feature_party(
    channel: Channel,
    settings: ProtocolSettings,
    dataset: PartyDataset,
    aligned: IntArray,
    keep_in: Path | None = None,
    secret: bytes = b"",
) -> TrainedHalf:
    """Follow the training; raises GuardError before it answers a leaky plan.

    ``aligned`` says which rows of the own table are shared, in the agreed order; all messages count in it. Its first
    weights are drawn under a key (parties/order.py), of which ``secret`` is its own part.
    """
    training, label = settings.training, channel.roster.label
    shared = training.disclosure == "shared"
    opener = await GradientOpener.set_up(channel, settings)  # step 1

    plan = await channel.receive(label, BatchPlan)  # step 2
    check_positions(plan.entities, len(aligned), sender=label)
    *entities, held_out = plan.batches()
    encoder = FeatureEncoder.fit(dataset, aligned[np.unique(np.concatenate(entities))])
    matrix = encoder.transform(dataset.take(aligned))
    batches, validation = [matrix.take(rows) for rows in entities], matrix.take(held_out)
    guard = Guard(channel.name, training)
    for rows in batches:
        guard.admit(rows)
    checkpoints = Checkpoints(keep_in)
    checkpoints.describe(settings, batches)
    order = PrivateOrder.of(dataset, settings.seed, secret)
    state = TrainingState.begin(
        initial_model(settings, encoder, order.generator("weights"), bias=False)
    )
    state, to_come = await follow_start(channel, label, checkpoints, state, guard)
    limits.check_plan(state.done + to_come, settings, sender=label)
    scaled = shared or matrix.scaled.shape[1] > 0
    series = await receive_series(channel) if deals(channel, settings) else None

    stepper = Stepper.of(channel, settings, state, batches, guard.columns)
    model, bounds = state.model, Bounds.of(settings, channel.roster.n_data_parties)
    *n_samples, n_validation = plan.samples.tolist()
    await limits.be_allowed(channel, settings, n_samples, guard, scaled=scaled)
    repeats = limits.Repeats.of(settings, n_samples, bounds.parties, state.repeated)
    for _ in range(to_come):
        for number, rows in enumerate(batches):
            with channel.ledger.during_round():
                contribution, columns = bounds.contribution(model, rows), guard.columns[number]
                form = GradientForm.of(settings, n_samples[number], bounds.parties, scaled=scaled)
                repeat = True
                while repeat:
                    await offer(channel, settings, contribution)  # step 3
                    if series is not None:
                        await deal(channel, n_samples[number], training.n_factors, series)
                    gradient = await opener.receive(form, rows, model, columns)  # steps 4, 5, 6
                    repeat = False
                    if shared:
                        await channel.send(label, RoundCheck(gradient.exceeded))  # step 7
                        repeat = await limits.end_round(
                            channel, repeats, exceeded=gradient.exceeded
                        )
                        checkpoints.note_repeats(state, state.repeated + repeat)
                await stepper.take(gradient.mean())  # step 8
                guard.count(number, matrix.n_columns)

        await offer(channel, settings, bounds.contribution(model, validation))  # step 9
        if series is not None:
            await deal(channel, n_validation, training.n_factors, series)
        end = await channel.receive(label, EpochEnd)  # step 10
        state.end_epoch(guard, best=end.best, proceed=end.proceed)
        checkpoints.save(state)
        if not end.proceed:
            break
    return TrainedHalf(state, encoder, matrix, guard)


async def coordinate_training(
    channel: Channel, settings: ProtocolSettings, private_key: PrivateKey | None
) -> None:
    """Hold the key, None under disclosure ``none``: decrypt what is masked, compute on shares, learn nothing else."""
    roster = channel.roster
    if private_key is not None:  # step 1
        announcement = announce(private_key)
        for party in [roster.label, *roster.features]:
            await channel.send(party, announcement)
    schedule = await channel.receive(roster.label, Schedule)  # step 2
    limits.check_plan(schedule.epochs, settings, sender=roster.label)
    if settings.training.disclosure == "shared":
        assert private_key is not None, "only disclosure 'none' does without encryption"
        await _coordinate_shares(channel, settings, private_key, schedule)
        return
    if private_key is not None:
        key = private_key.public_key
        allowances = await limits.Allowances.receive(channel, settings, key, schedule.rounds)
    for _ in range(schedule.epochs):
        for number in range(schedule.rounds):
            with channel.ledger.during_round():
                if private_key is not None:
                    for party in roster.features:
                        await open_gradient(channel, private_key, party, number, allowances)  # 5, 6
                await coordinate_step(channel, settings)  # step 8
        if not (await channel.receive(roster.label, EpochEnd)).proceed:  # step 10
            break


async def _coordinate_shares(
    channel: Channel, settings: ProtocolSettings, private_key: PrivateKey, schedule: Schedule
) -> None:
    """The coordinator's rounds where it holds one share of everything."""
    label, features = channel.roster.label, channel.roster.features
    evaluator, encryptor = Evaluator.of(channel, settings), KeyHolderEncryptor(private_key)
    series = await receive_series(channel)
    *batches, validation = await receive_positions(channel, features)
    key, parties = private_key.public_key, channel.roster.n_data_parties
    allowances = await limits.Allowances.receive(channel, settings, key, schedule.rounds, batches)
    repeats = limits.Repeats.of(settings, [len(batch) for batch in batches], parties, done=0)
    for _ in range(schedule.epochs):
        for number, batch in enumerate(batches):
            form = GradientForm.of(settings, len(batch), parties, scaled=True)
            repeat = True
            with channel.ledger.during_round():
                while repeat:
                    sums = await evaluator.gather(batch)  # step 3
                    share = await evaluator.residual_slots(series, sums, None)
                    encrypted = form.encrypt(encryptor, share).to_wire()
                    total = share[:, 0].sum(keepdims=True)
                    await channel.send(label, EncryptedShares(*encrypted, total))  # step 4
                    for party in [*features, label]:
                        await open_gradient(channel, private_key, party, number, allowances)  # 5, 6
                    repeat = await limits.end_round(channel, repeats)  # step 7
                await coordinate_step(channel, settings)  # step 8
        sums = await evaluator.gather(validation)  # step 9
        share = await evaluator.squared_residuals(series, sums, None)
        await channel.send(label, BrierShare(share))
        if not (await channel.receive(label, EpochEnd)).proceed:  # step 10
            break
