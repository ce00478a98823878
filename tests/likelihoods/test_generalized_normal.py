"""A likelihood with a parameter: its density, its capabilities, and its training.

The page docs/add_a_likelihood.rst shows some of these tests.
"""

import copy
import math
import pickle

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skae import VariationalAutoencoder
from skae.likelihoods import LIKELIHOODS
from skae.model_selection import BatchedGridSearchCV
from tests.likelihoods.generalized_normal import GeneralizedNormal

POWERS = [1.0, 1.5, 2.0, 4.0]
BETAS = [0.5, 1.0, 2.0]
N_FOLDS = 2

every_power = pytest.mark.parametrize("power", POWERS)
every_mode = pytest.mark.parametrize("mode", ["optimal", "learned"])


def model(likelihood, **parameters):
    """A variational autoencoder that trains briefly, in double precision."""
    defaults = {"max_iter": 4, "precision": "float64", "random_state": 0}
    return VariationalAutoencoder(likelihood=likelihood, **{**defaults, **parameters})


@pytest.fixture
def registered(monkeypatch):
    """The name of the density in the registry, for the time of a test."""
    monkeypatch.setitem(LIKELIHOODS, "generalized_normal", GeneralizedNormal)
    return "generalized_normal"


# ------------------------------------------------------------------------- the density


@every_power
def test_log_prob_equals_scipy(power):
    rng = np.random.default_rng(0)
    x, loc = rng.normal(size=(2, 50, 4))
    scale = np.exp(rng.normal(size=4))
    arguments = (torch.tensor(a) for a in (x, loc, np.log(scale)))
    actual = GeneralizedNormal(power).log_prob(*arguments)
    expected = scipy.stats.gennorm.logpdf(x, power, loc, scale)
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


@every_power
def test_log_prob_writes_into_given_memory(power):
    t = torch.linspace(-9, 9, 31, dtype=torch.float64)
    before, out = t.clone(), torch.empty_like(t)
    returned = GeneralizedNormal(power).standard_log_prob(t, out=out)
    assert returned is out
    assert torch.equal(t, before)
    np.testing.assert_allclose(out, scipy.stats.gennorm.logpdf(t, power), rtol=1e-12)


@every_power
def test_unit_stddev_equals_scipy(power):
    expected = scipy.stats.gennorm(power).std()
    assert GeneralizedNormal(power).unit_stddev == pytest.approx(expected, rel=1e-12)


@every_power
def test_influence_equals_autograd(power):
    t = torch.linspace(-5, 5, 21, dtype=torch.float64, requires_grad=True)
    GeneralizedNormal(power).standard_log_prob(t).sum().backward()
    influence = GeneralizedNormal(power).influence_(t.detach().clone())
    np.testing.assert_allclose(influence, -t.grad, rtol=1e-12)


@every_power
def test_influence_is_written_over_its_argument(power):
    t = torch.linspace(-3, 3, 7)
    assert GeneralizedNormal(power).influence_(t) is t
    assert t[3] == 0


@every_power
def test_optimal_scale_equals_scipy(power):
    """It is the maximum-likelihood scale, which scipy searches for numerically."""
    likelihood = GeneralizedNormal(power)
    residual = torch.tensor(np.random.default_rng(0).normal(size=2000))
    scale = likelihood.optimal_scale(likelihood.deviation(residual).mean())
    *_, expected = scipy.stats.gennorm.fit(residual.numpy(), fbeta=power, floc=0)
    assert scale.item() == pytest.approx(expected, rel=1e-4)


@every_power
def test_deviation_writes_into_given_memory(power):
    residual = torch.linspace(-3, 3, 7)
    out = torch.empty_like(residual)
    likelihood = GeneralizedNormal(power)
    assert likelihood.deviation(residual, out=out) is out
    assert torch.equal(out, likelihood.deviation(residual))


@pytest.mark.parametrize("power", [0.99, 0.0, -1.0, math.nan, math.inf])
def test_a_power_out_of_range_is_refused(power):
    with pytest.raises(ValueError, match="power must be a finite number, 1 or more"):
        GeneralizedNormal(power)


def test_tails():
    assert GeneralizedNormal(1.9).heavy_tailed
    assert not GeneralizedNormal(2.0).heavy_tailed


@every_power
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_have_the_distribution(power, dtype):
    loc = torch.tensor([-3.0, 50.0], dtype=dtype).repeat(20_000, 1)
    log_scale = torch.tensor([[-2.0, 1.5]], dtype=dtype)
    generator, global_state = torch.Generator().manual_seed(0), torch.get_rng_state()
    draws = GeneralizedNormal(power).sample(loc, log_scale, generator)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert draws.shape == loc.shape
    assert draws.dtype == dtype
    for column in range(2):
        scale = math.exp(log_scale[0, column])
        expected = scipy.stats.gennorm(power, loc[0, column], scale)
        values = draws[:, column].double().numpy()
        assert scipy.stats.kstest(values, expected.cdf).pvalue > 1e-3
    assert abs(scipy.stats.spearmanr(draws.numpy()).statistic) < 5 / math.sqrt(len(loc))


def test_moments_of_samples_are_those_of_scipy():
    n, power = 400_000, 1.5
    expected = scipy.stats.gennorm(power, 5.0, 0.3)
    loc = torch.full((n,), 5.0, dtype=torch.float64)
    log_scale = torch.tensor(math.log(0.3), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    draws = GeneralizedNormal(power).sample(loc, log_scale, generator).numpy()
    # Standard error of a standard deviation, relative to it.
    error = math.sqrt((expected.stats("k") + 2) / (4 * n))
    assert error < 0.002
    assert draws.std() == pytest.approx(expected.std(), rel=4 * error)
    assert draws.mean() == pytest.approx(5, abs=4 * expected.std() / math.sqrt(n))


# -------------------------------------------------------------------- the capabilities


def test_capabilities():
    capabilities = GeneralizedNormal().capabilities
    assert capabilities.has_analytic_gradient
    assert capabilities.is_thread_safe


def test_batch_keys_are_equal_for_equal_parameters_only():
    key = GeneralizedNormal(power=3.0).capabilities.batch_key
    assert key is not None
    assert key == GeneralizedNormal(power=3.0).capabilities.batch_key
    assert key == copy.deepcopy(GeneralizedNormal(power=3.0)).capabilities.batch_key
    assert key != GeneralizedNormal(power=4.0).capabilities.batch_key
    assert key != LIKELIHOODS["gaussian"]().capabilities.batch_key


# --------------------------------------------------------------------------- training


@every_mode
def test_a_registered_likelihood_trains_side_by_side(registered, mode, X, counted):
    assert_search_is_side_by_side(model(registered, variance_mode=mode), X, counted)


@every_mode
def test_an_instance_trains_side_by_side(mode, X, counted):
    estimator = model(GeneralizedNormal(power=3.0), variance_mode=mode)
    assert_search_is_side_by_side(estimator, X, counted)


def assert_search_is_side_by_side(estimator, X, counted):
    """All candidates of a search train together, with the scores of a plain search."""
    keywords = {
        "param_grid": {"beta": BETAS},
        "cv": N_FOLDS,
        "error_score": "raise",
        "refit": False,
    }
    search = BatchedGridSearchCV(estimator, **keywords).fit(X)
    assert counted == [len(BETAS) * N_FOLDS]
    alone = GridSearchCV(estimator, **keywords).fit(X)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"],
        alone.cv_results_["mean_test_score"],
        rtol=1e-9,
    )
    # Different candidates have different scores, so the equality above is a test.
    assert len(set(alone.cv_results_["mean_test_score"])) == len(BETAS)


def test_a_search_over_instances(X, counted):
    """Models with different powers are not mixed."""
    grid = {"likelihood": [GeneralizedNormal(power=1.2), GeneralizedNormal(power=3.0)]}
    keywords = {"cv": N_FOLDS, "error_score": "raise", "refit": False}
    search = BatchedGridSearchCV(model(GeneralizedNormal()), grid, **keywords).fit(X)
    assert counted == [N_FOLDS, N_FOLDS]
    alone = GridSearchCV(model(GeneralizedNormal()), grid, **keywords).fit(X)
    scores = alone.cv_results_["mean_test_score"]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], scores, rtol=1e-9)
    assert scores[0] != scores[1]


def test_a_name_that_is_not_registered_is_refused(X):
    with pytest.raises(ValueError, match="'likelihood' parameter"):
        model("generalized_normal").fit(X)


@every_mode
@pytest.mark.parametrize("power", [1.2, 3.0])
def test_the_fit_agrees_with_autograd(power, mode, X):
    """The written-out step and autograd reach the same model."""

    class Autograd(GeneralizedNormal):
        # A subclass that overrides the density without its derivative has no analytic
        # gradient.
        def standard_log_prob(self, t, *, out=None):
            return super().standard_log_prob(t, out=out)

    assert not Autograd().has_analytic_gradient
    analytic, by_autograd = (
        model(likelihood, variance_mode=mode).fit(X)
        for likelihood in (GeneralizedNormal(power), Autograd(power))
    )
    assert analytic.score(X) == pytest.approx(by_autograd.score(X), rel=1e-8)
    np.testing.assert_allclose(analytic.loss_curve_, by_autograd.loss_curve_, rtol=1e-8)


@pytest.mark.parametrize(("power", "name"), [(1.0, "laplace"), (2.0, "gaussian")])
def test_special_cases_are_the_built_in_likelihoods(power, name, X):
    """A power of 1 is the Laplace density, and one of 2 a normal density."""
    own = model(GeneralizedNormal(power)).fit(X)
    built_in = model(name).fit(X)
    factor = math.sqrt(2) if power == 2 else 1.0
    assert own.scale_ == pytest.approx(factor * built_in.scale_, rel=1e-7)
    # The two take different numbers of draws for a score, but the same ones for training.
    np.testing.assert_allclose(own.loss_curve_, built_in.loss_curve_, rtol=1e-7)


@every_mode
def test_the_power_is_that_of_the_fit(mode, X):
    """The score is that of the density with the given power."""
    likelihood = GeneralizedNormal(3.0)
    estimator = model(likelihood, variance_mode=mode, hidden_layer_sizes=()).fit(X)
    bound = estimator.log_marginal(X[:5], 2**14)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200_000, 2))
    loc = estimator.inverse_transform(z)
    for row, value in zip(X[:5], bound, strict=True):
        terms = scipy.stats.gennorm.logpdf(row, 3.0, loc, estimator.scale_).sum(axis=1)
        weights = np.exp(terms - terms.max())
        exact = np.log(weights.mean()) + terms.max()
        error = weights.std() / weights.mean() / math.sqrt(len(weights))
        assert error < 0.02
        assert value == pytest.approx(exact, abs=5 * error + 1e-3)


def test_warm_start_refuses_another_parameter(X):
    """A model that was trained with one power keeps it."""
    vae = model(GeneralizedNormal(power=3.0), max_iter=1, warm_start=True).fit(X)
    vae.set_params(likelihood=GeneralizedNormal(power=3.0)).fit(X)
    vae.set_params(likelihood=GeneralizedNormal(power=1.5))
    with pytest.raises(ValueError, match="another likelihood"):
        vae.fit(X)


def test_clones_and_pickles_keep_the_parameter(X):
    fitted = model(GeneralizedNormal(power=3.0)).fit(X)
    copied = clone(fitted)
    assert copied.likelihood is not fitted.likelihood
    assert copied.likelihood.power == 3.0
    np.testing.assert_array_equal(copied.fit(X).score_samples(X), fitted.score_samples(X))
    loaded = pickle.loads(pickle.dumps(fitted))
    assert loaded.likelihood.power == loaded.likelihood_.power == 3.0
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))


def test_held_out_scores_choose_the_power():
    """Uniform noise scores higher with a larger power, Laplace noise with a smaller."""
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 6))
    flat, long = rng.uniform(-1, 1, loc.shape), rng.laplace(size=loc.shape)
    for noise, powers in ((flat, (3.0, 1.5)), (long, (1.5, 3.0))):
        X, X_test = np.split(loc + 0.5 * noise, 2)
        better, worse = (
            model(GeneralizedNormal(power), max_iter=20, hidden_layer_sizes=()).fit(X)
            for power in powers
        )
        assert better.score(X_test) > worse.score(X_test) + 0.1
