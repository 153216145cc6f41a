"""Numbers as people read them; each is a filter of the templates too."""

from __future__ import annotations

import math

MISSING = "–"


def score(number: float | None) -> str:
    """Write a score with four decimals, what is undefined as a dash."""
    return MISSING if number is None else f"{number:.4f}"


def count(number: float) -> str:
    """Write a whole number with commas."""
    return f"{number:,.0f}"


def seconds(number: float) -> str:
    """Write a duration in seconds, minutes or hours."""
    if number < 1e-3 and number:
        return "< 1 ms"
    if number < 1:
        return f"{1000 * number:.0f} ms"
    if number < 100:
        return f"{number:.3g} s"
    if number < 6000:
        return f"{number // 60:.0f} min {number % 60:.0f} s"
    return f"{number // 3600:,.0f} h {number % 3600 // 60:.0f} min"


def size(number: float) -> str:
    """Write a number of bytes in decimal units."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, int(math.log(number, 1000) + 1e-9)) if number >= 1 else 0
    value = number / 1000**power
    return f"{value:,.0f} {units[power]}" if not power or value >= 100 else f"{value:.3g} {units[power]}"


def plain(number: float) -> str:
    """Write a tick of an axis in as few figures as tell it from its neighbours."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def setting(value: object) -> str:
    """Write the value of a setting as a scenario file has it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
