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
from scenarios.baselines import ALONE, JOINT

ReadPage = Callable[[Path], Any]
HOSTILE = """<script>alert(1)</script>"'&{{ 7 * 7 }}</title><img src=x onerror=alert(1)>"""


def change(path: Path, edit: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    edit(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_a_page_has_every_section_and_stands_alone(finished: Path, read_page: ReadPage) -> None:
    path = report.write(finished)
    assert path == finished / "report.html"
    page = read_page(path)
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    sections = {"parties", "results", "conversation", "learned", "guards", "cost", "settings"}
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
    assert messages["MaskedGradients"][2:5] == ["coordinator", "no", "6"]
    assert {json.loads(line)["kind"] for line in lines} == set(messages) - {"Message"}
    assert "GAUC" not in scores["Model"]  # there are no users to average over
    assert all(line["discloses"] in page.text for line in map(json.loads, lines))


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
        for name in ("curves", "tables", "environment"):
            del metrics[name]

    change(finished / "metrics.json", forget)
    page = read_page(report.write(finished))
    assert "ROC curves" not in page.text
    assert page.table("Scores")[JOINT]


@pytest.mark.parametrize("damage", ["metrics.json", "costs.csv", "transcript.jsonl"])
def test_a_damaged_folder_is_one_clear_line(finished: Path, damage: str) -> None:
    (finished / damage).write_text('{"party": 1', encoding="utf-8")
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
