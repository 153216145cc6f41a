from __future__ import annotations

import re
from importlib import resources
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.report import numbers
from scenarios.report.conversation import Step
from scenarios.report.plots import (
    LOOKS,
    OTHERS,
    WIDTH,
    Axis,
    Bars,
    Chart,
    Curve,
    Exchange,
    largest_parts,
)

finite = st.floats(-1e9, 1e9).map(lambda value: round(value, 6))


@given(st.lists(finite, min_size=1))
def test_an_axis_holds_all_values_between_its_outer_ticks(values: list[float]) -> None:
    axis = Axis.of("x", values)
    assert all(-1e-6 <= axis.at(value) <= 1 + 1e-6 for value in values)
    ticks = [place for place, _ in axis.ticks]
    assert 2 <= len(ticks) <= 8
    assert ticks[0] == pytest.approx(0, abs=1e-6)
    assert ticks[-1] == pytest.approx(1, abs=1e-6)


def test_a_logarithmic_axis_counts_in_powers_of_ten() -> None:
    axis = Axis.of("rows", [300, 40_000], logarithmic=True)
    assert [words for _, words in axis.ticks] == ["100", "1,000", "10,000", "100,000"]
    assert axis.at(1000) == pytest.approx(1 / 3)


def test_a_curve_is_drawn_where_its_points_are() -> None:
    curve = Curve("joint", [(0, 0), (0.5, 1), (1, 1)], 1)
    chart = Chart("roc", "ROC", "words", Axis("x", 0, 1), Axis("y", 0, 1), [curve])
    left, right = chart.left, chart.width - chart.right
    assert chart.path(curve) == (
        f"M{left} {chart.bottom}L{(left + right) / 2:g} {chart.top}L{right:g} {chart.top}"
    )
    drawing = ElementTree.fromstring(chart.alone())
    assert drawing.get("viewBox") == f"-14 -36 {WIDTH + 28} {chart.height + 50:.1f}"
    assert drawing.findtext("{*}text[@class='heading']") == "ROC"
    inside = ElementTree.fromstring(chart.svg())
    assert inside.get("viewBox") == f"0 0 {WIDTH} {float(chart.height)}"
    assert inside.find("{*}text[@class='heading']") is None


def test_bars_are_as_long_as_their_parts() -> None:
    bars = Bars(
        "cost", "Cost", "words", {"shop": {"a": 1, "b": 3}, "bank": {"a": 2, "b": 0}}, numbers.count
    )
    (_, _, total, shop), (_, _, _, bank) = bars.rows
    assert total == "4"
    assert [(x, width) for x, width, *_ in shop] == [(0, WIDTH / 4), (WIDTH / 4, 3 * WIDTH / 4)]
    assert bank[0][1] == WIDTH / 2
    assert [name for *_, name in bars.legend] == ["a", "b"]


def test_the_smallest_parts_are_drawn_as_one() -> None:
    kinds = {f"kind {number}": float(number) for number in range(9)}
    (parts,) = largest_parts([kinds])
    assert len(parts) == LOOKS
    assert parts == {**{f"kind {number}": number for number in (8, 7, 6, 5, 4)}, OTHERS: 6}
    few, none = largest_parts([{"a": 98.5, "b": 1, "c": 0.5}, {}], least=0.01)
    assert few == {"a": 98.5, "b": 1, OTHERS: 0.5}
    assert none == {"a": 0, "b": 0, OTHERS: 0}
    assert largest_parts([{"a": 0.0}]) == [{"a": 0}]


def test_nothing_to_draw_is_no_error() -> None:
    empty = Bars("cost", "Cost", "words", {"shop": {"a": 0}}, numbers.count)
    assert ElementTree.fromstring(empty.alone()) is not None


@pytest.mark.parametrize("n_parties", [3, 4, 7])
def test_words_stay_inside_the_drawing(n_parties: int) -> None:
    parties = [f"a-party-with-a-long-name-{number}" for number in range(n_parties)]
    steps = [
        Step("Each round", parties[0], parties[1], "EncryptedResiduals", True, "", 9, 99_999_999),
        Step("Each round", parties[-1], parties[-2], "MaskedGradients", False, "", 1, 10),
    ]
    exchange = Exchange("round", "Round", "words", parties, steps)
    for arrow in exchange.arrows:
        half = 6 * max(len(arrow.words), len(arrow.step.kind)) / 2
        assert half <= arrow.middle <= exchange.width - half
    assert (exchange.width == WIDTH) == (n_parties <= 4)
    first, second = exchange.arrows
    assert first.start < first.end
    assert second.start > second.end
    assert all(len(short) < len(name) for _, name, short in exchange.lifelines)


def luminance(colour: str) -> float:
    colour = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    parts = [int(colour[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_colours_can_be_told_from_the_paper() -> None:
    style = resources.files("scenarios.report") / "templates" / "colours.css"
    themes = style.read_text(encoding="utf-8").split(".report {")[1:]
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): #(\w+)", theme.partition("}")[0]))
        for name in ("ink", "muted", "accent", "note"):
            for ground in ("paper", "panel"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for name in (f"look{number}" for number in range(1, 7)):
            assert contrast(colours[name], colours["paper"]) >= 3, name
