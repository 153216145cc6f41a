from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from protocol.messages.message import Message
from protocol.messages.rounds import EpochEnd
from protocol.transport.channel import Channel
from protocol.transport.in_process import InProcessTransport
from scenarios import report
from scenarios.commands.main import COMMANDS, main
from scenarios.costs import prediction as costs
from scenarios.running.runner import Run

Tables = dict[str, pd.DataFrame]


@pytest.fixture
def invoke(scenario_file: Path, tmp_path: Path) -> Callable[..., Result]:
    def invoke_with(*arguments: str) -> Result:
        runs = ["--runs", str(tmp_path / "runs")]
        return CliRunner().invoke(main, ["run", str(scenario_file), *runs, *arguments])

    return invoke_with


def test_a_run_ends_with_the_table(invoke: Callable[..., Result], tmp_path: Path) -> None:
    result = invoke("--set", "epochs=1", "--seed", "5")
    assert result.exit_code == 0, result.output
    for words in (
        "Three parties",
        "label party alone",
        "joint, federated",
        "pooled plaintext, same optimizer",
        "pooled scikit-learn LogisticRegression",
        "coordinator",
        "telco",
        "1 epoch of",
    ):
        assert words in result.output
    (folder,) = (tmp_path / "runs" / "three").iterdir()
    assert folder.name in result.output.replace("\n", "")


def test_a_run_for_scripts_ends_with_one_line_of_json(invoke: Callable[..., Result]) -> None:
    result = invoke("--set", "epochs=1", "--json")
    summary = json.loads(result.stdout.splitlines()[-1])
    folder = Path(summary["folder"])
    assert summary["scenario"] == "three"
    written = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert summary["scores"] == written["scores"]
    assert summary["seconds"] == written["seconds"]
    assert (folder / "report.html").exists()


def test_a_report_that_fails_is_a_warning(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> Path:
        raise ZeroDivisionError("[bold]no plot")

    monkeypatch.setattr(report, "write", fail)
    result = invoke("--set", "epochs=1", "--json")
    assert result.exit_code == 0
    assert "warning: no report: [bold]no plot" in result.output
    assert json.loads(result.stdout.splitlines()[-1])["seconds"] > 0


def test_a_prediction_that_fails_is_a_warning(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: Run) -> None:
        raise KeyError("an old cache")

    monkeypatch.setattr(costs, "predict_run", fail)
    result = invoke("--set", "epochs=1", "--json")
    assert result.exit_code == 0
    assert "warning: no prediction: 'an old cache'" in result.output
    folder = Path(json.loads(result.stdout.splitlines()[-1])["folder"])
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["prediction"] is None


def test_a_report_is_made_again_and_runs_are_compared(finished: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(finished)])
    assert result.output == f"{finished / 'report.html'}\n"
    output = tmp_path / "both.html"
    result = CliRunner().invoke(
        main, ["report", str(finished), str(finished), "--output", str(output)]
    )
    assert result.output == f"{output}\n"
    assert output.exists()
    result = CliRunner().invoke(main, ["report", str(tmp_path / "nothing")])
    assert result.exit_code == 2
    assert "is not the folder of a finished run" in result.stderr


def test_a_missing_library_to_log_with_is_one_clear_line(
    invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    refused(invoke("--mlflow", "file:///store"), "colonnade[mlflow]", tmp_path)


def test_a_run_that_broke_is_taken_up_on_demand(
    invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, ends, last = Channel.send, [0], [9]  # three an epoch

    async def send(self: Channel, receiver: str, message: Message) -> None:
        await honest(self, receiver, message)
        ends[0] += isinstance(message, EpochEnd)
        if ends[0] == last[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Channel, "send", send)
    stopped = invoke()
    assert stopped.exit_code != 0
    assert "with --resume goes on after the last epoch" in stopped.output
    last[0] = -1
    (broken,) = (tmp_path / "runs" / "three").iterdir()
    changed = invoke("--resume", "--set", "l2=0.5")
    assert changed.exit_code == 2
    (line,) = changed.stderr.splitlines()
    assert "are of other rows, columns or settings" in line
    assert invoke("--set", "epochs=1").exit_code == 0
    assert broken.exists()  # another run neither took it up nor away
    ends[0] = 0
    assert invoke("--resume").exit_code == 0
    assert 3 <= ends[0] < 12
    assert not broken.exists()
    assert len(list((tmp_path / "runs" / "three").iterdir())) == 2


@pytest.mark.parametrize("method", ["keyed-hash", "ecdh"])
def test_alignment_alone_ends_with_sizes_and_times(
    scenario_file: Path, tmp_path: Path, method: str
) -> None:
    settings = ["--set", f"alignment.method={method}", "--folder", str(tmp_path / "aligned")]
    result = CliRunner().invoke(main, ["align", str(scenario_file), *settings])
    assert result.exit_code == 0, result.output
    assert "260 shared users" in result.output
    assert f"Aligned by {method}" in result.output
    assert "seconds of computing" in result.output
    assert len(list((tmp_path / "aligned" / "three").iterdir())) == 1


def test_alignment_without_its_library_is_one_clear_line(
    invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rbcl", None)
    refused(invoke("--set", "alignment.method=ecdh"), "colonnade[ecdh]", tmp_path)


def test_numbers_here_and_text_there_are_one_clear_line(
    invoke: Callable[..., Result], tables: Tables, tmp_path: Path
) -> None:
    numbers = {user: number for number, user in enumerate(tables["shop"]["user"])}
    for name, spell in (("shop", "{:d}"), ("bank", "{:05d}"), ("telco", "{:d}")):
        table = tables[name].copy()
        table = table[table["user"].isin(numbers)]
        table["user"] = [spell.format(numbers[user]) for user in table["user"]]
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    refused(invoke(), 'Set id_kind = "integer" at bank', tmp_path)
    assert invoke("--set", "parties.bank.id_kind=integer", "--set", "epochs=1").exit_code == 0


def test_a_run_without_cryptography_says_so(invoke: Callable[..., Result]) -> None:
    result = invoke("--set", "disclosure=none", "--set", "epochs=1")
    assert "nothing was encrypted" in result.output.replace("\n", " ")


def test_the_list_of_scenarios() -> None:
    result = CliRunner().invoke(main, ["scenarios"])
    assert result.exit_code == 0
    assert "breast-cancer" in result.output


def test_the_doctor_names_the_arithmetic_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLONNADE_KERNEL", "gmpy2")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "gmpy2: COLONNADE_KERNEL asks for it" in result.output
    monkeypatch.setenv("COLONNADE_KERNEL", "abacus")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 2
    assert "COLONNADE_KERNEL is 'abacus'" in result.stderr


def break_table(
    tables: Tables, folder: Path, name: str, change: Callable[[pd.DataFrame], object]
) -> None:
    table = tables[name].copy()
    changed = change(table)
    (changed if isinstance(changed, pd.DataFrame) else table).to_csv(
        folder / f"{name}.csv", index=False
    )


BAD_TABLES: dict[str, tuple[str, Callable[[pd.DataFrame], object], str]] = {
    "missing id column": ("bank", lambda t: t.rename(columns={"user": "customer"}), "user"),
    "missing label column": ("shop", lambda t: t.drop(columns="bought"), "bought"),
    "duplicate ids": ("bank", lambda t: pd.concat([t, t.head(3)]), "3"),
    "no shared users": (
        "telco",
        lambda t: t.assign(user="nobody-" + t["user"]),
        "shares no 'user'",
    ),
    "label of three values": ("shop", lambda t: t.assign(bought=np.arange(len(t)) % 3), "bought"),
    "label of one class": ("shop", lambda t: t.assign(bought=1), "bought"),
    "NaN label": ("shop", lambda t: t.assign(bought=t["bought"].where(t.index > 4)), "5"),
    "constant column": ("bank", lambda t: t.assign(x3=2.5), "x3"),
    "no rows": ("bank", lambda t: t.head(0), "no rows"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_one_clear_line(
    case: str,
    invoke: Callable[..., Result],
    tables: Tables,
    tmp_path: Path,
) -> None:
    name, change, words = BAD_TABLES[case]
    break_table(tables, tmp_path, name, change)
    refused(invoke(), words, tmp_path)


BAD_SETTINGS: dict[str, tuple[list[str], str]] = {
    "missing file": (["parties.bank.csv=nowhere.csv"], "nowhere.csv"),
    "text declared numeric": (['parties.bank.numeric=["colour"]'], "colour"),
    "a batch the guard refuses": (["batch_size=16"], "batch_size = 64 or more"),
    "a small key": (["insecure_key=false"], "insecure_key = true"),
    "an impossible key": (["key_bits=77"], "key_bits is 77"),
    "an unknown setting": (["batchsize=3"], "did you mean"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_one_clear_line(
    case: str, invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, words = BAD_SETTINGS[case]
    deliveries: list[str] = []

    async def deliver(
        self: InProcessTransport, sender: str, receiver: str, envelope: bytes
    ) -> None:
        deliveries.append(sender)

    monkeypatch.setattr(InProcessTransport, "deliver", deliver)
    result = invoke(*(part for change in changes for part in ("--set", change)))
    refused(result, words, tmp_path)
    assert deliveries == []


@pytest.fixture
def ratings_file(tmp_path: Path) -> Path:
    """A label party with ratings and a feature party keyed by item."""
    draw = np.random.default_rng(0)
    pairs = [(user, item) for user in range(30) for item in range(8) if (user + item) % 2]
    ratings = pd.DataFrame(pairs, columns=["who", "what"])
    ratings["stars"] = draw.integers(1, 6, len(ratings))
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    makers = pd.DataFrame({"sku": range(8), "weight": draw.normal(size=8)})
    makers.to_csv(tmp_path / "makers.csv", index=False)
    (tmp_path / "ratings.toml").write_text(
        """
        [training]
        model = "factorization-machine"
        epochs = 2
        guard = "warn"
        [encryption]
        key_bits = 512
        insecure_key = true
        [ranking]
        k = 3
        [[parties]]
        name = "shop"
        role = "label"
        csv = "ratings.csv"
        ids = { user = "who", item = "what" }
        id_features = ["user", "item"]
        label = "stars"
        threshold = 4
        rating_range = [1, 5]
        [[parties]]
        name = "maker"
        role = "feature"
        csv = "makers.csv"
        entity = "item"
        id = "sku"
        """,
        encoding="utf-8",
    )
    return tmp_path / "ratings.toml"


def test_ratings_with_an_item_keyed_party_run(ratings_file: Path, tmp_path: Path) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(main, ["run", str(ratings_file), *runs])
    assert result.exit_code == 0, result.output
    assert "Lists of 3 from all items" in result.output
    assert "GAUC" in result.output


BAD_RECOMMENDERS: dict[str, tuple[list[str], str]] = {
    "no factors": (["factors=0"], "training.factors: input should be greater than or equal to 1"),
    "ratings out of range": (["parties.shop.rating_range=[1, 4]"], "no number from 1 to 4"),
    "an entity the label party lacks": (['parties.maker.entity="brand"'], "no ids of entity"),
    "lists without items": (
        ['parties.shop.ids={user="who"}', "parties.shop.id_features=[]"],
        "no ids of entity",
    ),
    "a batch too large for the slots": (["residual_bits=25"], "less than or equal to 24"),
    "a split without its column": (["split.kind=last"], "needs a time column"),
    "an unknown column": (['parties.shop.time="when"'], "no time column 'when'"),
}


@pytest.mark.parametrize("case", BAD_RECOMMENDERS)
def test_bad_recommenders_are_one_clear_line(case: str, ratings_file: Path, tmp_path: Path) -> None:
    changes, words = BAD_RECOMMENDERS[case]
    settings = [part for change in changes for part in ("--set", change)]
    runs = ["--runs", str(tmp_path / "runs")]
    refused(CliRunner().invoke(main, ["run", str(ratings_file), *settings, *runs]), words, tmp_path)


def test_users_who_have_met_everything_get_no_list_and_lose_nothing(
    ratings_file: Path, tmp_path: Path
) -> None:
    one_item = pd.DataFrame(
        {"who": range(60), "what": 1, "stars": np.arange(60) % 5 + 1, "x": range(60)}
    )
    both = pd.concat([one_item, one_item.assign(what=2)])
    both.to_csv(tmp_path / "ratings.csv", index=False)
    runs = ["--runs", str(tmp_path / "runs")]
    settings = ["--set", "split.test=0.02", "--set", "split.validation=0.02"]
    result = CliRunner().invoke(main, ["run", str(ratings_file), *settings, *runs])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "runs" / "ratings").iterdir())) == 1


def refused(result: Result, words: str, folder: Path) -> None:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line]
    assert line.startswith("colonnade: ")
    assert words in line
    assert "@example.org" not in result.output
    assert not (folder / "runs").exists()


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    for name, (_, said) in COMMANDS.items():
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(limit=200) == said


def test_help_needs_no_table_and_no_arithmetic() -> None:
    asked = "import sys; from scenarios.commands.main import main; main(['--help'], standalone_mode=False)"
    loaded = (
        "print(sorted({'numpy', 'pandas', 'sklearn', 'grpc', 'phe', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{asked}; {loaded}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
