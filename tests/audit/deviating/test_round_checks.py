"""A label party that deviates under ``shared``: it asks in every round, and never has one played again.

In place of residuals it sends a number t for one row and 0 for all others. The receiver finds a number beyond its bound
exactly if the row's largest entry, times t, is, and says so in RoundCheck. Where it then plays on as the label party
does, no repeat is counted: 48 rounds of an ordinary training were 45 comparisons, and gave three rows' largest entries
to the last bit. Now a yes must be followed by a repeat, and repeats are limited: the first ends the run.

What remains is one answer a round that costs nothing as long as it is no: at most log2 of the number of rounds, in
bits, for each yes that the limit allows and the one that ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from parties.features import HIGHEST
from protocol.batches import Batch
from protocol.encryption.encryptors import Encryptor
from protocol.errors import RemoteProtocolError
from protocol.messages.rounds import EncryptedResiduals, RoundCheck, RoundEnd
from protocol.numbers import IntArray
from protocol.training import limits, roles
from protocol.training.gradients import GradientForm, Slots
from protocol.training.limits import Repeats
from protocol.training.opening import pass_on
from protocol.transport.channel import Channel
from scenarios.running import runner
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]
TELCO = "telco"
ROWS = 3


@dataclass
class Bisection:
    """Between which bounds the largest entry of each row is, and how many answers it took."""

    lower: list[int] = field(default_factory=lambda: [0] * ROWS)
    upper: list[int] = field(default_factory=lambda: [1 + HIGHEST] * ROWS)
    answers: int = 0
    yes: int = 0

    @property
    def row(self) -> int | None:
        """The row to be asked about, None when all are known."""
        bounds = zip(self.lower, self.upper, strict=True)
        return next((row for row, (low, high) in enumerate(bounds) if low < high), None)

    @property
    def guess(self) -> int:
        assert self.row is not None
        return (self.lower[self.row] + self.upper[self.row] + 1) // 2

    def note(self, *, larger: bool) -> None:
        """Take the answer to whether the entry is as large as guessed."""
        row, guess = self.row, self.guess
        assert row is not None
        self.answers += 1
        self.yes += larger
        if larger:
            self.lower[row] = guess
        else:
            self.upper[row] = guess - 1


@contextmanager
def asking() -> Iterator[Bisection]:
    """Let the label party ask about rows of telco's, a question a round, until it knows."""
    found = Bisection()

    async def ask(
        channel: Channel, batch: Batch, form: GradientForm, slots: Slots, encryptor: Encryptor
    ) -> None:
        if found.row is None:
            await pass_on(channel, batch, form, slots, encryptor)
            return
        bound = (form.samples << form.residual_bits) * (1 << 15)
        for party, entities in batch.entities.items():
            values: IntArray = np.zeros((len(entities), 1), dtype=np.int64)
            # An entry x goes beyond the bound if x t does, which from the guessed entry on it should.
            values[found.row] = bound // max(1, found.guess - 1) if party == TELCO else 0
            query = form.encrypt(encryptor, values)
            await channel.send(party, EncryptedResiduals(*query.to_wire()))

    async def note(channel: Channel, repeats: Repeats, *, exceeded: bool) -> bool:
        roster, asked = channel.roster, found.row is not None
        checks = {p: (await channel.receive(p, RoundCheck)).exceeded for p in roster.features}
        if asked:
            found.note(larger=checks[TELCO])
        for party in [roster.coordinator, *roster.features]:
            await channel.send(party, RoundEnd(False))
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roles, "pass_on", ask)
        patch.setattr(limits, "settle_round", note)
        yield found


def test_where_a_yes_needs_no_repeat_each_round_is_an_answer(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = limits.end_round

    async def believe(channel: Channel, repeats: Repeats, *, exceeded: bool = False) -> bool:
        return await honest(channel, repeats)

    monkeypatch.setattr(limits, "end_round", believe)
    changes = ("disclosure=shared", "batch_size=1000", "epochs=48", "patience=48", "optimizer=adam")
    with asking() as found:
        run = runner.run(load_scenario(*changes))
    rows = run.label_party.trained.split.batches[0].entities[TELCO][:ROWS]
    largest = np.abs(run.feature_parties[TELCO].matrix.scaled[rows].astype(int)).max(axis=1)
    assert found.lower == largest.tolist()
    assert run.label_party.trained.repeated == 0


def test_ours_ends_the_run_at_the_first_yes(load_scenario: LoadScenario) -> None:
    with (
        asking() as found,
        pytest.raises(RemoteProtocolError, match="shop goes on from a round with numbers beyond"),
    ):
        runner.run(
            load_scenario("disclosure=shared", "batch_size=1000", "epochs=4", "optimizer=adam")
        )
    assert found.yes == 1
