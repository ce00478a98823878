"""Tests of the smallest scale, given or automatic, and of its warnings."""

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
@pytest.mark.filterwarnings("ignore:min_scale=.* is below:UserWarning")
@pytest.mark.parametrize("size", [1e-14, 1e-3, 1e14])
def test_scales_of_any_size(likelihood, variance_mode, covariance_type, size, X):
    """Fixed and smallest scales of any size give finite scores, also for float32 data."""
    is_fixed = variance_mode == "fixed"
    given = {"scale": size, "min_scale": 1e300} if is_fixed else {"min_scale": size}
    for model in models_of(likelihood, max_iter=2, random_state=0, **given):
        model.set_params(variance_mode=variance_mode, covariance_type=covariance_type)
        model.fit(X)
        assert_finite(model, X)
        assert np.isfinite(model.score_samples(X.astype(np.float32))).all()
        if is_fixed:
            np.testing.assert_allclose(model.scale_, size, rtol=1e-5)
        elif model.scale_ is not None:
            assert (np.asarray(model.scale_) >= size * (1 - 1e-5)).all()


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, LaplaceAutoencoder])
@pytest.mark.parametrize("n_components", [6, 9])
def test_too_many_components_warn(estimator, n_components, X):
    """A code with as many components as features leaves no residual, and `fit` warns."""
    with pytest.warns(ConvergenceWarning, match=r"lower n_components"):
        model = estimator(n_components, max_iter=3, random_state=0).fit(X)
    assert_finite(model, X)


@pytest.mark.parametrize("variance_mode", ["optimal", "profile", "learned"])
@every_estimator
def test_min_scale_is_the_smallest_scale(estimator, variance_mode, X):
    """No scale is below `min_scale`, in the units of X, and a scale at it warns."""
    model = estimator(variance_mode=variance_mode, max_iter=3, random_state=0)
    free = clone(model).fit(X).scale_
    with pytest.warns(ConvergenceWarning, match=FLOOR):
        model.set_params(min_scale=5 * free).fit(X)
    assert model.scale_ == pytest.approx(5 * free, rel=0.05)
    model.set_params(min_scale=0.1 * free).fit(X)
    assert 0.1 * free < model.scale_ < 1.2 * free


def test_auto_min_scale_is_the_resolution(X):
    """For exact reconstructions of data rounded to 0.5 the floor is 0.5 / sqrt(12).

    This is the standard deviation of the uniform rounding error.
    """
    with pytest.warns(ConvergenceWarning, match=FLOOR):
        model = GaussianAutoencoder(6, max_iter=3, random_state=0).fit(np.round(2 * X) / 2)
    assert model.scale_ == pytest.approx(0.5 / np.sqrt(12), rel=1e-5)


def test_warning_points_at_the_call_of_fit(X):
    """The warnings of `fit` have the file of its caller."""
    with pytest.warns(ConvergenceWarning) as caught:
        GaussianAutoencoder(n_components=X.shape[1], max_iter=2, random_state=0).fit(X)
    assert {w.filename for w in caught} == {__file__}
