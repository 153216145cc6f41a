from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from protocol.errors import AlignmentError, SettingsError
from scenarios.running import runner
from scenarios.running.align import align, write
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]
Tables = dict[str, pd.DataFrame]


def read(folder: Path, party: str) -> pd.DataFrame:
    return pd.read_csv(folder / party / "positions.csv")


@pytest.mark.parametrize("method", ["keyed-hash", "ecdh"])
def test_each_party_gets_the_positions_of_its_own_rows(
    load_scenario: LoadScenario, tables: Tables, tmp_path: Path, method: str
) -> None:
    scenario = load_scenario(f"alignment.method={method}", "pad_to=400")
    alignment = align(scenario)
    assert alignment.shared == {"users": 260}
    folder = write(alignment, scenario, tmp_path)
    assert folder.parent == tmp_path / "three"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [f"{party}/positions.csv" for party in sorted(tables)]
    shop, bank, telco = (read(folder, party) for party in ("shop", "bank", "telco"))
    assert [*shop.columns] == ["row", "bank", "telco"]
    assert [*bank.columns] == ["row", "position"]
    by_position = {
        "shop": tables["shop"]["user"][shop.sort_values("bank")["row"]],
        "bank": tables["bank"]["user"][bank.sort_values("position")["row"]],
        "telco": tables["telco"]["user"][telco.sort_values("position")["row"]],
    }
    users = [list(column) for column in by_position.values()]
    assert users[0] == users[1] == users[2]
    assert len(users[0]) == 260
    written = "".join(path.read_text() for path in folder.rglob("*.csv"))
    assert "user" not in written


def test_rows_shared_with_some_parties_have_no_position_at_others(
    load_scenario: LoadScenario, tmp_path: Path
) -> None:
    scenario = load_scenario("parties.telco.missing=neutral", "parties.bank.missing=neutral")
    shop = read(write(align(scenario), scenario, tmp_path), "shop")
    assert shop["bank"].notna().sum() == 280
    assert shop["telco"].notna().sum() == 270
    assert shop[["bank", "telco"]].notna().any(axis=1).all()


def test_progress_comes_to_its_end_in_a_run_too(load_scenario: LoadScenario) -> None:
    reported: list[tuple[int, int]] = []
    runner.run(
        load_scenario("epochs=1", "method=ecdh"),
        aligning=lambda done, total: reported.append((done, total)),
    )
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_too_many_ids_to_pad_are_refused(load_scenario: LoadScenario) -> None:
    with pytest.raises(AlignmentError, match="pad_to = 10"):
        align(load_scenario("pad_to=10"))


def test_a_folder_that_cannot_be_written_is_named(
    load_scenario: LoadScenario, tmp_path: Path
) -> None:
    scenario = load_scenario()
    (tmp_path / "three").write_text("in the way")
    with pytest.raises(SettingsError, match="three cannot be written"):
        write(align(scenario), scenario, tmp_path)
