"""Tests of the values that `history_` records for each epoch."""

import numpy as np
import pytest

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from tests.helpers import every_model


@every_model
def test_history(likelihood, variance_mode, covariance_type, X):
    """Each column is finite, and the objective is beta KL minus the log-likelihood."""
    model = VariationalAutoencoder(
        2,
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        beta=3.0,
        max_iter=5,
        random_state=0,
    ).fit(X, X_val=X[:20])
    history = model.history_
    expected = {"objective", "log_likelihood", "kl", "beta", "active_units"}
    expected |= {"validation_score"}
    if variance_mode != "predicted":
        expected |= {"scale"}
        assert (history["scale"] > 0).all()
    assert history.keys() == expected
    for name, values in history.items():
        assert isinstance(values, np.ndarray), name
        assert values.shape == (5,), name
        assert np.isfinite(values).all(), name
    np.testing.assert_array_equal(history["beta"], 3.0)
    assert (history["kl"] > 0).all()
    assert set(history["active_units"]) <= {0, 1, 2}
    np.testing.assert_allclose(
        history["objective"],
        3.0 * history["kl"] - history["log_likelihood"],
        rtol=1e-5,
    )


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, LaplaceAutoencoder])
def test_history_of_deterministic_autoencoders(estimator, X):
    """Without KL and beta, the objective is minus the log-likelihood."""
    history = estimator(max_iter=3, random_state=0).fit(X).history_
    assert history.keys() == {"objective", "log_likelihood", "scale"}
    np.testing.assert_array_equal(history["objective"], -history["log_likelihood"])


def test_history_is_in_the_units_of_the_data(X):
    """Data times 4 give the same fit, with 4 times the scale and 4**-6 the density."""
    small = VariationalAutoencoder(max_iter=3, random_state=0).fit(X, X_val=X)
    large = VariationalAutoencoder(max_iter=3, random_state=0).fit(4 * X, X_val=4 * X)
    shift = 6 * np.log(4)
    for name in ("log_likelihood", "validation_score"):
        np.testing.assert_allclose(
            large.history_[name], small.history_[name] - shift, rtol=1e-9
        )
    np.testing.assert_allclose(
        large.loss_curve_, np.add(small.loss_curve_, shift), rtol=1e-9
    )
    np.testing.assert_allclose(large.history_["scale"], 4 * small.history_["scale"])
    np.testing.assert_array_equal(large.history_["kl"], small.history_["kl"])


def test_active_units_counts_the_components_in_use():
    """Of 4 components, 2 are active on data with 2 strong directions."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(300, 2)) * 5
    X = np.column_stack([Z, np.zeros((300, 3))]) + 0.1 * rng.normal(size=(300, 5))
    model = VariationalAutoencoder(
        4, hidden_layer_sizes=(), beta=2.0, max_iter=100, random_state=0
    ).fit(X)
    assert model.history_["active_units"][-1] == 2
    assert (model.posterior(X)[0].var(axis=0) > 0.1).sum() == 2
