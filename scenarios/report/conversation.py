"""The transcript, folded: which kinds of messages go from whom to whom, how often, how large, and what they tell.

A run sends the same few messages thousands of times. A step stands for all of one kind between two parties in one
stage, in the order in which the first ones left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.ledger import MessageRecord
from protocol.messages import (
    BatchPlan,
    BrierShare,
    ColumnScale,
    EpochEnd,
    KeptEpochs,
    PublicKeyAnnouncement,
    SamplePositions,
    Schedule,
    SigmoidSeries,
    TrainingStart,
)

_ONCE = {
    kind.__name__
    for kind in (
        PublicKeyAnnouncement,
        BatchPlan,
        ColumnScale,
        Schedule,
        SigmoidSeries,
        SamplePositions,
        KeptEpochs,
        TrainingStart,
    )
}
_EACH_EPOCH = {kind.__name__ for kind in (BrierShare, EpochEnd)}

STAGES = ("Setup", "Alignment", "Before training", "Each round", "Each epoch", "Scoring")


@dataclass
class Step:
    """All messages of a kind from ``sender`` to ``receiver`` in a stage; ``size`` is of all together, in bytes."""

    stage: str
    sender: str
    receiver: str
    kind: str
    sealed: bool
    discloses: str
    count: int = 0
    size: int = 0

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


def steps(transcript: Sequence[MessageRecord]) -> list[Step]:
    """Return the steps of a transcript, stage by stage."""
    found: dict[tuple[str, str, str, str], Step] = {}
    for record in transcript:
        stage = _stage(record)
        key = (stage, record.sender, record.receiver, record.kind)
        if key not in found:
            found[key] = Step(*key, record.sealed, record.discloses)
        found[key].count += 1
        found[key].size += record.size
    return sorted(found.values(), key=lambda step: STAGES.index(step.stage))


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


def links(transcript: Sequence[MessageRecord]) -> list[tuple[str, str, int, int]]:
    """Return (sender, receiver, messages, bytes) of each link, the busiest first."""
    sums: dict[tuple[str, str], list[int]] = {}
    for record in transcript:
        total = sums.setdefault((record.sender, record.receiver), [0, 0])
        total[0] += 1
        total[1] += record.size
    listed = [(*link, messages, size) for link, (messages, size) in sums.items()]
    return sorted(listed, key=lambda link: -link[3])


def _stage(record: MessageRecord) -> str:
    if record.phase != "training":
        return record.phase.capitalize()
    if record.kind in _ONCE:
        return "Before training"
    return "Each epoch" if record.kind in _EACH_EPOCH else "Each round"
