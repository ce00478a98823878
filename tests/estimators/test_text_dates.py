"""Dates as strings are refused as dates are, with code that converts them."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.estimators.text_dates import dates_in_text
from skae.likelihoods import Mixed

TIMES = pd.date_range("2024-01-05 07:08:09", periods=60, freq="31h")
DAYS = ((TIMES - pd.Timestamp("2024-01-01")) / pd.Timedelta(days=1)).to_numpy()
# Formats and the steps in days to which they round down.
FORMATS = {
    "%Y-%m-%d": 1,
    "%Y/%m/%d": 1,
    "%d.%m.%Y": 1,
    "%m/%d/%Y": 1,
    "%d-%m-%Y": 1,
    "%Y-%m-%d %H:%M": 1 / 1440,
    "%d/%m/%Y %H:%M": 1 / 1440,
    "%Y-%m-%dT%H:%M:%S": 1 / 86400,
    "%Y-%m-%d %H:%M:%S.%f": 1 / 86400,
    "%Y-%m-%dT%H:%M:%SZ": 1 / 86400,
    "%Y-%m-%d %H:%M:%S +00:00": 1 / 86400,
}


def table_of(texts, package):
    """Return a table whose column 0, 'day', has texts, and whose column 1 has numbers."""
    frame = pd.DataFrame({"day": texts, "x": np.arange(len(texts)) % 7 - 2.5})
    if package == "polars":
        return pl.DataFrame({name: frame[name].tolist() for name in frame})
    if package == "pandas":
        return frame
    array = frame.to_numpy(object)
    return array.astype(str) if package == "strings" else array


def refused(X, likelihood="mixed"):
    """Return the message of the error of a fit."""
    with pytest.raises(ValueError, match="dates") as error:
        VariationalAutoencoder(1, likelihood=likelihood, max_iter=1).fit(X)
    return str(error.value)


def converted(code, X):
    """Return the first column of a table after code has run."""
    names = {"X": X, "pd": pd, "pl": pl}
    exec(code, names)
    return np.asarray(names["X"])[:, 0].astype(float)


def code_in(message):
    """Return the code of a message."""
    return re.search(r": (X = .*|X\[.*)\. Give whole days", message)[1]


@pytest.mark.parametrize("package", ["pandas", "polars", "objects", "strings"])
@pytest.mark.parametrize("form", FORMATS)
def test_dates_as_strings(form, package):
    """The error has code that converts them to days."""
    X = table_of([time.strftime(form) for time in TIMES], package)
    message = refused(X)
    name = "'day'" if package in ("pandas", "polars") else "0"
    assert message.startswith(f"Column {name} has dates as strings, such as '")
    expected = np.floor(DAYS / FORMATS[form] + 1e-6) * FORMATS[form]
    np.testing.assert_allclose(converted(code_in(message), X), expected, atol=1e-8)


@pytest.mark.parametrize("package", ["pandas", "polars", "objects", "strings"])
@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y"])
def test_dates_of_several_forms_and_strays(form, package):
    """Some have no time, one is missing, and one is repeated."""
    texts = [t.strftime(form + " %H:%M:%S" * (i % 2)) for i, t in enumerate(TIMES)]
    texts[3], texts[1] = "unknown", texts[5]
    X = table_of(texts, package)
    message = refused(X)
    assert "has dates but for 'unknown', such as" in message
    assert "these become missing: X" in message
    expected = np.where(np.arange(60) % 2, DAYS, np.floor(DAYS))
    expected[3], expected[1] = np.nan, expected[5]
    np.testing.assert_allclose(converted(code_in(message), X), expected, atol=1e-6)


def test_day_and_month_may_be_swapped():
    texts = [f"{a:02d}/{b:02d}/2024" for a in range(1, 13) for b in range(1, 9)]
    X = table_of(texts, "pandas")
    message = refused(X)
    month_first, day_first = re.search(
        r"date: (X.*)\. If the day is before the month: (X.*)\. Give", message
    ).groups()
    for code, form in ((month_first, "%m/%d/%Y"), (day_first, "%d/%m/%Y")):
        dates = pd.to_datetime(pd.Series(texts), format=form) - pd.Timestamp("2024-01-01")
        np.testing.assert_array_equal(converted(code, X.copy()), dates.dt.days)


@pytest.mark.parametrize("n_repeated", [0, 1, 100])
def test_many_dates_are_no_categories(n_repeated):
    days = pd.date_range("2024-01-01", periods=300)
    texts = [f"{day:%Y-%m-%d}" for day in days]
    texts[:n_repeated] = texts[100 : 100 + n_repeated]
    X = table_of(texts, "pandas")
    assert "has dates as strings" in refused(X)
    few = [(["day"], "gaussian"), (["x"], "auto")]
    assert "has dates as strings" in refused(X[:20], Mixed(few))
    match = r"thousands='\.'\)\. Dates as strings: pandas\.to_datetime, and then"
    with pytest.raises(ValueError, match=match):
        GaussianAutoencoder(1).fit(X)


@pytest.mark.parametrize(
    "text", ["{}.1.2.3", "2024-13-{:02d}", "31.02.{}", "{:04d}-1", "192.168.0.{}", "SKU {}"]
)
def test_what_is_no_date(text):
    values = np.array([text.format(2000 + i) for i in range(40)], object)
    assert dates_in_text(values) is None


@pytest.mark.filterwarnings("ignore:The scales? of .* floor min_scale")
def test_numbers_as_strings_with_a_likelihood_of_numbers():
    """What `float` takes for another number is refused, and the code converts it."""
    for texts in (
        [f"{x:,} €".replace(",", ".") for x in range(700, 1900, 7)],
        [f"{x:,}".replace(",", ".") for x in range(700, 1900, 7)],
    ):
        X = table_of(texts, "pandas")
        likelihood = Mixed([(["day"], "gaussian"), (["x"], "auto")])
        with pytest.raises(ValueError, match="'day' has numbers as strings, such") as error:
            VariationalAutoencoder(1, likelihood=likelihood).fit(X)
        code = str(error.value).partition("Convert them: ")[2].removesuffix(".")
        np.testing.assert_array_equal(converted(code, X), range(700, 1900, 7))
    X["day"] = [f"{x:.3f}" for x in np.linspace(0.5, 3, len(X))]
    VariationalAutoencoder(1, likelihood=likelihood, max_iter=1).fit(X)
