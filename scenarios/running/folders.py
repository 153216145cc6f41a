"""What parties leave on the disk: halves of models, ledgers, tables, written whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from parties import files
from parties.dataset import PartyDataset
from parties.features import FeatureEncoder
from parties.model import LocalModel, Optimizer
from protocol.errors import SettingsError
from protocol.ledger import Ledger, MessageRecord, Receipts
from protocol.training.checkpoints import forget
from protocol.training.samples import Split
from protocol.training.trained import TrainedHalf
from scenarios.scenario import Scenario

TRAINING = "training"


PHASES = ("setup", "alignment", TRAINING, "scoring")


_CHECKPOINTS = ".checkpoints"


def write_whole(parent: Path, write_files: Callable[[Path], None]) -> Path:
    """Make a folder named after the time and fill it, or leave nothing; raises SettingsError if that cannot be."""
    folder = parent / _now()
    with written_whole(folder) as unfinished:
        write_files(unfinished)
    return folder


def checkpoints(parent: Path, *, resume: bool) -> Path:
    """Return where a training keeps checkpoints: beside its results, or where the newest that broke has left some."""
    left = sorted(parent.glob(f"*{_CHECKPOINTS}"))
    return left[-1] if resume and left else parent / (_now() + _CHECKPOINTS)


def forget_checkpoints(folder: Path) -> None:
    """Delete what the parties of a simulated run have kept in folders of their own, and nothing else."""
    for part in (*folder.glob("*"), folder):
        forget(part)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give :func:`parties.files.whole_folder` to write to; raises SettingsError if that cannot be."""
    try:
        with files.whole_folder(folder) as unfinished:
            yield unfinished
    except OSError as error:
        raise SettingsError(
            f"the folder {folder.parent} cannot be written: {error.strerror}"
        ) from None


def check_writable(runs: Path) -> None:
    """Refuse, before hours of work, a place where the results could not be kept; raises SettingsError."""
    existing = next(folder for folder in (runs, *runs.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise SettingsError(f"the folder {runs} cannot be written; choose another")


def write_ledgers(folder: Path, ledgers: Sequence[Ledger]) -> None:
    """Write what was spent and what was sent, in the order of sending."""
    written: dict[str, tuple[list[str], Callable[[Ledger], Iterable[Sequence[object]]]]] = {
        "costs": (["party", "phase", "quantity", "number"], Ledger.rows),
        "rounds": (["party", "phase", "round", "quantity", "number"], Ledger.round_rows),
        "links": (
            ["sender", "receiver", "phase", "messages", "bytes", "ciphertexts"],
            Ledger.link_rows,
        ),
    }
    for name, (headings, rows_of) in written.items():
        write_csv(
            folder / f"{name}.csv", headings, (row for one in ledgers for row in rows_of(one))
        )
    sent = sorted(
        (record for ledger in ledgers for record in ledger.sent), key=lambda record: record.time
    )
    write_lines(folder / "transcript.jsonl", sent)


def write_lines(path: Path, records: Iterable[MessageRecord | Receipts]) -> None:
    """Write what was sent or received, a line of JSON each."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(record)) + "\n" for record in records)


def write_csv(path: Path, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with headings."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(headings)
        table.writerows(rows)


def rows_in_use(split: Split) -> dict[str, int]:
    """Return how many of the label party's rows were used for what, and in how many batches."""
    return {
        "training": len(split.training_samples),
        "batches": len(split.batches),
        "validation": len(split.validation),
        "test": len(split.test),
    }


def table_size(dataset: PartyDataset, half: TrainedHalf) -> dict[str, int]:
    """Return how large a party's table is, as it came and as it was trained on."""
    return {
        "rows": dataset.n_rows,
        "columns": len(dataset.columns.columns),
        "encoded_columns": len(half.encoder.column_names),
    }


@dataclass(frozen=True, eq=False)
class SavedHalf:
    """One party's trained half, read back from its own folder."""

    encoder: FeatureEncoder
    model: LocalModel


def read_settings(folder: Path) -> Scenario:
    """Return the resolved settings of a finished run; raises SettingsError if the folder holds none."""
    try:
        return Scenario.model_validate_json(
            files.read(folder / "settings.json", files.SETTINGS_BYTES)
        )
    except (OSError, ValidationError):
        raise SettingsError(
            f"{folder} is not the folder of a finished run; expected what 'colonnade run' wrote"
        ) from None


def read_half(folder: Path) -> SavedHalf:
    """Return the trained half in a party's own folder; raises SettingsError if its file is missing or damaged."""
    path = folder / "model.json"
    try:
        saved = json.loads(files.read(path, files.MODEL_BYTES))
        columns = [np.array(saved["weights"])[:, None], np.array(saved["factors"])]
        parameters = np.hstack(columns).astype(np.float64)
        encoder = FeatureEncoder.from_json(saved["preprocessing"])
        bias = None if saved["bias"] is None else float(saved["bias"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise SettingsError(f"{path} is missing or damaged; train again") from None
    unused = Optimizer("sgd", 0.0)
    return SavedHalf(encoder, LocalModel(parameters, bias, np.zeros_like(parameters), unused))


def finite(numbers: dict[str, float]) -> dict[str, float | None]:
    """Write what is undefined, such as an AUC of one class, as null: JSON has no NaN."""
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


def write_half(folder: Path, half: TrainedHalf) -> None:
    """Write a party's trained half, ``model.json``, to its own folder."""
    folder.mkdir(parents=True, exist_ok=True)
    local_model = {
        "version": 1,
        "columns": list(half.encoder.column_names),
        "weights": half.model.weights.tolist(),
        "factors": half.model.factors.tolist(),
        "bias": half.model.bias,
        "preprocessing": half.encoder.to_json(),
    }
    write_json(folder / "model.json", local_model)


def write_json(path: Path, value: object) -> None:
    """Write plain values as JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
