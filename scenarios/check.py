"""What can be said of a scenario before anybody connects: tables, columns, labels, guards, keys and slots.

Everything here happens on one machine and in the clear, so it is for the one who prepares a scenario with all tables
at hand, or with ``party`` for one organisation and its own table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from parties.columns import counted
from parties.dataset import PartyDataset
from parties.features import FeatureEncoder
from protocol.encryption.keys import PublicKey
from protocol.errors import ColonnadeError, SettingsError
from protocol.training.gradients import GradientForm
from protocol.training.guards import Guard
from protocol.training.samples import Samples
from scenarios.costs.shapes import rehearse, rows_of, training_matrix
from scenarios.party import PartySettings
from scenarios.running.runner import check_settings, check_table
from scenarios.scenario import Scenario


@dataclass(frozen=True)
class Section:
    """A table for people: what it is about, the headings of its words and of its numbers, its rows."""

    title: str
    words: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Report:
    """What was found, in the order in which it should be read, and every sentence that would stop a run."""

    sections: list[Section] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _problem_of: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """One sentence for each party that has a problem, and one for all of them together."""
        return [*self._problem_of.values()]

    @contextmanager
    def noting(self, party: str = "") -> Iterator[None]:
        """Note the first refusal that is about a party, or about no one of them, and go on."""
        try:
            yield
        except ColonnadeError as error:
            self._problem_of.setdefault(party, str(error))


def check(scenario: Scenario, party: str | None = None) -> Report:
    """Check a scenario, or one party's side of it, as a run would; raises SettingsError if there is no such party.

    A problem with one table does not hide those of the others; what needs all tables is left out if one is bad.
    """
    chosen = [one for one in scenario.parties if party in (None, one.name)]
    if not chosen:
        raise SettingsError(f"there is no party {party!r} in {scenario.name}")
    report = Report()
    datasets: dict[str, PartyDataset] = {}
    for one in chosen:
        with report.noting(one.name):
            datasets[one.name] = scenario.dataset(one)
            check_table(scenario, datasets[one.name])
    if datasets:
        report.sections += [_describe_tables(chosen, datasets), _describe_columns(datasets)]
    with report.noting():
        check_settings(scenario, len(scenario.parties))
        if len(datasets) == len(scenario.parties):
            report.sections += _rehearse(scenario, datasets, report)
    return report


def _describe_tables(
    chosen: Sequence[PartySettings], datasets: Mapping[str, PartyDataset]
) -> Section:
    rows = []
    for party in chosen:
        if party.name not in datasets:
            continue
        table = datasets[party.name]
        ids = ", ".join(
            f"{len(set(values)):,} {entity}{'s' if len(set(values)) > 1 else ''}"
            for entity, values in table.ids.items()
        )
        label = "" if table.label is None else f"{table.label.mean():.1%} ones"
        rows.append([party.name, party.role, f"{table.n_rows:,}", ids, label])
    return Section("Tables", ["party", "role"], ["rows", "ids", "label"], rows)


def _describe_columns(datasets: Mapping[str, PartyDataset]) -> Section:
    """Say what each column becomes, as if every row were trained on."""
    rows = []
    for name, table in datasets.items():
        encoder = FeatureEncoder.fit(table, np.arange(table.n_rows))
        width = Counter(encoder.sources)
        for position, (column, kind) in enumerate(table.kinds.items()):
            cells = table.columns[column]
            party = "" if position else name
            rows.append([party, column, kind, f"{cells.isna().mean():.0%}", f"{width[column]:,}"])
    return Section("Columns", ["party", "column", "kind"], ["empty", "matrix columns"], rows)


def _rehearse(
    scenario: Scenario, datasets: Mapping[str, PartyDataset], report: Report
) -> list[Section]:
    """Align and split as a run would, in the clear, and ask the guards; return what came of it."""
    samples = rehearse(scenario, datasets)
    positions = {party: of_row[: samples.n_observed] for party, of_row in samples.positions.items()}
    shared = [
        [
            party.name,
            f"{len(np.unique(of_row[of_row >= 0])):,} of {datasets[party.name].n_rows:,}",
            f"{np.mean(of_row >= 0):.0%}",
        ]
        for party in scenario.feature_parties
        for of_row in [positions[party.name]]
    ]
    headings = ["of its ids", "of the label party's rows"]
    sections = [Section("Shared", ["feature party"], headings, shared)]
    split = samples.split
    used = [
        ["training", f"{len(split.training_samples):,}", f"{len(split.batches):,}"],
        ["validation", f"{len(split.validation):,}", ""],
        ["test", f"{len(split.test):,}", ""],
    ]
    sections.append(Section("Rows in use", ["for"], ["rows", "batches"], used))
    sections.append(_guard(scenario, datasets, samples, report))
    return sections


def _guard(
    scenario: Scenario,
    datasets: Mapping[str, PartyDataset],
    samples: Samples,
    report: Report,
) -> Section:
    key = PublicKey((1 << scenario.encryption.key_bits) - 1)  # of which only the size counts here
    label, batches = scenario.label_party.name, samples.split.batches
    shared = scenario.training.disclosure == "shared"
    names = [party.name for party in scenario.feature_parties]
    if shared:  # in which the label party, too, learns from opened gradients alone
        names.append(label)
    rows = []
    for name in names:
        matrix = training_matrix(name, scenario, datasets, samples)
        in_batches = [rows_of(name, batch, scenario) for batch in batches]
        guard = Guard(name, scenario.training)
        with report.noting(name):
            for of_batch in in_batches:
                guard.admit(matrix.take(of_batch), with_total=name == label)
        report.warnings += guard.warnings
        scaled = shared or matrix.scaled.shape[1] > 0
        form = GradientForm.of(scenario, max(map(len, batches)), len(datasets), scaled=scaled)
        rows.append(
            [
                name,
                f"{matrix.n_columns:,}",
                f"{min(map(len, in_batches)):,}",
                f"{form.slots(key).width} bits",
                counted(form.columns(key).slots, "column"),
            ]
        )
    headings = ["matrix columns", "fewest rows in a batch", "slot", "per ciphertext"]
    title = f"Guards, and keys of {scenario.encryption.key_bits} bits"
    return Section(title, ["party"], headings, rows)
