"""Alignment alone: each party gets the rows it shares, and where they stand in the order that all agreed on.

Kept in ``<folder>/<scenario>/<time>/<party>/positions.csv``. ``row`` counts the rows of the party's own table from 0,
``position`` the shared entities in agreed order. The label party, whose rows may be shared with some feature parties
and not with others, has one column of positions for each of them, empty where a row is not shared.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from protocol.ledger import Ledger, Progress, peak_memory
from protocol.numbers import IntArray
from psi.alignment import align_feature_party, align_label_party, coordinate_alignment
from scenarios.running.folders import write_whole
from scenarios.running.runner import play
from scenarios.scenario import COORDINATOR, Scenario


@dataclass(frozen=True, eq=False)
class Alignment:
    """What a finished alignment leaves. ``seconds`` is wall-clock time, ``peak_memory`` in bytes as in a run.

    ``shared`` counts shared entities; ``rows`` and ``positions`` have each party's table size and its own positions.
    """

    shared: Mapping[str, int]
    rows: Mapping[str, int]
    positions: Mapping[str, pd.DataFrame]
    ledgers: Mapping[str, Ledger]
    seconds: float
    peak_memory: int


def align(scenario: Scenario, progress: Progress = lambda done, total: None) -> Alignment:
    """Play all parties of a scenario up to the end of alignment; raises any ColonnadeError of theirs."""
    datasets = {party.name: scenario.dataset(party) for party in scenario.parties}
    label, settings = scenario.label_party.name, scenario.alignment
    started = time.perf_counter()
    results, channels = play(
        scenario,
        lambda channel: coordinate_alignment(channel, settings),
        lambda channel: align_label_party(channel, settings, datasets[label], progress),
        lambda channel: align_feature_party(channel, settings, datasets[channel.name]),
    )
    return Alignment(
        shared=results[COORDINATOR],
        rows={name: dataset.n_rows for name, dataset in datasets.items()},
        positions={
            name: _of_label_party(results[name]) if name == label else _of_rows(results[name])
            for name in datasets
        },
        ledgers={name: channel.ledger for name, channel in channels.items()},
        seconds=time.perf_counter() - started,
        peak_memory=peak_memory(),
    )


def write(alignment: Alignment, scenario: Scenario, folder: Path) -> Path:
    """Write every party's positions into its own folder; raises SettingsError if they cannot be written."""

    def write_files(whole: Path) -> None:
        for party, positions in alignment.positions.items():
            (whole / party).mkdir()
            positions.to_csv(whole / party / "positions.csv", index=False)

    return write_whole(folder / scenario.name, write_files)


def _of_rows(rows: IntArray) -> pd.DataFrame:
    table = pd.DataFrame({"row": rows, "position": np.arange(len(rows))})
    return table.sort_values("row", ignore_index=True)


def _of_label_party(positions: Mapping[str, IntArray]) -> pd.DataFrame:
    table = pd.DataFrame(positions, dtype="Int64")
    table = table.mask(table < 0)
    table.insert(0, "row", np.arange(len(table)))
    return table.dropna(subset=list(positions), how="all")
