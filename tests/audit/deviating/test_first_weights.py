"""A label party under ``open``, merely curious: it draws a feature party's first weights again and solves for columns.

The weights came of the public seed and the party's name. With as many factors as columns or more the latent sums of the
first round, ``S = X V``, are then solved for X. Measured: every cell of a table to a hundredth of a standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from parties.model import LocalModel, Optimizer, generator
from parties.order import PrivateOrder
from protocol.messages.forward import PartialLogits
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario

SEED, PARTY, N_COLUMNS = 3, "bank", 6
FIELDS = [
    "model=factorization-machine",
    f"factors={N_COLUMNS}",
    "epochs=1",
    "disclosure=open",
    "guard=warn",
]
LoadScenario = Callable[..., Scenario]


def cells_read(run: Run) -> float:
    """Attack the first round; return the share of the batch's cells that are found to a hundredth."""
    drawn = LocalModel.initialise(
        np.zeros((N_COLUMNS, 1 + N_COLUMNS)),
        bias=False,
        optimizer=Optimizer("adam", 0.1),
        draw=generator(SEED, PARTY),
    )
    sums = next(
        message.latent_sums
        for sender, message in run.views["shop"]
        if sender == PARTY and isinstance(message, PartialLogits)
    )
    found = sums @ np.linalg.inv(drawn.factors)

    batch = run.label_party.trained.split.batches[0].entities[PARTY]
    cells = run.feature_parties[PARTY].matrix.take(batch).dot(np.eye(N_COLUMNS))
    assert cells.shape == found.shape
    return float(np.mean(np.abs(found - cells) < 0.01))


def test_weights_by_the_seed_alone_give_every_cell(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = load_scenario(*FIELDS)
    monkeypatch.setattr(PrivateOrder, "generator", lambda *_: generator(SEED, PARTY))
    assert cells_read(runner.run(scenario, record_views=True)) == 1.0


def test_our_weights_leave_sums_in_an_unknown_basis(load_scenario: LoadScenario) -> None:
    assert cells_read(runner.run(load_scenario(*FIELDS), record_views=True)) < 0.05
