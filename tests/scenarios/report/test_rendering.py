from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from scenarios.report import rendering
from scenarios.report.plots import WIDTH, Axis, Chart, Curve

LABEL = "Words that take ink"


def pixels(path: Path) -> np.ndarray:
    """Return a PNG's bytes a row, unfiltered enough to tell paper from ink."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    data, at = b"", 8
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        data += content[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + 4 * width)


def chart(label: str) -> Chart:
    curve = Curve("curve", [(0, 0), (1, 1)], 1)
    return Chart("name", "Title", "words", Axis(label, 0, 1), Axis("y", 0, 1), [curve])


def test_a_drawing_is_written_as_svg_and_png_with_its_words(tmp_path: Path) -> None:
    drawn = {}
    for name, label in (("labelled", LABEL), ("bare", "")):
        drawing = chart(label)
        rendering.save_drawing(tmp_path / f"{name}.svg", drawing.alone())
        drawn[name] = pixels(tmp_path / f"{name}.png")
        assert LABEL in (tmp_path / "labelled.svg").read_text(encoding="utf-8")
        assert drawn[name].shape == (
            round(2 * (drawing.height + 50)),
            1 + 4 * round(2 * WIDTH + 56),
        )
    below = round(2 * (36 + drawing.bottom + 22))
    changed = np.flatnonzero((drawn["labelled"] != drawn["bare"]).any(axis=1))
    assert len(changed) > 8  # rows of pixels, of a font of 11 units
    assert changed.min() > below
