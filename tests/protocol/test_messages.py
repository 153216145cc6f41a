from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol.errors import RemoteProtocolError
from protocol.messages import MESSAGES, disclosure_table
from protocol.messages.message import Message, Role
from protocol.messages.planning import BatchPlan, KeptEpochs, SamplePositions, SigmoidSeries
from protocol.messages.rounds import BrierShare, EncryptedShares, Step
from protocol.messages.scoring import ScoreRequest, ScoreSchedule
from protocol.numbers import Ciphertexts, IntArray

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"


@pytest.mark.parametrize("kind", MESSAGES.values(), ids=MESSAGES)
def test_every_message_says_who_reads_it_and_what_they_learn(kind: type[Message]) -> None:
    assert kind.senders <= set(Role)
    assert kind.receivers <= set(Role)
    assert kind.discloses
    assert kind.__doc__


def test_the_security_page_shows_the_table_of_disclosures() -> None:
    assert disclosure_table() in SECURITY.read_text(encoding="utf-8")


def test_the_coordinator_receives_no_residual_logit_or_plain_gradient() -> None:
    heard = {name for name, kind in MESSAGES.items() if Role.COORDINATOR in kind.receivers}
    in_the_open = {name for name in heard if "open" in MESSAGES[name].under}
    counts = {"OpenedColumns", "Allowance", "ProductShare"}  # the last is uniform
    assert in_the_open == {"BlindedIds", "Schedule", "MaskedGradients", "EpochEnd"} | counts
    words = {"ContributionShare", "DealtShare", "Opening"}  # uniform, as the audit shows
    public = {"SigmoidSeries", "SamplePositions", "RoundEnd", "ScoreSchedule"}
    assert heard - in_the_open == words | public


def of(*numbers: int) -> IntArray:
    return np.array(numbers, dtype=np.int64)


LARGEST = 2**63 - 1
NOTHING = Ciphertexts(128, b"")
MALFORMED: dict[str, Callable[[], Message]] = {
    # 2 (2^63 - 1) + 3 comes round to 1 in 64 bits.
    "parts that seem to add up": lambda: SamplePositions(
        "bank", of(0), of(LARGEST, LARGEST, 3), of(1, 1, 1)
    ),
    "batches that seem to add up": lambda: BatchPlan(
        of(0), of(LARGEST, LARGEST, 3), of(LARGEST, LARGEST, 3)
    ),
    "batches in a square": lambda: BatchPlan(of(0, 1)[:, None], of(1, 1), of(1, 1)),
    "positions in a square": lambda: SamplePositions("bank", of(0, 0)[:, None], of(1, 1), of(1, 1)),
    "epochs in a square": lambda: KeptEpochs(bytes(16), of(1, 2)[:, None]),
    "the least of all coefficients": lambda: SigmoidSeries(32, of(1, -(2**63))),
    "a step that is no number": lambda: Step(np.array([np.nan]), of(1), of(0), of(0), False),
    "steps of other sizes": lambda: Step(np.ones(3), of(1, 1), of(0, 0), of(0, 0), False),
    "steps that seem to add up": lambda: Step(
        np.ones(1), of(LARGEST, LARGEST, 3), of(0, 0, 0), of(0, 0, 0), False
    ),
    "steps of no output": lambda: Step(np.ones(0), of(), of(), of(), True),
    "a flag for two steps": lambda: Step(np.ones(2), of(1, 1), of(0), of(0, 0), False),
    "a flag of 2": lambda: Step(np.ones(1), of(1), of(0), of(2), False),
    "two sums of residuals": lambda: EncryptedShares(NOTHING, NOTHING, np.zeros(2, np.uint64)),
    "no sum of squares": lambda: BrierShare(np.zeros(0, np.uint64)),
    "logits in a square": lambda: ScoreSchedule(of(1, 1)[:, None]),
    "fewer logits than entities": lambda: ScoreRequest(of(0, 1, 2), of(2)),
    "no pairs of some entities": lambda: ScoreRequest(of(0, 1, 2), of(3, 0)),
    "an entity twice in a batch": lambda: BatchPlan(of(0, 0, 1), of(2, 1), of(2, 1)),
    "more entities than samples": lambda: SamplePositions("bank", of(0, 1), of(2), of(3)),
    "fewer pairs than entities": lambda: ScoreRequest(of(0, 1, 2), of(2, 1)),
}


@pytest.mark.parametrize("make", MALFORMED.values(), ids=MALFORMED)
def test_what_cannot_be_is_refused(make: Callable[[], Message]) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed: expected"):
        make()
