"""The display of the quantiles of residuals."""

import numpy as np
import pytest
import scipy.stats
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.inspection import ResidualQQDisplay

DENSITIES = {"gaussian": scipy.stats.norm, "laplace": scipy.stats.laplace}


@pytest.mark.parametrize("truth", DENSITIES)
def test_finds_the_density_of_the_residuals(truth):
    residuals = DENSITIES[truth].rvs(scale=3.0, size=(4000, 5), random_state=0)
    display = ResidualQQDisplay.from_residuals(residuals)
    assert max(display.log_density, key=display.log_density.get) == truth
    middle = np.abs(display.theoretical["gaussian"]) < 2.5
    for name in DENSITIES:
        error = np.abs(display.quantiles[name] - display.theoretical[name])[middle].max()
        assert (error < 0.2) == (name == truth)


@pytest.mark.parametrize("name", DENSITIES)
def test_log_density_equals_scipy(name):
    """SciPy finds the maximum-likelihood scale by itself."""
    residuals = np.random.default_rng(0).standard_t(4, size=(300, 2)) * 0.01
    density = DENSITIES[name]
    _, scale = density.fit(residuals.ravel(), floc=0)
    display = ResidualQQDisplay.from_residuals(residuals)
    expected = density.logpdf(residuals, scale=scale).mean()
    assert display.log_density[name] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", DENSITIES)
def test_a_scale_for_each_feature(name):
    units = np.array([1.0, 1e3, 1e-3])
    residuals = DENSITIES[name].rvs(size=(2000, 3), random_state=0) * units
    pooled = ResidualQQDisplay.from_residuals(residuals)
    display = ResidualQQDisplay.from_residuals(residuals, by_feature=True)
    fits = [DENSITIES[name].fit(column, floc=0)[1] for column in residuals.T]
    expected = DENSITIES[name].logpdf(residuals, scale=fits).mean()
    assert display.log_density[name] == pytest.approx(expected, rel=1e-6)
    assert display.log_density[name] > pooled.log_density[name] + 1


def test_quantiles_are_ordered_residuals():
    residuals = np.random.default_rng(0).normal(size=(40, 2))
    display = ResidualQQDisplay.from_residuals(residuals)
    rms = np.sqrt(np.mean(residuals**2))
    assert display.quantiles["gaussian"][0] == pytest.approx(residuals.min() / rms)
    assert display.quantiles["gaussian"][-1] == pytest.approx(residuals.max() / rms)
    mad = np.mean(np.abs(residuals))
    assert display.quantiles["laplace"][-1] == pytest.approx(residuals.max() / mad)
    # The largest of n values corresponds to the probability 1 - 1 / (2 n).
    assert display.theoretical["gaussian"][-1] == pytest.approx(
        scipy.stats.norm.ppf(1 - 1 / 160)
    )
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), display.theoretical[name])
        np.testing.assert_array_equal(line.get_ydata(), display.quantiles[name])


@pytest.mark.parametrize("model", [GaussianAutoencoder, LaplaceAutoencoder])
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_log_density_is_the_score_on_training_data(model, covariance_type, X):
    """A closed-form scale is optimal: d times the mean is the mean score."""
    model = model(2, covariance_type=covariance_type, max_iter=5, random_state=0).fit(X)
    display = ResidualQQDisplay.from_estimator(model, X)
    name = "gaussian" if isinstance(model, GaussianAutoencoder) else "laplace"
    assert 6 * display.log_density[name] == pytest.approx(model.score(X), abs=1e-4)


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_predicted_scale_is_divided_out(covariance_type, X):
    model = GaussianAutoencoder(
        2,
        variance_mode="predicted",
        covariance_type=covariance_type,
        max_iter=30,
        random_state=0,
    ).fit(X)
    display = ResidualQQDisplay.from_estimator(model, X)
    # The best factor of a scale that was trained here is near 1; it can only help.
    gain = 6 * display.log_density["gaussian"] - model.score(X)
    assert 0 <= gain < 0.5


def test_pipeline_in_the_units_of_the_model(X):
    pipeline = make_pipeline(StandardScaler(), VariationalAutoencoder(2, max_iter=3)).fit(X)
    Y = pipeline[0].transform(X)
    expected = ResidualQQDisplay.from_residuals(Y - pipeline[-1].reconstruct(Y))
    display = ResidualQQDisplay.from_estimator(pipeline, X)
    assert display.log_density == pytest.approx(expected.log_density)


def test_constant_feature_is_left_out():
    residuals = np.random.default_rng(0).normal(size=(100, 3))
    residuals[:, 1] = 0
    display = ResidualQQDisplay.from_residuals(residuals, by_feature=True)
    without = ResidualQQDisplay.from_residuals(residuals[:, [0, 2]], by_feature=True)
    assert display.log_density == pytest.approx(without.log_density)


def test_residuals_that_are_all_0():
    with pytest.raises(ValueError, match="all 0"):
        ResidualQQDisplay.from_residuals(np.zeros((5, 2)))


def test_the_legend_has_the_line():
    residuals = np.random.default_rng(0).normal(size=(50, 2))
    display = ResidualQQDisplay.from_residuals(residuals)
    shown = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert shown[-1] == "where the density is right"
