from __future__ import annotations

from pathlib import Path

import pytest

from protocol import messages
from protocol.messages import MESSAGES, Message, Role, disclosure_table

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"


@pytest.mark.parametrize("kind", MESSAGES.values(), ids=MESSAGES)
def test_every_message_says_who_reads_it_and_what_they_learn(kind: type[Message]) -> None:
    assert kind.senders <= set(Role)
    assert kind.receivers <= set(Role)
    assert kind.discloses
    assert kind.__doc__
    assert f"{kind.__name__} " in (messages.__doc__ or "") or f"{kind.__name__}`" in (
        messages.__doc__ or ""
    )


def test_the_security_page_shows_the_table_of_disclosures() -> None:
    assert disclosure_table() in SECURITY.read_text(encoding="utf-8")


def test_the_coordinator_receives_no_residual_logit_or_plain_gradient() -> None:
    heard = {name for name, kind in MESSAGES.items() if Role.COORDINATOR in kind.receivers}
    in_the_open = {name for name in heard if "open" in MESSAGES[name].under}
    assert in_the_open == {"BlindedIds", "Schedule", "MaskedGradients", "EpochEnd"}
    words = {"ContributionShare", "DealtShare", "Opening"}  # uniform, as the audit shows
    public = {"SigmoidSeries", "SamplePositions", "RoundEnd", "ScoreSchedule"}
    assert heard - in_the_open == words | public
