"""Tests of codes, reconstructions, scores and samples of fitted estimators."""

import copy

import numpy as np
import pytest
import scipy.stats

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from tests.helpers import (
    answers,
    assert_same_answers,
    every_estimator,
    models_in_turns,
)
from tests.likelihoods.references import GIVEN, SCIPY


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@pytest.mark.parametrize(
    ("estimator", "density", "closed_form"),
    [
        (GaussianAutoencoder, scipy.stats.norm, lambda r, a: np.sqrt((r**2).mean(axis=a))),
        (LaplaceAutoencoder, scipy.stats.laplace, lambda r, a: np.abs(r).mean(axis=a)),
    ],
)
def test_scale_and_score_of_residuals(estimator, density, closed_form, covariance_type, X):
    """The scale is the closed form over all residuals, and the score equals scipy's."""
    model = estimator(covariance_type=covariance_type, max_iter=20, random_state=0).fit(X)
    residual = X - model.inverse_transform(model.transform(X))
    axis = None if covariance_type == "spherical" else 0
    np.testing.assert_allclose(model.scale_, closed_form(residual, axis), rtol=1e-5)
    expected = density.logpdf(residual, scale=model.scale_).sum(axis=1)
    np.testing.assert_allclose(model.score_samples(X), expected, rtol=1e-6)


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@pytest.mark.parametrize("variance_mode", ["fixed", "optimal", "learned"])
def test_scale_has_the_digits_of_a_score(variance_mode, covariance_type, X):
    """Trained in float32, and still a float64 number like the scores of float64 data."""
    model = GaussianAutoencoder(
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        scale=1.3 if variance_mode == "fixed" else 1.0,
        max_iter=5,
        random_state=0,
    ).fit(X)
    expected = scipy.stats.norm.logpdf(X, model.reconstruct(X), model.scale_)
    np.testing.assert_allclose(model.score_samples(X), expected.sum(axis=1), rtol=1e-11)


@pytest.mark.parametrize("n_samples", [100, 3000])
def test_scale_of_probabilistic_pca(n_samples):
    """The noise variance is the mean of the discarded eigenvalues, for any number of rows.

    The posteriors of these data are wide, and their spread is part of the scale. Of many
    rows each takes few draws, of which the whole must still be even.
    """
    rows = np.random.default_rng(0).normal(size=(n_samples, 6))
    X = rows * [1.8, 1.5, 1.0, 1.0, 1.0, 1.0]
    model = VariationalAutoencoder(
        hidden_layer_sizes=(), max_iter=1, learning_rate_init=1e-12, random_state=0
    ).fit(X)
    noise = np.linalg.eigvalsh(np.cov(X.T, ddof=0))[:4].mean()
    assert model.posterior(X)[1].mean() > 0.5
    assert model.scale_ == pytest.approx(np.sqrt(noise), rel=2e-3)


@every_estimator
def test_codes_and_reconstructions_agree(estimator, X):
    """`reconstruct` equals `transform` and `inverse_transform` in turn."""
    model = estimator(3, max_iter=10, random_state=0)
    Z = model.fit_transform(X)
    assert Z.shape == (120, 3)
    np.testing.assert_array_equal(Z, model.transform(X))
    X_hat = model.inverse_transform(Z)
    assert X_hat.shape == X.shape
    np.testing.assert_allclose(model.reconstruct(X), X_hat, rtol=1e-12)
    # Three components explain most of the variance of these data.
    assert ((X - X_hat) ** 2).mean() < 0.1 * X.var(axis=0).mean()
    # The decoder also accepts codes that no encoder returned.
    np.testing.assert_allclose(
        model.inverse_transform(np.zeros((1, 3)))[0],
        model.inverse_transform(np.zeros((5, 3)))[4],
    )


@every_estimator
def test_score_is_the_mean_of_score_samples(estimator, X):
    """`score` is the mean of `score_samples`, weighted if weights are given."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    scores = model.score_samples(X)
    assert scores.shape == (120,)
    assert model.score(X) == pytest.approx(np.mean(scores), rel=1e-12)
    assert model.score(X, np.ones(120)) == model.score(X)  # y is ignored
    weight = np.arange(120.0)
    expected = (weight * scores).sum() / weight.sum()
    assert model.score(X, sample_weight=weight) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="Negative values"):
        model.score(X, sample_weight=-weight)
    with pytest.raises(ValueError, match="Sample weights must contain"):
        model.score(X, sample_weight=np.zeros(120))


@every_estimator
def test_repeated_calls_are_equal(estimator, X):
    """Repeated calls return equal results, including averages over a posterior."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    assert_same_answers(model, model, X)
    assert model.score(X) == model.score(X)


def test_posterior_and_bounds(X):
    """The code is the posterior mean, and bounds increase with the number of draws."""
    model = VariationalAutoencoder(3, max_iter=10, random_state=0).fit(X)
    mean, std = model.posterior(X)
    np.testing.assert_array_equal(mean, model.transform(X))
    assert mean.shape == std.shape == (120, 3)
    assert (std > 0).all()
    np.testing.assert_array_equal(model.elbo(X), model.score_samples(X))
    assert model.log_marginal(X).shape == (120,)
    bounds = np.array(
        [
            [model.log_marginal(X, n, random_state=seed).mean() for seed in range(20)]
            for n in (1, 4, 64)
        ]
    )
    # In expectation the bound is the ELBO for one draw, and grows with more draws.
    elbo = model.elbo(X).mean()
    assert bounds[0].mean() == pytest.approx(elbo, abs=4 * bounds[0].std() / np.sqrt(20))
    assert elbo < bounds[1].mean() < bounds[2].mean()
    assert len(set(bounds[2])) == 20


def test_sample(X):
    """`sample` has the right shape and dtype, and `random_state` determines the draws."""
    model = VariationalAutoencoder(3, max_iter=10, random_state=0).fit(X)
    assert model.sample().shape == (1, 6)
    draws = model.sample(5, random_state=0)
    assert (draws.shape, draws.dtype) == ((5, 6), np.float64)
    np.testing.assert_array_equal(draws, model.sample(5, random_state=0))
    assert not np.array_equal(draws, model.sample(5, random_state=1))
    assert not np.array_equal(model.sample(5), model.sample(5))
    state = np.random.RandomState(0)
    first, second = model.sample(5, random_state=state), model.sample(5, random_state=state)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, model.sample(5, np.random.RandomState(0)))


@models_in_turns
def test_noise_of_samples(likelihood, variance_mode, covariance_type, X):
    """Draws minus their means have scipy's distribution with the model's scale."""
    model = VariationalAutoencoder(
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        max_iter=5,
        random_state=0,
    ).fit(X)
    noise = model.sample(4000, 0) - model.sample(4000, 0, noise=False)
    assert noise.std() > 0
    if model.scale_ is None or likelihood in GIVEN:
        return  # scale or shape depend on the codes of the draws
    family = SCIPY[likelihood]().cdf
    standard = noise / model.scale_
    for column in standard.T:
        assert scipy.stats.kstest(column, family).pvalue > 1e-4


@pytest.mark.parametrize("later", [0.0, 0.5, 100.0])
def test_score_does_not_depend_on_beta(later, X):
    """A change of beta after a fit changes no result of the fitted model."""
    model = VariationalAutoencoder(beta=2.0, max_iter=5, random_state=0).fit(X)
    before = answers(model, X), model.score(X)
    model.set_params(beta=later)
    after = answers(model, X), model.score(X)
    assert before[1] == after[1]
    for name, value in before[0].items():
        np.testing.assert_array_equal(value, after[0][name])
    # A new fit does depend on beta.
    assert not np.array_equal(model.fit(X).transform(X), before[0]["transform"])


@every_estimator
def test_changed_parameters_do_not_change_a_fitted_model(estimator, X):
    """A change of any parameter after a fit changes no result of the fitted model."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    expected, score = answers(model, X), model.score(X)
    for name in model.get_params(deep=False):
        other = copy.deepcopy(model).set_params(**{name: "nonsense"})
        assert other.score(X) == score, name
        for method, value in answers(other, X).items():
            np.testing.assert_array_equal(value, expected[method], err_msg=name)
