"""A user's own joblib back end takes over the heavy arithmetic: here a Dask cluster of two processes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from joblib import parallel_config

from protocol.encryption.native import NativeRing
from protocol.encryption.ring import PureRing
from scenarios.running import runner
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


@pytest.mark.filterwarnings("ignore")  # Dask's and its dependencies' own deprecations
def test_a_dask_cluster_trains_the_same_model(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    scenario = load_scenario("epochs=1")
    alone = runner.run(scenario)
    for ring in (PureRing, NativeRing):
        monkeypatch.setattr(ring, "share", 1)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        parallel_config(backend="dask"),
    ):
        shared = runner.run(scenario)
        tasks = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert all(number > 0 for number in tasks.values())
    assert shared.label_party.test_logits.tobytes() == alone.label_party.test_logits.tobytes()
