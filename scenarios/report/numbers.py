"""Numbers as people read them; each is a filter of the templates too."""

from __future__ import annotations

MISSING = "–"
_UNITS = ("kB", "MB", "GB", "TB")


def score(number: float | None) -> str:
    """Write a score with four decimals, what is undefined as a dash."""
    return MISSING if number is None else f"{number:.4f}"


def count(number: float) -> str:
    """Write a whole number with commas."""
    return f"{number:,.0f}"


def seconds(number: float) -> str:
    """Write a duration in milliseconds, seconds, minutes or hours."""
    if 0 < number < 1e-3:
        return "< 1 ms"
    if number < 0.9995:
        return f"{1000 * number:.0f} ms"
    if number < 99.95:
        return f"{number:.3g} s"
    whole = round(number)
    if whole < 6000:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def size(number: float) -> str:
    """Write a number of bytes to three figures, in decimal units."""
    if number < 1000:
        return f"{number:.0f} bytes"
    exponent = min(int(f"{number:.2e}".partition("e")[2]) // 3, len(_UNITS))
    value = number / 1000**exponent
    return (
        f"{value:,.0f} {_UNITS[exponent - 1]}"
        if value >= 100
        else f"{value:.3g} {_UNITS[exponent - 1]}"
    )


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
