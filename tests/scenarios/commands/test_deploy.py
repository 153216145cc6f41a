from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scenarios.commands.main import main
from scenarios.running import processes
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, words: str) -> None:
    assert result.exit_code == 2, result.output
    said = [
        line for line in result.stderr.splitlines() if line.startswith(("colonnade:", "Error:"))
    ]
    assert len(said) == 1, result.stderr
    assert words in said[0]
    assert "Traceback" not in result.output


@pytest.fixture
def publics(tmp_path: Path) -> Path:
    """A folder with the keys of four parties."""
    for name in ("middle", "shop", "bank", "maker"):
        assert invoke("keygen", name, "--folder", tmp_path).exit_code == 0
    return tmp_path


def assemble(folder: Path, *more: str | Path, out: str = "roster.toml") -> Result:
    return invoke(
        "roster",
        "assemble",
        folder / out,
        "--address",
        "coordinator.example.org:7443",
        "--coordinator",
        folder / "middle.public.toml",
        "--label",
        folder / "shop.public.toml",
        "--feature",
        folder / "bank.public.toml",
        "--feature",
        f"{folder / 'maker.public.toml'}:item",
        *more,
    )


def test_from_keys_to_a_roster(publics: Path) -> None:
    assert assemble(publics, "--optional", "maker").exit_code == 0
    text = (publics / "roster.toml").read_text(encoding="utf-8")
    assert 'entity = "item"\nrequired = false' in text
    shown = invoke("roster", "show", publics / "roster.toml").output
    assert "coordinator at coordinator.example.org:7443" in shown
    assert "feature by item" in shown


def test_bad_keygen_and_roster_commands_are_one_line(publics: Path) -> None:
    refused(invoke("keygen", "bank", "--folder", publics), "not overwritten")
    refused(invoke("keygen", "No Name", "--folder", publics), "no name for a party")
    assert assemble(publics).exit_code == 0
    refused(assemble(publics), "not overwritten")
    refused(assemble(publics, "--optional", "nobody", out="b.toml"), "no such feature party")
    refused(assemble(publics, "--feature", publics / "none.toml", out="b.toml"), "cannot be read")
    refused(assemble(publics, "--feature", publics / "bank.key.toml", out="b.toml"), "tls_key")
    twice = assemble(publics, "--feature", publics / "bank.public.toml", out="b.toml")
    refused(twice, "two parties have the same name")
    refused(invoke("roster", "show", publics / "none.toml"), "cannot be read")


@pytest.fixture
def configured(load_scenario: LoadScenario, tmp_path: Path) -> dict[str, Path]:
    """Configurations of four parties whose coordinator nobody has started."""
    folder = tmp_path / "deployed"
    folder.mkdir()
    return processes.prepare(load_scenario(), folder, time_limit=1.0)


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


BAD_CONFIGURATIONS: dict[str, tuple[str, str, tuple[str, str], str]] = {
    "an unknown entry": ("party", "bank", ("key =", "x = 1\nkey ="), "no setting x"),
    "no key file": ("party", "bank", ("bank.key.toml", "none.toml"), "none.toml cannot be read"),
    "another's key": ("party", "bank", ("bank.key", "shop.key"), "[data]: expected label"),
    "no roster": ("party", "bank", ("roster.toml", "none.toml"), "none.toml cannot be read"),
    "no settings": ("party", "bank", ("settings.toml", "none.toml"), "none.toml cannot be read"),
    "no table": ("party", "bank", ("bank.csv", "none.csv"), "none.csv"),
    "what the roster says": ("party", "bank", ('"id"', '"entity" = "item", "id"'), "data.entity"),
    "an unknown setting of the table": ("party", "bank", ('"id"', '"idd"'), "idd"),
    "a bad limit": ("party", "bank", ("time_limit = 1.0", "time_limit = -1.0"), "time_limit"),
    "no TOML": ("party", "bank", ("key =", "key"), "not valid TOML"),
    "a coordinator as a party": ("party", "coordinator", ("key", "key"), "colonnade coordinator"),
    "a party as the coordinator": ("coordinator", "bank", ("key", "key"), "colonnade party"),
    "nobody there": ("party", "bank", ("key", "key"), "out of reach for 1 s"),
    "nobody comes": ("coordinator", "coordinator", ("key", "key"), "shop"),
}


@pytest.mark.parametrize("case", BAD_CONFIGURATIONS)
def test_bad_configurations_are_one_line(case: str, configured: dict[str, Path]) -> None:
    command, party, (before, after), words = BAD_CONFIGURATIONS[case]
    change(configured[party], before, after)
    refused(invoke(command, configured[party]), words)
    assert not list(configured[party].parent.glob("results/*/*"))


def test_bad_settings_are_one_line(configured: dict[str, Path]) -> None:
    settings = configured["bank"].parent / "settings.toml"
    change(settings, '"insecure_key" = true', '"insecure_key" = false')
    refused(invoke("party", configured["bank"]), "insecure_key = true")
    change(settings, '"insecure_key"', '"insecure_keys"')
    refused(invoke("party", configured["bank"]), "insecure_key")


def test_a_table_that_leaks_is_refused_before_dialling(configured: dict[str, Path]) -> None:
    change(configured["bank"].parent / "settings.toml", '"batch_size" = 64', '"batch_size" = 16')
    refused(invoke("party", configured["bank"]), "batch_size = 64 or more")
