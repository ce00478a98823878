"""Numbers at the ends of their range, for likelihoods that are not location and scale."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skae import VariationalAutoencoder

ignore_start = pytest.mark.filterwarnings(
    "ignore:Training did not improve:sklearn.exceptions.ConvergenceWarning"
)


def test_samples_of_amounts_are_finite():
    """The mean of a log-normal amount may be beyond float64; it is the largest number."""
    X = np.exp(np.random.default_rng(0).normal(size=(30, 3)))
    model = VariationalAutoencoder(
        likelihood="log_normal", variance_mode="fixed", scale=40.0, max_iter=1,
        random_state=0,
    ).fit(X)  # fmt: skip
    assert (model.sample(5, 0, noise=False) == np.finfo(np.float64).max).all()
    drawn = model.sample(500, 0)
    assert np.isfinite(drawn).all()
    # Half of the draws are below the median, which is near 1.
    assert 0.4 < (drawn < 1).mean() < 0.6


@ignore_start
@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "bernoulli"])
def test_weights_beyond_float64(likelihood):
    """The sum of the weights overflows, and the fit is that of equal smaller weights."""
    X = (np.random.default_rng(0).random((30, 3)) < 0.4).astype(float)
    model = VariationalAutoencoder(likelihood=likelihood, max_iter=1, random_state=0)
    huge = model.fit(X, sample_weight=np.full(30, 1e307)).score_samples(X)
    large = model.fit(X, sample_weight=np.full(30, 1e300)).score_samples(X)
    np.testing.assert_allclose(huge, large, rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "mixed"])
def test_counts_whose_squares_overflow(likelihood):
    """They are refused, without a warning of numpy's before."""
    X = np.floor(10 ** np.random.default_rng(0).uniform(150, 300, size=(40, 2)))
    model = VariationalAutoencoder(likelihood=likelihood, max_iter=1, random_state=0)
    with pytest.raises(ValueError, match="Training cannot start"):
        model.fit(X)


def test_bounds_of_distant_rows_of_a_model_of_missing_values(X):
    """Where the encoder overflows, too."""
    rng = np.random.default_rng(0)
    holes = np.where(rng.random(X.shape) < 0.1, np.nan, X)
    model = VariationalAutoencoder(
        n_components=5, activation="identity", init="random", max_iter=1, random_state=0,
        learning_rate_init=1e-4, likelihood="student_t",
    ).fit(holes)  # fmt: skip
    distant = np.outer([1e10, 1e38, 1e155, 1e307], [1, -1, 1, -1, 1, -1])
    assert np.isfinite(model.log_marginal(distant, 8)).all()


@ignore_start
def test_a_feature_whose_noise_is_beyond_float32():
    """It is filled with its mean, beside a fixed scale that is that much larger."""
    X = np.random.default_rng(0).normal(size=(40, 2)) * [1e-4, 1e33]
    model = VariationalAutoencoder(
        n_components=1, variance_mode="fixed", scale=1e36, max_iter=1, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="standard deviations of the features"):
        model.fit(X)
    assert np.isfinite(model.module_.fill.noise.cpu().numpy()).all()
    filled = model.impute(np.where([True, False], np.nan, X), statistic="plug_in")
    np.testing.assert_allclose(filled[:, 0], X[:, 0].mean(), atol=1e-5)
