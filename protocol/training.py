"""The training conversation: one function a role, in lockstep. Read a round from top to bottom.

    step 1  coordinator -> data parties    PublicKeyAnnouncement
    step 2  label -> feature parties       BatchPlan          the same batches in every epoch
            label -> coordinator           Schedule
    each round, for one batch:
    step 3  feature parties -> label       PartialLogits      u = X w, one row an entity
    step 4  label -> feature parties       EncryptedResiduals d = sigmoid(z) - y in fixed point,
    summed by entity step 5  feature parties -> coordinator MaskedGradients    X^T d by products of
    ciphertexts, packed, masked step 6  coordinator -> feature parties OpenedGradients    decrypted,
    still masked each epoch: step 7  label <-> feature parties      ScoreRequest, PartialLogits
    on the validation rows step 8  label -> everyone              EpochEnd           keep this
    model? go on?

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
from parties.features import HIGHEST, LOWEST, FeatureEncoder, FixedPointMatrix
from parties.model import LocalModel, log_loss, sigmoid
from protocol.batches import Batch, Split, draw_split
from protocol.channel import Channel
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.guards import Guard
from protocol.messages import (
    BatchPlan,
    Ciphertexts,
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
    SlotLayout,
    transposed_product,
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
    """The label party's half, its split and the course of training."""

    split: Split
    history: list[Epoch]


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
    dataset: PartyDataset,
    positions: Mapping[str, IntArray],
    progress: Progress = lambda done, total: None,
) -> TrainedLabelParty:
    """Lead the training. ``positions[party]`` is each own row's aligned row there, -1 where it has none.

    ``progress`` hears of rounds done and rounds in all.
    """
    training = settings.training
    labels = dataset.label
    if labels is None:
        raise LocalProtocolError(f"{channel.name} leads the training but its table has no label")
    encryptor = await _receive_encryptor(channel, settings)  # step 1

    split = draw_split(positions, settings)  # step 2
    for party in channel.roster.features:
        await channel.send(party, _batch_plan(split, party))
    schedule = Schedule(len(split.batches), training.epochs)
    await channel.send(channel.roster.coordinator, schedule)

    encoder = FeatureEncoder.fit(dataset, split.training_samples)
    matrix = encoder.transform(dataset)
    model = _initial_model(settings, channel.name, matrix, bias=True)
    best_model, best_epoch, history = model.copy(), -1, list[Epoch]()
    for epoch in range(training.epochs):
        started, losses = time.perf_counter(), []
        for number, batch in enumerate(split.batches):
            logits = await collect_logits(channel, model, matrix, batch)  # step 3
            losses.append(log_loss(logits, labels[batch.samples]))
            residuals = to_fixed_point(
                sigmoid(logits) - labels[batch.samples], settings.encryption.residual_bits
            )
            await _send_residuals(channel, encryptor, batch, residuals)  # step 4
            own = matrix.take(batch.samples)
            scale = 2.0**settings.encryption.residual_bits * len(batch)
            model.step(
                to_gradient(own.transposed_dot(residuals), own.fraction_bits, scale),
                float(residuals.sum()) / scale,
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
    return TrainedLabelParty(best_model, encoder, matrix, split, history)


async def train_feature_party(
    channel: Channel, settings: ProtocolSettings, dataset: PartyDataset, aligned: IntArray
) -> TrainedFeatureParty:
    """Follow the training; raises GuardError before it answers a leaky plan.

    ``aligned`` says which rows of the own table are shared, in the agreed order; all messages count in it.
    """
    public_key = await _receive_public_key(channel, settings)  # step 1

    plan = await channel.receive(channel.roster.label, BatchPlan)  # step 2
    check_positions(plan.entities, len(aligned), sender=channel.roster.label)
    encoder = FeatureEncoder.fit(dataset, aligned[np.unique(plan.entities)])
    matrix = encoder.transform(dataset.take(aligned))
    batches = [matrix.take(entities) for entities in plan.batches()]
    guard = Guard(channel.name, settings.training)
    for rows in batches:
        guard.check_batch(rows)

    model = _initial_model(settings, channel.name, matrix, bias=False)
    best_model, opened, withheld = model.copy(), 0, 0
    for _ in range(settings.training.epochs):
        for rows, n_samples in zip(batches, plan.samples.tolist(), strict=True):
            await send_logits(channel, model, rows)  # step 3
            columns = guard.openable(rows)
            sums = np.zeros(rows.n_columns)
            sums[columns] = await _receive_gradient(  # steps 4, 5, 6
                channel, settings, public_key, rows, columns, n_samples
            )
            scale = 2.0**settings.encryption.residual_bits * n_samples
            model.step(to_gradient(sums, rows.fraction_bits, scale))
            opened += len(columns)
            withheld += rows.n_columns - len(columns)

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
    channel: Channel, encryptor: Encryptor | None, batch: Batch, residuals: IntArray
) -> None:
    """Step 4: one number an entity, so that a user with 200 interactions costs one encryption."""
    for party in channel.roster.features:
        sums = batch.sum_by_entity(party, residuals)
        if encryptor is None:
            await channel.send(party, PlainResiduals(sums))
        else:
            encrypted = encryptor.encrypt(sums.tolist())
            await channel.send(party, EncryptedResiduals(_to_wire(encrypted)))


async def _receive_gradient(
    channel: Channel,
    settings: ProtocolSettings,
    public_key: PublicKey | None,
    rows: FixedPointMatrix,
    columns: IntArray,
    n_samples: int,
) -> FloatArray:
    """Steps 4 to 6 at a feature party: the exact integer gradient of the given columns, as floats."""
    label, coordinator = channel.roster.label, channel.roster.coordinator
    if public_key is None:
        plain = await channel.receive(label, PlainResiduals)
        _check_length(len(plain.values), rows.n_rows, label)
        return rows.transposed_dot(plain.values)[columns].astype(np.float64)
    received = await channel.receive(label, EncryptedResiduals)
    encrypted = EncryptedVector.from_bytes(public_key, received.values.data, sender=label)
    _check_length(len(encrypted), rows.n_rows, label)

    memory_budget = 1_000_000 * settings.encryption.memory_budget
    gradient = transposed_product(rows, encrypted, memory_budget).take(columns)
    largest = max(HIGHEST, -LOWEST) * 2**settings.encryption.residual_bits * n_samples
    layout = SlotLayout.for_bound(largest, public_key)
    packed = layout.pack(gradient)
    masks = Masks.draw(public_key, len(packed))
    await channel.send(coordinator, MaskedGradients(_to_wire(masks.apply(packed))))  # step 5
    opened = await channel.receive(coordinator, OpenedGradients)  # step 6
    return np.array(
        layout.unpack(masks.remove(opened.values.integers()), len(columns)), dtype=np.float64
    )


async def _open_gradients(channel: Channel, private_key: PrivateKey, party: str) -> None:
    """Steps 5 and 6 at the coordinator, for one feature party."""
    masked = await channel.receive(party, MaskedGradients)
    public_key = private_key.public_key
    encrypted = EncryptedVector.from_bytes(public_key, masked.values.data, sender=party)
    opened = Residues.of(private_key.decrypt(encrypted), public_key.plaintext_bytes)
    await channel.send(party, OpenedGradients(opened))


def _initial_model(
    settings: ProtocolSettings, party: str, matrix: FixedPointMatrix, *, bias: bool
) -> LocalModel:
    return LocalModel.initialise(
        matrix.n_columns,
        bias=bias,
        l2=settings.training.l2,
        optimizer=settings.training.new_optimizer(),
        seed=settings.seed,
        party=party,
    )


def _batch_plan(split: Split, party: str) -> BatchPlan:
    entities = [batch.entities[party] for batch in split.batches]
    return BatchPlan(
        np.concatenate(entities),
        np.array([len(rows) for rows in entities]),
        np.array([len(batch) for batch in split.batches]),
    )


def to_fixed_point(values: FloatArray, fraction_bits: int) -> IntArray:
    """Round to integers at the public scale ``2^-fraction_bits``."""
    return np.rint(values * 2.0**fraction_bits).astype(np.int64)


def to_gradient(sums: FloatArray | IntArray, fraction_bits: IntArray, scale: float) -> FloatArray:
    """Return the batch mean of ``X^T d`` from its raw integers: columns have ``fraction_bits`` each."""
    return sums / (scale * 2.0**fraction_bits)


def _to_wire(encrypted: EncryptedVector) -> Ciphertexts:
    return Ciphertexts(encrypted.public_key.ciphertext_bytes, encrypted.to_bytes())


def _check_length(came: int, expected: int, sender: str) -> None:
    if came != expected:
        raise RemoteProtocolError(f"{sender} sent {came} residuals where {expected} were expected")
