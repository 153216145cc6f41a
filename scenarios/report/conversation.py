"""The transcript, folded: which kinds of messages go from whom to whom, how often, how large, and what they tell.

A run sends the same few messages thousands of times. A step stands for all of one kind between two parties in one
stage, in the order in which the first ones left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.ledger import MessageRecord, Receipts
from protocol.messages import MESSAGES, planning, setup
from protocol.messages.rounds import BrierShare, EpochEnd

_ONCE = {
    name
    for name, kind in MESSAGES.items()
    if kind.__module__ in (setup.__name__, planning.__name__)
}
_EACH_EPOCH = {kind.__name__ for kind in (BrierShare, EpochEnd)}

STAGES = ("Setup", "Alignment", "Before training", "Each round", "Each epoch", "Scoring")


@dataclass
class Step:
    """All messages of a kind from ``sender`` to ``receiver`` in a stage; ``size`` is of all together, in bytes.

    ``began`` is the time of the first one, in nanoseconds of a monotonic clock.
    """

    stage: str
    sender: str
    receiver: str
    kind: str
    sealed: bool
    discloses: str
    count: int = 0
    size: int = 0
    began: int = 0

    @property
    def mean_size(self) -> float:
        """Bytes of one message."""
        return self.size / self.count


@dataclass
class Lesson:
    """What a party learned from one kind of message, and from how many of them."""

    kind: str
    discloses: str
    senders: list[str] = field(default_factory=list)
    count: int = 0
    size: int = 0


def steps(transcript: Sequence[MessageRecord], received: Sequence[Receipts] = ()) -> list[Step]:
    """Return the steps of a transcript, and of what its only sender ``received``, stage by stage."""
    found: dict[tuple[str, str, str, str], Step] = {}
    everything: list[MessageRecord | Receipts] = [*transcript, *received]
    for one in everything:
        key = (_stage(one.phase, one.kind), one.sender, one.receiver, one.kind)
        if key not in found:
            found[key] = Step(*key, one.sealed, one.discloses, began=one.time)
        found[key].count += one.messages
        found[key].size += one.size
    return sorted(found.values(), key=lambda step: (STAGES.index(step.stage), step.began))


def lessons(all_steps: Sequence[Step], party: str) -> list[Lesson]:
    """Return what a party learned, kind by kind. What it relays sealed it cannot read, and is not in it."""
    learned: dict[str, Lesson] = {}
    for step in all_steps:
        if step.receiver == party:
            lesson = learned.setdefault(step.kind, Lesson(step.kind, step.discloses))
            lesson.count += step.count
            lesson.size += step.size
            if step.sender not in lesson.senders:
                lesson.senders.append(step.sender)
    return list(learned.values())


def links(all_steps: Sequence[Step]) -> list[tuple[str, str, int, int]]:
    """Return (sender, receiver, messages, bytes) of each link, the busiest first."""
    sums: dict[tuple[str, str], list[int]] = {}
    for step in all_steps:
        total = sums.setdefault((step.sender, step.receiver), [0, 0])
        total[0] += step.count
        total[1] += step.size
    listed = [(*link, messages, size) for link, (messages, size) in sums.items()]
    return sorted(listed, key=lambda link: -link[3])


def _stage(phase: str, kind: str) -> str:
    if phase != "training":
        return phase.capitalize()
    if kind in _ONCE:
        return "Before training"
    return "Each epoch" if kind in _EACH_EPOCH else "Each round"
