"""Tests with samples that repeat: few different rows, and weights that count copies."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from tests.helpers import ESTIMATORS, every_estimator, ignore_floor

# The resolution of a 0/1 column over the square root of 12, which "auto" would be.
MIN_SCALE = 0.2887


def flags():
    """Make 2,000 rows of two one-hot columns: 24 different rows."""
    rng = np.random.default_rng(0)
    return np.hstack([np.eye(k)[rng.integers(0, k, 2000)] for k in (4, 6)])


def copies_and_new_rows():
    """Make 2,000 rows on a curve, three quarters of which are copies of 20 rows."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 1))
    X = np.hstack([z, z**2, np.sin(2 * z)]) + 0.2 * rng.normal(size=(2000, 3))
    X[500:] = X[rng.integers(0, 20, 1500)]
    return X


TIES = pytest.mark.parametrize("make", [flags, copies_and_new_rows])


def jittered(X):
    return X + 1e-9 * np.random.default_rng(1).normal(size=X.shape)


@ignore_floor
@TIES
@pytest.mark.parametrize(
    ("estimator", "early_stopping"),
    [*((estimator, False) for estimator in ESTIMATORS), (VariationalAutoencoder, True)],
)
def test_ties_score_like_their_jittered_copy(make, estimator, early_stopping):
    X = make()
    model = estimator(
        early_stopping=early_stopping, min_scale=MIN_SCALE, max_iter=60, random_state=0
    )
    model.set_params(learning_rate_init=2e-3, alpha=1.0)
    tied = model.fit(X).score(X)
    curve = model.loss_curve_
    assert tied == pytest.approx(model.fit(jittered(X)).score(X), abs=0.5)
    assert len(curve) == model.n_iter_
    # Better than the start, which a training with few steps does not leave.
    if not early_stopping and estimator is VariationalAutoencoder:
        assert tied > PCA(2).fit(X).score(X) + 0.5


@ignore_floor
@TIES
@pytest.mark.parametrize("likelihood", ["laplace", "logistic"])
def test_ties_score_like_their_jittered_copy_for_each_likelihood(make, likelihood):
    X = make()
    model = VariationalAutoencoder(
        likelihood=likelihood,
        variance_mode="learned",
        min_scale=MIN_SCALE,
        max_iter=20,
        random_state=0,
    )
    tied = model.fit(X).score(X)
    assert tied == pytest.approx(model.fit(jittered(X)).score(X), abs=0.5)


@every_estimator
def test_alpha_is_relative_to_the_sum_of_the_weights(estimator):
    """Half the sample size and half of alpha are the same penalty."""
    X = np.random.default_rng(0).normal(size=(100, 4)) ** 2
    scores = [
        estimator(alpha=alpha, max_iter=20, random_state=0)
        .fit(X, sample_weight=np.full(100, weight))
        .score(X)
        for alpha, weight in ((8.0, 1.0), (4.0, 0.5), (4.0, 1.0))
    ]
    assert scores[0] == scores[1] != scores[2]


@every_estimator
@pytest.mark.parametrize("weight", [1e-300, 1e300])
def test_extreme_sample_sizes_are_finite(estimator, weight):
    """A tiny sample size is a fit at its prior, and a huge one a fit without a penalty."""
    X = np.random.default_rng(0).normal(size=(30, 4)) ** 2
    model = estimator(max_iter=2, random_state=0).fit(X, sample_weight=np.full(30, weight))
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.score(X))


@ignore_floor
@every_estimator
def test_order_of_weighted_ties_is_of_no_account(estimator):
    rng = np.random.default_rng(0)
    X, weight = flags()[:300], rng.uniform(0.1, 3, 300)
    order = rng.permutation(300)
    model = estimator(max_iter=3, random_state=0)
    score = model.fit(X, sample_weight=weight).score(X)
    assert model.fit(X[order], sample_weight=weight[order]).score(X) == score


@ignore_floor
def test_ties_side_by_side_equal_ties_alone():
    X = flags()[:600]
    grid = {"beta": [0.5, 2.0], "learning_rate_init": [1e-3, 5e-3]}
    model = VariationalAutoencoder(max_iter=4, random_state=0)
    alone = GridSearchCV(model, grid, cv=3).fit(X).cv_results_["mean_test_score"]
    search = BatchedGridSearchCV(model, grid, cv=3).fit(X)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], alone, rtol=1e-5)
