"""A likelihood with a parameter: its density, its capabilities, and its training."""

import copy
import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.model_selection import GridSearchCV

from skae import VariationalAutoencoder
from skae.likelihoods import LIKELIHOODS
from skae.model_selection import BatchedGridSearchCV
from tests.likelihoods.references import FrozenShape
from tests.likelihoods.student_t import StudentT

DEGREES = [2.5, 5.0, 40.0]
BETAS = [0.5, 1.0, 2.0]
N_FOLDS = 2

every_df = pytest.mark.parametrize("df", DEGREES)


def model(likelihood, **parameters):
    """A variational autoencoder whose scale needs no closed form."""
    return VariationalAutoencoder(
        likelihood=likelihood,
        variance_mode="learned",
        max_iter=4,
        precision="float64",
        random_state=0,
        **parameters,
    )


@pytest.fixture
def registered(monkeypatch):
    """The name of the density in the registry, for the time of a test."""
    monkeypatch.setitem(LIKELIHOODS, "student-t", StudentT)
    return "student-t"


# ------------------------------------------------------------------------- the density


@every_df
def test_log_prob_equals_scipy(df):
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(3, 1))
    scale = np.exp(rng.normal(size=4, scale=3))
    x = scale * rng.standard_cauchy((5, 1, 4))
    arguments = (torch.tensor(a) for a in (x, loc, np.log(scale)))
    actual = StudentT(df).log_prob(*arguments)
    expected = FrozenShape(scipy.stats.t, df).logpdf(x, loc, scale)
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


@every_df
def test_log_prob_writes_into_given_memory(df):
    t = torch.linspace(-9, 9, 31, dtype=torch.float64)
    before, out = t.clone(), torch.empty_like(t)
    returned = StudentT(df).standard_log_prob(t, out=out)
    assert returned is out
    assert torch.equal(t, before)
    np.testing.assert_allclose(out, scipy.stats.t.logpdf(t, df), rtol=1e-12)


@every_df
def test_unit_stddev_equals_scipy(df):
    assert StudentT(df).unit_stddev == pytest.approx(
        FrozenShape(scipy.stats.t, df).std(), rel=1e-12
    )


@every_df
def test_influence_equals_autograd(df):
    t = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)
    StudentT(df).standard_log_prob(t).sum().backward()
    overwritten = t.detach().clone()
    returned = StudentT(df).influence_(overwritten)
    assert returned is overwritten
    np.testing.assert_allclose(overwritten, -t.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_influence_of_extreme_values(dtype):
    """The limits at 0 and far out are 0, although the square of t overflows."""
    largest = torch.finfo(dtype).max
    t = torch.tensor([0.0, -0.0, largest, -largest, math.inf], dtype=dtype)
    assert (StudentT().influence_(t).abs() < 1e-30).all()


@pytest.mark.parametrize("df", [2.0, 1.0, -1.0, math.nan])
def test_an_infinite_standard_deviation_is_refused(df):
    with pytest.raises(ValueError, match="df must be above 2"):
        StudentT(df)


@every_df
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_have_the_distribution(df, dtype):
    loc = torch.tensor([-3.0, 50.0], dtype=dtype).repeat(20_000, 1)
    log_scale = torch.tensor([[-2.0, 1.5]], dtype=dtype)
    generator, global_state = torch.Generator().manual_seed(0), torch.get_rng_state()
    draws = StudentT(df).sample(loc, log_scale, generator)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert draws.shape == loc.shape
    assert draws.dtype == dtype
    for column in range(2):
        expected = scipy.stats.t(df, loc[0, column], math.exp(log_scale[0, column]))
        values = draws[:, column].double().numpy()
        assert scipy.stats.kstest(values, expected.cdf).pvalue > 1e-3
    assert abs(scipy.stats.spearmanr(draws.numpy()).statistic) < 5 / math.sqrt(len(loc))


def test_moments_of_samples_are_those_of_scipy():
    n, df = 400_000, 12.0
    expected = scipy.stats.t(df, 5.0, 0.3)
    loc = torch.full((n,), 5.0, dtype=torch.float64)
    log_scale = torch.tensor(math.log(0.3), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    draws = StudentT(df).sample(loc, log_scale, generator).numpy()
    # Standard error of a standard deviation, relative to it.
    error = math.sqrt((expected.stats("k") + 2) / (4 * n))
    assert error < 0.002
    assert draws.std() == pytest.approx(expected.std(), rel=4 * error)
    assert draws.mean() == pytest.approx(5, abs=4 * expected.std() / math.sqrt(n))


# -------------------------------------------------------------------- the capabilities


def test_capabilities():
    capabilities = StudentT().capabilities
    assert capabilities.has_analytic_gradient
    assert capabilities.is_thread_safe
    assert not StudentT.has_optimal_scale


def test_batch_keys_are_equal_for_equal_parameters_only():
    key = StudentT(df=3.0).capabilities.batch_key
    assert key is not None
    assert key == StudentT(df=3.0).capabilities.batch_key
    assert key == copy.deepcopy(StudentT(df=3.0)).capabilities.batch_key
    assert key != StudentT(df=4.0).capabilities.batch_key
    assert key != LIKELIHOODS["gaussian"]().capabilities.batch_key


# -------------------------------------------------------------------------- training


def test_a_registered_likelihood_trains_side_by_side(registered, X, counted):
    assert_search_is_side_by_side(model(registered), X, counted)


def test_an_instance_trains_side_by_side(X, counted):
    assert_search_is_side_by_side(model(StudentT(df=3.0)), X, counted)


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
    """Models with different degrees of freedom are not mixed."""
    grid = {"likelihood": [StudentT(df=3.0), StudentT(df=30.0)]}
    keywords = {"cv": N_FOLDS, "error_score": "raise", "refit": False}
    search = BatchedGridSearchCV(model(StudentT()), grid, **keywords).fit(X)
    assert counted == [N_FOLDS, N_FOLDS]
    alone = GridSearchCV(model(StudentT()), grid, **keywords).fit(X)
    scores = alone.cv_results_["mean_test_score"]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], scores, rtol=1e-9)
    assert scores[0] != scores[1]


def test_a_name_that_is_not_registered_is_refused(X):
    with pytest.raises(ValueError, match="'likelihood' parameter"):
        model("student-t").fit(X)


def test_the_fit_agrees_with_autograd(X):
    """The written-out step and autograd reach the same model."""

    class Autograd(StudentT):
        # A subclass that overrides the density without its derivative has no analytic
        # gradient.
        def standard_log_prob(self, t, *, out=None):
            return super().standard_log_prob(t, out=out)

    assert not Autograd().has_analytic_gradient
    analytic, by_autograd = (
        model(likelihood).fit(X) for likelihood in (StudentT(3.0), Autograd(3.0))
    )
    assert analytic.score(X) == pytest.approx(by_autograd.score(X), rel=1e-8)
    np.testing.assert_allclose(analytic.loss_curve_, by_autograd.loss_curve_, rtol=1e-8)


def test_degrees_of_freedom_are_those_of_the_fit(X):
    """The score is that of the t density with the given degrees of freedom."""
    estimator = model(StudentT(3.0), hidden_layer_sizes=()).fit(X)
    bound = estimator.log_marginal(X[:5], 2**14)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200_000, 2))
    loc = estimator.inverse_transform(z)
    for row, value in zip(X[:5], bound, strict=True):
        terms = scipy.stats.t.logpdf(row, 3.0, loc, estimator.scale_).sum(axis=1)
        weights = np.exp(terms - terms.max())
        exact = np.log(weights.mean()) + terms.max()
        error = weights.std() / weights.mean() / math.sqrt(len(weights))
        assert error < 0.02
        assert value == pytest.approx(exact, abs=5 * error + 1e-3)


def test_warm_start_refuses_another_parameter(X):
    """A model that was trained with one number of degrees of freedom keeps it."""
    vae = VariationalAutoencoder(
        likelihood=StudentT(df=3.0),
        variance_mode="learned",
        max_iter=1,
        warm_start=True,
        random_state=0,
    ).fit(X)
    vae.set_params(likelihood=StudentT(df=3.0)).fit(X)
    vae.set_params(likelihood=StudentT(df=30.0))
    with pytest.raises(ValueError, match="another likelihood"):
        vae.fit(X)
