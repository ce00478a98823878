"""Columns of a mixed table that have little to learn: constant, equal, later varying."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from skae import VariationalAutoencoder
from skae.likelihoods import Mixed


def vae(likelihood="mixed", **parameters):
    """Return a small model."""
    parameters = {"max_iter": 5, "random_state": 0, "likelihood": likelihood} | parameters
    return VariationalAutoencoder(2, **parameters)


def amounts(n=600):
    """Draw a table with numbers, a flag and a category that depend on one number."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=n)
    return pd.DataFrame(
        {
            "height": 170 + 10 * z + 4 * rng.normal(size=n),
            "income": 1000 * np.exp(0.5 * z + 0.2 * rng.normal(size=n)),
            "smokes": rng.uniform(size=n) < 1 / (1 + np.exp(-2 * z)),
            "city": rng.choice(["Rome", "Oslo", "Bonn", "Nice"], size=n),
        }
    )


def score_of(model, X, names):
    """Return the mean score of some columns, less the KL."""
    parts, kl = model.score_features(X, return_kl=True)
    return float(parts[names].sum(axis=1).mean() - kl.mean())


FLOOR = pytest.mark.filterwarnings("ignore:The scales? of .* floor")


@FLOOR
@pytest.mark.parametrize(("init", "with_holes"), [("pca", True), ("random", False)])
def test_a_constant_column_costs_nothing(init, with_holes):
    """The other columns are learned as well beside a constant as without it."""
    X = amounts()
    if with_holes:
        X.loc[::6, "income"] = np.nan
        X.loc[1::6, "city"] = None
    constant = X.assign(always=0.1)
    model = {"max_iter": 60, "init": init, "hidden_layer_sizes": (16,)}
    alone = vae(**model).fit(X)
    beside = vae(**model).fit(constant)
    assert beside.best_iter_ > 5
    own = score_of(alone, X, X.columns)
    assert score_of(beside, constant, X.columns) == pytest.approx(own, abs=0.1)
    assert (beside.reconstruct(constant)["always"] == 0.1).all()


@FLOOR
@pytest.mark.parametrize("likelihood", ["gaussian", "laplace", "logistic", "student_t"])
def test_a_constant_that_was_computed_costs_nothing(likelihood):
    """Rounding errors of a column are not learned, by any likelihood."""
    numbers = amounts()[["height", "income"]].to_numpy()
    jitter = np.where(np.arange(len(numbers)) % 2, 0.3, 0.1 + 0.2)
    X = np.c_[numbers, jitter]
    parameters = {"likelihood": likelihood, "covariance_type": "diag", "max_iter": 30}
    alone = vae(**parameters).fit(numbers)
    beside = vae(**parameters).fit(X)
    parts, kl = beside.score_features(X, return_kl=True)
    mean = float(parts[:, :2].sum(axis=1).mean() - kl.mean())
    assert mean == pytest.approx(alone.score(numbers), abs=0.05)
    assert (beside.module_.loc_gain == 0).tolist() == [False, False, True]


@pytest.mark.parametrize("with_holes", [False, True])
def test_equal_columns_do_not_stop_the_training(with_holes):
    """Training beside a copy of a column improves on its start, and the copy is named."""
    X = amounts()
    X["copy"] = X["income"]
    if with_holes:
        X.loc[::6, "height"] = np.nan
        X.loc[1::2, ["income", "copy"]] = np.nan
    model = vae(max_iter=40)
    with pytest.warns(ConvergenceWarning, match=r"'income', 'copy' \(equal but for unit"):
        model.fit(X)
    assert model.best_iter_ > 5
    # The network may explain no more of them than the start leaves, also where the start
    # is that of some rows.
    gain = dict(
        zip(model._table.feature_names(X.columns), model.module_.loc_gain, strict=True)
    )
    assert gain["height"] > 0.1
    assert max(gain["income"], gain["copy"]) < 0.01


@FLOOR
def test_a_constant_column_may_vary_later():
    """A warm start and a stream learn a column that was constant at first."""
    X = amounts().drop(columns="city")
    X["income"] /= 60
    first = X.assign(income=10.0)
    warm = vae(max_iter=20, warm_start=True).fit(first)
    stream = vae(hidden_layer_sizes=(8,))
    for i in range(0, 600, 300):
        stream.partial_fit(first[i : i + 300])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warm.fit(X)
        for _ in range(30):
            stream.partial_fit(X)
    for model in (warm, stream):
        error = np.mean(np.square(model.reconstruct(X)["income"] - X["income"]))
        assert error < 0.7 * X["income"].var()


def test_a_category_without_rows_has_the_share_of_half_a_row():
    """A longer training does not move its log-probability without limit."""
    X = amounts()[["height", "city"]]
    X["city"] = pd.Categorical(X["city"], ["Rome", "Oslo", "Bonn", "Nice", "Moon"])
    X["never"] = pd.Categorical(["no"] * len(X), ["no", "yes"])
    absent = X[:5].copy()
    absent[["city", "never"]] = ["Moon", "yes"]
    shares = np.log(0.5 / (len(X) + 0.5 * np.array([5, 2])))
    for max_iter in (10, 100):
        parts = vae(max_iter=max_iter).fit(X).score_features(absent)
        # The predictors of the other categories vary with the code.
        np.testing.assert_allclose(parts["city"], shares[0], atol=0.5)
        np.testing.assert_allclose(parts["never"], shares[1], rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "negative_binomial"])
def test_a_number_that_no_row_has_is_not_impossible(likelihood):
    rng = np.random.default_rng(0)
    X = np.column_stack([np.zeros(300), rng.random((300, 3)) < 0.4]).astype(np.float64)
    changed = X[:5] + np.array([1.0, 0.0, 0.0, 0.0])
    parts = [
        VariationalAutoencoder(1, likelihood=likelihood, max_iter=n, random_state=0)
        .fit(X)
        .score_features(changed)[:, 0]
        for n in (10, 60)
    ]
    np.testing.assert_allclose(parts, np.log(0.5 / 300), atol=0.01)


@pytest.mark.parametrize("likelihood", ["categorical", "poisson"])
def test_a_stream_learns_values_that_its_first_block_lacks(likelihood):
    """They begin at the share of half a row, and do not overshoot."""
    rng = np.random.default_rng(0)
    model = vae(Mixed([("late", likelihood), ("height", "gaussian")]))
    for i in range(13):
        late = rng.integers(0, 2, 400) * (i > 0)
        if likelihood == "categorical":
            late = pd.Categorical(late, [0, 1])
        block = pd.DataFrame({"late": late, "height": rng.normal(size=400)})
        model.partial_fit(block)
    entropy = np.log(2) if likelihood == "categorical" else 0.85
    assert model.score_features(block)["late"].mean() > -entropy - 0.1
