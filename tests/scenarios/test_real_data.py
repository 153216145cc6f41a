"""User files of real size and shape, where the data folder stands beside the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scenarios.judging import baselines
from scenarios.judging.baselines import JOINT, POOLED
from scenarios.running import runner
from scenarios.scenario import Scenario, load

FATE = Path(__file__).parents[3] / "shared" / "data" / "fate"
needs_data = pytest.mark.skipif(
    not FATE.is_dir(), reason="the folder shared/data is not beside the project"
)


def scenario(folder: Path, tables: dict[str, pd.DataFrame], **columns: str) -> Scenario:
    """Shuffle and thin each table, write it as CSV, and describe the parties; the first has the label."""
    parties = []
    for seed, (name, table) in enumerate(tables.items()):
        table.sample(frac=0.96, random_state=seed).to_csv(folder / f"{name}.csv", index=False)
        role = "feature" if seed else "label"
        label = "" if seed else f'label = "{columns["label"]}"'
        parties.append(
            f'[[parties]]\nname = "{name}"\nrole = "{role}"\ncsv = "{name}.csv"\nid = "{columns["id"]}"\n{label}'
        )
    text = "\n".join(["[training]\nepochs = 3\nbatch_size = 120", *parties])
    (folder / "real.toml").write_text(text, encoding="utf-8")
    return load(str(folder / "real.toml"), ["key_bits=512", "insecure_key=true"])


@needs_data
def test_four_parties_find_the_users_they_share(tmp_path: Path) -> None:
    files = {
        "maker": "motor_hetero_guest",
        "sensors": "motor_hetero_host",
        "plant": "motor_hetero_host_1",
        "grid": "motor_hetero_host_2",
    }
    tables = {name: pd.read_csv(FATE / f"{file}.csv") for name, file in files.items()}
    maker = tables["maker"]
    tables["maker"] = maker.assign(fast=(maker["motor_speed"] > 0).astype(int)).drop(
        columns="motor_speed"
    )
    settings = scenario(tmp_path, tables, id="idx", label="fast")
    run = runner.run(settings)
    read = [set(pd.read_csv(tmp_path / f"{name}.csv")["idx"]) for name in files]
    assert run.shared == {"users": len(set.intersection(*read))}
    comparison = baselines.compare(run)
    assert abs(comparison.scores[JOINT].auc - comparison.scores[POOLED].auc) <= 1e-3
    assert comparison.weight_distance <= 1e-2


@needs_data
def test_default_credit_joint_is_pooled(tmp_path: Path) -> None:
    tables = {
        "bank": pd.read_csv(FATE / "default_credit_hetero_guest.csv"),
        "bureau": pd.read_csv(FATE / "default_credit_hetero_host.csv"),
    }
    settings = scenario(tmp_path, tables, id="id", label="y")
    training = settings.training.model_copy(
        update={"disclosure": "none", "batch_size": 2048, "epochs": 10}
    )
    run = runner.run(settings.model_copy(update={"training": training}))
    comparison = baselines.compare(run)
    joint, pooled = comparison.scores[JOINT], comparison.scores[POOLED]
    assert abs(joint.auc - pooled.auc) <= 1e-3
    assert abs(joint.log_loss - pooled.log_loss) <= 1e-3
    assert comparison.weight_distance <= 1e-2
    assert joint.auc > comparison.scores[baselines.ALONE].auc + 0.03
    assert np.isfinite(pooled.auc)
