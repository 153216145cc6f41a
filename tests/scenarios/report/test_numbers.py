from __future__ import annotations

import pytest

from scenarios.report import numbers


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"),
        (2e-5, "< 1 ms"),
        (0.0312, "31 ms"),
        (1.5, "1.5 s"),
        (99.96, "1 min 40 s"),
        (125, "2 min 5 s"),
        (119.7, "2 min 0 s"),
        (7320, "2 h 2 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert numbers.seconds(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (86_621, "86.6 kB"),
        (999_960, "1 MB"),
        (5.18e6, "5.18 MB"),
        (3e15, "3,000 TB"),
    ],
)
def test_sizes(size: float, words: str) -> None:
    assert numbers.size(size) == words


def test_what_is_undefined_is_a_dash() -> None:
    assert numbers.score(None) == "–"
    assert numbers.score(0.98343) == "0.9834"


def test_settings_are_written_as_in_a_file() -> None:
    assert [numbers.setting(value) for value in (None, True, 0.05, "open")] == [
        "not set",
        "true",
        "0.05",
        "open",
    ]
