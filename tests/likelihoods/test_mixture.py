"""A mixture whose shape is a function of the code, against SciPy and quadrature."""

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
from skae.likelihoods import LocationScale, MixtureLikelihood, make_likelihood
from skae.model_selection import BatchedGridSearchCV
from tests.helpers import assert_finite, assert_same_answers
from tests.likelihoods.references import Mixture, scipy_of

D = 4
FAMILIES = {
    "gaussian": scipy.stats.norm,
    "laplace": scipy.stats.laplace,
    "logistic": scipy.stats.logistic,
}
every_mixture = pytest.mark.parametrize(
    ("n_components", "component"), [(3, name) for name in FAMILIES] + [(2, "logistic")]
)


def pair(n_components, component, rows=6, seed=0, spread=2.0):
    """Make a mixture with random outputs ``(rows, 3 K D)``, and the same of SciPy."""
    outputs = np.random.default_rng(seed).normal(size=(rows, 3 * n_components * D))
    outputs *= spread
    likelihood = MixtureLikelihood(n_components, component)
    reference = Mixture.given(outputs, n_components, FAMILIES[component])
    return likelihood.given(torch.from_numpy(outputs)), reference


# ------------------------------------------------------------------------- the density


@every_mixture
def test_log_prob_equals_scipy(n_components, component):
    rng = np.random.default_rng(1)
    likelihood, reference = pair(n_components, component)
    x, loc = 20 * rng.standard_normal((2, 6, D))
    for shape in [(1, 1), (1, D), (6, 1), (6, D)]:
        scale = np.exp(rng.normal(size=shape))
        arguments = map(torch.from_numpy, (x, loc, np.log(scale)))
        actual = likelihood.log_prob(*arguments)
        np.testing.assert_allclose(actual, reference.logpdf(x, loc, scale), rtol=1e-11)


@every_mixture
def test_is_normalised_and_has_its_mean(n_components, component):
    likelihood, _ = pair(n_components, component, rows=1, spread=1.0)
    loc = torch.linspace(-3, 3, D, dtype=torch.float64)
    log_scale = torch.linspace(-1, 1, D, dtype=torch.float64)
    # Fine enough for the corners of the Laplace density, and far enough for its tails.
    x = torch.linspace(-400, 400, 400_001, dtype=torch.float64)[:, None]
    density = likelihood.log_prob(x, loc, log_scale).exp()
    np.testing.assert_allclose(torch.trapezoid(density, x, dim=0), 1, atol=1e-5)
    first_moment = torch.trapezoid(x * density, x, dim=0)
    mean = likelihood.mean(loc[None], log_scale)[0]
    np.testing.assert_allclose(first_moment, mean, atol=1e-4)


@every_mixture
def test_sample_has_the_distribution(n_components, component):
    """Each row has a shape of its own, so the quantile of each draw is tested."""
    n = 20_000
    likelihood, reference = pair(n_components, component, rows=n)
    loc = torch.linspace(-3, 3, D, dtype=torch.float64).repeat(n, 1)
    log_scale = torch.tensor([[0.5]], dtype=torch.float64)
    draws = likelihood.sample(loc, log_scale, torch.Generator().manual_seed(0))
    quantiles = reference(loc.numpy(), math.exp(0.5)).cdf(draws.numpy())
    for column in quantiles.T:
        assert scipy.stats.kstest(column, scipy.stats.uniform.cdf).pvalue > 1e-3
    correlation = scipy.stats.spearmanr(quantiles).statistic
    assert np.abs(correlation - np.eye(D)).max() < 5 / math.sqrt(n)


@every_mixture
def test_mean_and_unit_stddev_equal_scipy(n_components, component):
    likelihood, reference = pair(n_components, component)
    loc, log_scale = torch.ones(6, D, dtype=torch.float64), torch.tensor([[0.5]])
    expected = 1 + math.exp(0.5) * reference.mean()
    np.testing.assert_allclose(likelihood.mean(loc, log_scale.double()), expected)
    plain = MixtureLikelihood(n_components, component)
    start = Mixture.given(plain.start_outputs(1), n_components, FAMILIES[component])
    assert plain.unit_stddev == pytest.approx(start.std().item(), rel=1e-12)
    assert start.mean().item() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(plain.mean(loc, log_scale), loc, rtol=1e-12)


@every_mixture
def test_start_is_close_to_one_component(n_components, component):
    """Its divergence from a plain density of equal standard deviation is small."""
    plain = make_likelihood(component)
    likelihood = MixtureLikelihood(n_components, component)
    t = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    log_p = [
        density.log_prob(t, torch.zeros(1), torch.tensor(-math.log(density.unit_stddev)))
        for density in (plain, likelihood)
    ]
    kl = (log_p[0].exp() * (log_p[0] - log_p[1])).sum() * 1e-3
    assert 0 < kl < 0.1
    outputs = likelihood.start_outputs(2).view(3, n_components, 2)
    assert len(set(outputs[0, :, 0].tolist())) == n_components
    assert torch.equal(outputs[..., 0], outputs[..., 1])


@every_mixture
def test_gradient_of_the_outputs(n_components, component):
    """`differentiate_` equals the finite differences of the density of SciPy."""
    rng = np.random.default_rng(3)
    outputs = rng.normal(size=(5, 3 * n_components * D))
    t = 3 * rng.standard_normal((5, D))

    def log_f(t, outputs):
        return Mixture.given(outputs, n_components, FAMILIES[component]).logpdf(t)

    likelihood = MixtureLikelihood(n_components, component)
    likelihood = likelihood.given(torch.from_numpy(outputs))
    overwritten, out = torch.from_numpy(t.copy()), torch.empty(5, D).double()
    grad = torch.empty(outputs.shape, dtype=torch.float64)
    influence = likelihood.differentiate_(overwritten, out=out, grad_outputs=grad)
    assert influence is overwritten
    np.testing.assert_allclose(out, log_f(t, outputs), rtol=1e-12)
    slope = (log_f(t + 1e-6, outputs) - log_f(t - 1e-6, outputs)) / 2e-6
    np.testing.assert_allclose(influence, -slope, rtol=1e-6, atol=1e-8)
    # An output belongs to one feature, so all features can be stepped at once.
    for i in range(3 * n_components):
        step = np.zeros_like(outputs)
        step[:, i * D : (i + 1) * D] = 1e-6
        slope = (log_f(t, outputs + step) - log_f(t, outputs - step)) / 2e-6
        np.testing.assert_allclose(
            grad[:, i * D : (i + 1) * D], slope, rtol=1e-6, atol=1e-8
        )


@every_mixture
@pytest.mark.parametrize("size", [30.0, 1e6])
def test_extreme_outputs_in_float32_are_finite(n_components, component, size):
    """Densities and derivatives, of outputs and residuals far from all data."""
    generator = torch.Generator().manual_seed(0)
    outputs = size * torch.randn(50, 3 * n_components * D, generator=generator)
    t = size * torch.randn(50, D, generator=generator)
    likelihood = MixtureLikelihood(n_components, component).given(outputs)
    grad, out = torch.empty_like(outputs), torch.empty_like(t)
    assert torch.isfinite(likelihood.log_prob(t, torch.zeros(1), torch.zeros(1))).all()
    assert torch.isfinite(likelihood.mean(t, torch.zeros(1))).all()
    assert torch.isfinite(likelihood.differentiate_(t, out=out, grad_outputs=grad)).all()
    assert torch.isfinite(grad).all()


@every_mixture
def test_no_density_is_above_that_of_the_floor(n_components, component):
    """No component is narrower than the scale, so its peak bounds the density."""
    likelihood, _ = pair(n_components, component, rows=5000, spread=20.0)
    zero = torch.zeros(1, dtype=torch.float64)
    peak = make_likelihood(component).log_prob(zero, zero, zero)
    for x in torch.linspace(-50, 50, 11, dtype=torch.float64):
        assert (likelihood.log_prob(x, torch.zeros(5000, D), zero) <= peak).all()


# --------------------------------------------------------------------- the declarations


@pytest.mark.parametrize("n_components", [1, 0, -2, 2.0, "3", True, None])
def test_bad_numbers_of_components(n_components):
    with pytest.raises(ValueError, match="n_components must be an int of at least 2"):
        MixtureLikelihood(n_components)


def test_a_bad_component():
    with pytest.raises(ValueError, match=r"component must be one of .*got 'cauchy'"):
        MixtureLikelihood(component="cauchy")


def test_what_a_mixture_declares():
    first, same = MixtureLikelihood(2, "laplace"), MixtureLikelihood(2, "laplace")
    assert first.capabilities == same.capabilities
    assert first.capabilities.has_analytic_gradient
    assert first.capabilities.is_thread_safe
    for other in (MixtureLikelihood(3, "laplace"), MixtureLikelihood(2)):
        assert other.capabilities.batch_key != first.capabilities.batch_key
    assert repr(first) == "MixtureLikelihood(n_components=2, component='laplace')"
    outputs = torch.zeros(1, 6)
    assert first.given(outputs) is not first
    assert repr(copy.deepcopy(first)) == repr(first)


@pytest.mark.parametrize("name", ["standard_log_prob", "given", "log_prob"])
def test_an_overridden_density_has_no_analytic_gradient(name):
    """Its derivative would be that of the base class."""

    def method(self, *args, **kwargs):
        return getattr(MixtureLikelihood, name)(self, *args, **kwargs)

    Changed = type("Changed", (MixtureLikelihood,), {name: method})
    assert not Changed().has_analytic_gradient


def test_influence_alone_is_no_derivative_of_the_outputs():
    """A density with further outputs needs their derivative too."""

    class Shaped(LocationScale):
        unit_stddev = 1.0

        def start_outputs(self, n_features):
            """Return one output for each feature."""
            return torch.zeros(n_features)

        def standard_log_prob(self, t, *, out=None):
            """Return nothing: the test computes no density."""

        def influence_(self, t):
            return t

        def sample(self, loc, log_scale, generator):
            """Return nothing: the test makes no draws."""

    assert not Shaped().has_analytic_gradient


# ------------------------------------------------------------------------ in estimators

QUICK = {"variance_mode": "predicted", "covariance_type": "diag", "random_state": 0}


def bimodal(n=1500):
    """Draw rows whose second feature is one of two values that no code can tell."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=n)
    sign = rng.choice([-1.0, 1.0], size=n)
    return np.column_stack([first, sign * (2 + 0.3 * first) + 0.1 * rng.normal(size=n)])


def test_two_modes_at_one_code():
    """One component of the code is that of the first feature; the modes need the shape.

    The entropy of the data is known, so the best score is known too.
    """
    X = bimodal()
    normal = 0.5 * math.log(2 * math.pi * math.e)
    best = -(normal + normal + math.log(0.1) + math.log(2))
    scores = {}
    for name in ("laplace", "mixture"):
        model = VariationalAutoencoder(
            1, likelihood=name, alpha=1.0, max_iter=200, **QUICK
        ).fit(X)
        scores[name] = model.log_marginal(X, 256).mean()
    assert scores["mixture"] > best - 0.35
    assert scores["mixture"] > scores["laplace"] + 0.2


def test_distribution_of_samples_equals_quadrature_over_the_code():
    X = bimodal(300)
    model = VariationalAutoencoder(1, likelihood="mixture", max_iter=15, **QUICK).fit(X)
    draws = model.sample(10_000, random_state=0)
    # The same codes, because the stream draws them first.
    means = model.sample(10_000, random_state=0, noise=False)
    error = (draws - means).std(axis=0) / 100
    assert np.all(np.abs((draws - means).mean(axis=0)) < 4 * error)
    axis = np.linspace(-6, 6, 601)[:, None]
    weight = scipy.stats.norm.pdf(axis) / scipy.stats.norm.pdf(axis).sum()
    module = copy.deepcopy(model.module_).double()
    with torch.no_grad():
        _, outputs = module.decode(torch.from_numpy(axis))
        scale = module.scale.log_scale(outputs[:, : module.scale.n_outputs]).exp()
    scale = scale.numpy() * X.std(axis=0)
    distribution, mean = scipy_of(model, axis)
    conditional = distribution(model.inverse_transform(axis) - scale * mean, scale)
    for j in range(2):

        def cdf(x, j=j):
            values = conditional.cdf(np.asarray(x)[:, None, None])
            return (values * weight)[..., j].sum(axis=1)

        assert scipy.stats.kstest(draws[:2000, j], cdf).pvalue > 1e-3


def test_start_is_near_that_of_one_component(X):
    """The shape begins as a constant, so the start is PCA's with a close density."""
    first = {}
    for likelihood in ("logistic", "mixture"):
        model = VariationalAutoencoder(
            2, likelihood=likelihood, max_iter=1, learning_rate_init=1e-12, **QUICK
        ).fit(X)
        first[likelihood] = model.score(X) / X.shape[1]
    assert first["mixture"] == pytest.approx(first["logistic"], abs=0.05)


class WithoutDerivative(MixtureLikelihood):
    """A mixture that autograd differentiates."""

    def standard_log_prob(self, t, *, out=None):
        return super().standard_log_prob(t, out=out)


@pytest.mark.parametrize("component", FAMILIES)
def test_autograd_gives_the_same_fit(component, X):
    analytic, by_autograd = (
        VariationalAutoencoder(
            2, likelihood=kind(3, component), max_iter=5, precision="float64", **QUICK
        ).fit(X)
        for kind in (MixtureLikelihood, WithoutDerivative)
    )
    assert not by_autograd.module_.capabilities.has_analytic_gradient
    # Scores of a likelihood that does not say that it is smooth take more draws.
    bounds = [model.log_marginal(X, 50) for model in (by_autograd, analytic)]
    np.testing.assert_allclose(*bounds, rtol=1e-8)
    np.testing.assert_allclose(
        by_autograd.reconstruct(X), analytic.reconstruct(X), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("component", FAMILIES)
def test_clone_and_pickle(component, X):
    likelihood = MixtureLikelihood(2, component)
    model = VariationalAutoencoder(2, likelihood=likelihood, max_iter=3, **QUICK)
    assert repr(clone(model).likelihood) == repr(likelihood)
    fitted = clone(model).fit(X)
    assert_finite(fitted, X)
    assert_same_answers(pickle.loads(pickle.dumps(fitted)), fitted, X)
    assert_same_answers(clone(model).fit(X), fitted, X)


def test_search_over_mixtures_side_by_side(X):
    grid = {
        "likelihood": [MixtureLikelihood(2), MixtureLikelihood(2), MixtureLikelihood(3)],
        "beta": [1.0, 2.0],
    }
    model = VariationalAutoencoder(2, max_iter=3, **QUICK)
    one_by_one = GridSearchCV(model, grid, cv=2).fit(X)
    together = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    np.testing.assert_array_equal(
        together.cv_results_["mean_test_score"], one_by_one.cv_results_["mean_test_score"]
    )
    assert_same_answers(together.best_estimator_, one_by_one.best_estimator_, X)
