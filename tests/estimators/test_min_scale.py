"""The smallest scale, given or automatic, and its warnings."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skae import GaussianAutoencoder, LaplaceAutoencoder
from tests.helpers import (
    FLOOR,
    assert_finite,
    every_estimator,
    every_model,
    ignore_divergence,
    ignore_floor,
    models_of,
)


@ignore_floor
@ignore_divergence
@every_model
@pytest.mark.parametrize("size", [1e-14, 1e-3, 1e14])
def test_scales_of_any_size(likelihood, variance_mode, covariance_type, size, X):
    """One that is given, or the smallest one: also in the precision of float32."""
    for model in models_of(likelihood, max_iter=2, random_state=0, scale=size):
        model.set_params(variance_mode=variance_mode, covariance_type=covariance_type)
        model.set_params(min_scale=1e300 if variance_mode == "fixed" else size).fit(X)
        assert_finite(model, X)
        assert np.isfinite(model.score_samples(X.astype(np.float32))).all()
        if variance_mode == "fixed":
            np.testing.assert_allclose(model.scale_, size, rtol=1e-5)
        elif model.scale_ is not None:
            assert (np.asarray(model.scale_) >= size * (1 - 1e-5)).all()


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, LaplaceAutoencoder])
@pytest.mark.parametrize("n_components", [6, 9])
def test_floor_warns_of_too_many_components(estimator, n_components, X):
    """A deterministic code as wide as the data leaves no residual."""
    with pytest.warns(ConvergenceWarning, match=r"lower n_components"):
        model = estimator(n_components, max_iter=3, random_state=0).fit(X)
    assert_finite(model, X)


@pytest.mark.parametrize("variance_mode", ["optimal", "profile", "learned"])
@every_estimator
def test_min_scale_is_the_smallest_scale(estimator, variance_mode, X):
    """In the units of X; reached, it warns."""
    model = estimator(variance_mode=variance_mode, max_iter=3, random_state=0)
    free = clone(model).fit(X).scale_
    with pytest.warns(ConvergenceWarning, match=FLOOR):
        model.set_params(min_scale=5 * free).fit(X)
    assert model.scale_ == pytest.approx(5 * free, rel=0.05)
    model.set_params(min_scale=0.1 * free).fit(X)
    assert 0.1 * free < model.scale_ < 1.2 * free


def test_auto_min_scale_is_the_resolution(X):
    """Data rounded to 0.5 and reproduced exactly: a uniform error, 0.5 / sqrt(12)."""
    with pytest.warns(ConvergenceWarning, match=FLOOR):
        model = GaussianAutoencoder(6, max_iter=3, random_state=0).fit(np.round(2 * X) / 2)
    assert model.scale_ == pytest.approx(0.5 / np.sqrt(12), rel=1e-5)


def test_a_warning_points_at_the_line_that_called_fit(X):
    with pytest.warns(ConvergenceWarning) as caught:
        GaussianAutoencoder(n_components=X.shape[1], max_iter=2, random_state=0).fit(X)
    assert {w.filename for w in caught} == {__file__}
