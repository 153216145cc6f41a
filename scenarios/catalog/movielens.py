"""MovieLens by GroupLens, cut into two cinemas: one recommends, the other knows the same users' taste.

The data may not be redistributed, so the project holds none: :func:`download` fetches it, or point to a folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tempfile
import urllib.request
import zipfile
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from parties.model import generator
from parties.splits import by_seed, split_cold_users
from protocol.errors import DataError, SettingsError

StrPath = str | PathLike[str]

LIKED = 4  # of 5 stars, and more
_COLD = 0.2
_SHRINKAGE = 5  # ratings: how many of a genre count as much as the belief that it is as any other
_LARGEST = 64 << 20  # bytes of an archive; the two here have about 5 and 6 million


class _Archive(NamedTuple):
    folder: str  # the one folder inside
    url: str
    md5: str  # as GroupLens publishes it beside the archive


_SITE = "https://files.grouplens.org/datasets/movielens"
ARCHIVES = {
    "movielens-100k": _Archive(
        "ml-100k", f"{_SITE}/ml-100k.zip", "0e33842e24a9c977be4e0107933c0723"
    ),
    "movielens-1m": _Archive("ml-1m", f"{_SITE}/ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906"),
}


class _Layout(NamedTuple):
    ratings: str  # user, item, stars, seconds since 1970
    separator: str
    films: str
    genres: str | None  # their names, for films with a 0/1 for each; else a film names its own


_LAYOUTS = (
    _Layout("u.data", "\t", "u.item", "u.genre"),
    _Layout("ratings.dat", "::", "movies.dat", None),
)


def download(name: str, folder: StrPath) -> Path:
    """Fetch an archive of ``ARCHIVES``, check it, unpack it below ``folder``; return GroupLens' folder.

    Does nothing where that folder exists already, and leaves nothing half-done behind. Raises SettingsError for
    another name, DataError if the archive cannot be had, is not the published one, or cannot be stored.
    """
    if name not in ARCHIVES:
        known = " and ".join(ARCHIVES)
        raise SettingsError(f"there is no data set '{name}' to download; there are {known}")
    archive = ARCHIVES[name]
    folder = Path(folder).expanduser()
    target = folder / archive.folder
    if target.is_dir():
        return target
    content = _fetch(archive)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            _unpack(archive, content, Path(temporary))
            (Path(temporary) / archive.folder).rename(target)
    except OSError as error:
        raise DataError(
            f"{target} cannot be written: {error.strerror}; choose another folder"
        ) from None
    return target


def two_cinemas(part: str, path: StrPath | None = None, seed: int = 0) -> pd.DataFrame:
    """Return one cinema's table of the MovieLens users; each cinema shows a random half of the films.

    ``first`` is its ratings in order of time: user_id, item_id, rating (1 to 5), liked (0/1), timestamp, title and
    one boolean a genre. ``second`` is one row a user, computed from that user's ratings of the other films: affinity
    to and share of each genre, mean rating and activity. MovieLens 100K has 19 genres; one that nobody rated in a
    cinema is left out there. ``path`` is GroupLens' folder, of 100K or 1M. Raises SettingsError for any other part or
    seed, DataError if the folder is missing or damaged.
    """
    if part not in ("first", "second"):
        raise SettingsError(
            f"two_cinemas has the parts first and second, but '{part}' was asked for"
        )
    first, second, films = _cinemas(path, seed)
    if part == "first":
        first["liked"] = (first["rating"] >= LIKED).astype(int)
        first["title"] = films.loc[first["item_id"], "title"].to_numpy()
        columns = ["user_id", "item_id", "rating", "liked", "timestamp", "title"]
        return pd.concat([first[columns], _genres(first, films)], axis=1)
    profiles = _profiles(second, _genres(second, films))
    return profiles.iloc[generator(seed, "second").permutation(len(profiles))].reset_index(
        drop=True
    )


def cold_users(path: StrPath | None = None, seed: int = 0) -> frozenset[str]:
    """Return the ids of the 20 % of the first cinema's users that a run of this seed and all users tests on.

    Raises as :func:`two_cinemas`.
    """
    users = _cinemas(path, seed)[0]["user_id"].unique()
    return frozenset(users[split_cold_users(users, _COLD, by_seed(seed))])


def titles(path: StrPath | None = None) -> dict[str, str]:
    """Return the title of every film by its item_id; raises DataError."""
    films = _films(*_find(path))
    return dict(zip(films.index, films["title"], strict=True))


def _fetch(archive: _Archive) -> bytes:
    by_hand = "or unzip it yourself and give its folder as the path"
    try:
        with urllib.request.urlopen(archive.url, timeout=30) as response:
            content: bytes = response.read(_LARGEST)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{archive.url} cannot be fetched ({reason}); check the connection and try again, {by_hand}"
        ) from None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != archive.md5:
        raise DataError(
            f"{archive.url}: expected the archive that GroupLens publishes, got {len(content):,} bytes with "
            f"another MD5 checksum, which were thrown away; try again, {by_hand}"
        )
    return content


def _unpack(archive: _Archive, content: bytes, folder: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as files:
            # extractall leaves out '..' and leading slashes; this refuses what else is not ours.
            if any(not name.startswith(f"{archive.folder}/") for name in files.namelist()):
                raise zipfile.BadZipFile
            files.extractall(folder)
    except zipfile.BadZipFile:
        raise DataError(
            f"{archive.url} is no zip file of one folder {archive.folder}; nothing was unpacked"
        ) from None


def _find(path: StrPath | None) -> tuple[Path, _Layout]:
    """Return the folder and how it is laid out."""
    folder = None if path is None else Path(path).expanduser()
    for layout in _LAYOUTS:
        if folder is not None and (folder / layout.ratings).is_file():
            return folder, layout
    files = " or ".join(layout.ratings for layout in _LAYOUTS)
    came = "no path was given" if folder is None else f"{folder} has neither"
    raise DataError(
        f"MovieLens: expected the path of GroupLens' folder with {files}, but {came}; run "
        "'colonnade data movielens-100k' and give the folder that it names with --path"
    )


def _read(file: Path, separator: str, n_columns: int) -> pd.DataFrame:
    """Return a file without header, ``(n_lines, n_columns)``; an empty cell is an empty text."""
    try:
        text = file.read_text(encoding="latin-1")
        if separator == "::":  # pandas is slow at all but single characters
            text, separator = text.replace("::", "\t"), "\t"
        table = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=None,
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
        )
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; check the path") from None
    except ValueError:  # pandas' own words would quote lines
        raise _damaged(file) from None
    if table.shape[1] != n_columns:
        raise _damaged(file)
    return table


def _damaged(file: Path) -> DataError:
    return DataError(
        f"{file} is not as GroupLens lays it out; unpack the archive again, or run 'colonnade data'"
    )


def _ratings(folder: Path, layout: _Layout) -> pd.DataFrame:
    """Return all ratings in order of time."""
    table = _read(folder / layout.ratings, layout.separator, 4)
    table.columns = pd.Index(["user_id", "item_id", "rating", "timestamp"])
    numbers = all(pd.api.types.is_integer_dtype(kind) for kind in table.dtypes)
    if not (numbers and table["rating"].between(1, 5).all()):
        raise _damaged(folder / layout.ratings)
    ids = {name: table[name].astype(str) for name in ("user_id", "item_id")}
    return table.assign(**ids).sort_values("timestamp", kind="stable", ignore_index=True)


def _films(folder: Path, layout: _Layout) -> pd.DataFrame:
    """Return the title and one boolean a genre by item_id."""
    file = folder / layout.films
    if layout.genres is None:
        table = _read(file, layout.separator, 3)
        genres = table[2].str.get_dummies("|")
    else:
        names = _read(folder / layout.genres, "|", 2)[0]
        table = _read(file, "|", 5 + len(names))
        genres = table.iloc[:, 5:].set_axis(names.to_list(), axis=1)
        if not genres.isin([0, 1]).all(axis=None):
            raise _damaged(file)
    films = genres.astype(bool)
    films.insert(0, "title", table[1].astype(str))
    films.index = pd.Index(table[0].astype(str), name="item_id")
    return films


def _cinemas(path: StrPath | None, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the ratings of the first's films, of the second's, and all films."""
    if not (isinstance(seed, int) and seed >= 0):
        raise SettingsError(
            f"two_cinemas needs a whole number of 0 or more as its seed, but got '{seed}'"
        )
    folder, layout = _find(path)
    ratings, films = _ratings(folder, layout), _films(folder, layout)
    if not (films.index.is_unique and ratings["item_id"].isin(films.index).all()):
        raise _damaged(folder / layout.films)
    shown = films.index[generator(seed, "films").permutation(len(films))[: len(films) // 2]]
    at_first = ratings["item_id"].isin(shown)
    first, second = (ratings[rows].reset_index(drop=True) for rows in (at_first, ~at_first))
    return first, second, films


def _genres(ratings: pd.DataFrame, films: pd.DataFrame) -> pd.DataFrame:
    """Return one boolean a genre of each rated film, without the genres that none of them has."""
    genres = films.drop(columns="title").loc[ratings["item_id"]].reset_index(drop=True)
    return genres.loc[:, genres.any()]


def _profiles(ratings: pd.DataFrame, genres: pd.DataFrame) -> pd.DataFrame:
    """Return one row a user from ratings and the genres of what was rated."""
    user = ratings["user_id"]
    by_user = ratings["rating"].groupby(user)
    mean, count = by_user.mean(), by_user.size()
    above_mean = ratings["rating"] - by_user.transform("mean")
    counts = genres.astype(float).groupby(user).sum()
    # A few ratings say little about a genre: their mean is drawn towards that of all genres.
    affinity = genres.mul(above_mean, axis=0).groupby(user).sum() / (counts + _SHRINKAGE)
    profiles = pd.concat(
        [affinity.add_prefix("affinity_"), counts.div(count, axis=0).add_prefix("share_")], axis=1
    )
    return profiles.assign(mean_rating=mean, activity=np.log(count)).reset_index()
