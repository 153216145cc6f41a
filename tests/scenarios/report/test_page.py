from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from protocol.errors import SettingsError
from scenarios import report
from scenarios.judging.baselines import ALONE, JOINT
from scenarios.report import numbers
from scenarios.report.record import Record

ReadPage = Callable[[Path], Any]
HOSTILE = """<script>alert(1)</script>"'&{{ 7 * 7 }}</title><img src=x onerror=alert(1)>"""


def change(path: Path, edit: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    edit(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_a_page_has_every_section_and_stands_alone(finished: Path, read_page: ReadPage) -> None:
    path = report.write(finished)
    assert path == finished / "report.html"
    sections = {"parties", "results", "conversation", "learned", "guards", "cost", "settings"}
    check_page(path, read_page(path), sections)


def check_page(path: Path, page: Any, sections: set[str]) -> None:
    """Assert that a page is whole, sound and needs nothing else."""
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    assert sections <= set(ids)
    for name in ("aria-labelledby", "href"):
        for value in page.all(name):
            wanted = value.split() if name != "href" else [value.removeprefix("#")]
            assert value == "data:," or set(wanted) <= set(ids)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("main") == tags.count("h1") == tags.count("nav") == 1
    assert tags.count("caption") == tags.count("table")
    assert not {"script", "iframe", "object", "embed", "form"} & set(tags)
    assert not page.all("src")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_numbers_are_those_of_the_folder(finished: Path, read_page: ReadPage) -> None:
    page = read_page(report.write(finished))
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    scores = page.table("Scores")
    assert set(scores) == {"Model", *metrics["scores"]}
    for model, score in metrics["scores"].items():
        assert scores[model][0] == f"{score['auc']:.4f}"
        assert scores[model][1] == f"{score['log_loss']:.4f}"
    guards = page.table("Gradient entries")
    for party, one in metrics["opened_gradients"].items():
        assert guards[party][0] == f"{one['entries_opened']:,}"
        assert guards[party][2] == f"{one['entries_withheld']:,}"
    lines = (finished / "transcript.jsonl").read_text(encoding="utf-8").splitlines()
    messages = page.table("Messages by stage")
    assert f"All {len(lines):,} messages" in page.text
    assert messages["MaskedGradients"][2:5] == ["coordinator", "no", "3"]
    assert {json.loads(line)["kind"] for line in lines} == set(messages) - {"Message"}
    assert "GAUC" not in scores["Model"]  # there are no users to average over
    assert all(line["discloses"] in page.text for line in map(json.loads, lines))


def test_costs_are_those_of_the_ledgers(finished: Path, read_page: ReadPage) -> None:
    page = read_page(report.write(finished))
    record = Record.read(finished)
    table = page.table("Cost by party")
    assert table["Party, phase"][:4] == ["Computing", "Waiting", "CPU", "Peak memory"]
    for party in record.roles:
        waited, spent = (record.cost(f"{kind} seconds", party) for kind in ("waiting", "cpu"))
        assert table[party][1:3] == [numbers.seconds(waited), numbers.seconds(spent)]
        assert table[party][3] == numbers.size(record.peak_memory(party))
    operations = page.table("Operations of training")
    assert (
        operations["masks"][0] == f"{record.operations('laboratory', 'training')['masks'][0]:,.0f}"
    )


def test_a_prediction_is_shown_with_its_ratio(finished: Path, read_page: ReadPage) -> None:
    assert "colonnade calibrate --key-bits 512" in read_page(report.write(finished)).text

    def foretell(metrics: Any) -> None:
        seconds = {"predicted": 3.0, "measured": 4.0}
        metrics["prediction"] = {
            "epochs": 2,
            "cpu_seconds": seconds,
            "bytes_sent": {"predicted": 1000, "measured": 1000},
            "peak_memory_bytes": {"predicted": 2e6, "measured": 0},
            "cpu_seconds_by_party": dict.fromkeys(("clinic", "laboratory", "coordinator"), seconds),
        }

    change(finished / "metrics.json", foretell)
    page = read_page(report.write(finished))
    table = page.table("What 2 epochs of training were predicted to cost")
    assert table["CPU time of training"] == ["3 s", "4 s", "0.75"]
    assert table["clinic"] == ["3 s", "4 s", "0.75"]
    assert table["Bytes sent in training"][-1] == "1.00"
    assert table["Peak memory of the process"] == ["2 MB", "0 bytes", "–"]
    assert "Up to 3 epochs were planned" in page.text
    assert "colonnade calibrate" not in page.text


def test_what_others_wrote_is_text(finished: Path, read_page: ReadPage) -> None:
    def spoil_settings(settings: Any) -> None:
        settings["title"] = settings["description"] = HOSTILE

    def spoil_metrics(metrics: Any) -> None:
        metrics["warnings"].append(HOSTILE)
        metrics["environment"]["python"] = HOSTILE
        for group in ("scores", "curves"):
            metrics[group][HOSTILE] = metrics[group][ALONE]

    change(finished / "settings.json", spoil_settings)
    change(finished / "metrics.json", spoil_metrics)
    page = read_page(report.write(finished))
    assert HOSTILE in page.text
    assert HOSTILE in page.table("Scores")
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    for drawing in (finished / "plots").glob("*.svg"):
        assert not ElementTree.parse(drawing).findall(".//{*}script")


def test_each_drawing_stands_beside_the_page_and_says_what_it_shows(finished: Path) -> None:
    report.write(finished)
    names = {path.stem for path in (finished / "plots").iterdir()}
    assert names == {
        "calibration",
        "exchange-alignment",
        "exchange-before-training",
        "exchange-each-epoch",
        "exchange-each-round",
        "exchange-scoring",
        "learning",
        "links",
        "operations",
        "roc",
        "rounds",
        "seconds",
    }
    for path in (finished / "plots").glob("*.svg"):
        assert path.with_suffix(".png").stat().st_size
        drawing = ElementTree.parse(path).getroot()
        for part in ("title", "desc", "style"):
            assert (drawing.findtext(f"{{*}}{part}") or "").strip()


def test_an_older_folder_has_fewer_plots(finished: Path, read_page: ReadPage) -> None:
    def forget(metrics: Any) -> None:
        for name in ("curves", "tables", "environment", "prediction", "own_processes"):
            del metrics[name]

    change(finished / "metrics.json", forget)
    (finished / "rounds.csv").unlink()
    costs = (finished / "costs.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    late = ("cpu seconds", "waiting seconds", "peak memory")
    costs = [line for line in costs if not any(quantity in line for quantity in late)]
    (finished / "costs.csv").write_text("".join(costs), encoding="utf-8")
    page = read_page(report.write(finished))
    for words in ("ROC curves", "by operation", "Seconds a round"):
        assert words not in page.text
    assert page.table("Scores")[JOINT]
    assert page.table("Cost by party")["clinic"][1:4] == ["–"] * 3


DAMAGED = ["metrics.json", "costs.csv", "rounds.csv", "transcript.jsonl"]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_folder_is_one_clear_line(finished: Path, damage: str) -> None:
    (finished / damage).write_text('{"party": 1\n1', encoding="utf-8")
    if damage == "costs.csv":
        (finished / damage).unlink()
    with pytest.raises(SettingsError, match="missing a part or damaged"):
        report.write(finished)
    assert not (finished / "report.html").exists()


def test_thousands_of_messages_make_no_longer_page(finished: Path) -> None:
    short = report.write(finished).stat().st_size
    transcript = finished / "transcript.jsonl"
    transcript.write_text(200 * transcript.read_text(encoding="utf-8"), encoding="utf-8")
    assert report.write(finished).stat().st_size < 1.05 * short


def test_every_party_has_a_page_of_its_own(parts: dict[str, Path], read_page: ReadPage) -> None:
    assert set(parts) == {"clinic", "laboratory", "coordinator"}
    sections = {"part", "conversation", "learned", "cost", "settings"}
    for party, folder in parts.items():
        path = folder / "report.html"  # it is there already
        page = read_page(path)
        own = sections | ({"results"} if party == "clinic" else set())
        check_page(path, page, own)
        assert f"The part of {party}" in page.text
        assert ("Course of training" in page.text) == (party == "clinic")
        assert set(page.table("Cost by party")) == {
            "Party, phase",
            party,
            "setup",
            "alignment",
            "training",
            "scoring",
        }
        before = path.read_text(encoding="utf-8")
        path.unlink()
        assert report.write(folder) == path
        assert path.read_text(encoding="utf-8") == before


def test_a_partys_page_has_what_it_sent_and_received_alone(
    parts: dict[str, Path], read_page: ReadPage
) -> None:
    sent = {
        party: [
            json.loads(line)
            for line in (folder / "transcript.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for party, folder in parts.items()
    }
    everything = [record for records in sent.values() for record in records]
    for party, folder in parts.items():
        page = read_page(folder / "report.html")
        own = [one for one in everything if party in (one["sender"], one["receiver"])]
        messages = page.table("Messages by stage")
        assert set(messages) - {"Message"} == {one["kind"] for one in own}
        for row in list(messages.values())[1:]:
            assert party in row[1:3]
        learned = [one for one in own if one["receiver"] == party]
        assert all(one["discloses"] in page.text for one in learned)
        size = numbers.size(sum(one["size"] for one in learned))
        assert f"Received{size}in {len(learned):,} messages" in page.text.replace("\n", "")
        unheard = {one["discloses"] for one in everything} - {one["discloses"] for one in learned}
        assert unheard
        assert not any(f"\n{words}\n" in page.text for words in unheard)


@pytest.mark.parametrize("damage", [*DAMAGED, "settings.json", "received.jsonl"])
def test_a_damaged_part_is_one_clear_line(parts: dict[str, Path], damage: str) -> None:
    (parts["clinic"] / damage).write_text('{"party": 1\n1', encoding="utf-8")
    with pytest.raises(SettingsError, match="missing a part or damaged"):
        report.write(parts["clinic"])
