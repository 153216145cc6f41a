"""The training conversation counted, not held: operations, messages, and what Python and numpy do around them.

It follows protocol/training/roles.py step by step; a test holds both to the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from joblib import parallel_config

from parties.quasi_newton import MEMORY
from protocol.contributions import Bounds
from protocol.encryption.certificate import ROOTS
from protocol.encryption.ring import block_rows
from protocol.sharing.shares import Series
from protocol.training.gradients import FACTOR_BITS, SHIFT_BITS, GradientForm
from scenarios.costs.operations import Arithmetic, Operation
from scenarios.costs.shapes import BatchShape, Shapes
from scenarios.scenario import COORDINATOR, Scenario

_WORD = 8  # bytes
_ENVELOPE = 50  # bytes of a header and of what frames a message, besides names and kind
_SEAL = 16
_CELL_BYTES = 26  # in the table twice, as a 64-bit number and as it came, and in the matrix
_COPIES = 4  # of ciphertexts: as they came, as elements, as integers, as the next message


@dataclass(frozen=True)
class Step:
    """An operation of one party, done ``times`` over."""

    party: str
    operation: Operation
    times: int = 1


@dataclass(frozen=True)
class Transfer:
    """A kind of message between two parties: its ``size`` in bytes as a whole, sent ``times`` over."""

    sender: str
    receiver: str
    kind: str
    size: int
    times: int = 1


@dataclass(frozen=True)
class Rest:
    """What one party does besides encrypted operations, in numbers that its seconds grow with.

    ``rounds`` with a gradient of its own, and the ``entries`` of these; ``cells`` of matrices in the clear times slots;
    ``evaluated`` and ``dealt`` numbers that stand for sigmoids; ``plaintexts`` put together for encryption;
    ``columns`` to learn preprocessing from, and their ``table_cells`` with numbers and ``named_cells`` with categories;
    ``size`` in bytes sent and received.
    """

    rounds: int = 0
    entries: int = 0
    messages: int = 0
    size: int = 0
    cells: int = 0
    evaluated: int = 0
    dealt: int = 0
    plaintexts: int = 0
    columns: int = 0
    table_cells: int = 0
    named_cells: int = 0


@dataclass(frozen=True)
class Memory:
    """Bytes of one party: those it holds all along, and those of a step of a round, which parties take turns with."""

    lasting: int
    working: int


class Conversation:
    """The conversation of one training that stops at no epoch before the last, counted."""

    def __init__(self, scenario: Scenario, shapes: Shapes) -> None:
        self.scenario, self.shapes = scenario, shapes
        self.label = scenario.label_party.name
        self.features = [party for party in shapes.test.parts if party != self.label]
        self.disclosure = scenario.training.disclosure
        self.shared = self.disclosure == "shared"
        self.factors = scenario.training.n_factors
        self.epochs = scenario.training.epochs
        encryption = scenario.encryption
        self.arithmetic = Arithmetic(
            encryption.key_bits, encryption.engine, 1_000_000 * encryption.memory_budget
        )
        self.key = self.arithmetic.key

    @cached_property
    def waves(self) -> int:
        """Numbers of a sample that stand for its sigmoid, under disclosure 'shared'."""
        return 2 * Series.fit(Bounds.of(self.scenario, len(self.shapes.parties)).joint).harmonics

    def form(self, batch: BatchShape, party: str) -> GradientForm:
        """Return the form of a batch's gradient at a party."""
        scaled = self.shared or self.shapes.parties[party].scaled > 0
        parties = len(self.shapes.parties)
        return GradientForm.of(self.scenario, batch.samples, parties, scaled=scaled)

    def ciphertexts(self, form: GradientForm) -> int:
        """Return the ciphertexts that carry one row's residual and products."""
        return form.chunks(self.key) + form.needs_squares

    def opened(self, batch: BatchShape, party: str) -> int:
        """Return the ciphertexts in which a party's gradient is opened."""
        form = self.form(batch, party)
        slots = form.columns(self.key).slots
        return -(-batch.parts[party].opened // slots) * form.chunks(self.key)

    def steps(self) -> Iterator[Step]:
        """Count every operation."""
        if self.disclosure == "none":
            return
        with parallel_config(n_jobs=self.scenario.encryption.n_jobs):
            yield Step(COORDINATOR, self.arithmetic.certificate())
            for party in [self.label, *self.features]:
                yield Step(party, self.arithmetic.verification())
            yield from self._tables()
            for batch in self.shapes.batches:
                of_round = self._shared_round(batch) if self.shared else self._open_round(batch)
                for step in of_round:
                    if step.operation.number:
                        yield replace(step, times=batch.times * self.epochs)

    def _tables(self) -> Iterator[Step]:
        for party, holder in self._tabulated().items():
            yield Step(party, self.arithmetic.tables(holder=holder))

    def _tabulated(self) -> dict[str, bool]:
        """Return who encrypts from tables of powers, and whether as the holder of the key."""
        if self.disclosure == "none" or self.arithmetic.naive:
            return {}
        if not self.shared:
            return {self.label: False}
        return {COORDINATOR: True, **({self.label: False} if len(self.features) > 1 else {})}

    def _open_round(self, batch: BatchShape) -> Iterator[Step]:
        for party in self.features:
            form, rows = self.form(batch, party), batch.parts[party].rows
            for number in self._vectors(form, rows):
                yield Step(self.label, self.arithmetic.encryption(number))
                yield from self._send(self.label, party, number)
            yield from self._gradient(party, batch)

    def _shared_round(self, batch: BatchShape) -> Iterator[Step]:
        form = self.form(batch, self.label)
        for number in self._vectors(form, batch.samples):
            yield Step(COORDINATOR, self.arithmetic.key_holder_encryption(number))
            yield from self._send(COORDINATOR, self.label, number)
            yield Step(self.label, self.arithmetic.plain_addition(number))
        for position, party in enumerate(self.features):
            part = batch.parts[party]
            # Chunks are added up one by one, all else is done to a whole vector.
            for _ in range(self.ciphertexts(form)):
                yield Step(self.label, self.arithmetic.addition(part.known))
            for number in self._vectors(form, part.rows):
                if position:
                    yield Step(self.label, self.arithmetic.encryption(number, adding=True))
                yield from self._send(self.label, party, number)
        for party in [*self.features, self.label]:
            yield from self._gradient(party, batch)

    def _send(self, sender: str, receiver: str, number: int) -> Iterator[Step]:
        yield Step(sender, self.arithmetic.write(number))
        yield Step(receiver, self.arithmetic.check(number))

    def _vectors(self, form: GradientForm, rows: int) -> list[int]:
        """Return the lengths of the encrypted vectors that carry so many rows: slots, and residuals alone."""
        return [rows * form.chunks(self.key), rows * form.needs_squares]

    def _gradient(self, party: str, batch: BatchShape) -> Iterator[Step]:
        """Multiply, pack, mask, check, decrypt: steps 5 and 6 for one party."""
        part, columns = batch.parts[party], self.shapes.parties[party].scaled
        form, arithmetic = self.form(batch, party), self.arithmetic
        layout = form.slots(self.key)
        if form.needs_squares:
            yield Step(party, arithmetic.product(part.rows, columns))
        for chunk in range(form.chunks(self.key)):
            yield Step(party, arithmetic.product(part.rows, columns))
            yield Step(party, arithmetic.addition(part.ones))
            if form.needs_squares:
                slots = min(layout.slots, 1 + form.factors - chunk * layout.slots)
                bits = layout.width * (slots - 1) + FACTOR_BITS
                yield Step(party, arithmetic.subtraction(columns, bits, SHIFT_BITS))
            yield Step(party, arithmetic.packing(form.columns(self.key), part.opened))
        opened = self.opened(batch, party)
        yield Step(party, arithmetic.masking(opened))
        yield from self._send(party, COORDINATOR, opened)
        yield Step(COORDINATOR, arithmetic.decryption(opened))

    def transfers(self) -> Iterator[Transfer]:
        """Count every message."""
        data_parties, label = [self.label, *self.features], self.label
        if self.disclosure != "none":
            for party in data_parties:
                size = (1 + ROOTS) * self.key.plaintext_bytes
                yield self._transfer(COORDINATOR, party, "PublicKeyAnnouncement", size)
        batches = [*self.shapes.batches, replace(self.shapes.validation, times=1)]
        listed = sum(batch.times for batch in batches)
        for party in self.features:
            rows = sum(batch.parts[party].rows * batch.times for batch in batches)
            yield self._transfer(label, party, "BatchPlan", _WORD * (rows + 2 * listed))
            yield self._transfer(party, label, "KeptEpochs", 0)
            yield self._transfer(label, party, "TrainingStart", 20)
            yield self._transfer(party, label, "OpenedColumns", _WORD * (listed - 1) + 1)
            if self.disclosure != "none":
                yield self._transfer(label, COORDINATOR, "Allowance", _WORD * (listed - 1))
        yield self._transfer(label, COORDINATOR, "Schedule", 4)
        if self.shared:
            samples = sum(batch.samples * batch.times for batch in batches)
            for party in (COORDINATOR, self._dealer):
                yield self._transfer(label, party, "SigmoidSeries", _WORD * self.waves // 2)
            for party in (COORDINATOR, *self.features):
                yield self._transfer(label, party, "OpenedColumns", _WORD * (listed - 1) + 1)
            for _ in self.features:
                size = _WORD * (samples + 2 * listed)
                yield self._transfer(label, COORDINATOR, "SamplePositions", size)
        for batch in self.shapes.batches:
            for one in (*self._forward(batch), *self._answer(batch)):
                yield replace(one, times=batch.times * self.epochs)
        yield from self._steps()
        of_epoch = list(self._forward(self.shapes.validation, brier=True))
        if self.shared:
            of_epoch.append(self._transfer(COORDINATOR, label, "BrierShare", _WORD))
        of_epoch += [self._transfer(label, p, "EpochEnd", 2) for p in (COORDINATOR, *self.features)]
        for one in of_epoch:
            yield replace(one, times=self.epochs)

    def _steps(self) -> Iterator[Transfer]:
        """Step 8: the sums that steps of second order take, if every pair is kept."""
        if not self.scenario.training.second_order:
            return
        for number in range(self.epochs):
            pairs = min(max(0, number - 1), MEMORY)
            products = 2 * pairs + 2 if number else 1
            for party in self.features:
                yield self._transfer(party, self.label, "ProductSeed", 32)
                yield self._transfer(party, COORDINATOR, "ProductShare", _WORD * products)
                kept = min(number, MEMORY)
                yield self._transfer(self.label, party, "Step", _WORD * (2 * kept + 4))
            yield self._transfer(COORDINATOR, self.label, "ProductSum", _WORD * products)

    @property
    def _dealer(self) -> str:
        return self.scenario.training.dealer or self.scenario.feature_parties[0].name

    def _transfer(self, sender: str, receiver: str, kind: str, payload: int) -> Transfer:
        seal = 0 if COORDINATOR in (sender, receiver) else _SEAL
        size = payload + _ENVELOPE + len(sender) + len(receiver) + len(kind) + seal
        return Transfer(sender, receiver, kind, size)

    def _forward(self, batch: BatchShape, *, brier: bool = False) -> Iterator[Transfer]:
        """Step 3 or 8: logits in the clear, or a forward pass on shares."""
        label, wide = self.label, _WORD * (1 + self.factors)
        for party in self.features:
            rows = batch.parts[party].rows
            if not self.shared:
                yield self._transfer(party, label, "PartialLogits", rows * wide)
                continue
            yield self._transfer(party, label, "ContributionSeed", 32)
            yield self._transfer(party, COORDINATOR, "ContributionShare", rows * wide)
        if self.shared:
            dealt = _WORD * batch.samples * (2 + self.factors + self.waves)
            yield self._transfer(self._dealer, label, "DealtSeed", 32)
            yield self._transfer(self._dealer, COORDINATOR, "DealtShare", 32 + dealt)
            # S - r, 2z - t and d - b, of which a logistic model's rounds need the second alone.
            opened = [self.factors, 1, 1] if self.factors else [1, 1][: 1 + brier]
            for sender, receiver in ((label, COORDINATOR), (COORDINATOR, label)):
                for numbers in opened:
                    size = _WORD * batch.samples * numbers
                    yield self._transfer(sender, receiver, "Opening", size)

    def _answer(self, batch: BatchShape) -> Iterator[Transfer]:
        """Steps 4 to 7: residuals and the gradients they make."""
        label, ciphertext = self.label, self.key.ciphertext_bytes
        if self.shared:
            each = self.ciphertexts(self.form(batch, label))
            size = batch.samples * each * ciphertext + _WORD
            yield self._transfer(COORDINATOR, label, "EncryptedShares", size)
        for party in self.features:
            rows = batch.parts[party].rows
            if self.disclosure == "none":
                size = rows * _WORD * (1 + self.factors)
                yield self._transfer(label, party, "PlainResiduals", size)
            else:
                size = rows * self.ciphertexts(self.form(batch, party)) * ciphertext
                yield self._transfer(label, party, "EncryptedResiduals", size)
        if self.disclosure == "none":
            return
        for party in [*self.features, label] if self.shared else self.features:
            opened = self.opened(batch, party)
            yield self._transfer(party, COORDINATOR, "MaskedGradients", opened * ciphertext)
            size = opened * self.key.plaintext_bytes
            yield self._transfer(COORDINATOR, party, "OpenedGradients", size)
        if self.shared:
            for party in self.features:
                yield self._transfer(party, label, "RoundCheck", 1)
            for party in (COORDINATOR, *self.features):
                yield self._transfer(label, party, "RoundEnd", 1)

    def everything_else(self) -> dict[str, Rest]:
        """Return for each party what Python and numpy have to do around the operations."""
        size, messages = Counter[str](), Counter[str]()
        for sent in self.transfers():
            for party in (sent.sender, sent.receiver):
                size[party] += sent.times * sent.size
                messages[party] += sent.times
        slots = 1 + self.factors
        samples = self.epochs * self.shapes.samples
        forward = samples + self.epochs * self.shapes.validation.samples
        waves = forward * self.waves if self.shared else 0
        of_party = {
            COORDINATOR: Rest(
                evaluated=waves,
                plaintexts=samples * slots if self.shared else 0,
            )
        }
        for party, shape in self.shapes.parties.items():
            in_batches = sum(self._cells(b, party) * b.times for b in self.shapes.batches)
            contributed = in_batches + self._cells(self.shapes.validation, party)
            leads = party == self.label
            clear = self.disclosure == "none" or (leads and not self.shared)
            towards = [self.label] if self.shared else self.features
            encrypted = (
                self.epochs
                * slots
                * sum(b.parts[p].rows * b.times for b in self.shapes.batches for p in towards)
            )
            of_party[party] = Rest(
                rounds=self.epochs * self.shapes.rounds,
                entries=self.epochs * self.shapes.rounds * shape.columns * slots,
                cells=self.epochs * slots * (contributed + clear * in_batches),
                evaluated=waves if leads else 0,
                dealt=waves if party == self._dealer else 0,
                plaintexts=encrypted if leads and self.disclosure != "none" else 0,
                columns=shape.sources,
                table_cells=shape.rows * (shape.sources - shape.named),
                named_cells=shape.rows * shape.named,
            )
        return {
            party: replace(
                rest,
                messages=messages[party],
                size=size[party],
            )
            for party, rest in of_party.items()
        }

    def _cells(self, batch: BatchShape, party: str) -> int:
        part = batch.parts[party]
        return part.rows * self.shapes.parties[party].scaled + part.ones

    def memory(self) -> dict[str, Memory]:
        """Return what each party needs at least, besides the program."""
        return {party: self._memory_of(party) for party in (COORDINATOR, *self.shapes.parties)}

    def _memory_of(self, party: str) -> Memory:
        largest = max(self.shapes.batches, key=lambda batch: batch.samples)
        shape, part = self.shapes.parties.get(party), largest.parts.get(party)
        encrypts, tabulated = self.disclosure != "none", self._tabulated()
        lasting, working = 0, 0
        if party in tabulated:
            lasting += self.arithmetic.table_bytes(holder=tabulated[party])
        if shape is not None and part is not None:
            # The table as it came and as a matrix, and floats of one batch.
            lasting += shape.rows * (_CELL_BYTES * shape.sources + _WORD)
            working += self._cells(largest, party) * 3 * _WORD
            if encrypts and (self.shared or party != self.label):
                rows = min(part.rows, block_rows(shape.scaled, self._budget))
                working += rows * shape.scaled * 16 * 11
        if encrypts and (self.shared or party != COORDINATOR):
            rows = part.rows if part is not None else largest.samples
            each = self.ciphertexts(self.form(largest, party if part else self.label))
            working += _COPIES * rows * each * self.key.ciphertext_bytes
        if self.shared and party in (COORDINATOR, self.label, self._dealer):
            working += 4 * _WORD * largest.samples * (self.waves + 2 * self.factors + 4)
        return Memory(lasting, working)

    @property
    def _budget(self) -> int:
        return self.arithmetic.memory_budget
