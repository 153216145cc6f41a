"""What a data party keeps at the end of every epoch, and how all agree where a broken training goes on.

Each party keeps its own half and nothing of anyone else; the coordinator keeps nothing. A resumed training is a new run
with new keys and new randomness; only what follows is taken up again:

    "colonnade checkpoint 3" and a line feed, SHA-256 of what follows, msgpack of one TrainingState

Parties go in lockstep, so two of them are at most one epoch apart: with the last two epochs kept, all have one in
common. Before a training

    feature parties -> label    KeptEpochs       after which epochs they have kept their half, and of which training
    label -> feature parties    TrainingStart    the last epoch that all have kept, or none
"""

from __future__ import annotations

import hashlib
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from parties import files
from parties.features import FixedPointMatrix
from parties.model import LocalModel
from parties.quasi_newton import Recursion, Vectors
from protocol.errors import CheckpointError
from protocol.messages.planning import KeptEpochs, TrainingStart
from protocol.numbers import FloatArray
from protocol.settings import ProtocolSettings
from protocol.training.guards import Guard
from protocol.transport.channel import Channel

_MAGIC = b"colonnade checkpoint 3\n"
_ANY_VERSION = b"colonnade checkpoint "
_NAME = re.compile(r"epoch-\d{6}")
_FIELDS = frozenset(
    {
        *("data", "training", "done", "finished", "history", "counts"),
        *("model", "best", "converged", "vectors", "recursions"),
    }
)
_KEPT = 2
_MOST_BYTES = 1 << 30  # twenty vectors of a million weights are a sixth of it


@dataclass(frozen=True)
class Epoch:
    """What the label party notes of one epoch, in wall-clock seconds.

    ``validation_loss`` decides which epoch is best: the mean log loss, or under disclosure ``shared`` the Brier score.
    ``training_loss`` is None there: nobody sees it.
    """

    training_loss: float | None
    validation_loss: float
    best: bool
    seconds: float


@dataclass
class TrainingState:
    """What a data party carries from epoch to epoch: its half now, and as it was after the best epoch.

    ``training`` names the training across its runs, 16 random bytes; ``done`` counts epochs. ``history`` is the label
    party's alone, ``recursions`` too, which with ``vectors``, one an output of the model each, and ``converged`` are of
    second-order steps. ``repeated`` rounds had
    a wrapped share; ``opened`` and ``withheld`` count gradient entries.
    """

    model: LocalModel
    best: LocalModel
    training: bytes = b""
    done: int = 0
    finished: bool = False
    history: list[Epoch] = field(default_factory=list)
    repeated: int = 0
    opened: int = 0
    withheld: int = 0
    converged: bool = False
    vectors: list[Vectors] = field(default_factory=list)
    recursions: list[Recursion] = field(default_factory=list)

    @classmethod
    def begin(cls, model: LocalModel) -> TrainingState:
        """Return the state before the first epoch."""
        return cls(model, model.copy())

    def add_epoch(
        self, training_losses: Sequence[float | None], validation_loss: float, seconds: float
    ) -> bool:
        """Label party: enter an epoch, with each round's loss, None where unseen; return whether it is the best."""
        # Steps of second order end at the optimum of the training rows: there is no better one to go back to.
        best = bool(self.vectors) or all(
            validation_loss < other.validation_loss for other in self.history
        )
        seen = [loss for loss in training_losses if loss is not None]
        mean = float(np.mean(seen)) if seen else None
        self.history.append(Epoch(mean, validation_loss, best, seconds))
        return best

    @property
    def since_best(self) -> int:
        """How many epochs came after the best one."""
        return [epoch.best for epoch in reversed(self.history)].index(True)

    def end_epoch(self, guard: Guard, *, best: bool, proceed: bool) -> None:
        """Note that one more epoch is done."""
        self.done += 1
        self.opened, self.withheld = guard.opened, guard.withheld
        self.finished = not proceed
        if best:
            self.best = self.model.copy()

    def to_bytes(self, data: bytes) -> bytes:
        """Write the state down, with the digest of what it was trained on."""
        fields = {
            "data": data,
            "training": self.training,
            "done": self.done,
            "finished": self.finished,
            "history": [asdict(epoch) for epoch in self.history],
            "counts": [self.repeated, self.opened, self.withheld],
            "model": _pack(self.model),
            "best": _pack(self.best),
            "converged": self.converged,
            "vectors": [one.to_fields() for one in self.vectors],
            "recursions": [asdict(one) for one in self.recursions],
        }
        packed: bytes = msgpack.packb(fields)
        return packed

    def taken_up(self, fields: dict[str, Any]) -> TrainingState:
        """Return a saved state, with this one's settings."""
        repeated, opened, withheld = fields["counts"]
        return TrainingState(
            _unpack(self.model, fields["model"]),
            _unpack(self.model, fields["best"]),
            fields["training"],
            fields["done"],
            fields["finished"],
            [Epoch(**epoch) for epoch in fields["history"]],
            repeated,
            opened,
            withheld,
            fields["converged"],
            [Vectors.from_fields(one) for one in fields["vectors"]],
            [Recursion(**one) for one in fields["recursions"]],
        )


class Checkpoints:
    """One party's checkpoints in a folder, or none if ``folder`` is None."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._data = b""

    def describe(
        self,
        settings: ProtocolSettings,
        batches: Sequence[FixedPointMatrix],
        labels: FloatArray | None = None,
    ) -> None:
        """Note what is trained on, and how: a checkpoint of other rows, columns or settings is not taken up."""
        longer = {"epochs", "patience", "guard"}  # may be changed on the way
        how = settings.training.model_dump_json(exclude=longer)
        digest = hashlib.sha256(f"{settings.seed} {how}".encode())
        for rows in batches:
            ones = rows.indicators
            for array in (rows.scaled, ones.indptr.astype(np.int64), ones.indices.astype(np.int64)):
                digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        if labels is not None:
            digest.update(labels.tobytes())
        self._data = digest.digest()

    def save(self, state: TrainingState) -> None:
        """Keep a state; raises CheckpointError if it cannot be written, and then leaves the older ones as they are."""
        if self._folder is None:
            return
        body = state.to_bytes(self._data)
        kept = [self._path(epoch) for epoch in range(state.done, state.done - _KEPT, -1)]
        if kept[0].exists() and not _is_ours(kept[0]):
            raise CheckpointError(
                f"{kept[0]} is no checkpoint and is not overwritten; name another folder for them"
            )
        try:
            files.make_folder(self._folder)
            _write(kept[0], body)
            # These are older, of a training that was given up, or half written when this party died.
            for other in set(_ours(self._folder)) - set(kept):
                other.unlink()
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint of epoch {state.done} cannot be written to {self._folder}: {error.strerror}; "
                "make room, then --resume takes the training up"
            ) from None

    def note_repeats(self, state: TrainingState, repeated: int) -> None:
        """Enter repeated rounds, in what is kept as well: to break a training off must not undo the count."""
        if repeated == state.repeated:
            return
        state.repeated = repeated
        for path in self._paths():
            if (fields := _read(path)) is not None and fields["training"] == state.training:
                fields["counts"][0] = repeated
                _write(path, msgpack.packb(fields))

    def kept(self) -> tuple[bytes, list[int]]:
        """Return which training is kept, and after which epochs; raises CheckpointError if it was of other data."""
        found = [fields for path in self._paths() if (fields := _read(path)) is not None]
        if any(fields["data"] != self._data for fields in found):
            raise CheckpointError(
                f"the checkpoints in {self._folder} are of other rows, columns or settings than these; resume with "
                "what the training began with, or start a new one without --resume"
            )
        newest = found[-1]["training"] if found else b""
        return newest, [fields["done"] for fields in found if fields["training"] == newest]

    def load(self, state: TrainingState, done: int, guard: Guard) -> TrainingState:
        """Return the state kept after ``done`` epochs, and have the guard go on; raises CheckpointError for none."""
        fields = None if self._folder is None else _read(self._path(done))
        if fields is None:
            raise CheckpointError(f"there is no sound checkpoint of epoch {done} in {self._folder}")
        kept = state.taken_up(fields)
        guard.opened, guard.withheld = kept.opened, kept.withheld
        return kept

    def _path(self, done: int) -> Path:
        assert self._folder is not None
        return self._folder / f"epoch-{done:06d}"

    def _paths(self) -> list[Path]:
        return [] if self._folder is None else sorted(self._folder.glob("epoch-??????"))


def forget(folder: Path) -> None:
    """Delete the checkpoints in a folder, and the folder if nothing else is in it: it may be anybody's."""
    with suppress(OSError):
        for path in list(_ours(folder)):
            path.unlink()
        folder.rmdir()


async def lead_start(
    channel: Channel,
    followers: Sequence[str],
    checkpoints: Checkpoints,
    state: TrainingState,
    guard: Guard,
    epochs: int,
) -> tuple[TrainingState, int]:
    """Whoever leads: go on after the last epoch that everyone has kept, or begin with ``state``.

    Returns the state to go on from, and how many epochs of all ``epochs`` are to come.
    """
    training, kept = checkpoints.kept()
    common = set(kept)
    for party in followers:
        theirs = await channel.receive(party, KeptEpochs)
        common &= set(theirs.epochs.tolist()) if theirs.training == training else set()
    if common:
        state = checkpoints.load(state, max(common), guard)
    else:
        state.training = secrets.token_bytes(16)
    to_come = 0 if state.finished else max(0, epochs - state.done)
    for party in followers:
        await channel.send(party, TrainingStart(state.training, state.done, to_come))
    return state, to_come


async def follow_start(
    channel: Channel, leader: str, checkpoints: Checkpoints, state: TrainingState, guard: Guard
) -> tuple[TrainingState, int]:
    """Whoever follows: go on where the leader says, or begin with ``state``; returns what the leader does."""
    training, kept = checkpoints.kept()
    await channel.send(leader, KeptEpochs(training, np.array(kept, dtype=np.int64)))
    start = await channel.receive(leader, TrainingStart)
    state.training = start.training
    if start.done:
        state = checkpoints.load(state, start.done, guard)
    return state, start.epochs


def _ours(folder: Path) -> Iterator[Path]:
    """Go through the files in a folder that checkpoints were written to, or were being written to."""
    return (path for path in folder.iterdir() if _is_ours(path))


def _is_ours(path: Path) -> bool:
    """Tell whether a file is a checkpoint, of any version, by name, kind and first bytes; or the beginning of one."""
    name = files.unfinished_name(path)
    if not _NAME.fullmatch(name or path.name) or not stat.S_ISREG(path.lstat().st_mode):
        return False
    with path.open("rb") as file:
        begins = file.read(len(_ANY_VERSION))
    return begins == _ANY_VERSION or (name is not None and _ANY_VERSION.startswith(begins))


def _write(path: Path, body: bytes) -> None:
    files.write(path, _MAGIC + hashlib.sha256(body).digest() + body)


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint holds, or None if it is damaged, too large to be one, or of another version."""
    try:
        content = files.read(path, _MOST_BYTES)
    except OSError:
        return None
    start = len(_MAGIC) + hashlib.sha256().digest_size
    digest, body = content[len(_MAGIC) : start], content[start:]
    if not content.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        return None
    try:
        fields = msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException):
        return None
    return fields if isinstance(fields, dict) and fields.keys() == _FIELDS else None


def _pack(model: LocalModel) -> dict[str, Any]:
    moments = model.optimizer.moments or ()
    return {
        "shape": list(model.parameters.shape),
        "parameters": model.parameters.tobytes(),
        "bias": model.bias,
        "steps": model.optimizer.steps,
        "moments": [moment.tobytes() for moment in moments],
    }


def _unpack(like: LocalModel, fields: dict[str, Any]) -> LocalModel:
    moments = [np.frombuffer(moment, dtype=np.float64) for moment in fields["moments"]]
    optimizer = replace(
        like.optimizer,
        steps=fields["steps"],
        moments=(moments[0], moments[1]) if moments else None,
    )
    parameters = np.frombuffer(fields["parameters"], dtype=np.float64).reshape(fields["shape"])
    return replace(like, parameters=parameters, bias=fields["bias"], optimizer=optimizer)
