"""The display of the score over the scale."""

import numpy as np
import pytest
import scipy.stats
from sklearn.base import clone

from skae import VariationalAutoencoder
from skae.inspection import ScaleProfileDisplay


@pytest.mark.parametrize(
    ("model", "density"),
    [("ae", scipy.stats.norm), ("laplace_ae", scipy.stats.laplace)],
)
def test_score_equals_scipy(model, density, X, request):
    model = request.getfixturevalue(model)
    display = ScaleProfileDisplay.from_estimator(model, X)
    loc = model.reconstruct(X)
    expected = [
        density.logpdf(X, loc, factor * model.scale_).sum(axis=1).mean()
        for factor in display.factors
    ]
    np.testing.assert_allclose(display.score, expected, rtol=1e-5)
    # On the training data the closed form is optimal.
    assert display.best_factor == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@pytest.mark.parametrize("variance_mode", ["fixed", "optimal", "learned", "predicted"])
def test_score_of_a_model_with_that_scale(likelihood, covariance_type, variance_mode, X):
    """The middle of the profile is the score of the model."""
    vae = VariationalAutoencoder(
        2,
        likelihood=likelihood,
        covariance_type=covariance_type,
        variance_mode=variance_mode,
        max_iter=3,
        random_state=0,
    ).fit(X)
    display = ScaleProfileDisplay.from_estimator(vae, X, n_points=5)
    assert display.factors[2] == 1
    assert display.score[2] == pytest.approx(vae.score(X), rel=1e-6)
    shared = covariance_type == "spherical" and variance_mode != "predicted"
    assert display.fitted_scale == (vae.scale_ if shared else None)


def test_profile_predicts_the_score_at_another_scale(X):
    """The other points follow from the formula for a fixed scale."""
    vae = VariationalAutoencoder(2, variance_mode="fixed", scale=0.7, max_iter=3)
    vae.set_params(random_state=0).fit(X)
    display = ScaleProfileDisplay.from_estimator(vae, X, span=2.0, n_points=3)
    mean, std = vae.posterior(X)
    kl = (0.5 * (mean**2 + std**2 - 1) - np.log(std)).sum(axis=1).mean()
    squares = (display.score[1] + kl + 3 * np.log(2 * np.pi * 0.49)) * -2 * 0.49
    for factor, score in zip(display.factors, display.score, strict=True):
        s2 = (0.7 * factor) ** 2
        expected = -3 * np.log(2 * np.pi * s2) - squares / (2 * s2) - kl
        # The number of draws of a row depends on its error, and so on the scale.
        assert score == pytest.approx(expected, abs=0.01)


def test_vertical_lines(ae, X):
    display = ScaleProfileDisplay.from_estimator(ae, 3 * X)
    assert display.fitted_line_.get_xdata()[0] == ae.scale_
    assert display.best_factor > 1.5
    np.testing.assert_allclose(
        display.best_line_.get_xdata()[0], display.best_factor * ae.scale_
    )
    np.testing.assert_allclose(display.line_.get_xdata(), display.factors * ae.scale_)


def test_best_at_the_edge():
    display = ScaleProfileDisplay(factors=[0.5, 1.0, 2.0], score=[1.0, 2.0, 3.0])
    assert display.best_factor == pytest.approx(2.0)


def test_best_factor_is_the_closed_form(ae, X):
    other = X + np.random.default_rng(0).normal(size=X.shape)
    display = ScaleProfileDisplay.from_estimator(ae, other)
    rms = np.sqrt(np.mean((other - ae.reconstruct(other)) ** 2))
    assert display.best_factor * ae.scale_ == pytest.approx(rms, rel=2e-3)


def test_the_model_does_not_change(vae, X):
    before = clone(vae).fit(X).score(X)
    ScaleProfileDisplay.from_estimator(vae, X)
    assert vae.score(X) == before


def test_both_marks_are_seen_at_one_place(ae, X):
    """The line of the optimal scale is wider than that of the fitted one, and below it."""
    display = ScaleProfileDisplay.from_estimator(ae, X)
    fitted, best = display.fitted_line_, display.best_line_
    assert best.get_linewidth() > 3 * fitted.get_linewidth()
    assert best.get_zorder() < fitted.get_zorder()
