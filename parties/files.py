"""Files on this machine: read to a bound, written whole and for their owner alone.

What comes from outside may be a device that never ends, a pipe that nobody fills, or more than the memory holds; what
is written here holds models, keys and what was sent when. Everything raises OSError, whose ``strerror`` is fit for a
sentence: '... cannot be read: it is larger than 1 MB'.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PRIVATE, PRIVATE_FOLDER = 0o600, 0o700

SETTINGS_BYTES = 1 << 20
"""Of a TOML file: that of a thousand parties is a tenth of it."""
MODEL_BYTES = 1 << 28
"""Of a model as JSON: one of a million weights is a tenth of it."""
TABLE_BYTES = 1 << 32
"""Of a table, unpacked."""
TABLE_CELLS = 1 << 28
"""Of a table whose size is not that of its file; as numbers they are half of ``TABLE_BYTES``."""

_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*\.[ \t]*){100}""")
_UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{8}\.unfinished")


def read(path: Path, most: int) -> bytes:
    """Return what a regular file of at most so many bytes holds."""
    with open(path, "rb", opener=_open_at_once) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is a device or a pipe, no file")
        # As much memory as is asked for is taken at once; the file may have grown since.
        content = file.read(found.st_size + 1) if found.st_size <= most else b""
    if max(found.st_size, len(content)) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most / 1e6:,.0f} MB")
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says; raises UnicodeDecodeError or tomllib.TOMLDecodeError, too."""
    text = read(path, SETTINGS_BYTES).decode()
    if _LONG_KEY.search(text):  # tomllib takes the square of its length
        raise tomllib.TOMLDecodeError("a key has too many parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("values are nested too deeply") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a pipe, too, without waiting for whoever writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def write(path: Path, content: bytes, *, mode: int = PRIVATE, replace: bool = True) -> None:
    """Write a file whole or not at all, whatever happens meanwhile, or raise FileExistsError where ``replace`` is not.

    Nobody but its owner can read it at any time, unless ``mode`` says so.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link never replaces, a rename always does.
        (os.replace if replace else os.link)(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_name(path: Path) -> str | None:
    """Return the name of the file that was being written here when a process died, or None if this is no such file."""
    found = _UNFINISHED.fullmatch(path.name)
    return found and found[1]


def make_folder(path: Path) -> None:
    """Make a folder that nobody else can look into; one that exists is somebody's, and stays as it is."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a place to write to, which becomes ``folder`` if all goes well and vanishes if not.

    From the first moment nobody but its owner can look inside, whatever the umask; nor at any file, if it is moved out.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished.mkdir(mode=PRIVATE_FOLDER)
    try:
        yield unfinished
        for path in unfinished.rglob("*"):
            path.chmod(PRIVATE_FOLDER if path.is_dir() else PRIVATE)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(folder)
