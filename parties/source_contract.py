"""The tests that every data source must pass; a plug-in's own tests inherit them and run under pytest.

>>> class TestWarehouse(DataSourceContract):
...     def make_source(self, folder):
...         return Warehouse(stored(self.table()))
...     def make_broken_source(self, folder):
...         return Warehouse("nowhere")
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import pandas as pd

from parties.dataset import PartyDataset
from parties.errors import DataError
from parties.sources import DataSource, read_table


class DataSourceContract(ABC):
    """What a source owes to those who read it."""

    @staticmethod
    def table() -> pd.DataFrame:
        """Return the table that the source under test is to hold: ids with leading zeros, and missing cells."""
        return pd.DataFrame(
            {
                "customer": ["007", "008", "NA", "010"],
                "income": [1250.5, np.nan, -3.0, 4.0],
                "region": ["north", None, "south", "north"],
            }
        )

    @abstractmethod
    def make_source(self, folder: Path) -> DataSource:
        """Return a source of :meth:`table`, which may be stored in the empty ``folder``."""

    @abstractmethod
    def make_broken_source(self, folder: Path) -> DataSource:
        """Return a source that cannot be read, such as one whose file is missing."""

    def test_it_makes_the_dataset_of_its_table(self, tmp_path: Path) -> None:
        """Ids stay the text they are, numbers are equal to the last bit, missing cells are missing."""
        ids = {"user": "customer"}
        read = PartyDataset.from_source("bank", self.make_source(tmp_path), ids=ids)
        expected = PartyDataset.from_frame("bank", self.table(), ids=ids)
        assert read.ids["user"].tolist() == expected.ids["user"].tolist()
        assert read.kinds == expected.kinds
        pd.testing.assert_frame_equal(read.columns, expected.columns, check_exact=True)

    def test_it_can_be_read_again(self, tmp_path: Path) -> None:
        """A source is no stream: training and recommending read it anew."""
        source = self.make_source(tmp_path)
        pd.testing.assert_frame_equal(read_table(source), read_table(source))

    def test_it_describes_itself_in_one_line(self, tmp_path: Path) -> None:
        """The description is what an error sentence opens with."""
        description = self.make_source(tmp_path).description
        assert description.strip()
        assert len(description.splitlines()) == 1

    def test_trouble_is_one_line_of_its_own(self, tmp_path: Path) -> None:
        """A source explains itself; what it raises is a DataError, and not chained to one that quotes cells."""
        source = self.make_broken_source(tmp_path)
        try:
            source.read()
        except DataError as error:
            message, cause = str(error), error.__cause__
        else:
            raise AssertionError("a broken source must raise DataError")
        assert message.startswith(source.description)
        assert len(message.splitlines()) == 1
        assert cause is None
