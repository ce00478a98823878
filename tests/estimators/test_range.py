"""Tests with numbers beyond the range of the arithmetic, which a campaign found."""

import numpy as np
import pytest

from benchmarks.campaign.models import Dropout
from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from tests.helpers import (
    assert_finite,
    assert_same_answers,
    every_estimator,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@every_estimator
@pytest.mark.filterwarnings("ignore:X has values that are hundreds of deviations")
def test_float32_reconstructions_are_clipped(estimator, X):
    """A location beyond float32 becomes the largest number of float32, without a warning.

    The rows are fill values of a table that was stored as float32.
    """
    X = np.where(X > 4, float(np.finfo(np.float32).max), X)
    model = estimator(max_iter=1, random_state=0).fit(X)
    codes = 10 * model.transform(X)
    largest = np.finfo(np.float32).max
    single = model.inverse_transform(codes.astype(np.float32))
    precise = np.clip(model.inverse_transform(codes), -largest, largest)
    assert (abs(single) == largest).any()
    np.testing.assert_allclose(single, precise, rtol=1e-4, atol=1e32)
    assert np.isfinite(model.reconstruct(X.astype(np.float32))).all()


@every_estimator
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_denormal_columns_count_as_constant(estimator, covariance_type, X):
    """Columns of numbers below 2e-308 give the fit of zeros in their place."""
    model = estimator(covariance_type=covariance_type, max_iter=2, random_state=0)
    model.set_params(learning_rate_init=5e-3)
    columns = X.copy()
    columns[:, 4:] *= 1e-310  # the first columns give the order of the rows
    zeros = X.copy()
    zeros[:, 4:] = 0
    score = model.fit(columns).score(columns)
    expected = model.fit(zeros).score(zeros)
    assert score == pytest.approx(expected, abs=0.05)


@every_estimator
@pytest.mark.parametrize("factor", [1e-310, 1e-304])
def test_table_of_denormal_numbers_is_refused(estimator, factor, X):
    with pytest.raises(ValueError, match="differences below 1e-303, which underflow"):
        estimator(max_iter=2, random_state=0).fit(factor * X)


@every_estimator
@pytest.mark.parametrize("variance_mode", ["optimal", "learned", "predicted"])
@pytest.mark.parametrize("ratio", [1e-100, 1e-170, 1e-320])
def test_columns_far_below_one_scale(estimator, variance_mode, ratio, X):
    """A column that is negligible under one scale is reconstructed to within its spread."""
    X = X * 1e20
    X[:, 0] *= ratio
    model = estimator(variance_mode=variance_mode, max_iter=2, random_state=0).fit(X)
    assert_finite(model, X)
    spread = max(X[:, 0].std(), 1e-300)
    assert abs(model.reconstruct(X)[:, 0] - X[:, 0].mean()).max() < 20 * spread


@every_estimator
def test_sum_of_the_weights_of_equal_rows_overflows(estimator, X):
    """The sum is infinite, so that the penalty has no influence."""
    X = np.repeat(X[:8], 10, axis=0)
    weight = np.full(len(X), 1e308)
    model = estimator(max_iter=1, random_state=0).fit(X, sample_weight=weight)
    twin = estimator(max_iter=1, random_state=0, alpha=0.0)
    assert_same_answers(model, twin.fit(X, sample_weight=1e-8 * weight), X)


def test_nearly_all_weight_on_one_row():
    """That row is the mean, and half of the others are infinitely many spreads away.

    The start of a Laplace model reduces the weight of rows beyond the median distance.
    """
    X = np.random.default_rng(0).integers(738_000, 740_000, size=(66, 1)) * 86_400e9
    weight = np.where(np.arange(len(X)) == 0, 1e15, 1.0)
    model = LaplaceAutoencoder(max_iter=1, random_state=0).fit(X, sample_weight=weight)
    assert_finite(model, X)


def test_gradient_balance_with_weights_below_float32(X):
    """Rows of negligible weight do not count in the norms."""
    weight = np.where(np.arange(len(X)) < 60, 1.0, 1e-200)
    model = VariationalAutoencoder(gradient_balance=True, max_iter=2, random_state=0)
    model.fit(X, sample_weight=weight)
    for of in ("outputs", "parameters"):
        assert (model.history_[f"grad_reconstruction_{of}"] > 0).all()
        assert np.isfinite(model.history_[f"grad_kl_{of}"]).all()


@every_estimator
def test_distant_rows_of_tiny_weight_are_refused(estimator, X):
    """They would overflow float32; a weight of 0 removes them."""
    weight = np.ones(len(X))
    weight[0], X[0, 2] = 1e-60, 1e25
    model = estimator(max_iter=1, random_state=0)
    with pytest.raises(ValueError, match=r"column 2 that is .*Set its weight to 0"):
        model.fit(X, sample_weight=weight)
    weight[0] = 0
    assert_same_answers(
        model.fit(X, sample_weight=weight),
        estimator(max_iter=1, random_state=0).fit(X[1:]),
        X,
    )


@every_estimator
@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [(np.float32, [1e5, 1e20, 1e30, 3e38]), (np.float64, [1e5, 1e100, 1e160, 1e307])],
)
def test_codes_of_distant_rows_are_finite(estimator, dtype, sizes, X):
    """Codes and reconstructions are finite, and for float32 those of float64, clipped."""
    X = 1e-5 * X
    model = estimator(max_iter=2, random_state=0).fit(X)
    rows = np.outer(sizes, [1, -1, 0.5, 0.1, 1, -1]).astype(dtype)
    codes, locations = model.transform(rows), model.reconstruct(rows)
    assert codes.dtype == locations.dtype == dtype
    largest = float(np.finfo(dtype).max)
    for found, method in [(codes, model.transform), (locations, model.reconstruct)]:
        assert np.isfinite(found).all()
        expected = np.clip(method(rows.astype(np.float64)), -largest, largest)
        np.testing.assert_allclose(
            found, expected, rtol=1e-3, atol=1e-3 * abs(expected).max()
        )
    assert np.isfinite(model.inverse_transform(codes)).all()
    assert np.isfinite(model.inverse_transform(rows[:, :2])).all()
    scores = model.score_samples(rows)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) <= 0).all()
    if estimator is VariationalAutoencoder:
        mean, std = model.posterior(rows)
        np.testing.assert_array_equal(mean, codes)
        assert np.isfinite(std).all()
        assert np.isfinite(model.log_marginal(rows, n_samples=8)).all()


def test_posterior_of_distant_rows_is_clipped(X):
    """A deviation that grows with the row is finite beyond the range of float32."""
    model = VariationalAutoencoder(max_iter=1, random_state=0).fit(1e-5 * X)
    model.module_.linear_encoder.weight[2:] = 1.0
    row = np.full((1, 6), 1e38, dtype=np.float32)
    std = model.posterior(row)[1]
    assert std.dtype == np.float32
    assert (std > 1e37).all()
    assert np.isfinite(std).all()
    assert (model.posterior(row.astype(np.float64))[1] > 1e40).all()


def test_no_warning_for_rows_whose_sum_overflows(X):
    """The check for NaN sums the numbers of both signs, in float32."""
    model = GaussianAutoencoder(max_iter=1, random_state=0).fit(X)
    rows = np.tile(np.float32([3e38, 3e38, 3e38, -3e38, -3e38, -3e38]), (50, 1))
    assert np.isfinite(model.transform(np.asfortranarray(rows))).all()
    codes = np.repeat(np.float32([[3e38, -3e38]]), 50, axis=0)
    assert np.isfinite(model.inverse_transform(np.asfortranarray(codes))).all()


def test_mean_of_the_smallest_scores(X):
    """Rounding does not move the mean of the smallest numbers beyond the range."""
    model = GaussianAutoencoder(max_iter=1, random_state=0).fit(X)
    for n in (3, 11, 20):
        rows = np.full((n, 6), 1e307)
        smallest = np.finfo(np.float64).min
        assert model.score_samples(rows).tolist() == n * [smallest]
        assert model.score(rows) == pytest.approx(smallest)


@pytest.mark.parametrize("variance_mode", ["learned", "optimal"])
def test_start_without_any_weighted_variance(variance_mode):
    """Of three rows, one has all the weight: the linear path of the start is zero."""
    X = 30 * np.random.default_rng(0).normal(size=(3, 150))
    model = VariationalAutoencoder(
        n_components=9,
        beta=0.0,
        variance_mode=variance_mode,
        covariance_type="diag",
        network=Dropout(),
        max_iter=1,
        random_state=0,
    )
    model.fit(X, sample_weight=[1e-202, 1e-153, 1e-280])
    assert_finite(model, X)


@pytest.mark.filterwarnings("ignore:warm_start=True keeps the standardisation:UserWarning")
def test_gradient_balance_beyond_float32():
    """A warm start far from the data has norms of at most the largest number."""
    X = np.eye(3)[np.arange(18) % 3]
    model = VariationalAutoencoder(
        n_components=5,
        variance_mode="predicted",
        min_scale=5e-7,
        init="random",
        hidden_layer_sizes=(),
        gradient_balance=True,
        learning_rate_init=2e-4,
        max_iter=10,
        warm_start=True,
        random_state=0,
    )
    model.fit(X).fit(1e12 * X)
    for of in ("outputs", "parameters"):
        assert np.isfinite(model.history_[f"grad_reconstruction_{of}"]).all()
