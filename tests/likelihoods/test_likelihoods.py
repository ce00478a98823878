"""All registered likelihoods, against scipy.stats and closed forms."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from skae.likelihoods import LIKELIHOODS, Likelihood, make_likelihood
from tests.families import LOCATION_SCALE
from tests.likelihoods.references import DEVIATION, FROM_MEAN, OPTIMUM, SCIPY, TAIL, TORCH

CLOSED_FORM = sorted(n for n in LOCATION_SCALE if LIKELIHOODS[n].has_optimal_scale)
NO_CLOSED_FORM = sorted(set(LOCATION_SCALE) - set(CLOSED_FORM))

every_likelihood = pytest.mark.parametrize("name", sorted(LOCATION_SCALE))
with_closed_form = pytest.mark.parametrize("name", CLOSED_FORM)


def tensor(values, **kwargs):
    return torch.tensor(values, dtype=torch.float64, **kwargs)


def log_prob(name, x, loc, scale):
    value = LIKELIHOODS[name]().log_prob(tensor(x), tensor(loc), tensor(np.log(scale)))
    return value.numpy()


def test_every_likelihood_has_its_references():
    """A registered likelihood without a reference would be an untested one."""
    hint = "add the likelihood to tests/likelihoods/references.py"
    for table in (SCIPY, TAIL, TORCH):
        assert set(table) == set(LOCATION_SCALE), hint
    for table in (DEVIATION, FROM_MEAN, OPTIMUM):
        assert set(table) == set(CLOSED_FORM), hint
    assert CLOSED_FORM
    assert NO_CLOSED_FORM


@every_likelihood
def test_log_prob_equals_scipy(name):
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(3, 1))
    scale = np.exp(rng.normal(size=4, scale=3))
    # At most 300 scales: scipy's Laplace density underflows beyond 745.
    x = scale * rng.standard_cauchy((5, 1, 4)).clip(-300, 300)
    actual = log_prob(name, x, loc, scale)
    assert actual.shape == (5, 3, 4)
    expected = SCIPY[name].logpdf(x, loc, scale)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)


@every_likelihood
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (6, 1), (6, 4)])
def test_log_prob_broadcasts_every_shape_of_scale(name, shape):
    rng = np.random.default_rng(1)
    x, loc = rng.normal(size=(2, 6, 4))
    scale = np.exp(rng.normal(size=shape))
    np.testing.assert_allclose(
        log_prob(name, x, loc, scale), SCIPY[name].logpdf(x, loc, scale), rtol=1e-12
    )


@every_likelihood
def test_log_prob_in_single_precision(name):
    rng = np.random.default_rng(2)
    x, loc, log_scale = rng.normal(size=(3, 50)).astype(np.float32)
    actual = LIKELIHOODS[name]().log_prob(
        torch.tensor(x), torch.tensor(loc), torch.tensor(log_scale)
    )
    assert actual.dtype == torch.float32
    x, loc, log_scale = x.astype(float), loc.astype(float), log_scale.astype(float)
    expected = SCIPY[name].logpdf(x, loc, np.exp(log_scale))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-6)


@every_likelihood
@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (1.3, 0.4), (-20.0, 37.0)])
def test_integrates_to_one(name, loc, scale):
    def density(x):
        return math.exp(log_prob(name, x, loc, scale))

    below, _ = scipy.integrate.quad(density, -np.inf, loc, epsabs=1e-10)
    above, _ = scipy.integrate.quad(density, loc, np.inf, epsabs=1e-10)
    assert below + above == pytest.approx(1, abs=1e-8)


@every_likelihood
def test_unit_stddev_equals_scipy(name):
    assert LIKELIHOODS[name]().unit_stddev == pytest.approx(SCIPY[name].std(), rel=1e-12)


@every_likelihood
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shared", [True, False])
def test_sample_has_the_distribution(name, dtype, shared):
    loc = torch.tensor([[-3.0, 0.0, 50.0]], dtype=dtype).repeat(20_000, 1)
    log_scale = torch.tensor([[0.0, -2.0, 1.5]], dtype=dtype)
    if not shared:
        log_scale = log_scale.repeat(len(loc), 1)
    generator = torch.Generator().manual_seed(1)
    draws = LIKELIHOODS[name]().sample(loc, log_scale, generator)
    assert draws.shape == loc.shape
    assert draws.dtype == dtype
    assert torch.isfinite(draws).all()
    for column in range(3):
        expected = SCIPY[name](loc[0, column], math.exp(log_scale[0, column]))
        values = draws[:, column].double().numpy()
        assert scipy.stats.kstest(values, expected.cdf).pvalue > 1e-3
    correlation = scipy.stats.spearmanr(draws.numpy()).statistic
    assert np.abs(correlation - np.eye(3)).max() < 5 / math.sqrt(len(loc))


@every_likelihood
def test_spread_of_many_samples_equals_scipy(name):
    """Deviations of a percent are seen, which a test of the distribution misses."""
    n, expected = 400_000, SCIPY[name](5.0, 0.3)
    loc, log_scale = tensor(5.0).expand(n), tensor(math.log(0.3))
    generator = torch.Generator().manual_seed(0)
    draws = LIKELIHOODS[name]().sample(loc, log_scale, generator).numpy()
    # Standard error of a standard deviation, relative to it.
    error = math.sqrt((expected.stats("k") + 2) / (4 * n))
    assert error < 0.0025
    assert draws.std() == pytest.approx(expected.std(), rel=4 * error)
    assert draws.mean() == pytest.approx(5, abs=4 * expected.std() / math.sqrt(n))


@every_likelihood
def test_sample_uses_the_given_generator_and_no_other(name):
    likelihood, loc = LIKELIHOODS[name](), torch.zeros(40, 2)
    log_scale = torch.zeros(1, 1)
    before = torch.get_rng_state()
    first = likelihood.sample(loc, log_scale, torch.Generator().manual_seed(7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(likelihood.sample(loc, log_scale, generator), first)
    assert not torch.equal(likelihood.sample(loc, log_scale, generator), first)
    assert torch.equal(loc, torch.zeros(40, 2))


@every_likelihood
def test_gradcheck_of_log_prob(name):
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (4, 3), (1, 3)]
    inputs = [
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True)
        for s in shapes
    ]
    assert torch.autograd.gradcheck(LIKELIHOODS[name]().log_prob, inputs)


@every_likelihood
@pytest.mark.parametrize("residual", [1e30, -1e30, 1.0, 1e-30, 0.0])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_extreme_ratios_neither_overflow_nor_make_nan(name, residual, scale):
    x = tensor([residual], requires_grad=True)
    log_scale = tensor([math.log(scale)], requires_grad=True)
    value = LIKELIHOODS[name]().log_prob(x, tensor([0.0]), log_scale)
    value.sum().backward()
    for number in (value.detach(), x.grad, log_scale.grad):
        assert torch.isfinite(number).all()
    expected = TAIL[name](residual / scale) - math.log(scale)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-12)


@with_closed_form
def test_optimal_scale_equals_the_fit_of_scipy(name):
    residual = np.random.default_rng(0).normal(size=40, scale=3)
    likelihood = LIKELIHOODS[name]()
    mean_deviation = likelihood.deviation(tensor(residual)).mean()
    expected = SCIPY[name].fit(residual, floc=0)[1]
    assert likelihood.optimal_scale(mean_deviation).item() == pytest.approx(expected)


@with_closed_form
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_optimal_scale_is_a_maximum(name, dim):
    rng = np.random.default_rng(1)
    likelihood = LIKELIHOODS[name]()
    residual = tensor(rng.standard_t(3, size=(30, 5)) * [1e-3, 1, 1, 5, 1e3])
    weight = tensor(rng.uniform(size=(30, 5)))
    axes = {"dim": (0, 1) if dim is None else dim, "keepdim": True}
    deviation = likelihood.deviation(residual)
    assert deviation.shape == residual.shape
    mean = (weight * deviation).sum(**axes) / weight.sum(**axes)
    best = likelihood.optimal_scale(mean).log()
    assert best.shape == mean.shape

    def value(log_scale):
        log_prob = likelihood.log_prob(residual, tensor(0.0), log_scale)
        return (weight * log_prob).sum(**axes)

    best.requires_grad_()
    (slope,) = torch.autograd.grad(value(best).sum(), best)
    assert slope.abs().max().item() < 1e-12 * weight.sum().item() * 30
    with torch.no_grad():
        for step in (-1.0, -1e-2, -1e-3, 1e-3, 1e-2, 1.0):
            assert (value(best + step) < value(best)).all()


@with_closed_form
def test_value_at_the_optimal_scale(name):
    residual = np.random.default_rng(2).normal(size=(30, 5))
    likelihood = LIKELIHOODS[name]()
    scale = likelihood.optimal_scale(likelihood.deviation(tensor(residual)).mean())
    reached = log_prob(name, residual, 0.0, scale.item()).sum(axis=1).mean()
    assert reached == pytest.approx(5 * OPTIMUM[name](residual), rel=1e-12)


@pytest.mark.parametrize("name", NO_CLOSED_FORM)
@pytest.mark.parametrize("method", ["deviation", "optimal_scale"])
def test_no_closed_form_is_an_error_that_names_the_class(name, method):
    likelihood = LIKELIHOODS[name]()
    with pytest.raises(TypeError, match=type(likelihood).__name__):
        getattr(likelihood, method)(torch.ones(2))


def test_a_user_defined_likelihood_is_named_too():
    class Cauchy(Likelihood):
        unit_stddev = 1.0

        def log_prob(self, x, loc, log_scale):
            return -torch.log1p(((x - loc) / log_scale.exp()) ** 2) - log_scale

        def sample(self, loc, log_scale, generator):
            """Return nothing: the test makes no draws."""

    assert not Cauchy.has_optimal_scale
    with pytest.raises(TypeError, match="Cauchy"):
        Cauchy().optimal_scale(torch.ones(2))


@every_likelihood
def test_make_likelihood(name):
    assert type(make_likelihood(name)) is LIKELIHOODS[name]
    instance = LIKELIHOODS[name]()
    assert make_likelihood(instance) is instance


def test_an_incomplete_likelihood_cannot_be_made():
    class Incomplete(Likelihood):
        def log_prob(self, x, loc, log_scale):
            return x

    with pytest.raises(TypeError, match="sample"):
        Incomplete()
