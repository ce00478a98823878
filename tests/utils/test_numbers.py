"""What a user's array may hold: numbers, and nothing else."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skae import VariationalAutoencoder
from skae._utils.numbers import (
    _doubtful_columns,
    as_numbers,
    check_table,
    is_integer,
    is_positive_integer,
)

NUMBERS = np.arange(12.0).reshape(6, 2)


def refused(X, name="X"):
    """Return the message for data that are no numbers."""
    with pytest.raises(ValueError, match=name) as caught:
        as_numbers(X, name)
    return str(caught.value)


def test_tables_that_are_not_there():
    """None, and frames that are not computed, say what is missing."""
    with pytest.raises(ValueError, match="Expected 2D array, got None instead: X must be"):
        check_table(None)
    lazy = pl.DataFrame({"a": [1.0]}).lazy()
    for check in (check_table, as_numbers):
        with pytest.raises(TypeError, match=r"X_val is a LazyFrame .* call collect\(\)"):
            check(lazy, "X_val")
        check(lazy.collect(), "X_val")


def test_advice_on_strings_comes_first():
    """It is for strings in tables only."""
    strings, dates = [["a"], ["b"]], np.array([["2020-01-01"]], dtype="M8[D]")
    with pytest.raises(ValueError, match=r"'a'\)\. Take it\. Otherwise, encode categories"):
        as_numbers(strings, advice="Take it.")
    with pytest.raises(ValueError, match=r"\. Convert dates to numbers"):
        as_numbers(dates, advice="Take it.")


@pytest.mark.parametrize("value", [True, False, np.True_, 1.0, "1", None])
def test_what_is_no_integer(value):
    """Bools are none, although Python calls them so."""
    assert not is_integer(value)
    assert not is_positive_integer(value)


def test_what_is_an_integer():
    """Python's and numpy's integers are."""
    assert is_integer(0)
    assert is_integer(np.int8(-3))
    assert is_positive_integer(np.uint8(3))
    assert not is_positive_integer(0)


@pytest.mark.parametrize(
    "X",
    [
        NUMBERS,
        NUMBERS.astype(object),
        NUMBERS > 3,
        NUMBERS.astype(np.int8),
        pd.DataFrame(NUMBERS),
        pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [True, False]}),
        pd.DataFrame({"a": pd.Categorical([3, 1])}),
        pl.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, None]}),
        None,
        3.0,
        pd.Series([1.0, 2.0]),
    ],
    ids=lambda X: type(X).__name__,
)
def test_numbers_pass_as_they_are(X):
    """Data of numbers are the same object; other checks are scikit-learn's."""
    assert as_numbers(X) is X


FRAME = pd.DataFrame(
    {
        "height": [1.0, 2.0],
        "colour": ["red", "blue"],
        "size": pd.Categorical(["S", "M"]),
        "count": ["3", "4"],
        "when": pd.to_datetime(["2020-01-01", "2021-01-01"]),
        "zone": pd.to_datetime(["2020-01-01", "2021-01-01"]).tz_localize("UTC"),
        "month": pd.PeriodIndex(["2020-01", "2020-02"], freq="M"),
        "wait": pd.to_timedelta([1, 2], "D"),
        "day": [datetime.date(2020, 1, 1)] * 2,
    }
)


@pytest.mark.parametrize("name", ["colour", "size"])
def test_a_column_of_strings_is_named(name):
    """The message has the name, a value, and what to do."""
    message = refused(FRAME[["height", name]])
    example = str(FRAME[name][0])
    assert f"X holds strings in column '{name}'" in message
    assert f"could not convert string to float: '{example}'" in message
    for advice in ("OrdinalEncoder", "OneHotEncoder", "ColumnTransformer"):
        assert advice in message
    assert "height" not in message


def test_a_column_of_durations_is_named():
    """Durations have advice of their own, which works."""
    message = refused(FRAME[["height", "wait"]])
    assert "X holds durations in column 'wait'" in message
    assert "durations / np.timedelta64(1, 'D')" in message
    assert (FRAME["wait"] / np.timedelta64(1, "D")).tolist() == [1.0, 2.0]


def test_sample_weights_have_words_of_their_own():
    """No advice about columns for an argument that has none."""
    for weight in (["a", "b"], "balanced"):
        with pytest.raises(ValueError, match=r"sample_weight .*must hold numbers") as error:
            as_numbers(weight, "sample_weight")
        assert "OneHotEncoder" not in str(error.value)


@pytest.mark.parametrize("name", ["when", "zone", "month", "day"])
def test_a_column_of_dates_is_named(name):
    """Alone, too, when scikit-learn would take the nanoseconds."""
    for columns in ([name], ["height", name]):
        message = refused(FRAME[columns])
        assert f"X holds dates in column '{name}'" in message
        assert "days since a reference date" in message


def test_several_columns_are_named_by_what_they_hold():
    """Strings and dates, each with their columns."""
    message = refused(FRAME)
    assert "X holds strings in columns 'colour', 'size', 'count' (" in message
    assert "X holds dates in columns 'when', 'zone', 'month', 'day' (" in message
    assert "X holds durations in column 'wait' (" in message
    many = pd.DataFrame({f"c{i}": ["x"] for i in range(30)})
    assert "columns 'c0', 'c1', 'c2', 'c3', 'c4' and 25 more (" in refused(many)


def test_columns_of_equal_names_are_looked_at_each():
    """A frame may have two columns of one name."""
    frame = pd.DataFrame([[1.0, "x"]], columns=["a", "a"])
    assert "in column 'a' (" in refused(frame)


def test_strings_of_numbers_are_strings():
    """They are refused, and the advice is to convert them."""
    for X in (
        FRAME[["height", "count"]],
        NUMBERS.astype(str),
        NUMBERS.astype("S"),
        NUMBERS.astype(str).astype(object),
        [["1", "2"], ["3", "4"]],
    ):
        message = refused(X)
        assert "astype(float)" in message
        assert "could not convert" not in message


def test_arrays_and_lists_have_positions():
    """A string in a list does not make strings of its neighbours."""
    assert "in column 1 (" in refused([[1, "a"], [2, "b"]])
    assert "in column 1 (" in refused(np.array([[1, "a"], [2, 3]], dtype=object))
    assert "dates in columns 0, 1 (" in refused(NUMBERS.astype("M8[D]"))
    assert "durations in columns 0, 1 (" in refused(NUMBERS.astype("m8[s]"))
    assert "weights holds strings (" in refused(["a", "b"], "weights")


def test_polars():
    """Frames of polars are read as those of pandas."""
    frame = pl.DataFrame(
        {"a": [1.0], "b": ["x"], "c": [datetime.date(2020, 1, 1)], "d": [None]}
    )
    message = refused(frame)
    assert "strings in column 'b' (could not convert string to float: 'x')" in message
    assert "dates in column 'c' (such as '2020-01-01')" in message


def test_masks():
    """Masked entries become NaN in tables, and are refused elsewhere."""
    masked = np.ma.masked_array(NUMBERS, mask=NUMBERS > 8)
    expected = np.where(NUMBERS > 8, np.nan, NUMBERS)
    for table in (masked, list(masked), masked.astype(object), masked.astype(np.int64)):
        found = np.asarray(as_numbers(table, "X_val"), dtype=float)
        np.testing.assert_array_equal(found, expected.astype(found.dtype))
    assert as_numbers(masked.astype(np.float32)).dtype == np.float32
    assert "scale is a masked array with 3 masked entries" in refused(masked, "scale")
    for mask in (np.ma.nomask, np.zeros((6, 2), bool)):
        plain = as_numbers(np.ma.masked_array(NUMBERS, mask=mask))
        assert type(plain) is np.ndarray
        np.testing.assert_array_equal(plain, NUMBERS)


def test_values_of_columns_that_hold_numbers_are_not_looked_at():
    """The type of a column, of its categories or of its values is enough."""

    class Number(float):
        def __getattr__(self, name):
            pytest.fail(f"the attribute {name} of a value was looked up")

    X = np.array([[Number(1)], [Number(2)]], dtype=object)
    assert as_numbers(X) is X
    bools = np.array([[True, False]] * 3)
    categories = pd.DataFrame({"a": pd.Categorical([3, 1, None])})
    for frame in (pl.DataFrame(bools), pd.DataFrame(bools), categories):
        assert not list(_doubtful_columns(frame))


def test_categories_that_no_row_has():
    """Strings and dates among them do not matter; those in the rows are named."""
    words = pd.Categorical([3, 1], categories=[1, 3, "none"])
    dates = pd.Categorical([2, 2], categories=[2, pd.Timestamp("2020-01-01")])
    frame = pd.DataFrame({"a": words, "b": dates})
    assert as_numbers(frame) is frame
    message = refused(pd.DataFrame({"a": words, "b": pd.Categorical(["y", "x"])}))
    assert "strings in column 'b' (could not convert string to float: 'y')" in message


@pytest.mark.parametrize("name", ["scale", "sample_weight"])
def test_no_advice_about_tables_for_other_arguments(name):
    """A scale is neither encoded nor imputed."""
    masked = np.ma.masked_array([1.0, 2.0], mask=[True, False])
    for values in (masked, ["a", "b"], np.array(["2020-01-01"], "M8[D]")):
        message = refused(values, name)
        assert message.startswith(f"{name} ")
        for advice in ("Encoder", "Imputer", "rows", "ColumnTransformer"):
            assert advice not in message


def test_validation_data_have_the_advice_of_the_data():
    """Both are tables."""
    columns = FRAME[["height", "colour"]]
    assert refused(columns, "X_val") == refused(columns).replace("X holds", "X_val holds")


@pytest.mark.parametrize("likelihood", ["gaussian", "mixed"])
def test_the_remedy_for_periods_runs(likelihood):
    """Both steps of the message, in this order, give numbers."""
    months = pd.Series(pd.period_range("2020-01", periods=20, freq="M"))
    frame = pd.DataFrame({"month": months, "height": np.arange(20.0) ** 1.5})
    model = VariationalAutoencoder(1, likelihood=likelihood, max_iter=1)
    with pytest.raises(ValueError, match="Convert periods to dates first, by") as caught:
        model.fit(frame)
    message = str(caught.value)
    assert "dt.to_timestamp()." in message
    assert "(dates - reference) / np.timedelta64(1, 'D')" in message
    dates = months.dt.to_timestamp()
    days = (dates - dates[0]) / np.timedelta64(1, "D")
    assert days.tolist()[:3] == [0, 31, 60]
    model.fit(frame.assign(month=days))
