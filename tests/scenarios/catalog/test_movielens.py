from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from parties.dataset import PartyDataset
from protocol.errors import DataError, SettingsError
from scenarios.catalog import movielens
from scenarios.catalog.movielens import cold_users, download, titles, two_cinemas

REAL = Path(__file__).parents[4] / "shared" / "data" / "ml-100k"
needs_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="the folder shared/data is not beside the project"
)
GENRES = ["Action", "Children's", "Sci-Fi"]
N_USERS, N_FILMS = 20, 12


def content(layout: str) -> dict[str, str]:
    """Return the files of a small MovieLens in one of its two layouts; both tell the same."""
    draw = np.random.default_rng(4)
    films = [
        (number, f'Film "{number}" (19{80 + number}) é', GENRES[: 1 + number % 3])
        for number in range(1, N_FILMS + 1)
    ]
    ratings = [
        (user, film, int(draw.integers(1, 6)), 880_000_000 + int(draw.integers(10**6)))
        for user in range(1, N_USERS + 1)
        for film in 1 + draw.permutation(N_FILMS)[:9]
    ]
    if layout == "ml-1m":
        return {
            "ratings.dat": lines(ratings, "::"),
            "movies.dat": lines([(n, title, "|".join(own)) for n, title, own in films], "::"),
        }
    flags = [
        (n, title, "01-Jan-1990", "", "url", *(int(genre in own) for genre in GENRES))
        for n, title, own in films
    ]
    return {
        "u.data": lines(ratings, "\t"),
        "u.item": lines(flags, "|"),
        "u.genre": lines([(genre, k) for k, genre in enumerate(GENRES)], "|") + "\n",
    }


def lines(rows: Sequence[tuple[object, ...]], comma: str) -> str:
    return "".join(comma.join(map(str, row)) + "\n" for row in rows)


@pytest.fixture(params=["ml-100k", "ml-1m"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for name, text in content(request.param).items():
        (tmp_path / name).write_text(text, encoding="latin-1")
    return tmp_path


def test_both_layouts_give_the_same_cinemas(tmp_path: Path) -> None:
    for layout in ("ml-100k", "ml-1m"):
        (tmp_path / layout).mkdir()
        for name, text in content(layout).items():
            (tmp_path / layout / name).write_text(text, encoding="latin-1")
    for part in ("first", "second"):
        one, other = (two_cinemas(part, tmp_path / layout) for layout in ("ml-100k", "ml-1m"))
        pd.testing.assert_frame_equal(one, other)


def test_the_first_cinema_has_its_half_of_the_films(folder: Path) -> None:
    first = two_cinemas("first", folder, seed=1)
    assert first["item_id"].nunique() == N_FILMS // 2
    assert first["timestamp"].is_monotonic_increasing
    assert (first["liked"] == (first["rating"] >= 4)).all()
    assert all(title in titles(folder).values() for title in first["title"])
    film = first.iloc[0]
    assert titles(folder)[film["item_id"]] == film["title"]
    assert film["title"] == f'Film "{film["item_id"]}" (19{80 + int(film["item_id"])}) é'
    assert list(film[GENRES]) == [k <= int(film["item_id"]) % 3 for k in range(3)]
    assert set(two_cinemas("first", folder, seed=2)["item_id"]) != set(first["item_id"])
    dataset = PartyDataset.from_frame(
        "first",
        first,
        ids={"user": "user_id", "item": "item_id"},
        label="liked",
        columns=GENRES[1:],
        id_features=["item"],
        time="timestamp",
    )
    assert dataset.kinds["Sci-Fi"] == "numeric"


def test_the_second_cinema_profiles_users_by_the_other_half(folder: Path) -> None:
    first, second = (two_cinemas(part, folder, seed=1) for part in ("first", "second"))
    ratings = pd.concat([two_cinemas("first", folder, seed) for seed in range(8)])
    ratings = ratings.drop_duplicates(["user_id", "item_id"])
    assert len(ratings) == N_USERS * 9
    user = second.iloc[0]
    log = ratings[
        (ratings["user_id"] == user["user_id"]) & ~ratings["item_id"].isin(first["item_id"])
    ]
    of_genre = log[log["Sci-Fi"]]
    above = (of_genre["rating"] - log["rating"].mean()).sum()
    assert user["mean_rating"] == pytest.approx(log["rating"].mean())
    assert user["activity"] == pytest.approx(np.log(len(log)))
    assert user["share_Sci-Fi"] == pytest.approx(len(of_genre) / len(log))
    assert user["affinity_Sci-Fi"] == pytest.approx(above / (len(of_genre) + 5))
    assert second["user_id"].is_unique
    assert list(second["user_id"]) != sorted(second["user_id"])


def test_a_genre_that_nobody_rated_is_left_out(tmp_path: Path) -> None:
    files = content("ml-100k")
    files["u.genre"] += "unknown|3\n"
    files["u.item"] = files["u.item"].replace("\n", "|0\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="latin-1")
    assert list(two_cinemas("first", tmp_path).columns[6:]) == GENRES
    assert not {"affinity_unknown", "share_unknown"} & set(two_cinemas("second", tmp_path))


def test_cold_users_are_a_fifth(folder: Path) -> None:
    cold = cold_users(folder, seed=3)
    assert len(cold) == N_USERS // 5
    assert cold < set(two_cinemas("first", folder, seed=3)["user_id"])


def test_without_the_data_it_says_how_to_get_them(tmp_path: Path) -> None:
    for path, came in ((None, "no path was given"), (tmp_path, "has neither")):
        with pytest.raises(DataError, match=f"{came}; run 'colonnade data movielens-100k'"):
            two_cinemas("first", path)
    with pytest.raises(DataError, match="GroupLens' folder"):
        titles(tmp_path / "absent")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("u.data", "\t", ","),
        ("u.data", "1\t", "one\t"),
        ("u.data", "\n", "\t7\n"),
        ("u.item", "|1", "|2"),
        ("u.item", "12|", "11|"),
        ("u.item", "url|", ""),
        ("u.genre", "|", ""),
    ],
)
def test_a_damaged_file_is_named_but_not_quoted(
    tmp_path: Path, file: str, old: str, new: str
) -> None:
    for name, text in content("ml-100k").items():
        damaged = text.replace(old, new) if name == file else text
        (tmp_path / name).write_text(damaged, encoding="latin-1")
    with pytest.raises(DataError, match=r"u\.\w+ is not as GroupLens lays it out") as caught:
        two_cinemas("second", tmp_path)
    assert "Film" not in str(caught.value)


def test_a_missing_file_is_named(folder: Path) -> None:
    gone = next(file for file in folder.iterdir() if file.name in ("u.genre", "movies.dat"))
    gone.unlink()
    with pytest.raises(DataError, match=f"{gone.name} cannot be read"):
        two_cinemas("first", folder)


def test_other_parts_and_seeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="first and second, but 'third'"):
        two_cinemas("third", tmp_path)
    with pytest.raises(SettingsError, match="a whole number of 0 or more as its seed"):
        two_cinemas("first", tmp_path, seed=-1)


def archive(folder: str = "ml-100k") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as files:
        for name, text in content("ml-100k").items():
            files.writestr(f"{folder}/{name}", text.encode("latin-1"))
    return buffer.getvalue()


def publish(monkeypatch: pytest.MonkeyPatch, file: Path, payload: bytes | None, md5: str) -> None:
    """Let a local file stand in for GroupLens' archive."""
    if payload is not None:
        file.write_bytes(payload)
    entry = movielens.ARCHIVES["movielens-100k"]._replace(url=file.as_uri(), md5=md5)
    monkeypatch.setitem(movielens.ARCHIVES, "movielens-100k", entry)


def md5(payload: bytes) -> str:
    return hashlib.md5(payload, usedforsecurity=False).hexdigest()


def test_a_download_is_checked_and_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tmp_path / "file.zip", archive(), md5(archive()))
    target = download("movielens-100k", tmp_path / "new" / "data")
    assert target == tmp_path / "new" / "data" / "ml-100k"
    assert len(titles(target)) == N_FILMS
    assert list(target.parent.iterdir()) == [target]
    (tmp_path / "file.zip").unlink()
    assert download("movielens-100k", tmp_path / "new" / "data") == target


@pytest.mark.parametrize(
    ("payload", "checksum", "expected"),
    [
        (None, "", r"cannot be fetched \(.*No such file.*\); check the connection"),
        (archive(), md5(b"other"), "another MD5 checksum, which were thrown away"),
        (archive("../ml-100k"), md5(archive("../ml-100k")), "no zip file of one folder ml-100k"),
        (archive()[:-40], md5(archive()[:-40]), "no zip file of one folder ml-100k"),
    ],
)
def test_a_failed_download_leaves_nothing_behind(
    payload: bytes | None,
    checksum: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(monkeypatch, tmp_path / "file.zip", payload, checksum)
    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(DataError, match=expected):
        download("movielens-100k", folder)
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "ml-100k").exists()


def test_a_download_needs_a_known_name_and_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="movielens-100k and movielens-1m"):
        download("movielens-20m", tmp_path)
    publish(monkeypatch, tmp_path / "file.zip", archive(), md5(archive()))
    with pytest.raises(DataError, match=r"ml-100k cannot be written: .*; choose another folder"):
        download("movielens-100k", tmp_path / "file.zip")


@needs_data
def test_movielens_100k_splits_as_published() -> None:
    first, second = two_cinemas("first", REAL), two_cinemas("second", REAL)
    assert first["item_id"].nunique() == 841
    assert first.select_dtypes("bool").shape[1] == 19
    assert first["liked"].mean() == pytest.approx(0.554, abs=0.03)
    assert 45_000 < len(first) < 55_000
    assert second["user_id"].nunique() == 943
    # 40 columns, or 38 where neither film of the genre 'unknown' is among the second's.
    assert [two_cinemas("second", REAL, seed).shape[1] - 1 for seed in range(3)] == [38, 38, 40]
    assert len(cold_users(REAL)) == round(0.2 * first["user_id"].nunique())
    assert titles(REAL)["1"] == "Toy Story (1995)"
    PartyDataset.from_frame("second", second, ids={"user": "user_id"})
