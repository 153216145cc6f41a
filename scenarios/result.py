"""What came of a run, as tables for a notebook: how good the model is, what it cost, who learned what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from typing import Any

import pandas as pd

from scenarios.console import shared_words
from scenarios.judging.baselines import Comparison, compare
from scenarios.running.runner import Run

_COSTS = {  # the ledger's quantities, and what to call them and count them in
    "seconds": ("seconds of computing", 1.0),
    "messages sent": ("messages sent", 1.0),
    "bytes sent": ("kB sent", 1e-3),
    "ciphertexts sent": ("ciphertexts sent", 1.0),
}
_SCORES = ["auc", "gauc", "log_loss", "accuracy", "brier", "calibration_error"]


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A finished run; the models that it is compared with are trained when they are first asked for."""

    run: Run

    @cached_property
    def comparison(self) -> Comparison:
        """The joint model and its baselines on the test rows, which nobody trained on."""
        return compare(self.run)

    @property
    def scores(self) -> pd.DataFrame:
        """A row a model; GAUC only where users have several test rows."""
        table = _by_model(self.comparison.scores)[_SCORES]
        return table.dropna(axis="columns", how="all")

    @property
    def rankings(self) -> pd.DataFrame:
        """A row a model: how good its lists are; empty unless lists were judged."""
        return _by_model(self.comparison.rankings)

    @property
    def costs(self) -> pd.DataFrame:
        """A row a party and phase: what it computed and sent."""
        rows = [row for ledger in self.run.ledgers.values() for row in ledger.rows()]
        table = pd.DataFrame(rows, columns=["party", "phase", "quantity", "number"])
        table = table.pivot_table("number", ["party", "phase"], "quantity", sort=False)
        table = table.reindex(columns=list(_COSTS), fill_value=0.0).fillna(0.0)
        table = table * [unit for _, unit in _COSTS.values()]
        return table.set_axis([name for name, _ in _COSTS.values()], axis="columns")

    @property
    def disclosures(self) -> pd.DataFrame:
        """A row a party and kind of message that it received, with what it learned from those."""
        sent = [asdict(one) for ledger in self.run.ledgers.values() for one in ledger.sent]
        table = pd.DataFrame(sent).rename(columns={"receiver": "party", "discloses": "learns"})
        counts = table.groupby(["party", "kind", "learns"], sort=False).size()
        order = {name: number for number, name in enumerate(self.run.ledgers)}
        table = counts.rename("messages").reset_index()
        return table.sort_values("party", key=lambda names: names.map(order), ignore_index=True)

    def __repr__(self) -> str:
        return self.scores.to_string()

    def _repr_html_(self) -> str:
        run, settings = self.run, self.run.scenario.training
        history = run.label_party.trained.history
        said = (
            f"{shared_words(run.shared)}; {len(history)} epochs, disclosure '{settings.disclosure}', "
            f"{run.encryption}"
        )
        by_party = self.costs.groupby(level="party", sort=False).sum()
        parts = [
            f"<p>{escape(said)}</p>",
            *(f"<p><b>Warning:</b> {escape(line)}</p>" for line in run.warnings),
            _html("On rows nobody trained on", self.scores, "{:.4f}"),
            _html("What it cost", by_party, "{:,.1f}"),
            _html("Who learned what", self.disclosures.set_index("party"), "{:,}"),
        ]
        if not self.rankings.empty:
            parts.insert(-2, _html("Lists of items", self.rankings, "{:.4f}"))
        return "\n".join(parts)


def _by_model(values: Mapping[str, Any]) -> pd.DataFrame:
    rows = [asdict(value) for value in values.values()]
    return pd.DataFrame(rows, index=pd.Index(list(values), name="model"))


def _html(title: str, table: pd.DataFrame, number: str) -> str:
    """Return a titled table, in which pandas escapes what it holds."""
    table = table.rename_axis(None)
    return f"<h4>{escape(title)}</h4>\n{table.to_html(border=0, float_format=number.format)}"
