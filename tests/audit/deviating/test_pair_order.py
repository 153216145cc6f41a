"""A coordinator, merely curious: where lists are judged it sees when users occur first in the label party's file.

Under ``shared`` it is told which contribution each sample refers to, and so which samples are about a user whom a party
does not know. All users were asked about as they occur first in the file: of everybody whom some party lacks it had the
place, in a file that may be sorted by label or by when people joined.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from audit.recording import BANK, FACTORIZATION, SHOP, load_parties
from protocol import scoring
from protocol.messages.planning import SamplePositions
from protocol.numbers import IntArray
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario


@pytest.fixture
def lacking_users(tmp_path: Path) -> Scenario:
    """Four parties that judge lists; the bank does not know every third user."""
    scenario = load_parties(tmp_path, FACTORIZATION, "epochs=1", "ranking.k=5", "guard=warn")
    bank = pd.read_csv(tmp_path / "bank.csv")
    bank[bank["user"] % 3 > 0].to_csv(tmp_path / "bank.csv", index=False)
    return scenario


def places_found(run: Run) -> tuple[float, float]:
    """Take the last question's samples for users as they occur first.

    Return the share of those unknown at the bank whom that places rightly, and the share that chance would.
    """
    told = [
        message
        for sender, message in run.views["coordinator"]
        if sender == SHOP and isinstance(message, SamplePositions) and message.party == BANK
    ]
    (asked,) = told[-1].batches()
    label = run.label_party
    assert label.catalogue is not None
    rows = label.catalogue.user_rows
    unknown = label.trained.samples.positions[BANK][rows] < 0
    assert len(asked) == len(unknown)
    return float(np.mean(asked[unknown] < 0)), float(np.mean(unknown))


def test_users_as_they_occur_first_are_placed(
    lacking_users: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_it_is(n: int, purpose: str) -> IntArray:
        return np.arange(n)

    weaker = SimpleNamespace(fresh=lambda: SimpleNamespace(permutation=as_it_is))
    monkeypatch.setattr(scoring, "PrivateOrder", weaker)
    found, _ = places_found(runner.run(lacking_users, record_views=True))
    assert found == 1.0


def test_in_a_fresh_order_they_are_not(lacking_users: Scenario) -> None:
    shares = [places_found(runner.run(lacking_users, record_views=True)) for _ in range(3)]
    found, by_chance = np.mean(shares, axis=0)
    # Of 39 users in three runs, hypergeometric: a standard deviation of about .04.
    assert found < by_chance + 0.25
