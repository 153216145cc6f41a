"""The training conversation: one function a role, in lockstep. Read a round from top to bottom.

    step 1  coordinator -> data parties     PublicKeyAnnouncement
    step 2  label -> feature parties        BatchPlan           the same batches in every epoch
            feature parties -> label        ColumnScale         how wide the slots must be
            label -> coordinator            Schedule
    each round, for one batch:
    step 3  feature parties -> label        PartialLogits       u and S (parties/model.py), by entity
    step 4  label -> feature parties        EncryptedResiduals  [d | d S], summed by entity
    step 5  feature parties -> coordinator  MaskedGradients     X^T [d | d S], packed and masked
    step 6  coordinator -> feature parties  OpenedGradients     decrypted, still masked
    each epoch:
    step 7  label <-> feature parties       ScoreRequest, PartialLogits    on the validation rows
    step 8  label -> everyone               EpochEnd            keep this model? go on?

The label party's own gradient needs no encryption: it knows d and its columns. Under ``disclosure =
"none"`` step 4 sends PlainResiduals and steps 1, 5 and 6 fall away; the integers are the same, so
the models are too, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parties.dataset import PartyDataset
from parties.features import FeatureEncoder, FixedPointMatrix
from parties.model import LocalModel, log_loss, sigmoid
from protocol.batches import Batch, Samples, Split
from protocol.channel import Channel
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.gradients import GradientForm, residual_slots
from protocol.guards import Guard
from protocol.messages import (
    BatchPlan,
    Ciphertexts,
    ColumnScale,
    EncryptedResiduals,
    EpochEnd,
    FloatArray,
    IntArray,
    MaskedGradients,
    OpenedGradients,
    PlainResiduals,
    PublicKeyAnnouncement,
    Residues,
    Schedule,
)
from protocol.paillier import (
    EncryptedVector,
    Encryptor,
    Masks,
    PrivateKey,
    PublicKey,
)
from protocol.scoring import (
    answer_logits,
    check_positions,
    collect_logits,
    request_logits,
    send_logits,
)
from protocol.settings import ProtocolSettings

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Epoch:
    """What the label party notes of one epoch: mean log losses before regularisation, wall-clock seconds."""

    training_loss: float
    validation_loss: float
    best: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainedHalf:
    """What one data party has when training ends; it stays with that party.

    ``matrix`` is its table in fixed point: all rows at the label party, the aligned ones at a
    feature party.
    """

    model: LocalModel
    encoder: FeatureEncoder
    matrix: FixedPointMatrix


@dataclass(frozen=True, eq=False)
class TrainedLabelParty(TrainedHalf):
    """The label party's half, its samples and the course of training.

    ``clipped`` counts products of residual and latent sum that were clipped to their bound.
    """

    samples: Samples
    history: list[Epoch]
    clipped: int

    @property
    def split(self) -> Split:
        """The training batches and the rows held out."""
        return self.samples.split

    @property
    def labels(self) -> FloatArray:
        """The labels of all rows, sampled negatives included."""
        assert self.samples.dataset.label is not None, "the label party has led the training"
        return self.samples.dataset.label


@dataclass(frozen=True, eq=False)
class TrainedFeatureParty(TrainedHalf):
    """A feature party's half, and what was opened to it.

    ``opened`` counts gradient entries it learned over the run, ``withheld`` those kept closed for
    want of support.
    """

    warnings: Sequence[str]
    opened: int
    withheld: int


async def train_label_party(
    channel: Channel,
    settings: ProtocolSettings,
    samples: Samples,
    progress: Progress = lambda done, total: None,
) -> TrainedLabelParty:
    """Lead the training; ``progress`` hears of rounds done and rounds in all."""
    training, dataset, split = settings.training, samples.dataset, samples.split
    labels = dataset.label
    if labels is None:
        raise LocalProtocolError(f"{channel.name} leads the training but its table has no label")
    encryptor = await _receive_encryptor(channel, settings)  # step 1

    for party in channel.roster.features:  # step 2
        await channel.send(party, _batch_plan(split, party))
    scaled = {
        party: (await channel.receive(party, ColumnScale)).scaled
        for party in channel.roster.features
    }
    schedule = Schedule(len(split.batches), training.epochs)
    await channel.send(channel.roster.coordinator, schedule)

    encoder = FeatureEncoder.fit(dataset, split.training_samples)
    matrix = encoder.transform(dataset)
    model = initial_model(settings, channel.name, encoder, bias=True)
    best_model, best_epoch, history, clipped = model.copy(), -1, list[Epoch](), 0
    for epoch in range(training.epochs):
        started, losses = time.perf_counter(), []
        for number, batch in enumerate(split.batches):
            logits, latent_sums = await collect_logits(channel, model, matrix, batch)  # step 3
            losses.append(log_loss(logits, labels[batch.samples]))
            residuals, beyond = residual_slots(
                sigmoid(logits) - labels[batch.samples], latent_sums, settings
            )
            clipped += beyond
            await _send_residuals(channel, settings, encryptor, batch, residuals, scaled)  # step 4
            own = matrix.take(batch.samples)
            form = GradientForm.of(settings, len(batch), scaled=True)
            integers = form.in_the_clear(own, residuals, model.factors)
            model.step(
                form.to_gradient(integers, own.fraction_bits, model.factors),
                float(residuals[:, 0].sum())
                / (2.0**settings.encryption.residual_bits * len(batch)),
            )
            progress(epoch * len(split.batches) + number + 1, schedule.rounds * schedule.epochs)

        logits = await request_logits(channel, model, matrix, split.validation)  # step 7
        loss = log_loss(logits, labels[split.validation.samples])
        best = not history or loss < history[best_epoch].validation_loss
        if best:
            best_model, best_epoch = model.copy(), epoch
        seconds = time.perf_counter() - started
        history.append(Epoch(float(np.mean(losses)), loss, best, seconds))
        proceed = epoch - best_epoch < training.patience and epoch + 1 < training.epochs
        for party in [channel.roster.coordinator, *channel.roster.features]:  # step 8
            await channel.send(party, EpochEnd(best, proceed))
        if not proceed:
            break
    return TrainedLabelParty(best_model, encoder, matrix, samples, history, clipped)


async def train_feature_party(
    channel: Channel, settings: ProtocolSettings, dataset: PartyDataset, aligned: IntArray
) -> TrainedFeatureParty:
    """Follow the training; raises GuardError before it answers a leaky plan.

    ``aligned`` says which rows of the own table are shared, in the agreed order; all messages count in it.
    """
    training = settings.training
    public_key = await _receive_public_key(channel, settings)  # step 1

    plan = await channel.receive(channel.roster.label, BatchPlan)  # step 2
    check_positions(plan.entities, len(aligned), sender=channel.roster.label)
    encoder = FeatureEncoder.fit(dataset, aligned[np.unique(plan.entities)])
    matrix = encoder.transform(dataset.take(aligned))
    batches = [matrix.take(entities) for entities in plan.batches()]
    guard = Guard(channel.name, training)
    for rows in batches:
        guard.check_batch(rows)
    scaled = matrix.scaled.shape[1] > 0
    await channel.send(channel.roster.label, ColumnScale(scaled))

    model = initial_model(settings, channel.name, encoder, bias=False)
    best_model, opened, withheld = model.copy(), 0, 0
    for _ in range(training.epochs):
        for rows, n_samples in zip(batches, plan.samples.tolist(), strict=True):
            await send_logits(channel, model, rows)  # step 3
            form = GradientForm.of(settings, n_samples, scaled=scaled)
            columns = guard.openable(rows)
            model.step(  # steps 4, 5, 6
                await _receive_gradient(channel, settings, public_key, form, rows, model, columns)
            )
            opened += len(columns) * (1 + training.n_factors)
            withheld += (rows.n_columns - len(columns)) * (1 + training.n_factors)

        await answer_logits(channel, model, matrix)  # step 7
        end = await channel.receive(channel.roster.label, EpochEnd)  # step 8
        if end.best:
            best_model = model.copy()
        if not end.proceed:
            break
    return TrainedFeatureParty(best_model, encoder, matrix, guard.warnings, opened, withheld)


async def coordinate_training(
    channel: Channel, settings: ProtocolSettings, private_key: PrivateKey | None
) -> None:
    """Hold the key: decrypt what is masked, and nothing else."""
    data_parties = [channel.roster.label, *channel.roster.features]
    if private_key is not None:  # step 1
        public_key = private_key.public_key
        modulus = int(public_key.n).to_bytes(public_key.plaintext_bytes, "little")
        for party in data_parties:
            await channel.send(party, PublicKeyAnnouncement(modulus))

    schedule = await channel.receive(channel.roster.label, Schedule)  # step 2
    for _ in range(schedule.epochs):
        for _ in range(schedule.rounds):
            if private_key is not None:
                for party in channel.roster.features:
                    await _open_gradients(channel, private_key, party)  # steps 5, 6
        if not (await channel.receive(channel.roster.label, EpochEnd)).proceed:  # step 8
            break


async def _receive_public_key(channel: Channel, settings: ProtocolSettings) -> PublicKey | None:
    """Step 1 at a data party; None where nothing is encrypted."""
    if settings.training.disclosure == "none":
        return None
    announced = await channel.receive(channel.roster.coordinator, PublicKeyAnnouncement)
    modulus = int.from_bytes(announced.modulus, "little")
    if modulus.bit_length() != settings.encryption.key_bits:
        raise RemoteProtocolError(
            f"{channel.roster.coordinator} announced a key of {modulus.bit_length()} bits where "
            f"key_bits = {settings.encryption.key_bits} was agreed"
        )
    return PublicKey.accept(modulus, insecure_key=settings.encryption.insecure_key)


async def _receive_encryptor(channel: Channel, settings: ProtocolSettings) -> Encryptor | None:
    public_key = await _receive_public_key(channel, settings)
    return None if public_key is None else Encryptor(public_key)


async def _send_residuals(
    channel: Channel,
    settings: ProtocolSettings,
    encryptor: Encryptor | None,
    batch: Batch,
    residuals: IntArray,
    scaled: Mapping[str, bool],
) -> None:
    """Step 4: one row an entity, so that a user with 200 interactions costs one encryption."""
    for party in channel.roster.features:
        sums = batch.sum_by_entity(party, residuals)
        if encryptor is None:
            await channel.send(party, PlainResiduals(sums))
        else:
            form = GradientForm.of(settings, len(batch), scaled=scaled[party])
            slots, alone = form.encrypt(encryptor, sums)
            await channel.send(party, EncryptedResiduals(_to_wire(slots), _to_wire(alone)))


async def _receive_gradient(
    channel: Channel,
    settings: ProtocolSettings,
    public_key: PublicKey | None,
    form: GradientForm,
    rows: FixedPointMatrix,
    model: LocalModel,
    columns: IntArray,
) -> FloatArray:
    """Steps 4 to 6 at a feature party: its gradient, zero where a column's stays closed."""
    label, coordinator = channel.roster.label, channel.roster.coordinator
    if public_key is None:
        plain = await channel.receive(label, PlainResiduals)
        _check_length(plain.values.shape, (rows.n_rows, 1 + form.factors), label)
        integers = form.in_the_clear(rows, plain.values, model.factors)[columns]
    else:
        received = await channel.receive(label, EncryptedResiduals)
        slots, alone = (
            EncryptedVector.from_bytes(public_key, vector.data, sender=label)
            for vector in (received.values, received.alone)
        )
        expected = rows.n_rows * form.chunks(public_key), rows.n_rows * form.needs_squares
        _check_length((len(slots), len(alone)), expected, label)
        memory_budget = 1_000_000 * settings.encryption.memory_budget
        packed = form.combine(rows, slots, alone, model.factors, columns, memory_budget)
        masks = Masks.draw(public_key, len(packed))
        await channel.send(coordinator, MaskedGradients(_to_wire(masks.apply(packed))))  # step 5
        opened = await channel.receive(coordinator, OpenedGradients)  # step 6
        integers = form.separate(masks.remove(opened.values.integers()), public_key, len(columns))
    gradient = np.zeros((rows.n_columns, 1 + form.factors))
    gradient[columns] = form.to_gradient(
        integers, rows.fraction_bits[columns], model.factors[columns]
    )
    return gradient


async def _open_gradients(channel: Channel, private_key: PrivateKey, party: str) -> None:
    """Steps 5 and 6 at the coordinator, for one feature party."""
    masked = await channel.receive(party, MaskedGradients)
    public_key = private_key.public_key
    encrypted = EncryptedVector.from_bytes(public_key, masked.values.data, sender=party)
    opened = Residues.of(private_key.decrypt(encrypted), public_key.plaintext_bytes)
    await channel.send(party, OpenedGradients(opened))


def initial_model(
    settings: ProtocolSettings, party: str, encoder: FeatureEncoder, *, bias: bool
) -> LocalModel:
    """Return a party's half before the first round: the same for the same seed, party and columns."""
    training = settings.training
    l2 = np.full((len(encoder.column_names), 1 + training.n_factors), training.l2_factors)
    l2[:, 0] = np.where(encoder.identifiers, training.l2_ids, training.l2)
    return LocalModel.initialise(
        l2, bias=bias, optimizer=training.new_optimizer(), seed=settings.seed, party=party
    )


def _batch_plan(split: Split, party: str) -> BatchPlan:
    entities = [batch.entities[party] for batch in split.batches]
    return BatchPlan(
        np.concatenate(entities),
        np.array([len(rows) for rows in entities]),
        np.array([len(batch) for batch in split.batches]),
    )


def _to_wire(encrypted: EncryptedVector) -> Ciphertexts:
    return Ciphertexts(encrypted.public_key.ciphertext_bytes, encrypted.to_bytes())


def _check_length(came: tuple[int, ...], expected: tuple[int, ...], sender: str) -> None:
    if came != expected:
        raise RemoteProtocolError(f"{sender} sent {came} residuals where {expected} were expected")
