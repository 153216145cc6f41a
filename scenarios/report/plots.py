"""Drawings: each knows its geometry, and the template of the same name draws it as SVG.

Drawings are about as wide as a phone, ``WIDTH`` units, and stand side by side where there is room: their text is never
scaled down. Colours are the page's variables; a plot on its own brings them along.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from scenarios.report import numbers
from scenarios.report.conversation import Step
from scenarios.report.rendering import template

WIDTH = 360.0
LOOKS = 6  # colours that are easy to tell from each other, the last of them grey
OTHERS = "all others"  # what a bar's smallest parts are called together
_CHARACTER = 6.3  # an average one of the 12 unit font, in units
_LANE = 86.0  # the least distance of two lifelines
_LEGEND_LINE = 18.0


@dataclass(frozen=True)
class Axis:
    """A labelled axis from ``low`` to ``high`` with a tick at each multiple of ``step``, by default about five.

    A logarithmic one needs positive numbers and has its ticks at powers of ten.
    """

    label: str
    low: float
    high: float
    logarithmic: bool = False
    step: float | None = None
    write: Callable[[float], str] = numbers.plain

    @classmethod
    def of(
        cls, label: str, values: Sequence[float], *, logarithmic: bool = False, whole: bool = False
    ) -> Axis:
        """Make an axis that holds all values and begins and ends at a tick; ticks may be ``whole`` numbers only."""
        low, high = min(values), max(values)
        if logarithmic:
            low, high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
            return cls(label, low, high if high > low else 10 * low, logarithmic=True)
        step = max(_step(high - low if high > low else abs(high) / 10 or 1.0), float(whole))
        low, high = step * math.floor(low / step), step * math.ceil(high / step)
        return cls(label, low, high if high > low else low + step, step=step)

    def at(self, value: float) -> float:
        """Return where a value stands, from 0 to 1."""
        scale = math.log10 if self.logarithmic else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The places from 0 to 1 to mark, and what to write there."""
        if self.logarithmic:
            powers = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            values = [10.0**power for power in powers]
        else:
            step = self.step or _step(self.high - self.low)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            values = [step * number for number in range(first, last + 1)]
        return [(self.at(value), self.write(value)) for value in values]


@dataclass(frozen=True)
class Curve:
    """A named line through points (x, y); ``dots`` marks each of them. ``look`` chooses colour and dashes, from 1.

    Without a ``line`` the name stands beside each dot instead of in the legend; without a name, nowhere.
    """

    name: str
    points: Sequence[tuple[float, float]]
    look: int
    dots: bool = False
    line: bool = True


@dataclass(frozen=True)
class Drawing:
    """Anything drawn: ``name`` is its file's and its id, ``description`` says in words what it shows."""

    template: ClassVar[str]
    name: str
    title: str
    description: str

    def svg(self) -> Markup:
        """Draw it for a page that has the style."""
        return Markup(template(self.template).render(it=self, alone=False))

    def alone(self) -> str:
        """Draw it as a file of its own."""
        return template(self.template).render(it=self, alone=True)


@dataclass(frozen=True)
class Chart(Drawing):
    """Curves over two axes. ``diagonal`` names a line from corner to corner, ``mark`` an x and what is there."""

    template: ClassVar[str] = "chart.svg"
    x: Axis
    y: Axis
    curves: Sequence[Curve]
    diagonal: str = ""
    mark: tuple[float, str] | None = None
    width: ClassVar[float] = WIDTH
    left: ClassVar[float] = 52
    right: ClassVar[float] = 12
    top: ClassVar[float] = 22
    depth: ClassVar[float] = 220

    @property
    def bottom(self) -> float:
        """Where the x axis lies."""
        return self.top + self.depth

    @property
    def legend(self) -> list[tuple[float, float, Curve]]:
        """Where each line is named."""
        lines = [curve for curve in self.curves if curve.line and curve.name]
        columns = _columns([curve.name for curve in lines])
        return [
            (
                self.left + index % columns * (self.width - self.left) / columns,
                self.bottom + 58 + index // columns * _LEGEND_LINE,
                curve,
            )
            for index, curve in enumerate(lines)
        ]

    @property
    def height(self) -> float:
        """The whole drawing's."""
        return self.legend[-1][1] + 10 if self.legend else self.bottom + 44

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the data is drawn."""
        across, up = self.x.at(x), self.y.at(y)
        return (
            round(self.left + across * (self.width - self.left - self.right), 2),
            round(self.bottom - up * self.depth, 2),
        )

    def path(self, curve: Curve) -> str:
        """Return a curve as SVG path data."""
        placed = (self.place(x, y) for x, y in curve.points)
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in placed)


@dataclass(frozen=True)
class Bars(Drawing):
    """Horizontal bars, each stacked from named parts; ``write`` says a bar's total."""

    template: ClassVar[str] = "bars.svg"
    bars: Mapping[str, Mapping[str, float]]
    write: Callable[[float], str]
    width: ClassVar[float] = WIDTH
    line: ClassVar[float] = 42

    @property
    def parts(self) -> list[str]:
        """The names of all parts, in order."""
        return list(dict.fromkeys(name for parts in self.bars.values() for name in parts))

    @property
    def rows(self) -> list[tuple[str, float, str, list[tuple[float, float, int, str]]]]:
        """(label, y, total, segments) of each bar; a segment is (x, width, look, what it says)."""
        longest = max((sum(parts.values()) for parts in self.bars.values()), default=0) or 1
        rows = []
        for index, (label, parts) in enumerate(self.bars.items()):
            start, segments = 0.0, []
            for name, value in parts.items():
                length = value / longest * self.width
                words = (
                    f"{label}, {name}: {self.write(value)}"
                    if name
                    else f"{label}: {self.write(value)}"
                )
                segments.append(
                    (round(start, 2), round(length, 2), self.parts.index(name) + 1, words)
                )
                start += length
            rows.append((label, index * self.line, self.write(sum(parts.values())), segments))
        return rows

    @property
    def legend(self) -> list[tuple[float, float, int, str]]:
        """(x, y, look, name) of each part; none where bars have one part without a name."""
        named = [name for name in self.parts if name]
        columns = _columns(named)
        below = len(self.bars) * self.line + 14
        return [
            (
                index % columns * self.width / columns,
                below + index // columns * _LEGEND_LINE,
                index + 1,
                name,
            )
            for index, name in enumerate(named)
        ]

    @property
    def height(self) -> float:
        """The whole drawing's."""
        return self.legend[-1][1] + 10 if self.legend else len(self.bars) * self.line


@dataclass(frozen=True)
class Arrow:
    """One step as drawn: from x ``start`` to ``end`` at height ``y``, its words around ``middle``."""

    start: float
    end: float
    y: float
    middle: float
    step: Step
    words: str

    @property
    def head(self) -> str:
        """The arrow's head as SVG points."""
        back = self.end - math.copysign(7, self.end - self.start)
        return f"{self.end:g},{self.y:g} {back:g},{self.y - 4:g} {back:g},{self.y + 4:g}"


@dataclass(frozen=True)
class Exchange(Drawing):
    """Who sends what to whom in one stage: a lifeline for each party, an arrow for each step."""

    template: ClassVar[str] = "exchange.svg"
    parties: Sequence[str]
    steps: Sequence[Step]
    line: ClassVar[float] = 46
    top: ClassVar[float] = 40
    margin: ClassVar[float] = 48

    @property
    def width(self) -> float:
        """The drawing's, wider than a phone only from five parties on."""
        return max(WIDTH, 2 * self.margin + _LANE * (len(self.parties) - 1))

    @property
    def height(self) -> float:
        """The drawing's."""
        return self.top + self.line * len(self.steps) + 12

    @property
    def lifelines(self) -> list[tuple[float, str, str]]:
        """(x, name, name short enough for its place) of each party."""
        gap = (self.width - 2 * self.margin) / (len(self.parties) - 1)
        longest = int(gap / (1.15 * _CHARACTER))
        return [
            (
                self.margin + index * gap,
                name,
                name if len(name) <= longest else name[: longest - 1] + "…",
            )
            for index, name in enumerate(self.parties)
        ]

    @property
    def arrows(self) -> list[Arrow]:
        """The steps, from above."""
        x = {name: place for place, name, _ in self.lifelines}
        arrows = []
        for index, step in enumerate(self.steps):
            words = numbers.size(step.mean_size)
            if step.count > 1:
                words += f" × {numbers.count(step.count)} = {numbers.size(step.size)}"
            half = _CHARACTER * max(len(step.kind), len(words)) / 2 + 4
            middle = (x[step.sender] + x[step.receiver]) / 2
            middle = min(max(middle, half), self.width - half)
            y = self.top + self.line * index + 24
            arrows.append(Arrow(x[step.sender], x[step.receiver], y, middle, step, words))
        return arrows


def by_name(drawings: Sequence[Drawing]) -> dict[str, Drawing]:
    """Return drawings by their names, as templates ask for them."""
    return {drawing.name: drawing for drawing in drawings}


def largest_parts(
    stacks: Sequence[Mapping[str, float]], least: float = 0.0
) -> list[dict[str, float]]:
    """Return stacks of at most ``LOOKS`` parts, the longest first; what is small in all of them together is one.

    Small is also what has less than the share ``least`` of everything.
    """
    totals = defaultdict[str, float](float)
    for part, amount in (one for stack in stacks for one in stack.items()):
        totals[part] += amount
    ranked = sorted(totals, key=lambda part: -totals[part])
    longest = ranked if len(ranked) <= LOOKS else ranked[: LOOKS - 1]
    kept = [part for part in longest if totals[part] >= least * sum(totals.values())]
    parts = [{part: stack.get(part, 0.0) for part in kept} for stack in stacks]
    if len(kept) < len(totals):
        for stack, shown in zip(stacks, parts, strict=True):
            shown[OTHERS] = sum(stack.values()) - sum(shown.values())
    return parts


def _step(span: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that divides a span into about five."""
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if rough <= factor * power * 1.0001)


def _columns(names: Sequence[str]) -> int:
    """Return into how many columns a legend of these names fits."""
    longest = max(map(len, names), default=0)
    return max(1, min(4, int((WIDTH - 20) / (_CHARACTER * longest + 38))))
