from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from protocol.errors import DataError, SettingsError
from scenarios import run_folder
from scenarios.commands.main import main
from scenarios.judging import baselines
from scenarios.running import runner
from scenarios.running.recommend import recommend
from scenarios.running.runner import Run
from scenarios.scenario import load

TINY = [f"parties.{name}.arguments.size=tiny" for name in ("shop", "bank", "telco")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    changes = [*TINY, "truth.arguments.size=tiny", "disclosure=none", "epochs=8"]
    run = runner.run(load("shop-bank-telco", [*changes, "parties.shop.title=category"]))
    return run, run_folder.write(run, baselines.compare(run), tmp_path_factory.mktemp("runs"))


def test_the_list_is_the_best_of_what_the_user_has_not_met(finished: tuple[Run, Path]) -> None:
    run, folder = finished
    catalogue, pairs = run.label_party.catalogue, run.label_party.pairs
    assert catalogue is not None
    assert pairs is not None
    dataset = run.datasets["shop"]
    for user in (0, 7):
        identifier = str(catalogue.users[user])
        found = recommend(folder, identifier, 5)
        met = set(catalogue.item_of[catalogue.user_of == user].tolist())
        logits = pairs(np.array([user]))[0]
        expected = [item for item in np.argsort(-logits).tolist() if item not in met][:5]
        assert [one.item for one in found.items] == [catalogue.items[item] for item in expected]
        chances = 1 / (1 + np.exp(-logits[expected]))
        np.testing.assert_allclose([one.probability for one in found.items], chances, atol=1e-12)
        of_item = dict(zip(dataset.ids["item"], dataset.columns["category"], strict=True))
        assert [one.title for one in found.items] == [of_item[one.item] for one in found.items]
        knows = {name: identifier in run.datasets[name].ids["user"] for name in ("bank", "telco")}
        assert found.unknown_to == [name for name, known in knows.items() if not known]


def test_given_items_are_ranked_alone(finished: tuple[Run, Path]) -> None:
    run, folder = finished
    assert run.label_party.catalogue is not None
    user = str(run.label_party.catalogue.users[0])
    three = [one.item for one in recommend(folder, user, 5).items[2:]]
    assert [one.item for one in recommend(folder, user, 5, three[::-1]).items] == three


def test_who_and_what_is_unknown_is_refused_without_naming_it(finished: tuple[Run, Path]) -> None:
    run, folder = finished
    assert run.label_party.catalogue is not None
    user = str(run.label_party.catalogue.users[0])
    with pytest.raises(DataError, match="shop: its table lacks 1 of 1 user asked for") as error:
        recommend(folder, "nobody@example.org", 5)
    assert "nobody" not in str(error.value)
    with pytest.raises(DataError, match="shop: its table lacks 1 of 2 items asked for"):
        recommend(folder, user, 5, ["sku-none", str(run.label_party.catalogue.items[0])])
    met = run.datasets["shop"].ids["item"][0]
    with pytest.raises(DataError, match="no item is left to recommend"):
        recommend(folder, str(run.datasets["shop"].ids["user"][0]), 5, [str(met)])


def test_a_folder_that_is_no_run_is_refused(finished: tuple[Run, Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not the folder of a finished run"):
        recommend(tmp_path, "someone", 5)
    _, folder = finished
    (tmp_path / "settings.json").write_bytes((folder / "settings.json").read_bytes())
    with pytest.raises(SettingsError, match=r"model\.json is missing or damaged; train again"):
        recommend(tmp_path, "someone", 5)


def test_the_command_prints_the_list(finished: tuple[Run, Path]) -> None:
    run, folder = finished
    assert run.label_party.catalogue is not None
    user = str(run.label_party.catalogue.users[3])
    result = CliRunner().invoke(main, ["recommend", str(folder), "--user", user, "--k", "4"])
    assert result.exit_code == 0, result.output
    assert result.output.count("sku-") == 4
    assert "title" in result.output
    result = CliRunner().invoke(main, ["recommend", str(folder), "--user", "nobody"])
    assert result.exit_code == 2
    assert result.stderr.startswith("colonnade: shop: its table lacks 1 of 1 user")
