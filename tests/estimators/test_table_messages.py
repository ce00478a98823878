"""Errors about tables name the columns, and say what to pass."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch.utils.data import DataLoader

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.impute import AutoencoderImputer
from skae.likelihoods import Mixed
from skae.outlier import LikelihoodOutlierDetector

X = np.random.default_rng(0).normal(size=(40, 3))
FRAME = pd.DataFrame(X, columns=["age", "income", "visits"])
ESTIMATORS = {
    "gaussian": GaussianAutoencoder(2, max_iter=2),
    "variational": VariationalAutoencoder(2, max_iter=2),
    "mixed": VariationalAutoencoder(2, max_iter=2, likelihood="mixed"),
    "detector": LikelihoodOutlierDetector(GaussianAutoencoder(2, max_iter=2)),
    "imputer": AutoencoderImputer(VariationalAutoencoder(2, max_iter=2)),
}
every_estimator = pytest.mark.parametrize("model", ESTIMATORS.values(), ids=ESTIMATORS)


@pytest.fixture(scope="module")
def fitted():
    return VariationalAutoencoder(2, max_iter=2, random_state=0).fit(X)


@every_estimator
@pytest.mark.parametrize(
    "column",
    [FRAME["age"], FRAME.index, pl.Series("age", X[:, 0])],
    ids=["pandas", "index", "polars"],
)
def test_a_column_is_no_table(model, column):
    with pytest.raises(ValueError, match="Expected a 2-dimensional container but got"):
        model.fit(column)


def test_one_row_of_a_frame():
    """The message says how to pass a row as a table."""
    with pytest.raises(ValueError, match=r"of one row, X\.iloc\[\[0\]\]"):
        VariationalAutoencoder().fit(FRAME.iloc[0])


@every_estimator
@pytest.mark.parametrize(
    "make", [lambda: (X for _ in range(2)), lambda: iter(X), lambda: DataLoader(X)]
)
def test_blocks_of_rows_are_no_table(model, make):
    """An iterator and a loader of torch have a message that names `partial_fit`."""
    pattern = r"X must be a table, .* for block in X: model\.partial_fit\(block\)"
    with pytest.raises(TypeError, match=r"Join its rows to one table"):
        model.fit(make())
    if hasattr(model, "partial_fit"):
        with pytest.raises(TypeError, match=pattern):
            model.partial_fit(make())


@every_estimator
def test_a_dict_is_no_table(model):
    with pytest.raises(TypeError, match=r"X is a dict, .* pandas\.DataFrame\(X\)"):
        model.fit({"age": [1.0, 2.0], "income": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("likelihood", "advice"),
    [
        ({"age": "gaussian"}, r"Mixed\(list\(likelihood\.items\(\)\)\)"),
        ([("age", "gaussian")], r"Mixed\(likelihood\)"),
    ],
)
def test_likelihoods_of_columns_need_mixed(likelihood, advice):
    with pytest.raises(ValueError, match=f"pass likelihood=.*{advice}"):
        VariationalAutoencoder(likelihood=likelihood).fit(FRAME)
    if isinstance(likelihood, dict):
        with pytest.raises(ValueError, match=r"a dict: pass list\(columns\.items\(\)\)"):
            Mixed(likelihood)


@pytest.mark.parametrize("name", ["incom", ["age", "incom"]])
def test_a_misspelt_column_of_mixed_has_a_hint(name):
    likelihood = Mixed([(name, "gaussian"), ("visits", "laplace")])
    with pytest.raises(ValueError, match=r"incom.*Did you mean 'income'\?"):
        VariationalAutoencoder(likelihood=likelihood).fit(FRAME)


def test_a_column_is_no_block_of_a_stream():
    with pytest.raises(ValueError, match="Expected a 2-dimensional container but got"):
        VariationalAutoencoder().partial_fit(FRAME["age"])


@every_estimator
def test_columns_of_one_name(model):
    frame = FRAME.set_axis(["age", "income", "age"], axis=1)
    with pytest.raises(ValueError, match=r"'age' \(2 times\)\. Rename"):
        model.fit(frame)


@every_estimator
def test_records_are_no_table(model):
    """The message does not print them."""
    with pytest.raises(ValueError, match=r"pandas\.DataFrame\(X\)") as caught:
        model.fit(FRAME.to_dict("records"))
    assert len(str(caught.value)) < 100


def test_validation_data_with_their_target():
    with pytest.raises(ValueError, match=r"X_val cannot be used: .* without y"):
        VariationalAutoencoder().fit(X, X_val=(X, X[:, 0]))


@every_estimator
@pytest.mark.parametrize("kind", ["array", "float32", "pandas", "polars", "list"])
def test_columns_with_infinities(model, kind):
    """Two of three columns have some."""
    bad = X.copy()
    bad[3, 1], bad[5, 2] = np.inf, -np.inf
    names = ("'income'", "'visits'") if kind in ("pandas", "polars") else ("1", "2")
    given = {
        "array": bad,
        "float32": bad.astype(np.float32),
        "pandas": pd.DataFrame(bad, columns=FRAME.columns),
        "polars": pl.DataFrame(bad, schema=list(FRAME.columns)),
        "list": bad.tolist(),
    }[kind]
    with pytest.raises(ValueError, match="inf") as caught:
        model.fit(given)
    if model is ESTIMATORS["mixed"] and kind in ("pandas", "polars"):
        # The kind of column is looked at first, and the negative value.
        assert "column 'visits' has -inf. Correct it" in str(caught.value)
    else:
        assert f"olumns {names[0]}, {names[1]} have" in str(caught.value)


def test_infinities_of_sparse_data():
    bad = X.copy()
    bad[3, 1] = np.inf
    with pytest.raises(ValueError, match=r"infinity.* Column 1 has such values"):
        GaussianAutoencoder().fit(sp.csr_array(bad))


@pytest.mark.parametrize("likelihood", ["gaussian", "mixed"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_column_whose_squares_overflow(likelihood, method):
    frame = FRAME.copy()
    frame.loc[2, "income"] = 1e200
    model = VariationalAutoencoder(likelihood=likelihood)
    with pytest.raises(ValueError, match="squares overflow float64 in 'income': correct"):
        getattr(model, method)(frame)


def test_the_column_of_a_later_block():
    bad = FRAME.copy()
    bad.loc[2, "income"] = 1e200
    model = VariationalAutoencoder().partial_fit(FRAME)
    with pytest.raises(ValueError, match="overflow float64 in 'income'"):
        model.partial_fit(bad)


@pytest.mark.parametrize("likelihood", ["gaussian", "mixed"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-999, r"'visits' \(-999 in 4 rows, the others from -?[\d.]+ to [\d.]+\)"),
        (1e9, r"'visits' \(1e\+09 in row 3, and 3 more rows; [\d.e+]+ deviations\)"),
    ],
)
def test_codes_for_what_is_missing(likelihood, value, text):
    frame = FRAME.copy()
    frame.loc[[3, 9, 20, 21], "visits"] = value
    model = VariationalAutoencoder(
        2, max_iter=2, likelihood=likelihood, covariance_type="diag"
    )
    with pytest.warns(UserWarning, match=text) as found:
        model.fit(frame)
    assert sum("to NaN" in str(w.message) for w in found) == 1
    with pytest.warns(UserWarning, match=text):
        clone(model).partial_fit(frame)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_codes_that_are_not_finite(fitted, value, word):
    """Missing codes are no missing values of the data."""
    Z = fitted.transform(X)
    Z[[3, 7], 1] = value
    message = f"contains {word}, in 2 of 40 rows, first in row 3, column 1"
    with pytest.raises(ValueError, match=re.escape(message)):
        fitted.inverse_transform(Z)


def test_generators_of_numpy(fitted):
    """scikit-learn has none; the message says what to pass."""
    generator = np.random.default_rng(0)
    with_hole = np.where(X > 2, np.nan, X)
    for call in (
        lambda: fitted.sample(2, random_state=generator),
        lambda: fitted.impute(with_hole, random_state=generator),
        lambda: VariationalAutoencoder(random_state=generator).fit(X),
    ):
        with pytest.raises(ValueError, match=r"random_state.* Pass an int"):
            call()


def test_the_name_of_a_weight_decay():
    with pytest.raises(TypeError, match="Its name here is 'alpha'"):
        VariationalAutoencoder(weight_decay=1.0)


@pytest.mark.filterwarnings("ignore:No component of the code")
@pytest.mark.parametrize(
    ("rows", "reason"),
    [(X[:1], "there is one row"), (X[[0, 0]], "all rows are equal")],
)
def test_the_floor_of_a_single_row(rows, reason):
    """No column is to be dropped."""
    with pytest.warns(ConvergenceWarning, match=f"floor .*{reason}.* fit more") as caught:
        GaussianAutoencoder(1, max_iter=2).fit(rows)
    assert not any("drop" in str(w.message) for w in caught)


def test_the_floor_counts_features_with_a_scale():
    """One-hot columns have none."""
    frame = FRAME.assign(
        city=np.resize(["a", "b", "c", "d"], len(X)), flag=np.resize([True, False], len(X))
    )
    model = VariationalAutoencoder(
        1, max_iter=2, likelihood="mixed", min_scale=100.0, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="of 3 of the 3 features that have a scale"):
        model.fit(frame)
    with pytest.warns(ConvergenceWarning, match="of the only feature that has one is at"):
        clone(model).fit(frame[["city", frame.columns[0]]])


def test_many_columns_of_one_name_are_cut_off():
    frame = pd.DataFrame(np.zeros((3, 14)), columns=[*"abcdefg"] * 2)
    with pytest.raises(ValueError, match=r"'e' \(2 times\) and 2 more\. Rename"):
        GaussianAutoencoder(1).fit(frame)
