"""The expected log-density of a score: its parts against quadrature and many draws."""

import math

import numpy as np
import pytest
import torch

from skae import VariationalAutoencoder
from skae._module import Spec
from skae.likelihoods import LIKELIHOODS, LaplaceLikelihood, MixtureLikelihood
from skae.networks import MLP
from skae.objectives import ELBO
from skae.objectives.draws import matched_normal
from skae.objectives.expectation import (
    TOLERANCE,
    draws_of_scores,
    expect,
    expected_log_prob,
)

# Data that the likelihood may have, and the error of its expectation in nats.
WITH_EXPECTATION = {
    "bernoulli": ([0.0, 1.0], 1e-3),
    "continuous_bernoulli": ([0.0, 0.3, 1.0], 1e-3),
    "gaussian": ([-3.0, 0.1, 2.0], 1e-12),
    "laplace": ([-3.0, 0.0, 0.4, 2.0], 1e-5),
    "log_normal": ([-3.0, 0.1, 2.0], 1e-12),
    "logistic": ([-3.0, 0.0, 0.4, 2.0], 2e-3),
    "negative_binomial": ([0.0, 1.0, 7.0], 1e-3),
    "poisson": ([0.0, 1.0, 7.0], 2e-3),
    "student_t": ([-3.0, 0.0, 0.4, 2.0], 5e-3),
}


def test_which_likelihoods_have_an_expectation():
    found = {name for name, family in LIKELIHOODS.items() if family().has_expectation}
    assert found == set(WITH_EXPECTATION)


@pytest.mark.parametrize("name", sorted(WITH_EXPECTATION))
@pytest.mark.parametrize("std", [0.0, 0.1, 0.8])
def test_expected_log_prob_is_the_integral_over_a_normal_location(name, std):
    values, error = WITH_EXPECTATION[name]
    likelihood = LIKELIHOODS[name]()
    x = torch.tensor(values, dtype=torch.float64)[:, None]
    loc = torch.tensor([-0.3, 0.0, 0.7], dtype=torch.float64)
    log_scale = torch.tensor(-0.1, dtype=torch.float64)
    # A trapezoidal rule of the normal density, which is exact to the last digits.
    t = torch.linspace(-9, 9, 40_001, dtype=torch.float64)[:, None, None]
    weight = torch.exp(-0.5 * t.square()) * (18 / 40_000) / math.sqrt(2 * math.pi)
    expected = (weight * likelihood.log_prob(x, loc + std * t, log_scale)).sum(dim=0)
    actual = likelihood.expected_log_prob(x, loc, torch.full_like(loc, std), log_scale)
    assert (actual - expected).abs().max() < error + 1e-7


def test_a_subclass_declares_its_own_expectation():
    """A density that is overridden would not have the expectation of its base class."""

    class Other(LaplaceLikelihood):
        pass

    assert LaplaceLikelihood.has_expectation
    assert not Other.has_expectation
    assert MixtureLikelihood(2).is_smooth
    assert not MixtureLikelihood(2, component="laplace").is_smooth


@pytest.mark.parametrize(
    ("likelihood", "numbers"),
    [
        ("laplace", [8, 32]),
        ("gaussian", [8, 32]),
        ("categorical", [32]),
        ("mixture", [32]),
        (MixtureLikelihood(2, component="laplace"), [256]),
    ],
)
def test_numbers_of_draws(likelihood, numbers):
    family = LIKELIHOODS[likelihood]() if isinstance(likelihood, str) else likelihood
    for k in (1, 3, 100):
        spec = Spec(4, k, 2, MLP(()), family, "learned", "spherical")
        found = [draws.shape for draws in draws_of_scores(spec)]
        assert found == [(n, 1, k) for n in sorted({max(n, 2 * k) for n in numbers})]
        assert ELBO(1.0, "constant", 1).n_draws(spec) == found[0][0]


def test_rows_of_large_error_take_more_draws_continuously():
    """A row on its own, and the same row beside others, take the same draws."""
    error = torch.linspace(0, 1.5 * TOLERANCE, 31)
    taken = []

    def evaluate(y, heads, draws):
        taken.append((len(draws), len(y)))
        return torch.full((len(y), 1), float(len(draws))), y[:, 0]

    sets = [torch.zeros(8, 1, 1), torch.zeros(32, 1, 1)]
    values = expect(evaluate, error[:, None], error[:, None], sets)[:, 0]
    share = (2 * error / TOLERANCE - 1).clamp(0, 1)
    torch.testing.assert_close(values, 8 + 24 * share)
    assert sum(n for draws, n in taken if draws == 32) == int((share > 0).sum())
    # The blocks are not larger than the first evaluation.
    assert max(draws * n for draws, n in taken) <= 8 * len(error)
    alone = torch.cat([expect(evaluate, e, e, sets) for e in error[:, None, None]])[:, 0]
    torch.testing.assert_close(alone, values)


@pytest.mark.parametrize("first", [math.inf, math.nan])
def test_a_first_result_that_is_not_finite_is_replaced(first):
    def evaluate(y, heads, draws):
        value = first if len(draws) == 8 else 3.0
        return torch.full((len(y), 2), value), torch.full((len(y),), math.nan)

    sets = [torch.zeros(8, 1, 1), torch.zeros(32, 1, 1)]
    y = torch.zeros(5, 1)
    torch.testing.assert_close(expect(evaluate, y, y, sets), torch.full((5, 2), 3.0))


@pytest.mark.parametrize("n_draws", [8, 32])
@pytest.mark.parametrize("slope", [1.0, 8.0, 40.0])
def test_a_rate_that_is_bounded_where_its_linear_part_explodes(slope, n_draws):
    """The exponential of half the slope is no correction for a decoder with a kink."""
    x = torch.tensor([[0.0, 3.0]], dtype=torch.float64)
    likelihood, log_scale = LIKELIHOODS["poisson"](), torch.zeros(1, 1).double()

    def loc(z):
        return torch.relu(slope * z).neg()[:, None, None].expand(-1, 1, 2)

    draws = matched_normal(1, n_draws)[:, 0]
    outputs = torch.zeros(n_draws, 1, 0).double()
    found, rest = expected_log_prob(
        lambda _: (likelihood, log_scale), x, loc(draws), outputs
    )
    t = torch.linspace(-9, 9, 40_001, dtype=torch.float64)
    weight = torch.exp(-0.5 * t.square())[:, None, None] * (
        18 / 40_000 / math.sqrt(2 * math.pi)
    )
    exact = (weight * likelihood.log_prob(x, loc(t), log_scale)).sum(dim=0)
    # A mean over so few draws is off by about as much; a linear part by 1e5 or more.
    assert ((found - exact).abs() < 5 * (1 - exact)).all()
    assert (found <= 0).all()
    assert rest.isfinite().all()


def curved(n, seed=0):
    """Draw rows near a curved surface of two dimensions."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 2))
    W, curvature = rng.normal(size=(2, 12)), rng.normal(size=(2, 12))
    return Z @ W + np.sin(2 * Z @ curvature) + 0.3 * rng.standard_t(5, size=(n, 12))


CASES = [
    ("gaussian", "optimal", "spherical"),
    ("gaussian", "predicted", "diag"),
    ("laplace", "optimal", "spherical"),
    ("laplace", "predicted", "diag"),
    ("logistic", "learned", "diag"),
    ("student_t", "learned", "spherical"),
    ("student_t", "predicted", "spherical"),
    ("mixture", "learned", "diag"),
    ("bernoulli", "none", "spherical"),
    ("poisson", "none", "spherical"),
    ("negative_binomial", "learned", "diag"),
]


@pytest.mark.parametrize(
    ("case", "k"),
    [pytest.param(case, (2, 6)[i % 2], id="-".join(case)) for i, case in enumerate(CASES)],
)
def test_error_of_a_score(case, k):
    """The error that the guide states, against many more draws of the plain mean."""
    name, mode, kind = case
    X = curved(400)
    if name == "bernoulli":
        X = (X > 0).astype(float)
    elif name in ("poisson", "negative_binomial"):
        X = np.random.default_rng(1).poisson(np.exp(0.4 * X.clip(-4, 4))).astype(float)
    model = VariationalAutoencoder(
        k,
        likelihood=name,
        variance_mode=mode,
        covariance_type=kind,
        max_iter=40,
        n_iter_no_change=40,
        random_state=0,
    ).fit(X)
    some = X[::5]
    data = model._validate(some)
    draws = matched_normal(k, 2**11)[:, None]
    objective = model._fitted_objective()
    exact = model._to_units(
        model._over_rows(
            lambda module, y: objective.log_likelihood(module, y, draws), data, n_draws=256
        ),
        data,
    ).numpy()
    gap = model.score_samples(some) - exact
    assert math.sqrt(np.square(gap).mean()) < 0.1
    assert abs(gap.mean()) < 0.03
