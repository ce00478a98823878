"""Tests with numbers at the limits of float32 and float64."""

import numpy as np
import pytest

from skae import VariationalAutoencoder
from tests.helpers import assert_same_answers, every_estimator, ignore_floor, ignore_spread


@ignore_floor
@pytest.mark.parametrize("offset", [1e4, 101325.0, 1e6])
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_float32_scores_equal_those_of_the_same_numbers(offset, covariance_type):
    """An air pressure of 101,325 +- 0.15 beside two columns that depend on it."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2000, 3)) * [0.15, 0.01, 0.01]
    X = noise + noise[:, :1] * [0.0, 2.0, -1.0]
    X[:, 0] += offset
    X = X.astype(np.float32)
    model = VariationalAutoencoder(
        1, covariance_type=covariance_type, max_iter=10, random_state=0
    )
    single = model.fit(X).score(X)
    double = model.fit(X.astype(np.float64)).score(X.astype(np.float64))
    assert single == pytest.approx(double, abs=0.02)


@every_estimator
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@pytest.mark.parametrize("factor", [1e-300, 1e-165, 1e-150, 1e150])
def test_scores_are_equivariant(estimator, covariance_type, factor, X):
    model = estimator(covariance_type=covariance_type, max_iter=2, random_state=0)
    expected = model.fit(X).score(X) - X.shape[1] * np.log(factor)
    assert model.fit(factor * X).score(factor * X) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("largest", [1e307, 1e308])
def test_huge_sample_weights(largest, X):
    """Weights whose sum overflows give the fit of weights a million times smaller."""
    weight = np.linspace(0.5, 1, len(X))
    model = VariationalAutoencoder(max_iter=2, alpha=0.0, random_state=0)
    moderate = model.fit(X, sample_weight=1e200 * weight)
    expected = moderate.score(X, sample_weight=weight)
    model = VariationalAutoencoder(max_iter=2, alpha=0.0, random_state=0)
    model.fit(X, sample_weight=largest * weight)
    score = model.score(X, sample_weight=largest * weight)
    assert score == pytest.approx(expected, abs=0.01)


@every_estimator
def test_float32_fill_values_are_ranked(estimator, X):
    """Scores of rows with a fill value are finite, and fall with its size."""
    model = estimator(max_iter=2, random_state=0).fit(X)
    rows = np.repeat(X[:1].astype(np.float32), 5, axis=0)
    rows[:, 0] = [1e3, 1e10, 1e18, 5e18, 1e19]
    scores = model.score_samples(rows)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (np.diff(scores) < 0).all()
    precise = model.score_samples(rows.astype(np.float64))
    largest = float(np.finfo(np.float32).max)
    np.testing.assert_allclose(scores, np.maximum(precise, -largest), rtol=1e-5)
    rows[:, 0] = [1e3, 1e10, 1e20, 1e30, 1e37]
    assert np.isfinite(model.score_samples(rows)).all()
    assert np.isfinite(model.score(rows))


@every_estimator
@pytest.mark.parametrize("factor", [1e20, 1e100, 1e300])
def test_warm_start_on_data_out_of_range_keeps_the_earlier_fit(estimator, factor, X):
    model = estimator(max_iter=2, warm_start=True, random_state=0).fit(X)
    twin = estimator(max_iter=2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="warm_start=True keeps the standardisation"):
        model.fit(factor * X)
    assert_same_answers(model, twin, X)


def unequal_spreads():
    """Make 500 rows with a column of spread 1e8 beside five of spread 1."""
    return np.random.default_rng(0).normal(size=(500, 6)) * [1e8, 1, 1, 1, 1, 1]


@ignore_spread
@pytest.mark.parametrize("variance_mode", ["optimal", "learned"])
def test_given_min_scale_holds_in_float64(variance_mode):
    """The score is at least that of exact probabilistic PCA, whose scale is about 1."""
    X = unequal_spreads()
    variances = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2 / len(X)
    noise = variances[2:].mean()
    log_det = np.log(variances[:2]).sum() + 4 * np.log(noise)
    exact = -0.5 * (6 * np.log(2 * np.pi) + log_det + 6)
    model = VariationalAutoencoder(
        variance_mode=variance_mode,
        min_scale=1e-3,
        precision="float64",
        max_iter=2,
        random_state=0,
    ).fit(X)
    assert model.scale_ == pytest.approx(np.sqrt(noise), rel=0.01)
    assert model.score(X) > exact - 0.05


@ignore_spread
@ignore_floor
def test_min_scale_below_float32_names_the_limit():
    X = unequal_spreads()
    model = VariationalAutoencoder(min_scale=1e-3, max_iter=2, random_state=0)
    with pytest.warns(UserWarning, match=r"min_scale=0.001 is below (\d+\.?\d*)") as record:
        model.fit(X)
    message = next(str(w.message) for w in record if "is below" in str(w.message))
    limit = float(message.split("below ")[1].split(",")[0])
    assert model.scale_ >= 0.99 * limit
    assert "precision='float64'" in message
