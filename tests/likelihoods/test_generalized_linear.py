"""Distributions whose location is a linear predictor, against SciPy and autograd."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch

from skae.likelihoods import LIKELIHOODS, CategoricalLikelihood, Moments
from skae.likelihoods.support import SUPPORTS
from tests.families import GENERALIZED_LINEAR

SIZES = (3, 2)


def make(name):
    """Make a likelihood; a categorical one is of two columns."""
    likelihood = LIKELIHOODS[name]()
    if isinstance(likelihood, CategoricalLikelihood):
        return likelihood.with_sizes(SIZES)
    return likelihood


def tensor(values, **kwargs):
    return torch.tensor(np.asarray(values, dtype=np.float64), **kwargs)


def continuous_bernoulli(x, loc):
    """Return the log-density of the normalised exponential of x * loc on [0, 1]."""
    normalizer = [
        scipy.integrate.quad(lambda t, e=e: math.exp(e * t), 0, 1, epsabs=0)[0]
        for e in np.ravel(loc)
    ]
    return x * loc - np.log(np.reshape(normalizer, np.shape(loc)))


def negative_binomial(x, loc, scale):
    r = scale**-2
    return scipy.stats.nbinom.logpmf(x, r, r / (r + np.exp(loc)))


# Log-probability or log-density of x for the predictor, from SciPy.
SCIPY = {
    "bernoulli": lambda x, loc, _: scipy.stats.bernoulli.logpmf(
        x, scipy.special.expit(loc)
    ),
    "continuous_bernoulli": lambda x, loc, _: continuous_bernoulli(x, loc),
    "poisson": lambda x, loc, _: scipy.stats.poisson.logpmf(x, np.exp(loc)),
    "negative_binomial": negative_binomial,
}
ONE_FEATURE = sorted(SCIPY)
COUNTS = ["negative_binomial", "poisson"]


def data(name, n, rng):
    """Draw data ``(n, 5)`` of the support of a likelihood."""
    if name == "categorical":
        codes = [rng.integers(0, size, n) for size in SIZES]
        parts = [np.eye(s)[c] for s, c in zip(SIZES, codes, strict=True)]
        return np.concatenate(parts, axis=1)
    if name == "bernoulli":
        return rng.integers(0, 2, (n, 5)).astype(float)
    if name == "continuous_bernoulli":
        return rng.uniform(size=(n, 5)).round(2)
    return rng.negative_binomial(1, 0.1, (n, 5)).astype(float)


def test_every_family_has_a_reference():
    assert {*SCIPY, "categorical"} == set(GENERALIZED_LINEAR)
    assert all(LIKELIHOODS[name].support in {*SUPPORTS, "category"} for name in LIKELIHOODS)


@pytest.mark.parametrize("name", ONE_FEATURE)
def test_log_prob_equals_scipy(name):
    rng = np.random.default_rng(0)
    x, loc = data(name, 40, rng), rng.normal(size=(40, 5), scale=2)
    scale = np.exp(rng.normal(size=(1, 5)))
    actual = make(name).log_prob(tensor(x), tensor(loc), tensor(np.log(scale)))
    expected = SCIPY[name](x, loc, scale)
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_categorical_equals_scipy():
    rng = np.random.default_rng(0)
    x, loc = data("categorical", 30, rng), rng.normal(size=(30, 5), scale=3)
    actual = make("categorical").log_prob(tensor(x), tensor(loc), tensor([[0.0]]))
    expected = np.zeros(30)
    for part in (slice(0, 3), slice(3, 5)):
        p = scipy.special.softmax(loc[:, part], axis=1)
        expected += [
            scipy.stats.multinomial.logpmf(row, 1, q)
            for row, q in zip(x[:, part], p, strict=True)
        ]
    np.testing.assert_allclose(actual.sum(dim=1), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-4, 0.03, 0.2, 0.249, 0.251, 1.0, 5.0])
@pytest.mark.parametrize("mean", [0.01, 3.0, 1e4])
def test_negative_binomial_of_any_shape(scale, mean):
    """Shapes on both sides of the series equal SciPy, and the limit is Poisson."""
    x = np.array([0.0, 1.0, 7.0, 1000.0, 9999.0])
    loc = np.full(5, math.log(mean))
    actual = make("negative_binomial").log_prob(
        tensor(x), tensor(loc), tensor(math.log(scale))
    )
    if scale == 1e-4:
        # SciPy loses digits; the first-order correction of Poisson is its square.
        expected = scipy.stats.poisson.logpmf(x, mean)
        expected = expected + scale**2 * ((x - mean) ** 2 - x) / 2
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-6)
    else:
        np.testing.assert_allclose(actual, negative_binomial(x, loc, scale), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mean", [1e3, 1e7, 1e12, 1e15])
def test_large_counts_lose_no_digits(mean, dtype):
    """Near the mean, the log-mass is that of a normal density, to the first order."""
    scale = 0.5
    for name, variance in (("poisson", mean), ("negative_binomial", (scale * mean) ** 2)):
        loc = torch.tensor(math.log(mean), dtype=torch.float64).to(dtype)
        rate = float(loc.double().exp())
        x = torch.tensor(rate).to(dtype)
        log_scale = torch.tensor(math.log(scale), dtype=dtype)
        actual = float(make(name).log_prob(x, loc, log_scale))
        if name == "poisson":
            # The rounding of the predictor moves the rate by that much.
            off = (float(x) - rate) ** 2 / (2 * rate)
            expected = -0.5 * math.log(2 * math.pi * variance) - off
            spread = rate * float(torch.finfo(dtype).eps) * 40
            assert actual == pytest.approx(expected, abs=0.01 + spread**2 / rate)
        else:
            r = scale**-2
            expected = r * math.log(r) - scipy.special.gammaln(r) - math.log(rate) - r
            assert actual == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("loc", [-3.0, 0.5, 3.0])
def test_counts_sum_to_one(name, loc):
    x = torch.arange(20_000, dtype=torch.float64)
    log_mass = make(name).log_prob(x, tensor(loc), tensor(math.log(0.8)))
    assert float(log_mass.exp().sum()) == pytest.approx(1, abs=1e-9)


def test_flags_and_categories_sum_to_one():
    loc = tensor([-2.0, 0.3, 5.0])
    flags = [make("bernoulli").log_prob(x * torch.ones(3), loc, loc) for x in (0.0, 1.0)]
    torch.testing.assert_close(sum(f.exp() for f in flags), torch.ones(3).double())
    likelihood, total = make("categorical"), 0.0
    loc = tensor(np.linspace(-3, 3, 5))
    for i, j in itertools.product(range(3), range(2)):
        x = torch.cat([torch.eye(3)[i], torch.eye(2)[j]]).double()
        total += math.exp(likelihood.log_prob(x, loc, loc).sum())
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("loc", [-800.0, -30.0, -0.06, -0.04, 0.0, 1e-9, 0.049, 7.0, 800.0])
def test_continuous_bernoulli_integrates_to_one(loc):
    likelihood = make("continuous_bernoulli")

    def density(x):
        return math.exp(likelihood.log_prob(tensor(x), tensor(loc), tensor(0.0)))

    near = 0.0 if loc < 0 else 1.0
    points = sorted({0.5, abs(near - 0.01), abs(near - 0.1)})
    total, _ = scipy.integrate.quad(density, 0, 1, points=points, limit=200)
    assert total == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("name", sorted(GENERALIZED_LINEAR))
@pytest.mark.parametrize("log_scale", [-4.0, -1.3, -0.5, 1.0])
def test_derivatives_equal_autograd(name, log_scale):
    rng = np.random.default_rng(1)
    x, likelihood = tensor(data(name, 20, rng)), make(name)
    loc = tensor(rng.normal(size=(20, 5), scale=2), requires_grad=True)
    log_scales = torch.full((20, 5), log_scale, dtype=torch.float64, requires_grad=True)
    weight = tensor(rng.uniform(size=(20, 1)))
    (likelihood.log_prob(x, loc, log_scales) * weight).sum().backward()
    with torch.no_grad():
        found = likelihood.derivatives(x, loc, log_scales, weight)
        log_prob = likelihood.log_prob(x, loc, log_scales)
    torch.testing.assert_close(found.log_prob, log_prob, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.loc, loc.grad, rtol=1e-9, atol=1e-11)
    assert (found.log_scale is not None) == likelihood.has_scale
    if found.log_scale is not None:
        torch.testing.assert_close(found.log_scale, log_scales.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(GENERALIZED_LINEAR))
def test_single_precision_is_close_to_double(name):
    rng = np.random.default_rng(2)
    x, loc = data(name, 200, rng), rng.normal(size=(200, 5), scale=2)
    for log_scale in (-6.0, -2.0, 0.0, 2.0):
        arguments = [tensor(a) for a in (x, loc, np.full((1, 5), log_scale))]
        weight = torch.ones(1, 1, dtype=torch.float64)
        exact = make(name).derivatives(*arguments, weight)
        single = make(name).derivatives(*(a.float() for a in (*arguments, weight)))
        for a, b in zip(exact, single, strict=True):
            if a is not None:
                assert b.dtype == torch.float32
                torch.testing.assert_close(b.double(), a, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("name", sorted(GENERALIZED_LINEAR))
@pytest.mark.parametrize("size", [0.0, 90.0, 1e4, 1e20, 1e38])
def test_extreme_predictors_have_no_nan(name, size):
    for sign in (-1.0, 1.0):
        x = torch.tensor(data(name, 4, np.random.default_rng(0)), dtype=torch.float32)
        loc = torch.full((4, 5), sign * size, requires_grad=True)
        loc_parts = loc * torch.tensor([1.0, -1.0, 0.5, 1.0, -1.0])
        log_scale = torch.zeros(1, 5)
        value = make(name).log_prob(x, loc_parts, log_scale)
        assert not value.isnan().any()
        found = make(name).derivatives(x, loc_parts.detach(), log_scale, torch.ones(1, 1))
        assert not found.loc.isnan().any()
        mean = make(name).mean(loc_parts.detach(), log_scale)
        assert mean.isfinite().all() or size > 1e19


@pytest.mark.parametrize("name", sorted(GENERALIZED_LINEAR))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_have_the_mean_and_the_support(name, dtype):
    likelihood, n = make(name), 100_000
    loc = torch.tensor([-1.5, 0.0, 0.8, 2.0, -0.3], dtype=dtype).expand(n, -1)
    log_scale = torch.full((1, 1), math.log(0.7), dtype=dtype)
    before = torch.get_rng_state()
    draws = likelihood.sample(loc, log_scale, torch.Generator().manual_seed(0))
    again = likelihood.sample(loc, log_scale, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draws, again)
    assert draws.dtype == dtype
    mean = likelihood.mean(loc[:1], log_scale)[0].double()
    error = draws.double().std(dim=0) / math.sqrt(n)
    assert (draws.double().mean(dim=0) - mean).abs().div(error).max() < 4.5
    support = SUPPORTS.get(likelihood.support)
    if support is not None:
        assert support.contains(draws.numpy()).all()
    else:
        for group in draws.split(SIZES, dim=1):
            assert torch.equal(group.sum(dim=1), torch.ones(n, dtype=dtype))


@pytest.mark.parametrize("name", COUNTS)
def test_samples_of_counts_have_the_distribution(name):
    n, loc, scale = 50_000, 1.2, 0.7
    predictor = torch.full((n, 1), loc, dtype=torch.float64)
    draws = make(name).sample(
        predictor, tensor([[math.log(scale)]]), torch.Generator().manual_seed(1)
    )
    counts = np.bincount(draws.numpy().astype(int).ravel(), minlength=60)[:60]
    expected = n * np.exp(SCIPY[name](np.arange(60), loc, scale))
    kept = expected > 5
    rest = [n - counts[kept].sum()], [n - expected[kept].sum()]
    observed = np.append(counts[kept], rest[0])
    test = scipy.stats.chisquare(observed, np.append(expected[kept], rest[1]))
    assert test.pvalue > 1e-3


def test_samples_of_the_continuous_bernoulli_have_the_distribution():
    likelihood, n = make("continuous_bernoulli"), 20_000
    for loc in (-5.0, -1e-4, 0.0, 0.3, 40.0):
        predictor = torch.full((n, 1), loc, dtype=torch.float64)
        draws = likelihood.sample(predictor, predictor, torch.Generator().manual_seed(2))

        def cdf(x, loc=loc):
            return x if loc == 0 else np.expm1(loc * x) / np.expm1(loc)

        assert scipy.stats.kstest(draws.numpy().ravel(), cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", sorted(GENERALIZED_LINEAR))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_the_encoder_sees_leads_back_to_the_data(name, dtype):
    x, likelihood = data(name, 300, np.random.default_rng(3)), make(name)
    t = torch.tensor(likelihood.to_input(x)).to(dtype)
    # Standardised and back, as in a module.
    mean, std = t.mean(dim=0), t.std(dim=0)
    back = likelihood.from_input((t - mean) / std * std + mean)
    if name == "continuous_bernoulli":
        torch.testing.assert_close(back.double(), tensor(x), rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(back.double(), tensor(x))


@pytest.mark.parametrize("name", sorted(GENERALIZED_LINEAR))
def test_the_start_has_the_mean_of_the_data(name):
    x, likelihood = data(name, 4000, np.random.default_rng(4)), make(name)
    moments = Moments(
        np.full(5, float(len(x))), x.mean(axis=0), x.var(axis=0),
        likelihood.to_input(x).mean(axis=0),
    )  # fmt: skip
    start = likelihood.start(moments)
    mean = likelihood.mean(tensor(start.predictor)[None], tensor([[0.0]]))[0]
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=2e-3)
    for values in start:
        assert values.shape == (5,)
        assert np.isfinite(values).all()
    assert (start.slope > 0).all()
    assert (start.noise > 0).all()


@pytest.mark.parametrize("name", sorted(GENERALIZED_LINEAR))
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_start_of_constant_columns_is_finite(name, value):
    moments = Moments(
        np.full(5, 3.0), np.full(5, value), np.zeros(5), np.full(5, np.log1p(value))
    )
    for values in make(name).start(moments):
        assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"one_hot": "yes"}, "one_hot must be"), ({"handle_unknown": "drop"}, "must be 'err")],
)
def test_parameters_of_the_categorical_likelihood(arguments, message):
    with pytest.raises(ValueError, match=message):
        CategoricalLikelihood(**arguments)
