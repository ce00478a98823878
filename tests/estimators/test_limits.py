"""Tests of the limits that docs/guide/precision.rst states."""

import numpy as np
import pytest

from skae import VariationalAutoencoder
from tests.helpers import assert_same_answers

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(name="table")
def standard_table():
    """Draw 500 rows of six independent columns of spread 1."""
    return np.random.default_rng(0).normal(size=(500, 6))


def score(X, **parameters):
    """Return the score of a model on its training data."""
    parameters = {"max_iter": 10, "random_state": 0} | parameters
    return VariationalAutoencoder(**parameters).fit(X).score(X)


@pytest.mark.parametrize("exponent", [-302, 153])
def test_smallest_and_largest_spread(exponent, table):
    expected = score(table) - 6 * np.log(10) * exponent
    assert score(table * 10.0**exponent) == pytest.approx(expected, abs=0.001)


def test_spread_beyond_the_largest_is_refused(table):
    with pytest.raises(ValueError, match="squares overflow float64 in columns 0, 1"):
        score(table * 1e155)


def test_table_of_spreads_below_the_smallest_is_refused(table):
    with pytest.raises(ValueError, match="underflow float64; rescale it"):
        score(table * 1e-304)


@pytest.mark.parametrize(
    ("dtype", "offset", "tolerance"),
    [
        (np.float32, 1e4, 0.001),
        (np.float32, 1e6, 0.02),
        (np.float64, 1e12, 0.001),
        (np.float64, 1e14, 0.01),
    ],
)
def test_offset_of_columns(dtype, offset, tolerance, table):
    """The score is that without an offset, up to the rounding of the table."""
    moved = (table + offset).astype(dtype)
    assert score(moved) == pytest.approx(score(table), abs=tolerance)


@pytest.mark.parametrize(
    ("ratio", "parameters", "tolerance"),
    [
        (1e6, {}, 0.001),
        (1e7, {"precision": "float64", "min_scale": 1e-3}, 0.001),
        (1e8, {"precision": "float64", "min_scale": 1e-3}, 0.05),
    ],
)
def test_ratio_of_spreads_under_one_scale(ratio, parameters, tolerance, table):
    """A linear model has the score of exact probabilistic PCA, by a decomposition of X."""
    X = table * [ratio, 1, 1, 1, 1, 1]
    variances = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2 / len(X)
    noise = variances[2:].mean()
    log_det = np.log(variances[:2]).sum() + 4 * np.log(noise)
    exact = -0.5 * (6 * np.log(2 * np.pi) + log_det + 6)
    actual = score(X, hidden_layer_sizes=(), max_iter=1, **parameters)
    assert actual == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize(("ratio", "tolerance"), [(1e-2, 1e-3), (1e-4, 0.03), (1e-6, 1.0)])
def test_float32_scores_of_small_residuals(ratio, tolerance, table):
    """The error of a row grows with the ratio of spread to residual, as documented."""
    X = np.outer(table[:, 0], np.ones(6)) + ratio * table
    model = VariationalAutoencoder(
        1, hidden_layer_sizes=(), precision="float64", max_iter=10, random_state=0
    ).fit(X)
    single = X.astype(np.float32)
    expected = model.score_samples(single.astype(np.float64))
    assert abs(model.score_samples(single) - expected).max() < tolerance


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_auto_is_float32(dtype, table):
    X = table.astype(dtype)
    auto, single = (
        VariationalAutoencoder(precision=precision, max_iter=2, random_state=0).fit(X)
        for precision in ("auto", "float32")
    )
    assert_same_answers(auto, single, X)
