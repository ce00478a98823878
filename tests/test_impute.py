"""The imputer among scikit-learn's, by its conventions."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (an import that enables)
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.impute import AutoencoderImputer
from skae.recipes import make_imputation_estimator

pytestmark = [
    pytest.mark.filterwarnings("ignore:The scales? of .* floor min_scale"),
    pytest.mark.filterwarnings("ignore:Columns without any observed value are left out"),
    pytest.mark.filterwarnings("ignore:Skipping features without any observed values"),
]
QUICK = VariationalAutoencoder(1, max_iter=3, random_state=0)


def table(n=120, seed=0):
    """Draw rows near a line in four features, and the same with holes in three of them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 1)) * [1, -2, 0.5, 3] + 0.1 * rng.normal(size=(n, 4)) + 5
    mask = rng.random(X.shape) < 0.3
    mask[:, 3] = False
    return X, np.where(mask, np.nan, X)


@parametrize_with_checks([AutoencoderImputer(QUICK, random_state=0)])
def test_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "estimator",
    [None, GaussianAutoencoder(1), LaplaceAutoencoder(1), VariationalAutoencoder(1)],
    ids=lambda e: type(e).__name__,
)
def test_fills_holes_better_than_the_mean(estimator):
    X, holes = table()
    mask = np.isnan(holes)
    imputer = AutoencoderImputer(estimator, random_state=0)
    filled = imputer.fit_transform(holes)
    assert_array_equal(filled[~mask], holes[~mask])
    errors = [
        np.square(F - X)[mask].mean()
        for F in (filled, SimpleImputer().fit_transform(holes))
    ]
    assert errors[0] < 0.1 * errors[1]
    # New rows, with holes in a column that had none.
    new = table(seed=1)[0][:5]
    new[:, 3] = np.nan
    assert_allclose(imputer.transform(new), table(seed=1)[0][:5], atol=1.0)
    assert_array_equal(imputer.transform(holes), filled)
    assert_array_equal(pickle.loads(pickle.dumps(imputer)).transform(holes), filled)


def test_default_is_the_recipe():
    imputer = AutoencoderImputer(random_state=3).fit(table()[1])
    expected = make_imputation_estimator(random_state=3)
    assert str(imputer.estimator_) == str(expected)


@pytest.mark.parametrize("keep_empty_features", [False, True])
@pytest.mark.parametrize("add_indicator", [False, True])
def test_columns_are_those_of_scikit_learns_imputers(keep_empty_features, add_indicator):
    frame = pd.DataFrame(table()[1], columns=list("abcd"))
    frame["empty"] = np.nan
    options = {
        "keep_empty_features": keep_empty_features,
        "add_indicator": add_indicator,
    }
    ours = AutoencoderImputer(QUICK, **options).set_output(transform="pandas")
    theirs = SimpleImputer(**options).set_output(transform="pandas")
    found, expected = ours.fit_transform(frame), theirs.fit_transform(frame)
    assert list(found.columns) == list(expected.columns)
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())
    observed = frame.notna()["a"]
    assert_array_equal(found["a"][observed], expected["a"][observed])
    if keep_empty_features:
        assert (found["empty"] == 0).all()
    if add_indicator:
        indicators = [c for c in found.columns if c.startswith("missingindicator")]
        assert_array_equal(found[indicators], expected[indicators])
        back = ours.inverse_transform(found.to_numpy(dtype=float))
        assert_array_equal(back, frame.to_numpy())
        with pytest.raises(ValueError, match="X has 2 columns, but transform returns"):
            ours.inverse_transform(found.iloc[:, :2].to_numpy(dtype=float))
    else:
        assert not hasattr(ours, "inverse_transform")


def test_sentinels_and_kinds_of_missing_values():
    holes = table()[1]
    expected = AutoencoderImputer(QUICK).fit_transform(holes)
    sentinel = np.where(np.isnan(holes), -1, holes)
    found = AutoencoderImputer(QUICK, missing_values=-1).fit_transform(sentinel)
    assert_array_equal(found, expected)
    for given in (
        np.ma.masked_invalid(holes),
        pd.DataFrame(holes).convert_dtypes(),
        pl.DataFrame(holes).fill_nan(None),
    ):
        assert_array_equal(AutoencoderImputer(QUICK).fit_transform(given), expected)
    frame = pd.DataFrame(holes).convert_dtypes()
    found = AutoencoderImputer(QUICK, missing_values=pd.NA).fit_transform(frame)
    assert_array_equal(found, expected)
    # With a sentinel, NaN is an error, as in scikit-learn.
    with pytest.raises(ValueError, match="missing_values=-1 only this"):
        AutoencoderImputer(QUICK, missing_values=-1).fit(holes)
    # Without one, a number is not guessed to be missing.
    with pytest.warns(UserWarning, match="many rows have one number"):
        assert (AutoencoderImputer(QUICK).fit_transform(sentinel) == sentinel).all()


def test_draws_differ_and_follow_the_random_state():
    X, holes = table()
    imputer = AutoencoderImputer(QUICK, sample_posterior=True, clip=False).fit(holes)
    one, two = imputer.transform(holes), imputer.transform(holes)
    mask = np.isnan(holes)
    assert (one[mask] != two[mask]).all()
    assert_array_equal(one[~mask], holes[~mask])
    imputer.set_params(random_state=0)
    assert_array_equal(imputer.transform(holes), imputer.transform(holes))
    means = clone(imputer).set_params(sample_posterior=False).fit_transform(holes)
    errors = [np.square(F - X)[mask].mean() for F in (one, means)]
    assert errors[0] > 1.3 * errors[1]
    medians = imputer.set_params(sample_posterior=False, statistic="median")
    assert_allclose(medians.transform(holes), means, atol=1.0)


def test_takes_the_place_of_other_imputers():
    X, holes = table()
    y = X.sum(axis=1)
    for imputer in (IterativeImputer(tol=0.1), KNNImputer(), AutoencoderImputer(QUICK)):
        columns = ColumnTransformer([("all", imputer, [0, 1, 2])], remainder="passthrough")
        model = Pipeline([("imputer", columns), ("regression", LinearRegression())])
        assert model.fit(holes, y).score(holes, y) > 0.9
    pipeline = Pipeline(
        [("imputer", AutoencoderImputer(QUICK)), ("regression", LinearRegression())]
    )
    search = GridSearchCV(pipeline, {"imputer__estimator__beta": [0.5, 2.0]}, cv=2)
    assert search.fit(holes, y).best_score_ > 0.8


def test_bad_input_is_refused():
    holes = table()[1]
    with pytest.raises(ValueError, match="X has no values"):
        AutoencoderImputer(QUICK).fit(np.full((5, 3), np.nan))
    with pytest.raises(ValueError, match="infinity"):
        AutoencoderImputer(QUICK).fit(np.where(np.isnan(holes), np.inf, holes))
    bad = {"statistic": "mode", "n_draws": 0, "estimator": 3, "missing_values": "?"}
    for name, value in bad.items():
        with pytest.raises(ValueError, match=f"The '{name}' parameter"):
            AutoencoderImputer(QUICK).set_params(**{name: value}).fit(holes)


def test_messages_name_the_columns():
    frame = pd.DataFrame(table()[1], columns=list("abcd"))
    frame["large"] = 1e5 * frame["d"]
    for given in (frame, pl.DataFrame(frame.to_dict("list"))):
        with pytest.warns(ConvergenceWarning) as caught:
            AutoencoderImputer(QUICK).fit(given)
        assert any("largest: 'large'" in str(w.message) for w in caught)


def test_columns_that_are_left_out_are_named():
    frame = pd.DataFrame(table()[1], columns=list("abcd"))
    frame["empty"] = np.nan
    with pytest.warns(UserWarning, match=r"left out: 'empty'. .*keep_empty_features"):
        AutoencoderImputer(QUICK).fit(frame)
    with pytest.warns(UserWarning, match="left out: column 4"):
        AutoencoderImputer(QUICK).fit(frame.to_numpy())


def test_clip_keeps_the_range_of_each_column():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1)) * np.ones(3) + 0.01 * rng.normal(size=(200, 3))
    X[::2, 1] = np.nan
    new = np.array([[30.0, np.nan, 30.0]])
    free = AutoencoderImputer(QUICK, clip=False).fit(X)
    assert free.transform(new)[0, 1] > 5
    clipped = AutoencoderImputer(QUICK).fit(X)
    assert clipped.transform(new)[0, 1] == np.nanmax(X[:, 1])
    # What is observed stays.
    assert_array_equal(clipped.transform(new)[0, [0, 2]], 30.0)


def test_random_state_goes_to_an_estimator_without_one(X):
    """As if the estimator had it, so that two fits are equal."""
    holes = np.where(np.arange(X.size).reshape(X.shape) % 7 == 0, np.nan, X)

    def filled(estimator_seed, seed):
        model = VariationalAutoencoder(
            1, init="random", max_iter=2, random_state=estimator_seed
        )
        return AutoencoderImputer(model, random_state=seed).fit_transform(holes)

    np.testing.assert_array_equal(filled(None, 0), filled(0, 0))
    assert not np.array_equal(filled(None, 0), filled(3, 0))


def test_a_string_is_no_estimator(X):
    with pytest.raises(ValueError, match=r"make_imputation_estimator\(likelihood='mixed'"):
        AutoencoderImputer("mixed").fit(X)
