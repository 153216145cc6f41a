from __future__ import annotations

from pathlib import Path

from protocol.ledger import MessageRecord
from scenarios.report.conversation import lessons, links, steps
from scenarios.report.record import Record


def sent(phase: str, sender: str, receiver: str, kind: str, size: int = 10) -> MessageRecord:
    sealed = "coordinator" not in (sender, receiver)
    return MessageRecord(0, phase, sender, receiver, kind, size, sealed, f"what {kind} tells")


TRANSCRIPT = [
    sent("alignment", "shop", "bank", "BlindingKey"),
    sent("training", "shop", "bank", "BatchPlan"),
    *[
        sent("training", "bank", "shop", "PartialLogits", 30),
        sent("training", "bank", "coordinator", "MaskedGradients"),
        sent("training", "coordinator", "bank", "OpenedGradients"),
    ]
    * 4,
    sent("training", "shop", "bank", "EpochEnd"),
    sent("training", "bank", "shop", "PartialLogits", 50),
    sent("scoring", "bank", "shop", "PartialLogits", 90),
]


def test_messages_fold_into_steps_stage_by_stage() -> None:
    found = steps(TRANSCRIPT)
    assert [(step.stage, step.kind, step.count, step.size) for step in found] == [
        ("Alignment", "BlindingKey", 1, 10),
        ("Before training", "BatchPlan", 1, 10),
        ("Each round", "PartialLogits", 5, 170),
        ("Each round", "MaskedGradients", 4, 40),
        ("Each round", "OpenedGradients", 4, 40),
        ("Each epoch", "EpochEnd", 1, 10),
        ("Scoring", "PartialLogits", 1, 90),
    ]
    assert found[2].mean_size == 34


def test_no_kind_of_message_stands_in_the_wrong_stage(finished: Path) -> None:
    run = Record.read(finished)
    epochs = len(run.metrics["history"])
    least = {"Each epoch": epochs, "Each round": epochs * run.metrics["rows"]["batches"]}
    for step in steps(run.transcript):
        assert step.count >= least.get(step.stage, 1), step.kind
        if step.stage == "Before training":
            assert step.count == 1, step.kind


def test_a_party_learns_from_what_it_receives() -> None:
    found = steps(TRANSCRIPT)
    assert [(one.kind, one.senders, one.count) for one in lessons(found, "shop")] == [
        ("PartialLogits", ["bank"], 6)
    ]
    (lesson,) = lessons(found, "coordinator")
    assert lesson.discloses == "what MaskedGradients tells"


def test_links_come_busiest_first() -> None:
    found = links(steps(TRANSCRIPT))
    assert found[0] == ("bank", "shop", 6, 260)
    assert sum(messages for *_, messages, _ in found) == len(TRANSCRIPT)
