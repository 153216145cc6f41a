"""``make bench``: what one encrypted operation costs here and in other libraries, measured in one run on one core.

Prints microseconds and modular multiplications an operation and how many times faster than each peer; writes a CSV
and a plot. Figures of other machines do not compare: ratios within one run do. Peers take one modular power for
each entry of a product, so a small product tells their cost an entry.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from joblib import parallel_config
from rich.console import Console
from rich.table import Table
from scipy import sparse

from parties.features import FixedPointMatrix
from protocol import ledger
from protocol.encryption import native
from protocol.encryption.encryptors import Encryptor, KeyHolderEncryptor, Masks
from protocol.encryption.exponentiation import MODULAR_MULTIPLICATIONS
from protocol.encryption.keys import EncryptedVector, PrivateKey
from protocol.encryption.packing import SlotLayout
from protocol.training.gradients import transposed_product
from scenarios.console import new_table
from scenarios.running import runner
from scenarios.scenario import Scenario

ENCRYPT, HOLDER, DECRYPT, ADD = "encrypt", "encrypt as key holder", "decrypt", "add"
DENSE = {shape: f"product {shape[0]}x{shape[1]}, an entry" for shape in ((256, 64), (1024, 256))}
SPARSE, PACKED = "one-hot 100,000x2,000, an entry", "product 256x64 of 9 slots, an entry and slot"
PACK, MASK, OPEN = "pack, a column", "mask, a ciphertext", "decrypt a gradient, a ciphertext"
EPOCH = "an epoch of 30,000 x 23, batch 1,024, all cores"
CORES = "product 4096x256 on all cores, an entry"
PRODUCTS = (*DENSE.values(), SPARSE, PACKED, CORES)

SLOT = SlotLayout(48, 42)


@dataclass(frozen=True)
class Measurement:
    """One operation in one library; ``microseconds`` and ``multiplications`` are for one operation."""

    key_bits: int
    operation: str
    library: str
    microseconds: float
    multiplications: float | None = None


Operation = tuple[str, int, Callable[[], object]]


def best_seconds(work: Callable[[], object], seconds: float = 1.0) -> float:
    """Return the shortest time of a few repetitions: noise only ever adds."""
    shortest, spent = float("inf"), 0.0
    for repetition in range(20):
        started = time.perf_counter()
        work()
        elapsed = time.perf_counter() - started
        shortest, spent = min(shortest, elapsed), spent + elapsed
        if spent > seconds and repetition:
            break
    return shortest


@contextmanager
def on_path(path: str) -> Iterator[None]:
    """Take one path of the arithmetic for a while."""
    before = os.environ.get(native.VARIABLE)
    os.environ[native.VARIABLE] = path
    try:
        yield
    finally:
        os.environ.pop(native.VARIABLE)
        if before is not None:
            os.environ[native.VARIABLE] = before


def measure_ours(key: PrivateKey, path: str) -> Iterator[Measurement]:
    """Measure every operation on one path, one core; the last one on all cores."""
    with on_path(path):
        for operation, number, work in _operations(PrivateKey(key.p, key.q)):
            with parallel_config(n_jobs=-1 if operation == CORES else 1):
                _, taken = ledger.apart(work)
                seconds = best_seconds(work)
            multiplications = sum(
                count
                for (_, name), count in taken.counts.items()
                if name == MODULAR_MULTIPLICATIONS
            )
            yield Measurement(
                key.public_key.bits,
                operation,
                path,
                1e6 * seconds / number,
                multiplications / number,
            )


def _operations(key: PrivateKey) -> Iterator[Operation]:
    public_key = key.public_key
    draw = np.random.default_rng(0)
    encryptor, holder = Encryptor(public_key), KeyHolderEncryptor(key)
    integers = [secrets.randbelow(1 << 40) for _ in range(64)]
    few = encryptor.encrypt(integers)
    many = few.take(draw.integers(0, 64, 100_000))
    yield ENCRYPT, 64, lambda: encryptor.encrypt(integers)
    holder.encrypt(integers)  # makes its tables
    yield HOLDER, 64, lambda: holder.encrypt(integers)
    yield DECRYPT, 64, lambda: key.decrypt(few)
    first = many.take(np.arange(4096))
    yield ADD, 4096, lambda: first + first
    for shape, name in DENSE.items():
        rows, matrix = many.take(np.arange(shape[0])), _dense(draw, shape)
        yield name, matrix.scaled.size, partial(transposed_product, matrix, rows)
    one_hot = _one_hot(draw, 100_000, 2_000, 5)
    yield SPARSE, 500_000, lambda: transposed_product(one_hot, many)
    nine = SlotLayout(96, 9).pack(many.take(np.arange(9 * 256)))
    matrix = _dense(draw, (256, 64))
    yield PACKED, 9 * matrix.scaled.size, lambda: transposed_product(matrix, nine)
    columns = many.take(np.arange(8 * 42))
    yield PACK, 8 * 42, lambda: SLOT.pack(columns)
    gradient = many.take(np.arange(8))
    yield MASK, 8, lambda: Masks.draw(public_key, 8).apply(gradient)
    yield OPEN, 8, lambda: _open(key, gradient)
    tall, wide = many.take(np.arange(4096)), _dense(draw, (4096, 256))
    yield CORES, wide.scaled.size, lambda: transposed_product(wide, tall)


def _dense(draw: np.random.Generator, shape: tuple[int, int]) -> FixedPointMatrix:
    scaled = draw.integers(-(2**15), 2**15, shape).astype(np.int16)
    return FixedPointMatrix.of_scaled(scaled)


def _one_hot(draw: np.random.Generator, rows: int, columns: int, each: int) -> FixedPointMatrix:
    """Return rows with ``each`` ones, one in each of as many fields of columns."""
    field = columns // each
    chosen = draw.integers(0, field, (rows, each)) + field * np.arange(each)
    starts = np.arange(0, rows * each + 1, each)
    ones = sparse.csr_array(
        (np.ones(rows * each, np.int8), chosen.ravel(), starts), (rows, columns)
    )
    return FixedPointMatrix(np.zeros((rows, 0), np.int16), ones, 0)


def _open(key: PrivateKey, gradient: EncryptedVector) -> list[int]:
    """Decrypt and take masks off; the masks themselves are measured apart."""
    masks = Masks(key.public_key, [0] * len(gradient))
    return masks.remove(key.decrypt(gradient))


def epoch_table(part: str) -> pd.DataFrame:
    """Return one party's table of 30,000 made-up users: 12 columns and a label, or 11 columns."""
    draw = np.random.default_rng(0)
    columns, noise = draw.normal(size=(30_000, 23)), draw.logistic(size=30_000)
    own = slice(0, 12) if part == "label" else slice(12, 23)
    table = pd.DataFrame(columns[:, own]).rename(columns="x{}".format)
    table.insert(0, "user", np.arange(30_000))
    if part == "label":
        table["y"] = (columns.sum(axis=1) / 3 + noise > 0).astype(int)
    return table


def measure_epoch(path: str, key_bits: int) -> Measurement:
    """Measure one whole epoch of ``open`` logistic training, batch 1,024, on all cores; in seconds all told."""
    parties: list[dict[str, Any]] = [
        {"name": "left", "role": "label", "label": "y"},
        {"name": "right", "role": "feature"},
    ]
    for party in parties:
        arguments = {"part": party["role"]}
        party |= {
            "id": "user",
            "function": "scenarios.benches.arithmetic:epoch_table",
            "arguments": arguments,
        }
    scenario = Scenario.model_validate(
        {
            "name": "epoch",
            "parties": parties,
            "encryption": {"key_bits": key_bits, "insecure_key": True},
            "split": {"test": 0.001, "validation": 0.001},
            "training": {"epochs": 2, "batch_size": 1024},
        }
    )
    with on_path(path):
        history = runner.run(scenario).label_party.trained.history
    return Measurement(key_bits, EPOCH, path, 1e6 * min(epoch.seconds for epoch in history))


def measure_phe(key: PrivateKey) -> Iterator[Measurement]:
    """Phe by its public interface; its product of floats aligns exponents as it goes."""
    public_key, private_key = key.public_key.phe, key.phe
    encrypted = [public_key.encrypt(number) for number in range(12)]
    integers = np.random.default_rng(0).integers(-(2**15), 2**15, 12).tolist()
    floats = [integer / 2**12 for integer in integers]
    real = [public_key.encrypt(number + 0.25) for number in range(12)]

    def product(numbers: list[Any], vector: list[Any]) -> object:
        return sum(
            (c * x for c, x in zip(vector[1:], numbers[1:], strict=True)), vector[0] * numbers[0]
        )

    timed: list[Operation] = [
        (ENCRYPT, 1, lambda: public_key.encrypt(5)),
        (DECRYPT, 12, lambda: [private_key.decrypt(c) for c in encrypted]),
        (ADD, 11, lambda: [encrypted[0] + c for c in encrypted[1:]]),
        (DENSE[256, 64], 12, lambda: product(integers, encrypted)),
    ]
    for operation, number, work in timed:
        seconds = best_seconds(work, 0.5)
        yield Measurement(public_key.n.bit_length(), operation, "phe", 1e6 * seconds / number)
    seconds = best_seconds(lambda: product(floats, real), 0.5)
    yield Measurement(public_key.n.bit_length(), DENSE[256, 64], "phe, floats", 1e6 * seconds / 12)


def measure_heu(key: PrivateKey) -> Iterator[Measurement]:
    """SecretFlow's HEU, ZPaillier."""
    phe, arrays = import_module("heu.phe"), import_module("heu.numpy")
    bits = key.public_key.bits
    kit = arrays.setup(phe.SchemaType.ZPaillier, bits)
    encoder = phe.BigintEncoderParams()
    numbers = kit.array(np.arange(64), encoder)
    matrix = kit.array(np.random.default_rng(0).integers(-(2**15), 2**15, (4, 64)), encoder)
    encrypted = kit.encryptor().encrypt(numbers)
    timed: list[Operation] = [
        (ENCRYPT, 64, lambda: kit.encryptor().encrypt(numbers)),
        (DECRYPT, 64, lambda: kit.decryptor().decrypt(encrypted)),
        (ADD, 64, lambda: kit.evaluator().add(encrypted, encrypted)),
        (DENSE[256, 64], 256, lambda: kit.evaluator().matmul(matrix, encrypted)),
    ]
    for operation, number, work in timed:
        yield Measurement(bits, operation, "sf-heu", 1e6 * best_seconds(work, 0.5) / number)


def measure_fate(key: PrivateKey) -> Iterator[Measurement]:
    """FATE's fate-utils, every encryption randomised."""
    library, bits = import_module("fate_utils.paillier"), key.public_key.bits
    private_key, public_key, coder = library.keygen(bits)
    numbers = coder.encode_i64_vec(np.arange(32))
    matrix = coder.encode_i64_vec(np.random.default_rng(0).integers(-(2**15), 2**15, 32 * 4))
    encrypted = public_key.encrypt_encoded(numbers, True)
    timed: list[Operation] = [
        (ENCRYPT, 32, lambda: public_key.encrypt_encoded(numbers, True)),
        (DECRYPT, 32, lambda: private_key.decrypt_to_encoded(encrypted)),
        (ADD, 32, lambda: encrypted.add(public_key, encrypted)),
        (DENSE[256, 64], 128, lambda: encrypted.matmul(public_key, matrix, [1, 32], [32, 4])),
    ]
    for operation, number, work in timed:
        yield Measurement(bits, operation, "fate-utils", 1e6 * best_seconds(work, 0.5) / number)


def measure_ipcl(key: PrivateKey) -> Iterator[Measurement]:
    """Intel's ipcl-python, eight at a time."""
    library, bits = import_module("ipcl_python"), key.public_key.bits
    public_key, private_key = library.PaillierKeypair.generate_keypair(bits)
    numbers = np.arange(64)
    encrypted = public_key.encrypt(numbers)
    factors = np.random.default_rng(0).integers(1, 2**15, 64)
    timed: list[Operation] = [
        (ENCRYPT, 64, lambda: public_key.encrypt(numbers)),
        (DECRYPT, 64, lambda: private_key.decrypt(encrypted)),
        (ADD, 64, lambda: encrypted + encrypted),
        (DENSE[256, 64], 64, lambda: encrypted * factors),
    ]
    for operation, number, work in timed:
        yield Measurement(bits, operation, "ipcl-python", 1e6 * best_seconds(work, 0.5) / number)


PEERS: dict[str, Callable[[PrivateKey], Iterator[Measurement]]] = {
    "phe": measure_phe,
    "sf-heu": measure_heu,
    "ipcl-python": measure_ipcl,
    "fate-utils": measure_fate,
}


@click.command()
@click.option(
    "--key-bits", multiple=True, type=int, default=(2048, 3072), help="Key sizes to measure."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the measurements as JSON and nothing else."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/bench"))
def main(key_bits: tuple[int, ...], as_json: bool, out: Path) -> None:
    """Measure encrypted arithmetic against other libraries, in one process and one run."""
    console = Console(quiet=as_json)
    measured: list[Measurement] = []
    for bits in key_bits:
        key = PrivateKey.generate(bits, insecure_key=True)
        paths = dict.fromkeys(["gmpy2", native.choose_path()[0]])
        for path in paths:
            for measurement in measure_ours(key, path):
                measured.append(measurement)
                console.print(f"[dim]{bits} bits, {path}: {measurement.operation}[/dim]")
            measured.append(measure_epoch(path, bits))
        for peer, measure in PEERS.items():
            try:
                measured += measure(key)
            except ImportError:
                console.print(f"{peer} is not installed: skipped")
        of_size = [one for one in measured if one.key_bits == bits]
        for path in paths:
            console.print(_table(bits, of_size, list(paths), path))
        for one in of_size:
            if one.operation == EPOCH:
                console.print(f"{one.library}, {EPOCH}: {one.microseconds / 1e6:.1f} s")
    if as_json:
        click.echo(json.dumps([asdict(one) for one in measured]))
    folder = write(measured, out)
    console.print(f"Kept in {folder}")


def ratio(measured: list[Measurement], operation: str, library: str, peer: str) -> float | None:
    """Return how many times faster ``library`` does an operation than a peer; products are compared by entry."""
    times = {(one.operation, one.library): one.microseconds for one in measured}
    ours = times.get((operation, library))
    theirs = times.get((DENSE[256, 64] if operation in PRODUCTS else operation, peer))
    return theirs / ours if ours and theirs else None


def _table(bits: int, measured: list[Measurement], paths: list[str], path: str) -> Table:
    peers = list(dict.fromkeys(one.library for one in measured if one.library not in paths))
    headings = ["us", "mults", *(f"x {peer}".replace(", ", ",\n") for peer in peers)]
    title = f"{bits} bits, {path}: microseconds on one core, times as fast as others"
    table = new_table(title, ["operation"], headings)
    for one in measured:
        if one.library == path and one.operation != EPOCH:
            multiplications = one.multiplications
            ratios = [ratio(measured, one.operation, path, peer) for peer in peers]
            table.add_row(
                one.operation,
                f"{one.microseconds:,.2f}",
                "" if multiplications is None else f"{multiplications:,.2f}",
                *("" if number is None else f"{number:,.1f}" for number in ratios),
            )
    return table


def write(measured: list[Measurement], out: Path) -> Path:
    """Write the measurements as CSV and, where matplotlib is installed, as a plot; return the folder."""
    folder = out / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder.mkdir(parents=True)
    with (folder / "bench.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, list(asdict(measured[0])))
        rows.writeheader()
        rows.writerows(asdict(one) for one in measured)
    try:
        pyplot = import_module("matplotlib.pyplot")
    except ImportError:
        return folder
    sizes = sorted({one.key_bits for one in measured})
    figure, axes = pyplot.subplots(1, len(sizes), figsize=(7 * len(sizes), 6), squeeze=False)
    for axis, bits in zip(axes[0], sizes, strict=True):
        here = [one for one in measured if one.key_bits == bits and one.operation != EPOCH]
        operations = list(dict.fromkeys(one.operation for one in here))[::-1]
        for library in dict.fromkeys(one.library for one in here):
            points = [one for one in here if one.library == library]
            axis.plot(
                [one.microseconds for one in points],
                [operations.index(one.operation) for one in points],
                "o",
                label=library,
            )
        axis.set_xscale("log")
        axis.set_yticks(range(len(operations)), operations)
        axis.set_xlabel("microseconds an operation, on one core unless said")
        axis.set_title(f"{bits}-bit keys")
        axis.grid(axis="x", alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(folder / "bench.png", dpi=150)
    pyplot.close(figure)
    return folder


if __name__ == "__main__":
    main()
