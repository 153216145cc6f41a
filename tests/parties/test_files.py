"""Files are read to a bound, and written whole and privately."""

from __future__ import annotations

import errno
import os
import tomllib
from pathlib import Path

import pytest

from parties import files


def test_a_file_is_read_up_to_its_bound_and_not_beyond(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"x" * 1_000_000)
    assert files.read(path, 1_000_000) == b"x" * 1_000_000
    with pytest.raises(OSError, match="it is larger than 1 MB"):
        files.read(path, 999_999)


def test_what_has_no_end_is_not_begun(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="it is a device or a pipe, no file"):
            files.read(path, 10)
    with pytest.raises(IsADirectoryError):
        files.read(tmp_path, 10)
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "nothing", 10)


def test_what_is_written_is_whole_and_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.make_folder(tmp_path / "a" / "b")
        path = tmp_path / "a" / "b" / "model"
        files.write(path, b"one")
        files.write(path, b"two")
        with pytest.raises(FileExistsError):
            files.write(path, b"three", replace=False)
        files.write(path.with_name("public"), b"four", mode=0o644, replace=False)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("public").stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(one.name for one in path.parent.iterdir()) == ["model", "public"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    files.write(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["model"]
    assert path.read_bytes() == b"old"


def test_a_folder_that_exists_stays_as_it_is(tmp_path: Path) -> None:
    mode = tmp_path.stat().st_mode
    tmp_path.chmod(0o755)
    files.make_folder(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    tmp_path.chmod(mode)


def test_what_was_being_written_is_known_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[str | None]()

    def look(source: Path, target: Path) -> None:
        seen.append(files.unfinished_name(source))
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("os.replace", look)
    with pytest.raises(OSError, match="broken"):
        files.write(tmp_path / "epoch-000001", b"")
    assert seen == ["epoch-000001"]
    assert files.unfinished_name(tmp_path / "notes.unfinished") is None


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "x = " + "{a = " * 100_000,
        ".".join("a" * 500_000) + " = 1",
        "[" + " . ".join(['"a"'] * 100_000) + "]",
        "[[" + ".".join(["'a'"] * 200_000) + "]]",
    ],
)
def test_toml_made_to_wear_a_reader_out_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(tomllib.TOMLDecodeError):
        files.read_toml(path)


def test_toml_with_many_short_keys_and_long_lists_is_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    numbers = [n / 7 for n in range(5_000)]
    names = [f"a.b.{n}" for n in range(5_000)]
    lines = [f"one.two.three.n{n} = {n}" for n in range(500)]
    path.write_text("\n".join([*lines, f"numbers = {numbers}", f"names = {names}"]))
    said = files.read_toml(path)
    assert (said["numbers"], said["names"]) == (numbers, names)
    assert len(said["one"]["two"]["three"]) == 500
    path.write_text("a" * (1 << 20))
    with pytest.raises(tomllib.TOMLDecodeError):
        files.read_toml(path)
    path.write_text("#" * ((1 << 20) + 1))
    with pytest.raises(OSError, match="it is larger than 1 MB"):
        files.read_toml(path)
