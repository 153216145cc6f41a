"""From gradients to steps: each party by itself (Adam, SGD), or all by sums over parties (quasi-newton).

    each round, after its gradients are opened (parties/quasi_newton.py has the mathematics):

    feature parties -> label        ProductSeed     its share of a party's part of the new inner products
    feature parties -> coordinator  ProductShare    the other share
    coordinator -> label            ProductSum      the sum of what it holds
    label -> feature parties        Step            the coefficients of everyone's next step

A model of several outputs has a recursion for each, all in the same messages.
The label party learns the sums, and with a single feature party so that party's part of them. Feature parties learn the
coefficients alone, the coordinator nothing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from parties import quasi_newton
from parties.features import FRACTION_BITS, FixedPointMatrix
from parties.quasi_newton import MEMORY, Plan, Preconditioner, Recursion, Vectors
from protocol.errors import RemoteProtocolError
from protocol.messages.rounds import ProductSeed, ProductShare, ProductSum, Step
from protocol.numbers import FloatArray, IntArray
from protocol.settings import ProtocolSettings
from protocol.sharing.shares import SERIES_ERROR, Stream, draw_seed, to_reals, to_words
from protocol.training.checkpoints import TrainingState
from protocol.transport.channel import Channel

_PRODUCT_BITS = 40
# A party's product of a step and a gradient is at most LONGEST_STEP x LONGEST_GRADIENT = 2^11, and as much that of a
# gradient and the difference of two: clipping changes none that is honest. With 40 fractional bits each is then a word
# of at most 2^52, and the sums of fewer than 2^11 parties stay below the 2^63 at which words wrap.
_LARGEST_PRODUCT = 2.0**12


class Stepper(ABC):
    """Moves one party's half after each round."""

    def __init__(self, channel: Channel, state: TrainingState) -> None:
        self.channel = channel
        self.state = state

    @staticmethod
    def of(
        channel: Channel,
        settings: ProtocolSettings,
        state: TrainingState,
        batches: list[FixedPointMatrix],
        columns: list[IntArray],
    ) -> Stepper:
        """Return what moves a half whose gradient is opened in these columns of each batch."""
        if settings.training.second_order:
            return QuasiNewton(channel, settings, state, batches[0], columns[0])
        return FirstOrder(channel, state)

    @property
    def converged(self) -> bool:
        """Whether nobody has moved in this round, as the loss would fall by less than asked for."""
        return False

    @abstractmethod
    async def take(self, gradient: FloatArray, bias_gradient: float | FloatArray = 0.0) -> None:
        """Move against the batch-mean gradient, of the parameters' shape, and that of the bias if there is one."""


class FirstOrder(Stepper):
    """Adam or SGD: the optimizer that the half brings."""

    async def take(self, gradient: FloatArray, bias_gradient: float | FloatArray = 0.0) -> None:
        """Move; nobody else is asked."""
        self.state.model.step(gradient, float(bias_gradient))


class QuasiNewton(Stepper):
    """L-BFGS in whitened coordinates over all parties' columns, for each output: column of the parameters."""

    def __init__(
        self,
        channel: Channel,
        settings: ProtocolSettings,
        state: TrainingState,
        rows: FixedPointMatrix,
        columns: IntArray,
    ) -> None:
        super().__init__(channel, state)
        self.columns = columns
        model = state.model
        self.has_bias = model.bias is not None
        own = rows.select(columns)
        # How many samples a feature party's rows stand for, the label party does not tell: each counts as one.
        self.preconditioner = Preconditioner.of(
            own.scaled,
            own.indicators,
            model.l2[columns, 0],
            settings.training.link.curvature,
            unit=2.0**-FRACTION_BITS,
            bias=self.has_bias,
        )
        if not state.vectors:
            outputs = range(model.parameters.shape[1])
            state.vectors = [Vectors() for _ in outputs]
            if channel.name == channel.roster.label:
                state.recursions = [self._recursion(settings, rows.n_rows) for _ in outputs]
            closed = np.ones(len(model.parameters), dtype=bool)
            closed[columns] = False
            # What is never learned must not stay as it was drawn.
            model.parameters = np.where(closed[:, None], 0.0, model.parameters)

    def _recursion(self, settings: ProtocolSettings, samples: int) -> Recursion:
        """Return what the label party plans steps with, for the mean loss of so many samples."""
        training, parties = settings.training, self.channel.roster.n_data_parties
        curvature = training.link.curvature
        # Residuals off by e each move a whitened gradient by e / sqrt(c n) along any one direction.
        error = SERIES_ERROR if training.disclosure == "shared" else 0.0
        noise = error / math.sqrt(curvature * samples)
        return Recursion.among(parties, training.tolerance, curvature, noise)

    @property
    def converged(self) -> bool:
        """Whether nobody has moved in this round, as the loss would fall by less than asked for."""
        return self.state.converged

    async def take(self, gradient: FloatArray, bias_gradient: float | FloatArray = 0.0) -> None:
        """Put the own products to the others', and take the steps that follow from their sums.

        ``gradient`` is (n_columns, n_outputs), ``bias_gradient`` (n_outputs,) or one number.
        """
        model, vectors = self.state.model, self.state.vectors
        penalised = (gradient + model.l2 * model.parameters)[self.columns]
        if self.has_bias:
            own = np.broadcast_to(bias_gradient, (1, len(vectors)))
            penalised = np.concatenate([penalised, own])
        whitened = self.preconditioner.whiten(penalised)
        plans = await self._agree(quasi_newton.products(vectors, whitened))
        self.state.converged = all(plan.done for plan in plans)
        if self.state.converged:
            return
        step = self.preconditioner.restore(quasi_newton.follow(vectors, whitened, plans))
        model.move(self.columns, step if len(vectors) > 1 else step[:, 0])

    async def _agree(self, products: FloatArray) -> list[Plan]:
        leads = self.channel.name == self.channel.roster.label
        own = to_words(np.clip(products, -_LARGEST_PRODUCT, _LARGEST_PRODUCT), _PRODUCT_BITS)
        if not leads:
            seed, label = draw_seed(), self.channel.roster.label
            half = Stream(seed, self.channel.roster.run).words(len(own))
            await self.channel.send(label, ProductSeed(seed))
            await self.channel.send(self.channel.roster.coordinator, ProductShare(own - half))
            return self._accept(await self.channel.receive(label, Step))
        for party in self.channel.roster.features:
            seed = (await self.channel.receive(party, ProductSeed)).seed
            stream = Stream(self.channel.accept_seed(seed, sender=party), self.channel.roster.run)
            own = own + stream.words(len(own))
        coordinator = self.channel.roster.coordinator
        theirs = (await self.channel.receive(coordinator, ProductSum)).values
        if theirs.shape != own.shape:
            raise RemoteProtocolError(
                f"{coordinator} sent {len(theirs)} sums of products where {len(own)} were expected"
            )
        plans = quasi_newton.plan(self.state.recursions, to_reals(own + theirs, _PRODUCT_BITS))
        for party in self.channel.roster.features:
            await self.channel.send(party, Step.of(plans))
        return plans

    def _accept(self, step: Step) -> list[Plan]:
        """Return the plans that the label party tells; raises RemoteProtocolError unless they fit what is kept here."""
        label, plans, vectors = self.channel.roster.label, step.plans(), self.state.vectors
        if len(plans) != len(vectors):
            raise RemoteProtocolError(
                f"{label} sent steps of {len(plans)} outputs where {len(vectors)} were expected"
            )
        for plan, own in zip(plans, vectors, strict=True):
            if len(plan.coefficients) != own.n_coefficients(plan):
                raise RemoteProtocolError(
                    f"{label} sent {len(plan.coefficients)} coefficients of a step where {own.n_coefficients(plan)} "
                    "were expected"
                )
        return plans


async def coordinate_step(channel: Channel, settings: ProtocolSettings, n_outputs: int = 1) -> None:
    """Coordinator: add up the shares of inner products that it holds."""
    if not settings.training.second_order:
        return
    features, most = channel.roster.features, n_outputs * (2 * MEMORY + 2)
    held = [(await channel.receive(party, ProductShare)).values for party in features]
    if any(one.shape != held[0].shape for one in held) or len(held[0]) > most:
        raise RemoteProtocolError(
            f"{', '.join(features)} sent {', '.join(str(len(one)) for one in held)} products where the same number "
            f"of {most} at most was expected"
        )
    total = np.sum(held, axis=0, dtype=np.uint64).astype(np.uint64)
    await channel.send(channel.roster.label, ProductSum(np.atleast_1d(total)))
