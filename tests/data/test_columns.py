"""Columns of tables of all kinds are read as they are, and fast."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skae import VariationalAutoencoder
from skae._data.columns import column_of, missing_entries

NUMBERS = np.random.default_rng(0).normal(size=(40, 30))


@pytest.mark.parametrize(
    "table",
    [
        NUMBERS,
        pd.DataFrame(NUMBERS, columns=[("a", i) for i in range(30)]),
        pd.DataFrame(NUMBERS).set_axis(range(5, 35), axis=1),
        pl.DataFrame(NUMBERS),
    ],
    ids=["array", "tuples", "integers", "polars"],
)
def test_columns_are_found_by_position(table):
    np.testing.assert_array_equal(np.asarray(column_of(table, 7)), NUMBERS[:, 7])
    assert not missing_entries(table).any()


def test_names_of_polars_are_listed_once_for_each_column(monkeypatch):
    """Each list has the names of all columns, so the time is that of d^2 names."""
    names, n_lists = pl.DataFrame.columns, 0

    def counting(self):
        nonlocal n_lists
        n_lists += 1
        return names.fget(self)

    monkeypatch.setattr(pl.DataFrame, "columns", property(counting, names.fset))
    model = VariationalAutoencoder(2, likelihood="mixed", max_iter=1)
    model._bind(pl.DataFrame(NUMBERS))
    assert n_lists < 1.5 * NUMBERS.shape[1]
