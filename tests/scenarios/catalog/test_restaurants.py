from __future__ import annotations

from pathlib import Path

import pytest

from parties.dataset import PartyDataset
from protocol.errors import DataError, SettingsError
from scenarios.catalog.restaurants import restaurants

REAL = Path(__file__).parents[4] / "shared" / "data" / "restaurant"
needs_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="the folder shared/data is not beside the project"
)
USERS = [f"U{number}" for number in range(1, 13)]
PLACES = [f"13{number}" for number in range(1, 13)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve guests and twelve places in UCI's layout, fewer columns."""
    write(
        tmp_path,
        "rating_final",
        "userID,placeID,rating,food_rating,service_rating",
        [f"U{1 + k % 12},13{1 + k % 7},{k % 3},2,0" for k in range(30)],
    )
    write(
        tmp_path,
        "userprofile",
        "userID,latitude,smoker,budget,birth_year",
        [
            f"{user},22.{k},{'?' if k == 3 else 'false'},none,19{70 + k}"
            for k, user in enumerate(USERS)
        ],
    )
    few = [f"{user},Mexican" for user in USERS[:6]]
    write(tmp_path, "usercuisine", "userID,Rcuisine", [*few, f"{USERS[0]},Thai"])
    cards = [f"{user},VISA" for user in USERS[:3]] + [f"{user},Visa" for user in USERS[2:6]]
    write(tmp_path, "userpayment", "userID,Upayment", cards)
    write(
        tmp_path,
        "geoplaces2",
        "placeID,latitude,the_geom_meter,name,address,city,state,country,fax,zip,price,url",
        [f"{place},22.{k},01,Caf\u00e9,?,slp,?,?,?,?,low,?" for k, place in enumerate(PLACES)],
    )
    kitchens = [f"{place},Bar Pub" for place in [*PLACES[:5], "999"]]
    write(tmp_path, "chefmozcuisine", "placeID,Rcuisine", kitchens)
    write(tmp_path, "chefmozaccepts", "placeID,Rpayment", [f"{place},cash" for place in PLACES])
    write(tmp_path, "chefmozparking", "placeID,parking_lot", [f"{p},none" for p in PLACES[:7]])
    return tmp_path


def write(folder: Path, name: str, header: str, rows: list[str]) -> None:
    text = "\n".join([header, *rows]) + "\n"
    (folder / f"{name}.csv").write_text(text, encoding="latin-1")


def test_ratings_come_without_the_marks_that_tell_them(folder: Path) -> None:
    table = restaurants("ratings", folder)
    assert list(table) == ["userID", "placeID", "rating", "liked"]
    assert list(table["rating"][:4]) == [0, 1, 2, 0]
    assert list(table["liked"][:4]) == [0, 0, 1, 0]


def test_profiles_are_one_row_a_guest(folder: Path) -> None:
    table = restaurants("profiles", folder)
    assert list(table["userID"]) == USERS
    assert table["smoker"].isna().sum() == 1
    assert table["smoker"][0] == "false"
    assert (table["budget"] == "none").all()
    assert table["birth_year"].dtype == float
    assert list(table.columns[5:]) == ["likes_count", "likes_mexican", "pays_count", "pays_visa"]
    assert list(table["likes_count"]) == [2] + [1] * 5 + [0] * 6
    assert list(table["pays_visa"]) == [1] * 6 + [0] * 6


def test_the_directory_is_one_row_a_place_without_free_text(folder: Path) -> None:
    table = restaurants("directory", folder)
    assert list(table["placeID"]) == PLACES
    expected = ["placeID", "latitude", "price", "serves_count", "serves_bar_pub"]
    assert list(table) == [*expected, "parking_count", "parking_none"]
    assert list(table["serves_bar_pub"]) == [1] * 5 + [0] * 7


def test_without_the_data_it_says_where_they_are(tmp_path: Path) -> None:
    for path, came in ((None, "no path was given"), (tmp_path / "absent", "there is no folder")):
        with pytest.raises(DataError, match=f"{came}.*download and unpack https://archive.ics"):
            restaurants("ratings", path)
    with pytest.raises(DataError, match=r"rating_final\.csv cannot be read: No such file"):
        restaurants("ratings", tmp_path)


@pytest.mark.parametrize(
    ("part", "file", "old", "new"),
    [
        ("ratings", "rating_final", "rating", "mark"),
        ("ratings", "rating_final", ",2,2,", ",3,2,"),
        ("profiles", "userprofile", "1975", "lately"),
        ("profiles", "userpayment", "userID", "user"),
        ("directory", "geoplaces2", "placeID", "place"),
        ("directory", "chefmozparking", "none", '"none'),
    ],
)
def test_a_damaged_file_is_named_but_not_quoted(
    folder: Path, part: str, file: str, old: str, new: str
) -> None:
    path = folder / f"{file}.csv"
    path.write_text(path.read_text("latin-1").replace(old, new), encoding="latin-1")
    with pytest.raises(DataError, match=f"{file}.csv is not as UCI publishes it") as caught:
        restaurants(part, folder)
    assert "lately" not in str(caught.value)


def test_another_part_is_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="ratings, profiles, directory, but 'menus'"):
        restaurants("menus", folder)


@needs_data
def test_ucis_files_can_be_trained_on() -> None:
    ratings = restaurants("ratings", REAL)
    assert len(ratings) == 1161
    assert ratings["liked"].sum() == 486
    for part, key, rows, missing in (
        ("profiles", "userID", 138, 50),
        ("directory", "placeID", 130, 0),
    ):
        table = restaurants(part, REAL)
        assert len(table) == rows
        assert int(table.isna().to_numpy().sum()) == missing
        assert set(ratings[key]) == set(table[key])
        PartyDataset.from_frame(part, table, ids={"entity": key})
