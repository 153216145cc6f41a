"""A label party that deviates: it makes residuals so large that whether a gradient is beyond its bound tells a column.

Under ``shared`` every party says after a round whether its gradient exceeds what residuals can have made, and the
round is played again if one does. A label party that adds a number of its choice to one entity's residual learns
whether that entity's entry is above a threshold, and asks again. Measured: 45 repeats in one round, three rows'
largest entries exact.

Now rounds are repeated as often as chance allows, once in all but the largest runs: one bit of an answer, and a count
that everyone keeps for itself.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import RemoteProtocolError
from protocol.messages.rounds import RoundCheck, RoundEnd
from protocol.settings import ProtocolSettings, TrainingSettings
from protocol.training import limits
from protocol.training.limits import Repeats, most_by_chance, settle_round
from protocol.transport.channel import Channel
from scenarios.running import runner
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]
ASKED = 12


def deviates(patch: pytest.MonkeyPatch) -> list[bool]:
    """One thing changed: whatever the checks say, the round is played again, ASKED times."""
    asked = list[bool]()

    async def settle(channel: Channel, repeats: Repeats, *, exceeded: bool) -> bool:
        if len(asked) >= ASKED:
            return await settle_round(channel, repeats, exceeded=exceeded)
        for party in channel.roster.features:
            await channel.receive(party, RoundCheck)
        for party in [channel.roster.coordinator, *channel.roster.features]:
            await channel.send(party, RoundEnd(True))
        asked.append(True)
        return True

    patch.setattr(limits, "settle_round", settle)
    return asked


def test_where_nobody_counts_a_round_is_played_as_often_as_it_likes(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = deviates(monkeypatch)
    monkeypatch.setattr(Repeats, "count", lambda *_: None)
    runner.run(load_scenario("disclosure=shared", "epochs=1"))
    assert len(asked) == ASKED


def test_ours_ends_the_run_at_the_second_time(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = deviates(monkeypatch)
    with pytest.raises(
        RemoteProtocolError, match=r"shop has asked .* \(2 times\) than chance allows \(1"
    ):
        runner.run(load_scenario("disclosure=shared", "epochs=1"))
    assert len(asked) == 2


def test_chance_allows_one_but_in_very_long_runs() -> None:
    def most(rows: int, epochs: int, **training: object) -> int:
        settings = ProtocolSettings(
            training=TrainingSettings.model_validate({"epochs": epochs, **training})
        )
        return Repeats.of(settings, [rows], 3, 0).most

    assert most(200, 4) == 1
    assert most(20_000, 60) == 1
    assert most(1_000_000, 300) == 3
    assert most(33_000, 60, model="factorization-machine", factors=4) == 2
    assert [most_by_chance(rate) for rate in (1e-9, 1e-5, 1e-2, 1.0)] == [1, 1, 3, 11]


def test_repeats_before_a_break_count_after_it() -> None:
    settings = ProtocolSettings()
    repeats = Repeats.of(settings, [1000], 2, 1)
    with pytest.raises(RemoteProtocolError, match="than chance allows"):
        repeats.count("shop")
