"""Columns of a table that "auto" may take for something else are named in a warning."""

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import ConvergenceWarning

from skae import VariationalAutoencoder
from skae.estimators.text_numbers import numbers_in_text
from skae.likelihoods import Mixed

RNG = np.random.default_rng(0)
N = 300
AGE = RNG.normal(45, 12, N).round().astype(int)
CITY = RNG.choice(["Rome", "Oslo"], N)
AMOUNT = np.exp(RNG.normal(5, 1.5, N)).round(2)
TABLE = pd.DataFrame({"age": AGE, "city": CITY})


def said(X, likelihood="mixed"):
    """Fit a small model; return the warnings about columns, and the model."""
    model = VariationalAutoencoder(
        1, likelihood=likelihood, max_iter=1, hidden_layer_sizes=(2,), random_state=0
    )
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(X)
    return [
        str(w.message) for w in found if not issubclass(w.category, ConvergenceWarning)
    ], model


def likelihoods_in(message, X):
    """Return the likelihoods that a message offers, after they are run."""
    codes = re.findall(
        r"likelihood=(Mixed\(\[.*?\]\)\]\)|Mixed\(\[.*?, 'auto'\)\]\))", message
    )
    return [eval(code, {"Mixed": Mixed, "X": X}) for code in codes]


def likelihood_in(message, X):
    """Return the likelihood that a message says to pass."""
    return likelihoods_in(message, X)[0]


def test_usual_columns_are_no_suspects():
    """Ages, visits, children, shares and normal numbers are as "auto" takes them."""
    z = RNG.normal(size=N)
    X = TABLE.assign(
        visits=RNG.poisson(np.exp(1.5 + 0.7 * z)),
        children=RNG.poisson(1.2, N),
        share=0.2 + 0.6 * RNG.uniform(size=N),
        scaled=(z - z.min()) / np.ptp(z),
        height=170 + 10 * z,
        income=np.exp(10 + 0.5 * z).round(2),
        room=[f"{i % 20}{'abcd'[i % 4] if i % 3 else ''}" for i in range(N)],
        stars=RNG.choice(["1", "2", "3", "unknown"], N),
        month=RNG.integers(1, 13, N),
        visits_known=pd.Series(RNG.poisson(np.exp(1.5 + z))).where(z < 2),
    )
    assert said(X)[0] == []


@pytest.mark.parametrize("stray", ["?", "nan"])
@pytest.mark.parametrize("package", ["pandas", "pandas strings", "polars", "array"])
def test_a_string_among_numbers(package, stray):
    """A column of numbers with a string in it is no category."""
    numbers = AGE[2:].astype(str) if package != "pandas" else AGE[2:]
    X = TABLE.assign(age=[stray, stray, *numbers.tolist()])
    if package == "polars":
        X = pl.DataFrame({name: X[name].tolist() for name in X})
    elif package == "array":
        X = X.to_numpy(object)
    (message,), _ = said(X)
    name = "0" if package == "array" else "'age'"
    assert message.startswith(f"Column {name} has numbers and 2 strings ({stray!r})")
    clean = re.search(r"as missing: (.*)\. If the column", message)[1]
    repaired = {"X": X, "pd": pd, "pl": pl}
    exec(clean, repaired)
    found, model = said(repaired["X"])
    assert found == []
    assert ([0] if package == "array" else ["age"], "negative_binomial") in (
        model.likelihood_.columns
    )


@pytest.mark.parametrize("package", ["pandas", "polars", "numpy"])
def test_a_string_among_numbers_that_all_differ(package):
    """It is no identifier, and the message has the code that repairs it."""
    numbers = [str(x) for x in RNG.normal(size=N)]
    X = pd.DataFrame({"height": ["?", *numbers[1:]], "city": CITY}, dtype=object)
    if package == "polars":
        X = pl.DataFrame({"height": X["height"].tolist(), "city": CITY.tolist()})
    elif package == "numpy":
        X = X.to_numpy(copy=True)
    with pytest.raises(ValueError, match=r"are numbers but for '\?'") as error:
        VariationalAutoencoder(1, likelihood="mixed").fit(X)
    code = str(error.value).partition("as missing: ")[2].removesuffix(".")
    repaired = {"X": X, "pd": pd, "pl": pl}
    exec(code, repaired)
    assert said(repaired["X"])[0] == []


def test_strings_that_are_meant_as_categories():
    """The message about strings says how to go on without it."""
    X = TABLE.assign(age=["x", *AGE[1:].tolist()])
    (message,), _ = said(X)
    assert said(X, likelihood_in(message, X))[0] == []


def test_identifiers_and_large_whole_numbers():
    """Numbers of customers, postal codes and days are hardly counts."""
    X = TABLE.assign(
        id=np.arange(N) + 7,
        zip=RNG.choice(RNG.integers(10_000, 99_999, 30), N),
        since=RNG.integers(0, 3000, N),
    )
    messages, model = said(X)
    assert (["age", "id", "zip", "since"], "negative_binomial") in model.likelihood_.columns
    differ, large = messages
    assert differ.startswith("Column 'id' has whole numbers that all differ")
    assert large.startswith(
        "Columns 'zip', 'since' have whole numbers with a mean of 1,000"
    )
    X = X.drop(columns="id")
    found, model = said(X, likelihood_in(large, X))
    assert found == []
    assert (["zip", "since"], "gaussian") in model.likelihood_.columns


SURFACE = np.resize(np.exp(RNG.normal(4, 0.45, N)).round(1)[:120], N)
# Numbers as strings, and how many of them are missing afterwards.
TEXTS = {
    "unit": ([f"{x} m²" for x in SURFACE], 0),
    "unit with a digit": ([f"{x}m2" for x in SURFACE], 0),
    "decimals": ([f"{x}" for x in SURFACE], 0),
    "negative": ([f"{x - 60:.1f}" for x in SURFACE], 0),
    "exponents": ([f"{x:.1e}" for x in SURFACE], 0),
    "decimal comma": ([f"{x}".replace(".", ",") for x in SURFACE], 0),
    "currency": ([f"$ {x * 100:,.2f}" for x in SURFACE], 0),
    "euros": ([f"{x * 100:,.0f} €".replace(",", "\u202f") for x in SURFACE], 0),
    "points in groups": (
        [f"{x * 100:,.1f}".translate({44: 46, 46: 44}) for x in SURFACE],
        0,
    ),
    "francs": ([f"CHF {x * 100:,.0f}".replace(",", "'") for x in SURFACE], 0),
    "typographic minus": ([f"{x - 60:.1f}".replace("-", "\u2212") for x in SURFACE], 0),
    "sign before a currency": (
        [f"${x - 60:,.2f}".replace("$-", "-$") for x in SURFACE],
        0,
    ),
    "minus before a currency": (
        [f"£{x * 100 - 6000:,.0f}".replace("£-", "\u2212£") for x in SURFACE],
        0,
    ),
    "sign and blank": (
        [f"CHF {x - 60:.1f}".replace("CHF -", "- CHF ") for x in SURFACE],
        0,
    ),
    "percent": ([f"{x:.0f}%" for x in SURFACE], 0),
    "strays": (["?", "n/a", *[f"{x} kg" for x in SURFACE[2:]]], 2),
    "ages": ([f"{x:.0f}" for x in np.linspace(5, 95, N)], 0),
}


@pytest.mark.parametrize(
    ("name", "package"),
    [(name, "pandas") for name in TEXTS]
    + [
        (n, p)
        for n in ("euros", "francs", "ages", "minus before a currency", "sign and blank")
        for p in ("polars", "objects", "strings")
    ],
)
def test_numbers_as_strings(name, package):
    """Their different strings are no categories, and the message has code to run."""
    texts, n_missing = TEXTS[name]
    # No column differs in all of its rows, which is an error.
    given = pd.DataFrame({"city": CITY, "amount": [*texts[:-1], texts[-2]]})
    X = {
        "pandas": given,
        "polars": pl.DataFrame({c: given[c].tolist() for c in given}),
        "objects": given.to_numpy(object),
        "strings": given.to_numpy(object).astype(str),
    }[package]
    (message,), _ = said(X)
    column = "'amount'" if package in ("pandas", "polars") else "1"
    assert message.startswith(f"Column {column} has numbers as strings, such as ")
    repaired = {"X": X, "pd": pd, "pl": pl}
    exec(re.search(r"Convert them: (.*)\. If they are codes", message)[1], repaired)
    found, model = said(repaired["X"])
    assert not any("strings" in text for text in found)
    assert len(model.likelihood_.columns) == 2
    values = np.asarray(repaired["X"])[:, 1].astype(float)
    assert np.isnan(values).sum() == n_missing
    if "sign" in name or "minus" in name:
        is_negative = [text[0] in "-\u2212" for text in [*texts[:-1], texts[-2]]]
        np.testing.assert_array_equal(np.signbit(values), is_negative)
    found, _ = said(X, likelihood_in(message, X))
    assert not any("as strings, such as" in text for text in found)


def test_several_columns_of_numbers_as_strings_are_in_one_warning():
    """An array of strings has numbers as strings in each column."""
    X = np.column_stack([CITY, AGE.clip(0, 99) / 2, SURFACE, SURFACE[::-1]]).astype(str)
    messages, _ = said(X)
    (message,) = (text for text in messages if "as strings" in text)
    assert message.startswith("Columns 1, 2, 3 have numbers as strings, such as ")
    assert "Convert them (of 1; change the others alike): X = X.astype(object); " in message


def test_numbers_as_strings_that_all_differ():
    X = TABLE.assign(surface=[f"{x:.2f} m²" for x in np.linspace(20, 200, N)])
    with pytest.raises(ValueError, match="which are numbers as strings") as error:
        said(X)
    code = str(error.value).partition("Convert them: ")[2].removesuffix(".")
    exec(code, {"X": X, "pd": pd})
    assert said(X)[0] == []


@pytest.mark.parametrize("likelihood", ["mixed", Mixed([([0, 1, 2], "categorical")])])
@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_numbers_as_strings_of_which_most_differ(package, likelihood):
    """One equal pair leaves a number in each row, and no fit of hundreds of categories."""
    texts = [f"{x:.2f} €" for x in np.linspace(20, 200, N)]
    texts[0] = texts[1]
    for table in (texts, [*texts[:160], *texts[: N - 160]]):
        X = TABLE.assign(price=table)
        if package == "polars":
            X = pl.DataFrame({c: X[c].tolist() for c in X})
        with pytest.raises(
            ValueError, match=rf"{len(set(table))} .* in 300 rows, which are numbers as str"
        ) as error:
            said(X, likelihood)
        repaired = {"X": X, "pd": pd, "pl": pl}
        exec(str(error.value).partition("Convert them: ")[2].removesuffix("."), repaired)
        assert not any("price" in text for text in said(repaired["X"])[0])
    assert "as strings" in said(TABLE.assign(price=np.resize(texts[:150], N)))[0][0]
    # Whole numbers may be codes, if the user says so.
    X = TABLE.assign(price=[str(x) for x in [*range(900, 1199), 1000]])
    with pytest.raises(
        ValueError, match=r"'price' has 299 .* convert it: X.* If it is a c"
    ):
        said(X)
    assert "in 300 rows, each" in said(X, Mixed([([0, 1, 2], "categorical")]))[0][0]
    declared = TABLE.assign(price=pd.Categorical(texts))
    assert "'price' has 299 categories in 300 rows, each" in said(declared)[0][0]


def test_numbers_as_names_are_those_of_python():
    """An index of pandas has integers of numpy."""
    X = TABLE.assign(surface=[f"{x} m²" for x in SURFACE]).set_axis([5, 8, 3], axis=1)
    (message,), _ = said(X)
    assert "Column 3 has numbers as strings" in message
    assert "X[3] = pd.to_numeric(X[3].str." in message
    X[3] = [f"note {i}" for i in range(N)]
    with pytest.raises(ValueError, match=r"Column 3 has .* X\.drop\(columns=\[3\]\)"):
        said(X)


CODES = {
    "few": [str(i % 3 + 1) for i in range(N)],
    "weeks": [str(i % 53 + 1) for i in range(N)],
    "postal codes": [f"{17 * (i % 40):05d}" for i in range(N)],
    "postal codes and a string": ["none", *[f"{17 * (i % 40):05d}" for i in range(1, N)]],
    "postal codes of one length": [f"{10_000 + 7 * (i % 60)}" for i in range(N)],
    "hours": [f"{i % 24}:00" for i in range(N)],
    "ages in classes": [f"{i % 20}-{i % 20 + 9}" for i in range(N)],
    "classes of industry": [f"{i % 20:02d}.{i % 3:02d}" for i in range(N)],
    "versions": [f"{i % 3}.{i % 4}.{i % 2}" for i in range(N)],
    "days": [f"2024-{i % 12 + 1:02d}-{i % 4 + 1:02d}" for i in range(N)],
    "telephones": [f"555 {i % 60 + 100} 123" for i in range(N)],
    "parts": [f"SKU {i % 60 + 100}" for i in range(N)],
    "diseases": [f"E{i % 20}.9" for i in range(N)],
}


@pytest.mark.parametrize("name", CODES)
def test_codes_are_categories(name):
    assert said(TABLE.assign(code=CODES[name]))[0] == []


def test_a_comma_behind_zero_is_decimal():
    """All numbers have three digits behind the comma, which groups of thousands have."""
    texts = [f"{x:.3f}".replace(".", ",") for x in np.linspace(0.5, 12, 40)]
    numbers = numbers_in_text(np.array(texts, object))
    assert (numbers.changes, numbers.strays) == (((",", "."),), {})
    without_zero = [f"{x:,}" for x in range(500, 90_000, 1000)]
    numbers = numbers_in_text(np.array(without_zero, object))
    assert (numbers.changes, numbers.strays) == (((",", ""),), {})


PRICES = np.exp(np.random.default_rng(1).normal(7, 0.7, 60)).round().astype(int)
# Whole amounts with a separator of thousands, and a unit or a sign.
THOUSANDS = ["{:,}", "{:,} €", "CHF {:,}", "-{:,}"]


def converted(code, texts):
    """Return the numbers that code makes of strings in column 'price'."""
    frame = {"X": pd.DataFrame({"price": texts}), "pd": pd}
    exec(code, frame)
    return frame["X"]["price"].to_numpy(float)


@pytest.mark.parametrize("form", THOUSANDS)
@pytest.mark.parametrize("mark", [",", "."])
def test_a_mark_in_all_numbers_of_thousands_separates_them(mark, form):
    """A dot of thousands would be a decimal point for `float`."""
    texts = [form.format(x).replace(",", mark) for x in [*PRICES, 781]]
    X = pd.DataFrame({"price": texts})
    code = numbers_in_text(np.array(texts, object)).conversion(X, 0)
    assert not code.startswith("the numbers are ambiguous")
    sign = -1 if form[0] == "-" else 1
    np.testing.assert_array_equal(converted(code, texts), sign * np.array([*PRICES, 781]))


@pytest.mark.parametrize("further", [[], ["0"], ["12345"]])
@pytest.mark.parametrize("unit", ["", " €"])
@pytest.mark.parametrize("mark", [",", "."])
def test_a_mark_before_three_digits_in_all_numbers_is_ambiguous(mark, unit, further):
    """Nothing says whether it separates thousands: the message has a code for each."""
    numbers = [x for x in PRICES if x >= 1000]
    texts = [f"{x:,}{unit}".replace(",", mark) for x in numbers]
    texts += [text + unit for text in further]
    X = TABLE.assign(price=np.resize(texts, N))
    (message,), _ = said(X)
    assert (
        f"the numbers are ambiguous, because three digits follow each {mark!r}" in message
    )
    point, thousands = re.search(
        r"the decimal point: (X.*)\. If it separates thousands: (X.*\))\. If they", message
    ).groups()
    expected = [x / 1000 for x in numbers] + [float(text) for text in further]
    np.testing.assert_allclose(converted(point, texts), expected)
    expected = [*numbers, *map(float, further)]
    np.testing.assert_allclose(converted(thousands, texts), expected)


@pytest.mark.parametrize("further", ["0.512", "1234.567", "-.125", "2.25", "7.1234", 3.125])
def test_one_number_shows_that_a_dot_is_the_decimal_point(further):
    texts = [*(f"{x:,}".replace(",", ".") for x in PRICES if x >= 1000), further]
    numbers = numbers_in_text(np.array(texts, object))
    assert (numbers.mark, numbers.changes) == ("", ())


BALANCES = np.random.default_rng(1).normal(20, 40, 60).round(2) * 50
# How positive and negative amounts of accounts are written.
ACCOUNTS = [
    ("{}", "({})"),
    ("${}", "$({})"),
    ("${}", "(${})"),
    ("$ {}", "$ ( {} )"),
    ("CHF {}", "(CHF {})"),
    ("{} €", "({}) €"),
    ("{} €", "({} €)"),
]


@pytest.mark.parametrize("package", ["pandas", "polars", "objects"])
@pytest.mark.parametrize("forms", [*ACCOUNTS, "{:.3g}{}", "${:.3g} {}"])
def test_negatives_in_brackets_and_letters_that_multiply(forms, package):
    """The code makes -12.5 of (12.50), 1200 of 1.2k and 3e6 of 3M."""
    if isinstance(forms, tuple):
        expected = BALANCES
        texts = [forms[int(x < 0)].format(f"{abs(x):,.2f}") for x in BALANCES]
    else:
        parts = [(f"{x:.3g}", i % 3) for i, x in enumerate(np.linspace(1, 99, 60))]
        texts = [forms.format(float(x), " kM"[i]).strip() for x, i in parts]
        expected = [float(x) * (1, 1e3, 1e6)[i] for x, i in parts]
    X = {
        "pandas": pd.DataFrame({"a": texts}),
        "polars": pl.DataFrame({"a": texts}),
        "objects": np.array(texts, object)[:, None],
    }[package]
    numbers = numbers_in_text(np.array(texts, object))
    assert numbers.strays == {}
    names = {"X": X, "pd": pd, "pl": pl}
    exec(numbers.conversion(X, 0), names)
    values = np.asarray(names["X"])[:, 0].astype(float)
    np.testing.assert_allclose(values, np.array(expected, float))


@pytest.mark.parametrize("text", ["({})", "{} (net)", "(-{})", "-({})", "(({}))"])
def test_other_brackets_are_no_negatives(text):
    assert numbers_in_text(np.array([text.format(x) for x in range(40)], object)) is None


@pytest.mark.parametrize("unit", ["k", "M"])
def test_one_letter_behind_all_numbers_is_their_unit(unit):
    numbers = numbers_in_text(np.array([f"{x}{unit}" for x in range(40)], object))
    assert numbers.changes == ((unit, ""),)


@pytest.mark.parametrize("forms", [("{} €", "${}"), ("EUR {}", "CHF {}")])
def test_two_currencies_are_two_units(forms):
    """A rate of exchange is missing, so there is no code."""
    texts = [forms[i % 2].format(x) for i, x in enumerate(SURFACE)]
    (message,), _ = said(TABLE.assign(price=texts))
    assert "numbers as strings" in message
    assert re.search(r"Convert them: they are of 2 units \('.*', '.*'\), so make", message)
    one = [("{} €", "EUR {}")[i % 2].format(x) for i, x in enumerate(SURFACE)]
    assert numbers_in_text(np.array(one, object)) is None


@pytest.mark.parametrize("text", ["-$-{}", "- {}", "-A{}", "10-${}"])
def test_other_signs_are_no_numbers(text):
    assert numbers_in_text(np.array([text.format(x) for x in range(40)], object)) is None


def test_long_blanks_are_read_in_linear_time():
    blanks = " " * 200_000
    assert numbers_in_text(np.array([blanks, f"{blanks}5 m²"], object)) is None


def test_declared_categories_are_not_doubted():
    X = TABLE.assign(code=pd.Categorical([f"{i % 40} m" for i in range(N)]))
    assert said(X)[0] == []


def test_many_categories_of_few_rows():
    X = TABLE.assign(street=[f"street {i % 100}" for i in range(N)])
    (message,), _ = said(X)
    assert message.startswith("Column 'street' has 100 categories in 300 rows")
    assert message.endswith("Of other categories, join the rare ones to one.")
    assert said(TABLE.assign(street=[f"street {i % 60}" for i in range(N)]))[0] == []


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_floats_that_missing_values_make_counts(package):
    """One missing value turns whole amounts from a density into counts."""
    price = np.exp(RNG.normal(6.6, 0.3, N)).round()
    pressure = RNG.normal(80, 12, N).round()
    X = TABLE.assign(price=price, pressure=pressure)
    assert said(X)[0] == []
    X.loc[0, ["price", "pressure"]] = np.nan
    integers = X.astype({"price": "Int64", "pressure": "Int64"})
    if package == "polars":
        X = pl.DataFrame({c: X[c].tolist() for c in X})
        X = X.with_columns(pl.col("price", "pressure").fill_nan(None))
        integers = X.cast({"price": pl.Int64, "pressure": pl.Int64})
    (message,), model = said(X)
    assert (["age", "price", "pressure"], "negative_binomial") in model.likelihood_.columns
    assert message.startswith("Columns 'price', 'pressure' have floats that are whole")
    found, model = said(X, likelihood_in(message, X))
    assert found == []
    assert (["price", "pressure"], "gaussian") in model.likelihood_.columns
    # A dtype of integers says that they are whole.
    assert said(integers)[0] == []


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_few_whole_numbers_with_holes_are_as_those_without(package):
    """Ratings are categories with a hole, too; amounts are, and the fit says so."""
    X = TABLE.assign(
        stars=RNG.integers(1, 6, N),
        even=RNG.choice([2, 4, 6, 8], N),
        dose=RNG.choice([5, 10, 20], N),
        year=RNG.choice([2022, 2023, 2024], N),
    )
    few = ["stars", "even", "dose", "year"]
    expected = (["city", *few], "categorical")
    found, model = said(X)
    assert found == []
    assert expected in model.likelihood_.columns
    holes = X.astype(dict.fromkeys(few, float))
    holes.loc[0, few] = np.nan
    integers = holes.astype(dict.fromkeys(few, "Int64"))
    if package == "polars":
        holes = pl.DataFrame({c: holes[c].tolist() for c in holes})
        holes = holes.with_columns(pl.col(few).fill_nan(None))
        integers = holes.cast(dict.fromkeys(few, pl.Int64))
    found, model = said(integers)
    assert found == []
    assert expected in model.likelihood_.columns
    (message,), model = said(holes)
    assert message.startswith("Columns 'dose', 'year' have floats that are whole numbers")
    assert expected in model.likelihood_.columns
    offered = likelihoods_in(message, holes)
    for likelihood, name in zip(offered, ["categorical", "gaussian"], strict=True):
        found, model = said(holes, likelihood)
        assert found == []
        own = [c for c, family in model.likelihood_.columns if family == name]
        assert {"dose", "year"} <= {*np.concatenate(own)}


@pytest.mark.parametrize(
    "values", [[0, 9], [1, 2, 3, 99], [1, 2, 999], [1, 2, -99], [9, 99]], ids=str
)
def test_nines_beside_few_codes_are_no_amounts(values):
    """A number of nines is left out of the range and of the mean."""
    X = TABLE.assign(answer=RNG.choice(values, N).astype(float))
    X.loc[0, "answer"] = np.nan
    found, model = said(X)
    assert not any("whole numbers or missing" in message for message in found)
    assert (["city", "answer"], "categorical") in model.likelihood_.columns


def test_counts_of_hundreds():
    """Blood pressures and days are numbers that a count's distribution fits as well."""
    X = TABLE.assign(pressure=RNG.normal(130, 20, N).round(), days=RNG.integers(0, 600, N))
    assert said(X.astype({"pressure": int}))[0] == []


@pytest.mark.parametrize("as_frame", [True, False])
def test_positive_amounts(as_frame):
    """Amounts that a normal density makes negative are named, with a remedy to copy."""
    X = TABLE.drop(columns="city").assign(amount=AMOUNT)
    X = X if as_frame else X.to_numpy()
    (message,), model = said(X)
    name = "'amount'" if as_frame else "1"
    assert message.startswith(f"Column {name} has positive numbers of a large spread")
    assert (np.asarray(model.sample(2000, random_state=0))[:, 1] < 0).mean() > 0.05
    found, model = said(X, likelihood_in(message, X))
    assert found == []
    assert (np.asarray(model.sample(2000, random_state=0))[:, 1] > 0).all()
    # What the user chooses is not doubted.
    assert said(X, Mixed([([0], "auto"), ([1], "gaussian")]))[0] == []
    (message,), _ = said(X, Mixed([([0, 1], "auto")]))
    assert f"([{name}], 'log_normal') in Mixed." in message


def test_shares():
    """Numbers from 0 to 1 of which a normal density has many others are named."""
    share = np.random.default_rng(0).beta(0.8, 0.8, N)
    X = TABLE.drop(columns="city").assign(share=share)
    (message,), model = said(X)
    assert message.startswith("Column 'share' has numbers from 0 to 1, of which")
    assert not model.sample(1000, random_state=0)["share"].between(0, 1).all()
    found, model = said(X, likelihood_in(message, X))
    assert found == []
    assert model.sample(1000, random_state=0)["share"].between(0, 1).all()
    # Most of its values are no shares, and it has more than this range.
    assert not any("from 0 to 1" in m for m in said(X.assign(share=share.round()))[0])
    assert said(X.assign(share=share + 0.1))[0] == []


def test_the_remedy_keeps_the_other_parameters_of_mixed():
    X = TABLE.assign(amount=AMOUNT)
    given = Mixed(real="student_t", handle_unknown="ignore")
    (message,), _ = said(X, given)
    code = re.search(r"likelihood=(Mixed.*\))\. 'student_t' in its place", message)[1]
    remedy = eval(code, {"Mixed": Mixed, "X": X})
    assert (remedy.real, remedy.handle_unknown) == ("student_t", "ignore")
    assert said(X, remedy)[0] == []


def test_the_remedy_for_columns_whose_names_are_numbers():
    """Mixed takes a number for a position."""
    X = pd.DataFrame({7: AGE, 3: AMOUNT})
    (message,), _ = said(X)
    assert message.startswith("Column 3 has positive numbers")
    found, model = said(X, likelihood_in(message, X))
    assert found == []
    assert ([3], "log_normal") in model.likelihood_.columns


def test_amounts_with_zeros():
    """Of an amount with zeros, a flag and the positive amount are two columns."""
    X = TABLE.assign(spent=np.where(RNG.uniform(size=N) < 0.6, 0, AMOUNT))
    (message,), _ = said(X)
    assert message.startswith("Column 'spent' has numbers from 0 on, many of them 0")
    flag, amount = re.search(
        r"a flag, (.*?), and take 0 as missing, (.*\)), with", message
    ).groups()
    names = {"X": X, "np": np}
    X = X.assign(has_spent=eval(flag, names), spent=eval(amount, names))
    rest = ["age", "city", "has_spent"]
    found, model = said(X, Mixed([("spent", "log_normal"), (rest, "auto")]))
    assert found == []
    sample = model.sample(2000, random_state=0)
    assert ((sample["spent"] * sample["has_spent"]) >= 0).all()


@pytest.mark.parametrize(
    "likelihood", ["mixed", Mixed([([0, 1], "auto"), (2, "categorical")])]
)
def test_identifiers_that_are_strings_are_refused(likelihood):
    """There is nothing to learn from a category in each row."""
    X = TABLE.assign(name=[f"c{i}" for i in range(N)])
    X.loc[3, "name"] = None
    with pytest.raises(ValueError, match="'name' has 299 categories in 299 rows") as error:
        said(X, likelihood)
    code = re.search(r"Drop it: (.*?\))\. If", str(error.value))[1]
    assert said(eval(code, {"X": X}))[0] == []


def test_periods_are_refused_as_dates_are():
    """A period is no category, also where values are missing."""
    X = TABLE.assign(month=pd.period_range("2000", periods=N, freq="M"))
    X.loc[0, "month"] = pd.NaT
    with pytest.raises(ValueError, match="Column 'month' has dates or durations"):
        said(X)
