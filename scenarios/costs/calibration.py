"""What one operation costs on this machine: measured in seconds, kept for the next time.

Each kind of encrypted operation is timed over a few sizes and fitted by ``a + b number + c work``, all of them zero or
more; what Python and numpy do around them is fitted the same way to a few small trainings. The fits minimise
relative errors. All seconds are CPU seconds. The cache is one JSON file; an entry holds for one machine, one path of
the arithmetic and one set of library versions.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, fields
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from joblib import parallel_config
from pydantic import TypeAdapter, ValidationError
from scipy.optimize import nnls

from parties import files
from parties.features import FixedPointMatrix
from protocol.encryption import certificate
from protocol.encryption.encryptors import Encryptor, KeyHolderEncryptor, Masks
from protocol.encryption.keys import EncryptedVector, PrivateKey
from protocol.encryption.native import choose_path
from protocol.encryption.packing import SlotLayout
from protocol.errors import SettingsError
from protocol.ledger import Ledger, charging, peak_memory
from protocol.settings import Engine
from protocol.training.gradients import SHIFT_BITS, transposed_product
from protocol.training.opening import announce
from scenarios.costs.counting import Conversation, Rest
from scenarios.costs.operations import KINDS, Arithmetic, Operation
from scenarios.costs.shapes import Shapes
from scenarios.running import runner
from scenarios.scenario import Scenario, load

FOLDER_VARIABLE = "XDG_CACHE_HOME"
_MEMORY_BUDGET = 256_000_000
_DISTURBANCE = np.ones(1 << 20)
_SHORTEST = 0.05  # seconds to spend on a size
_SMALL = 5e-3  # seconds of everything else under which an error does not matter

Coefficients = tuple[float, ...]
Timed = tuple[Operation, float]


@dataclass(frozen=True)
class UnitCosts:
    """CPU seconds: by kind of operation those of a call, of one operation and of a unit of work; and of all the rest.

    ``rest`` is one coefficient for each number of :class:`Rest`. ``base_memory`` is what a process holds before it has
    done anything, in bytes.
    """

    operations: Mapping[str, Coefficients]
    rest: Coefficients
    base_memory: int

    def of_operation(self, operation: Operation) -> float:
        """Return the seconds of one call."""
        return float(np.dot(self.operations[operation.kind], _terms(operation)))

    def of_rest(self, rest: Rest) -> float:
        """Return the seconds of what is no encrypted operation."""
        return float(np.dot(self.rest, astuple(rest)))


@dataclass(frozen=True)
class _Entry:
    """What is known of one machine; operations by engine and key bits, such as "colonnade 2048"."""

    operations: Mapping[str, Mapping[str, Coefficients]]
    rest: Coefficients
    base_memory: int

    def unit_costs(self, key_bits: int, engine: Engine) -> UnitCosts | None:
        """Return the unit costs under such keys; None where not all of them have been measured."""
        operations = self.operations.get(f"{engine} {key_bits}", {})
        known = operations.keys() >= KINDS
        return UnitCosts(operations, self.rest, self.base_memory) if known else None


_CACHE = TypeAdapter(dict[str, _Entry])


def known_unit_costs(key_bits: int, engine: Engine = "colonnade") -> UnitCosts | None:
    """Return this machine's unit costs from the cache; None where they have not been measured."""
    entry = _read().get(machine())
    return None if entry is None else entry.unit_costs(key_bits, engine)


def unit_costs(key_bits: int, engine: Engine = "colonnade") -> UnitCosts:
    """Return this machine's unit costs, from the cache or, the first time, measured in seconds."""
    known = known_unit_costs(key_bits, engine)
    if known is None:
        known = calibrate([key_bits], [engine], everything=False).unit_costs(key_bits, engine)
        assert known is not None, "it has just been measured"
    return known


def calibrate(
    key_bits: Sequence[int],
    engines: Sequence[Engine] = ("colonnade",),
    progress: Callable[[str], object] = lambda doing: None,
    *,
    everything: bool = True,
) -> _Entry:
    """Measure this machine anew and keep it; without ``everything`` the operations alone, if the rest is known."""
    cache = _read()
    known = cache.get(machine())
    measured = dict(known.operations) if known is not None else {}
    for engine in engines:
        for bits in key_bits:
            progress(f"{engine}, {bits} bits")
            measured[f"{engine} {bits}"] = calibrate_operations(bits, engine)
    if known is None or everything:
        progress("in the clear")
        rest, base = calibrate_rest(), _fresh_process_memory()
    else:
        rest, base = known.rest, known.base_memory
    entry = _Entry(measured, rest, base)
    _write({**_read(), machine(): entry})
    return entry


def machine() -> str:
    """Return what unit costs depend on: machine, arithmetic, versions."""
    libraries = ("colonnade", "phe", "gmpy2", "numpy", "pandas", "scikit-learn", "joblib")
    parts = [platform.node(), platform.machine(), f"{os.cpu_count()} cores", choose_path()[0]]
    parts += [f"python {platform.python_version()}"]
    return ", ".join([*parts, *(f"{library} {version(library)}" for library in libraries)])


def cache_file() -> Path:
    """Return where unit costs are kept."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return (Path(folder) if folder else Path.home() / ".cache") / "colonnade" / "unit-costs.json"


def calibrate_operations(key_bits: int, engine: Engine) -> dict[str, Coefficients]:
    """Measure every kind of operation under a key of this size."""
    timed: dict[str, list[Timed]] = {}
    with parallel_config(n_jobs=-1):
        for operation, work in _samples(key_bits, engine):
            seconds = _seconds(operation.kind, work)
            timed.setdefault(operation.kind, []).append((operation, seconds))
    return {
        kind: _fit([_terms(operation) for operation, _ in of_kind], [s for _, s in of_kind])
        for kind, of_kind in timed.items()
    }


def calibrate_rest() -> Coefficients:
    """Fit what is no encrypted operation to small trainings under small keys."""
    rows: list[Sequence[float]] = []
    seconds: list[float] = []
    for scenario in _trainings():
        expected = Conversation(scenario, Shapes.of(scenario)).everything_else()
        runner.run(scenario)  # what comes first takes longer
        runs = [runner.run(scenario) for _ in range(2)]
        for ledger in (ledger for run in runs for ledger in run.ledgers.values()):
            encrypted = sum(
                spent
                for (phase, _), spent in ledger.operation_seconds.items()
                if phase == "training"
            )
            rows.append(astuple(expected[ledger.party]))
            seconds.append(ledger.cpu_seconds["training"] - encrypted)
    return _fit(rows, seconds, smallest=_SMALL)


def _trainings() -> Iterator[Scenario]:
    """Give real data and made-up ones, of several sizes, under each disclosure."""
    small = ["key_bits=512", "insecure_key=true", "guard=warn", "epochs=3", "patience=1000"]
    machine = [*small, "model=factorization-machine"]
    for disclosure in ("none", "open", "shared"):
        under = f"disclosure={disclosure}"
        # Few and many rounds, to tell what a round takes from what a training does.
        yield load("breast-cancer", [*small, under, "epochs=1"])
        yield load("breast-cancer", [*small, under, "epochs=20"])
        yield load("cost-study", [*small, under, *_sized(6000, 10, 0), "batch_size=1500"])
        yield load("cost-study", [*small, under, *_sized(24000, 12, 0), "batch_size=2000"])
        yield load("cost-study", [*machine, under, *_sized(3000, 5, 20), "factors=4"])
    tiny = [f"parties.{name}.arguments.size=tiny" for name in ("shop", "bank", "telco")]
    for epochs in (1, 6):
        settings = [*small, *tiny, "disclosure=none", "ranking.k=0", f"epochs={epochs}"]
        yield load("shop-bank-telco", settings)


def _sized(rows: int, columns: int, binary: int) -> list[str]:
    sizes = {"rows": rows, "columns": columns, "binary": binary}
    return [
        f"parties.{party}.arguments.{name}={size}"
        for party in ("label-party", "party-1")
        for name, size in sizes.items()
    ]


def _samples(key_bits: int, engine: Engine) -> Iterator[tuple[Operation, Callable[[], object]]]:
    """Give each kind of operation at several sizes: as counted, and to be done."""
    key = PrivateKey.generate(key_bits, insecure_key=True, engine=engine)
    public, arithmetic = key.public_key, Arithmetic(key_bits, engine, _MEMORY_BUDGET)
    draw = np.random.default_rng(0)
    encryptor, holder = Encryptor(public), KeyHolderEncryptor(key)
    few = encryptor.encrypt([int(number) for number in draw.integers(-(1 << 40), 1 << 40, 64)])
    announced = announce(key)
    yield arithmetic.certificate(), partial(certificate.certify, key)
    verify = partial(certificate.verify, announced.modulus, announced.roots, key_bits, sender="")
    yield arithmetic.verification(), verify
    if not arithmetic.naive:
        yield arithmetic.tables(holder=False), lambda: Encryptor(public).encrypt([0])
        yield arithmetic.tables(holder=True), lambda: KeyHolderEncryptor(key).encrypt([0])

    def vector(number: int) -> EncryptedVector:
        return few.take(draw.integers(0, 64, number))

    slow = arithmetic.naive
    for number in (1, 2, 8, 24) if slow else (1, 2, 8, 9, 40, 300, 1500):
        integers, some = [1 << 40] * number, vector(number)
        sent = some.to_wire()
        yield arithmetic.encryption(number), partial(encryptor.encrypt, integers)
        yield arithmetic.key_holder_encryption(number), partial(holder.encrypt, integers)
        yield arithmetic.plain_addition(number), partial(some.plus, integers)
        yield arithmetic.check(number), partial(EncryptedVector.from_wire, public, sent, sender="")
        yield arithmetic.write(number), some.to_bytes
        groups = draw.integers(0, number, number)
        yield arithmetic.addition(number), partial(some.sum_by, groups, number)
        if number <= 40:
            masks = Masks.draw(public, number)
            yield arithmetic.masking(number), partial(masks.apply, some)
            yield arithmetic.decryption(number), partial(key.decrypt, some)
    for number in (2, 10, 20, 40, 130):
        some, layout = vector(number), SlotLayout(45, (key_bits - 1) // 45)
        yield arithmetic.packing(layout, number), partial(layout.pack, some)
    shapes = (
        [(20, 2), (10, 8), (40, 4)]
        if slow
        else [(150, 10), (150, 20), (500, 5), (3000, 8), (800, 40)]
    )
    for rows, columns in shapes:
        some, matrix = vector(rows), _matrix(draw, rows, columns)
        yield arithmetic.product(rows, columns), partial(transposed_product, matrix, some)
    for columns, bits in ((1, 60), (4, 200), (12, 60), (12, 300)):
        some, factors = vector(columns), [(1 << bits) - 1] * columns
        subtraction = arithmetic.subtraction(columns, bits, SHIFT_BITS)
        yield subtraction, partial(some.shifted_less, SHIFT_BITS, some, factors)


def _matrix(draw: np.random.Generator, rows: int, columns: int) -> FixedPointMatrix:
    """Return standard scores in fixed point."""
    scaled = np.rint(draw.normal(0, 1 << 12, (rows, columns))).astype(np.int16)
    return FixedPointMatrix.of_scaled(scaled)


def _seconds(kind: str, work: Callable[[], object]) -> float:
    """Return the usual CPU seconds of a kind of operation within some work."""
    spent: list[float] = []
    while len(spent) < 3 or (sum(spent) < _SHORTEST and len(spent) < 30):
        ledger = Ledger("")
        _DISTURBANCE.sum()  # in a run, other things have filled the caches since the last call
        with charging(ledger):
            work()
        spent.append(sum(s for (_, k), s in ledger.operation_seconds.items() if k == kind))
    return statistics.median(spent)


def _terms(operation: Operation) -> tuple[float, float, float]:
    return 1.0, float(operation.number), float(operation.work)


def _fit(
    rows: Sequence[Sequence[float]], seconds: Sequence[float], smallest: float = 1e-9
) -> Coefficients:
    """Return the coefficients, zero or more, with the least relative errors in seconds."""
    weights = 1 / np.maximum(np.array(seconds), smallest)
    terms = np.array(rows) * weights[:, None]
    scale = np.maximum(terms.max(axis=0), 1e-300)
    coefficients, _ = nnls(terms / scale, np.array(seconds) * weights)
    return tuple((coefficients / scale).tolist())


def _fresh_process_memory() -> int:
    """Return what a process holds that has only been started, in bytes."""
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        return apart.submit(runner_memory).result()


def runner_memory() -> int:
    """Return the peak memory of this process, into which the runner has been imported."""
    return peak_memory()


def _read() -> dict[str, _Entry]:
    try:
        cache = _CACHE.validate_json(files.read(cache_file(), files.SETTINGS_BYTES))
    except (OSError, ValidationError):  # none yet, or of another version: it is measured anew
        return {}
    return {name: one for name, one in cache.items() if len(one.rest) == len(fields(Rest))}


def _write(cache: dict[str, _Entry]) -> None:
    path = cache_file()
    try:
        files.make_folder(path.parent)
        files.write(path, _CACHE.dump_json(cache, indent=2))
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written: {error.strerror}; set {FOLDER_VARIABLE} to a folder that can"
        ) from None
