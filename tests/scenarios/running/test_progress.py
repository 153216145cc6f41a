from __future__ import annotations

import io

import pytest
from rich.console import Console

from scenarios.running.progress import run_bar


@pytest.mark.parametrize("disable", [False, True])
def test_the_bar_counts_rounds_unless_nobody_is_to_see_it(disable: bool) -> None:
    page = io.StringIO()
    with run_bar(Console(file=page), disable=disable) as (aligning, training):
        aligning(1, 2)
        for done in range(5):
            training(done + 1, 9)  # and then stopped early
    assert ("trained" in page.getvalue()) is not disable
    assert ("5/5 rounds" in page.getvalue()) is not disable
