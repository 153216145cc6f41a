"""What a training will cost, before anybody computes: counted operations times this machine's unit costs.

    Shapes.of(scenario)  ->  predict(scenario, shapes)  ->  Prediction

Operations and bytes are counted from settings and shapes alone (counting.py); what each takes is calibrated in seconds
(calibration.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from protocol.messages.rounds import EpochEnd
from scenarios.costs.calibration import UnitCosts, known_unit_costs, unit_costs
from scenarios.costs.counting import Conversation, Memory
from scenarios.costs.shapes import Shapes
from scenarios.running.runner import Run
from scenarios.scenario import COORDINATOR, Scenario

REST = "in the clear"


@dataclass(frozen=True)
class Prediction:
    """What one training is expected to cost.

    ``cpu_seconds`` by (party, kind of operation), over all epochs; ``REST`` is what Python and numpy do besides.
    ``size`` is bytes by (sender, receiver) and ``messages`` their number. ``memory`` is each party's; a process that
    computes nothing holds ``base_memory`` bytes.
    """

    epochs: int
    cpu_seconds: Mapping[tuple[str, str], float]
    size: Mapping[tuple[str, str], int]
    messages: Mapping[tuple[str, str], int]
    memory: Mapping[str, Memory]
    base_memory: int

    @property
    def total_cpu_seconds(self) -> float:
        """CPU seconds of all parties."""
        return sum(self.cpu_seconds.values())

    @property
    def total_size(self) -> int:
        """Bytes sent by all parties."""
        return sum(self.size.values())

    def of_party(self, party: str) -> float:
        """Return the CPU seconds of one party."""
        return sum(seconds for (name, _), seconds in self.cpu_seconds.items() if name == party)

    @property
    def peak_memory(self) -> dict[str, int]:
        """Bytes of each party that has a process of its own."""
        return {
            party: self.base_memory + needed.lasting + needed.working
            for party, needed in self.memory.items()
        }

    @property
    def peak_memory_together(self) -> int:
        """Bytes of one process in which all parties run, and take turns."""
        lasting = sum(party.lasting for party in self.memory.values())
        return self.base_memory + lasting + max(party.working for party in self.memory.values())

    def computing_seconds(self, cores: int) -> float:
        """Return seconds on the wall if the parties take turns, as rounds make them, on so many cores each.

        Encrypted operations are shared between the cores, everything else is not.
        """
        return sum(
            seconds / (1 if kind == REST else cores)
            for (_, kind), seconds in self.cpu_seconds.items()
        )

    def transfer_seconds(self, bits_per_second: float) -> float:
        """Return seconds on the wire if every byte crosses one such link, which the coordinator's is."""
        return 8 * self.total_size / bits_per_second


def predict(scenario: Scenario, shapes: Shapes, units: UnitCosts | None = None) -> Prediction:
    """Predict the cost of training; without ``units`` by those of this machine, calibrated in seconds if need be."""
    encryption = scenario.encryption
    if units is None:
        units = unit_costs(encryption.key_bits, encryption.engine)
    conversation = Conversation(scenario, shapes)
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for step in conversation.steps():
        spent = step.times * units.of_operation(step.operation)
        seconds[step.party, step.operation.kind] += spent
    size, messages = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for sent in conversation.transfers():
        size[sent.sender, sent.receiver] += sent.times * sent.size
        messages[sent.sender, sent.receiver] += sent.times
    for party, rest in conversation.everything_else().items():
        seconds[party, REST] += units.of_rest(rest)
    return Prediction(
        scenario.training.epochs,
        dict(seconds),
        dict(size),
        dict(messages),
        conversation.memory(),
        units.base_memory,
    )


def predict_run(run: Run) -> Prediction | None:
    """Predict what the training of a finished run was to cost, in the epochs that it had and from the shapes it met.

    None where this machine's unit costs under such keys are not known yet, for measuring them takes up to a minute.
    """
    encryption = run.scenario.encryption
    units = known_unit_costs(encryption.key_bits, encryption.engine)
    # The history of a training that was taken up has epochs that other runs paid for.
    epochs = sum(
        record.kind == EpochEnd.__name__ and record.receiver == COORDINATOR
        for record in run.ledgers[run.scenario.label_party.name].sent
    )
    if units is None or not epochs:
        return None
    training = run.scenario.training.model_copy(update={"epochs": epochs})
    scenario = run.scenario.model_copy(update={"training": training})
    return predict(scenario, Shapes.of_run(run), units)
