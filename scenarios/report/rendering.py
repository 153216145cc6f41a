"""The templates, in which everything that is written into a page is escaped, and files as they leave us.

A drawing's PNG is for slides and documents that take no SVG. It is set in a font that comes along, so that it looks
the same wherever it was made, with or without fonts.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import font_source_sans_pro
import resvg_py
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from parties import files
from protocol.errors import SettingsError
from scenarios.report import numbers

_PIXELS = 2  # of a PNG, for each unit of its drawing
_FONTS = ("SourceSansPro", "SourceSansProSemibold")


def template(name: str) -> Template:
    """Return a template by the name of its file."""
    return _environment().get_template(name)


def save(path: Path, content: str | bytes) -> None:
    """Write a page or a drawing whole; raises SettingsError if that cannot be."""
    try:
        files.make_folder(path.parent)
        files.write(path, content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None


def save_drawing(path: Path, svg: str) -> None:
    """Write a drawing that stands alone as ``path``, an SVG, and beside it as PNG; raises SettingsError."""
    save(path, svg)
    save(path.with_suffix(".png"), _rasterised(svg))


def _rasterised(svg: str) -> bytes:
    """Return a PNG of a drawing in the colours of the light theme: the library knows no variables."""
    light = svg.partition(".report {")[2].partition("}")[0]
    colours: dict[str, str] = dict(re.findall(r"--(\w+): (#\w+)", light))
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=re.sub(r"var\(--(\w+)\)", lambda used: colours[used[1]], svg),
            zoom=_PIXELS,
            skip_system_fonts=True,
            font_files=[font_source_sans_pro.font_files_ttf[name] for name in _FONTS],
            sans_serif_family="Source Sans Pro",
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("scenarios.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for write in (numbers.score, numbers.count, numbers.seconds, numbers.size, numbers.setting):
        environment.filters[write.__name__] = write
    return environment
