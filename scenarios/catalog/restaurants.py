"""UCI's 'Restaurant & consumer data': who liked which place, who the guests are, what the places offer.

The project holds none of it: give the path of the unpacked files.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import pandas as pd

from protocol.errors import DataError, SettingsError

StrPath = str | PathLike[str]

_LIKED = 2  # of 0, 1 and 2
_FEWEST = 5  # guests or places that must share a cuisine, say, for it to get a column
_SOURCE = "https://archive.ics.uci.edu/dataset/232/restaurant+consumer+data"
_NUMBERS = ("latitude", "longitude", "birth_year", "weight", "height")
# What tells places apart by name only, in free text, or not at all.
_FREE_TEXT = (
    "the_geom_meter", "name", "address", "city", "state", "country", "fax", "zip", "url",
)  # fmt: skip


def restaurants(part: str, path: StrPath | None = None) -> pd.DataFrame:
    """Return one party's table; ``path`` is the folder of UCI's CSV files.

    ``ratings`` is userID, placeID, rating (0 to 2) and liked (0/1), without the marks for food and service, which
    are given with the rating and would tell it. ``profiles`` is one row a userID, ``directory`` one row a placeID:
    numbers, categories, a 0/1 for each common cuisine or means of payment, and how many of them there are. Raises
    SettingsError for any other part, DataError if a file is missing or damaged.
    """
    parts = {"ratings": _ratings, "profiles": _profiles, "directory": _directory}
    if part not in parts:
        raise SettingsError(
            f"restaurants has the parts {', '.join(parts)}, but '{part}' was asked for"
        )
    if path is None or not Path(path).expanduser().is_dir():
        came = "no path was given" if path is None else f"there is no folder {path}"
        raise DataError(
            f"restaurants: expected the path of the folder with UCI's CSV files, but {came}; "
            f"download and unpack {_SOURCE}"
        )
    return parts[part](Path(path).expanduser())


def _ratings(folder: Path) -> pd.DataFrame:
    table = _read(folder / "rating_final.csv", ["userID", "placeID", "rating"])
    if not table["rating"].isin(["0", "1", "2"]).all():
        raise _damaged(folder / "rating_final.csv")
    rating = table["rating"].astype(int)
    liked = (rating == _LIKED).astype(int)
    return table[["userID", "placeID"]].assign(rating=rating, liked=liked)


def _profiles(folder: Path) -> pd.DataFrame:
    table = _numbered(folder / "userprofile.csv", "userID")
    flags = [
        _flags(folder / "usercuisine.csv", table["userID"], "Rcuisine", "likes"),
        _flags(folder / "userpayment.csv", table["userID"], "Upayment", "pays"),
    ]
    return pd.concat([table, *flags], axis=1)


def _directory(folder: Path) -> pd.DataFrame:
    table = _numbered(folder / "geoplaces2.csv", "placeID")
    table = table.drop(columns=list(_FREE_TEXT), errors="ignore")
    flags = [
        _flags(folder / "chefmozcuisine.csv", table["placeID"], "Rcuisine", "serves"),
        _flags(folder / "chefmozaccepts.csv", table["placeID"], "Rpayment", "accepts"),
        _flags(folder / "chefmozparking.csv", table["placeID"], "parking_lot", "parking"),
    ]
    return pd.concat([table, *flags], axis=1)


def _numbered(file: Path, key: str) -> pd.DataFrame:
    """Return a file of one row a ``key``, with its numbers as such."""
    table = _read(file, [key])
    try:
        return table.astype({name: float for name in _NUMBERS if name in table})
    except ValueError:  # its own words would quote a cell
        raise _damaged(file) from None


def _flags(file: Path, ids: pd.Series[str], column: str, verb: str) -> pd.DataFrame:
    """Return a 0/1 for each common value of a file of several rows an id, and how many there are, where that varies."""
    key = str(ids.name)
    table = _read(file, [key, column])
    # The same card is spelled 'VISA' and 'Visa'.
    values = verb + "_" + table[column].str.lower().str.replace(" ", "_")
    known = pd.crosstab(table[key], values).clip(upper=1).reindex(ids, fill_value=0)
    known = known.reset_index(drop=True).rename_axis(columns=None)
    flags = known.loc[:, known.sum().between(_FEWEST, len(ids) - _FEWEST)].copy()
    count = known.sum(axis=1)
    if count.nunique() > 1:
        flags.insert(0, f"{verb}_count", count)
    return flags


def _read(file: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            file,
            dtype=str,
            keep_default_na=False,
            na_values=["?"],
            encoding_errors="replace",  # two places' names, which are dropped
        )
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror}; download and unpack {_SOURCE}"
        ) from None
    except ValueError:  # pandas' own words would quote lines
        raise _damaged(file) from None
    if not set(columns) <= set(table):
        raise _damaged(file)
    return table


def _damaged(file: Path) -> DataError:
    return DataError(f"{file} is not as UCI publishes it; download and unpack {_SOURCE} again")
