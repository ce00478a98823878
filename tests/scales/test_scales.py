"""All registered scales, with each likelihood that they allow."""

import itertools
import math

import numpy as np
import pytest
import torch

from skae.likelihoods import LIKELIHOODS, Likelihood
from skae.scales import (
    SCALES,
    check_scale,
    legal_combinations,
    make_scale,
    resolve_variance_mode,
)
from skae.scales.base import inverse_floored_exp, log_floored_exp
from tests.families import LOCATION_SCALE, location_scale_combinations
from tests.likelihoods.references import DEVIATION, FROM_MEAN, SCIPY

D, N, N_DRAWS = 5, 7, 3
FLOOR = 1e-3

COMBINATIONS = location_scale_combinations()
CLOSED_FORM = [c for c in COMBINATIONS if SCALES[c[1]].needs_optimal_scale]
OPTIMAL = [c for c in CLOSED_FORM if c[1] == "optimal"]
PROFILE = [c for c in CLOSED_FORM if c[1] == "profile"]
FREE = [c for c in COMBINATIONS if c[1] in {"learned", "predicted"}]

# Negative log-likelihood per feature at the optimal scale, up to the constant in REST.
LOG_ERROR = {
    "gaussian": lambda r, **axes: 0.5 * torch.log(r.square().mean(**axes)),
    "laplace": lambda r, **axes: torch.log(r.abs().mean(**axes)),
}
# The sum of the constant of the density and of the mean error over the optimal scale.
REST = {"gaussian": math.log(2 * math.pi) / 2 + 0.5, "laplace": math.log(2) + 1.0}


def over(combinations):
    return pytest.mark.parametrize("combination", combinations, ids="-".join)


def tensor(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)


def n_scales(covariance_type):
    return {"spherical": 1, "diag": D}[covariance_type]


def build(combination, floor=FLOOR):
    name, mode, covariance_type = combination
    floor = torch.full((1, n_scales(covariance_type)), floor, dtype=torch.float64)
    scale = make_scale(mode, covariance_type, LIKELIHOODS[name](), D, floor)
    return scale.double()


def first_scale(covariance_type):
    return tensor(np.linspace(0.3, 4.0, n_scales(covariance_type))[None])


def set_free(scale, h):
    """Set the free number of a learned or predicted scale to h; return the outputs."""
    if scale.n_outputs:
        return torch.full((N, scale.n_outputs), h, dtype=torch.float64, requires_grad=True)
    (free,) = scale.parameters()
    with torch.no_grad():
        free.fill_(h)
    return torch.empty(N, 0, dtype=torch.float64)


def batch(seed=0):
    """Make data repeated for each draw, their locations, and weights of mean 1."""
    rng = np.random.default_rng(seed)
    x = np.tile(rng.normal(size=(N, D)), (N_DRAWS, 1))
    loc = rng.normal(size=(N_DRAWS * N, D)) * [0.1, 1, 1, 2, 5]
    weight = rng.uniform(0.1, 2, size=(N, 1))
    return x, loc, weight / weight.mean()


def training_log_scale(scale, x, loc, weight):
    outputs = torch.zeros(len(x), scale.n_outputs, dtype=torch.float64)
    return scale.training_log_scale(tensor(x - loc), outputs, tensor(weight))


def weighted_fit(name, residual, weight, axis):
    """Compute the closed form with numpy."""
    mean = np.average(DEVIATION[name](residual), axis=axis, weights=weight, keepdims=True)
    return FROM_MEAN[name](mean)


# ----------------------------------------------------------------------- the registry


def test_legal_combinations_are_those_that_are_not_refused():
    legal = []
    names = sorted(set(LIKELIHOODS) - {"mixed"})
    for name, mode, kind in itertools.product(names, SCALES, ("spherical", "diag")):
        try:
            check_scale(mode, kind, LIKELIHOODS[name]())
        except ValueError:
            continue
        legal.append((name, mode, kind))
    assert sorted(legal) == sorted(legal_combinations())
    assert len(set(legal)) == len(legal)
    assert set(COMBINATIONS) < set(legal)


def test_the_modes_that_the_design_names():
    assert set(SCALES) >= {"fixed", "optimal", "profile", "learned", "predicted"}
    for name in ("gaussian", "laplace"):
        pairs = {c[1:] for c in COMBINATIONS if c[0] == name}
        both = itertools.product(
            ("fixed", "optimal", "learned", "predicted"), ("spherical", "diag")
        )
        assert pairs == {*both, ("profile", "spherical")}


@pytest.mark.parametrize("name", sorted(LOCATION_SCALE))
def test_profile_refuses_diag(name):
    with pytest.raises(ValueError, match=r"'profile'.*covariance_type='diag'") as error:
        check_scale("profile", "diag", LIKELIHOODS[name]())
    assert "explodes" in str(error.value)


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "poisson"])
@pytest.mark.parametrize("mode", sorted(set(SCALES) - {"none"}))
def test_a_likelihood_without_scale_refuses_modes_of_a_scale(name, mode):
    likelihood = LIKELIHOODS[name]()
    kind = SCALES[mode].covariance_types[0]
    with pytest.raises(ValueError, match="needs a likelihood with a scale") as error:
        check_scale(mode, kind, likelihood)
    assert type(likelihood).__name__ in str(error.value)
    assert "Use one of ['none'], or 'auto'" in str(error.value)


@pytest.mark.parametrize("name", sorted(LOCATION_SCALE))
def test_no_scale_is_for_likelihoods_without_scale(name):
    with pytest.raises(ValueError, match="for likelihoods without scale"):
        check_scale("none", "diag", LIKELIHOODS[name]())


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("gaussian", "optimal"),
        ("log_normal", "optimal"),
        ("logistic", "learned"),
        ("negative_binomial", "learned"),
        ("poisson", "none"),
    ],
)
def test_auto_is_the_closed_form_if_there_is_one(name, mode):
    likelihood = LIKELIHOODS[name]()
    check_scale("auto", "diag", likelihood)
    assert resolve_variance_mode("auto", likelihood) == mode
    assert resolve_variance_mode("fixed", likelihood) == "fixed"


class NoClosedForm(Likelihood):
    unit_stddev = 1.0

    def log_prob(self, x, loc, log_scale):
        """Return nothing: no test calls this method."""

    def sample(self, loc, log_scale, generator):
        """Return nothing: no test calls this method."""


@pytest.mark.parametrize(
    "mode", sorted(m for m, s in SCALES.items() if s.needs_optimal_scale)
)
@pytest.mark.parametrize("likelihood", [LIKELIHOODS["logistic"](), NoClosedForm()])
def test_a_missing_closed_form_is_an_error_that_names_both_parts(mode, likelihood):
    with pytest.raises(ValueError, match="closed form") as error:
        check_scale(mode, "spherical", likelihood)
    message = str(error.value)
    assert f"variance_mode='{mode}'" in message
    assert type(likelihood).__name__ in message
    offered = {m for m in SCALES if f"'{m}'" in message.split("Use one of")[1]}
    assert offered == {"fixed", "learned", "predicted"}


# ------------------------------------------------------------------- every combination


@over(COMBINATIONS)
def test_shapes(combination):
    _, mode, covariance_type = combination
    scale, m = build(combination), n_scales(covariance_type)
    assert scale.n_outputs == (m if mode == "predicted" else 0)
    assert scale.is_shared == (mode != "predicted")
    start = scale.start(first_scale(covariance_type))
    assert start.shape == (scale.n_outputs,)
    outputs = torch.zeros(N, scale.n_outputs, dtype=torch.float64)
    rows = {True: 1, False: N}[scale.is_shared]
    assert scale.log_scale(outputs).shape == (rows, m)
    x, loc, weight = batch()
    rows = 1 if mode in {"fixed", "optimal", "learned"} else N * N_DRAWS
    assert training_log_scale(scale, x, loc, weight).shape == (rows, m)
    values = tensor(x[:N])
    pooled = scale.pool(values)
    expected = x[:N] if m == D else x[:N].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(pooled, expected, rtol=1e-14)


@over(COMBINATIONS)
def test_starts_at_the_given_scale(combination):
    scale, guess = build(combination), first_scale(combination[2])
    outputs = scale.start(guess).expand(N, -1)
    actual = scale.log_scale(outputs).exp().expand(N, -1).detach()
    np.testing.assert_allclose(actual, guess.expand(N, -1), rtol=1e-12)


@over([c for c in COMBINATIONS if c[1] != "fixed"])
def test_start_below_the_floor(combination):
    scale = build(combination, floor=0.5)
    outputs = scale.start(0.01 * first_scale(combination[2]))
    actual = scale.log_scale(outputs[None]).exp()
    assert (actual >= 0.5 * (1 - 1e-12)).all()
    assert (actual <= 0.51).all()


@over([c for c in COMBINATIONS if c[1] == "fixed"])
def test_fixed_has_no_floor_and_does_not_move(combination):
    scale = build(combination, floor=0.5)
    given = 1e-9 * first_scale(combination[2])
    scale.start(given)
    assert not list(scale.parameters())
    x, loc, weight = batch()
    during = training_log_scale(scale, x, loc, weight)
    scale.finalize(tensor(np.full((1, n_scales(combination[2])), 3.0)))
    after = scale.log_scale(torch.empty(1, 0, dtype=torch.float64))
    for log_scale in (during, after):
        np.testing.assert_allclose(log_scale.exp(), given, rtol=1e-12)


@over(FREE)
@pytest.mark.parametrize("h", [-700.0, -20.0, 0.0, 20.0, 1e30])
def test_free_scale_stays_above_its_floor_and_finite(combination, h):
    scale = build(combination, floor=0.25)
    log_scale = scale.log_scale(set_free(scale, h)).detach()
    assert torch.isfinite(log_scale).all()
    assert (log_scale >= math.log(0.25) - 1e-12).all()


@over(FREE)
@pytest.mark.parametrize("h", [*np.linspace(-20, 20, 10), -1e-9, 1e-9])
def test_free_scale_has_no_dead_zone(combination, h):
    scale = build(combination)
    outputs = set_free(scale, h)
    log_scale = scale.log_scale(outputs)
    log_scale.sum().backward()
    grad = outputs.grad if scale.n_outputs else next(scale.parameters()).grad
    # exp(h) up to h = 0, then 1 + h: the slope of log(floor + exp(h)), then of a log.
    expected = math.exp(min(h, 0)) / (FLOOR + math.exp(min(h, 0)) + max(h, 0))
    np.testing.assert_allclose(grad, expected, rtol=1e-9)
    assert (grad > 0).all()


@over(FREE)
@pytest.mark.parametrize("h", [-20.0, -3.0, 0.0, 3.0, 20.0])
def test_slope_of_the_free_scale_is_its_finite_difference(combination, h):
    scale = build(combination)
    outputs = set_free(scale, h)
    scale.log_scale(outputs).sum().backward()
    grad = outputs.grad if scale.n_outputs else next(scale.parameters()).grad
    step = 1e-5
    up, down = (scale.log_scale(set_free(scale, h + s)).detach() for s in (step, -step))
    np.testing.assert_allclose(grad, (up - down) / (2 * step), rtol=1e-3)


@pytest.mark.parametrize("floor", [1e-6, 1e-3, 1.0, 1e3])
def test_inverse_floored_exp_is_the_inverse(floor):
    floor = tensor([floor])
    scale = floor * tensor([1.02, 1.5, 2, 10, 1e3, 1e6, 1e9])
    h = inverse_floored_exp(scale, floor)
    np.testing.assert_allclose(log_floored_exp(h, floor).exp(), scale, rtol=1e-12)
    h = tensor([-12.0, -3, -1e-3, 0, 1e-3, 2, 50, 1e6])
    back = inverse_floored_exp(log_floored_exp(h, tensor([1e-6])).exp(), tensor([1e-6]))
    np.testing.assert_allclose(back, h, rtol=1e-8, atol=1e-9)


def test_inverse_floored_exp_at_or_below_the_floor():
    floor = tensor([0.1])
    h = inverse_floored_exp(tensor([-1.0, 0.0, 0.05, 0.1]), floor)
    assert torch.isfinite(h).all()
    scale = log_floored_exp(h, floor).exp()
    assert ((scale > 0.1) & (scale < 0.102)).all()


@over([c for c in COMBINATIONS if not SCALES[c[1]].needs_optimal_scale])
def test_finalize_leaves_other_scales_alone(combination):
    scale = build(combination)
    outputs = scale.start(first_scale(combination[2]))[None]
    before = scale.log_scale(outputs).detach().clone()
    scale.finalize(tensor(np.full((1, n_scales(combination[2])), 9.0)))
    assert torch.equal(scale.log_scale(outputs), before)


# ----------------------------------------------------------------- optimal and profile


@over(OPTIMAL)
def test_optimal_is_the_closed_form_over_batch_and_draws(combination):
    name, _, covariance_type = combination
    x, loc, weight = batch()
    actual = training_log_scale(build(combination), x, loc, weight).exp()
    axis = (0, 1) if covariance_type == "spherical" else 0
    weights = np.tile(weight, (N_DRAWS, D))
    np.testing.assert_allclose(
        actual, weighted_fit(name, x - loc, weights, axis), rtol=1e-12
    )


@over(OPTIMAL)
def test_optimal_of_one_draw_is_scipys_fit(combination):
    name, _, covariance_type = combination
    x, loc, _ = batch()
    x, loc = x[:N], loc[:N]
    actual = training_log_scale(build(combination), x, loc, np.ones((N, 1))).exp()
    if covariance_type == "spherical":
        expected = [SCIPY[name].fit((x - loc).ravel(), floc=0)[1]]
    else:
        expected = [SCIPY[name].fit(r, floc=0)[1] for r in (x - loc).T]
    np.testing.assert_allclose(actual, [expected], rtol=1e-12)


@over(OPTIMAL)
def test_an_integer_weight_is_a_repeated_row(combination):
    x, loc, _ = batch()
    times = np.array([1, 3, 2, 1, 1, 4, 1])
    rows = np.repeat(np.arange(N), times)
    pick = np.concatenate([rows + N * draw for draw in range(N_DRAWS)])
    weighted = training_log_scale(build(combination), x, loc, times[:, None])
    repeated = training_log_scale(
        build(combination), x[pick], loc[pick], np.ones((len(rows), 1))
    )
    np.testing.assert_allclose(weighted, repeated, rtol=1e-12)


@over(PROFILE)
def test_profile_is_the_closed_form_of_each_row(combination):
    name = combination[0]
    x, loc, weight = batch()
    actual = training_log_scale(build(combination), x, loc, weight).exp()
    of_row = [(x - loc)[row::N] for row in range(N)]  # each is (n_draws, d)
    expected = [SCIPY[name].fit(r.ravel(), floc=0)[1] for r in of_row]
    np.testing.assert_allclose(actual[:, 0], np.tile(expected, N_DRAWS), rtol=1e-12)


@over(CLOSED_FORM)
def test_floor_of_closed_forms(combination):
    scale = build(combination, floor=0.5)
    x, _, weight = batch()
    residual = 1e-9 * np.random.default_rng(0).normal(size=x.shape)
    for loc in (x, x - residual):
        log_scale = training_log_scale(scale, x, loc, weight)
        np.testing.assert_allclose(log_scale.exp(), 0.5, rtol=1e-12)
    scale.finalize(torch.zeros(1, n_scales(combination[2]), dtype=torch.float64))
    np.testing.assert_allclose(scale.log_scale(None).exp(), 0.5, rtol=1e-12)


@over(CLOSED_FORM)
def test_a_batch_of_weight_0_gives_finite_scales(combination):
    scale = build(combination)
    x, loc, weight = batch()
    log_scale = training_log_scale(scale, x, loc, 0 * weight)
    assert torch.isfinite(log_scale).all()
    assert torch.isfinite(scale.log_scale(None)).all()


@over(CLOSED_FORM)
def test_running_value_converges_to_the_optimum_of_the_batch(combination):
    name, _, covariance_type = combination
    scale = build(combination)
    scale.start(100 * first_scale(covariance_type))
    before = scale.log_scale(None).clone()
    x, loc, weight = batch()
    axis = (0, 1) if covariance_type == "spherical" else 0
    weights = np.tile(weight, (N_DRAWS, D))
    target = tensor(np.log(weighted_fit(name, x - loc, weights, axis))).reshape(1, -1)
    for _ in range(300):
        training_log_scale(scale, x, loc, weight)
        now = scale.log_scale(None).clone()
        assert ((target <= now) & (now <= before)).all()
        # The value is a running mean and not that of the last batch.
        assert ((now - target) >= 0.5 * (before - target)).all()
        before = now
        if (now - target).abs().max() < 1e-9:
            break
    np.testing.assert_allclose(now, target, atol=1e-9)


@over(CLOSED_FORM)
def test_finalize_is_the_closed_form(combination):
    name, _, covariance_type = combination
    scale = build(combination)
    scale.start(first_scale(covariance_type))
    residual = np.random.default_rng(3).normal(size=(50, D)) * [1, 2, 3, 4, 5]
    deviation = DEVIATION[name](residual)
    if covariance_type == "spherical":
        mean, expected = deviation.mean(), SCIPY[name].fit(residual.ravel(), floc=0)[1]
    else:
        mean = deviation.mean(axis=0)
        expected = [SCIPY[name].fit(r, floc=0)[1] for r in residual.T]
    scale.finalize(tensor(np.reshape(mean, (1, -1))))
    actual = scale.log_scale(None).exp()
    np.testing.assert_allclose(actual, np.reshape(expected, (1, -1)), rtol=1e-12)


def loss_gradient(combination, x, loc, weight):
    """Compute the mean negative log-likelihood of a batch, and its gradient by loc."""
    scale, likelihood = build(combination, floor=1e-12), LIKELIHOODS[combination[0]]()
    x, loc, weight = tensor(x), tensor(loc).requires_grad_(), tensor(weight)
    log_scale = scale.training_log_scale(x - loc, x[:, :0], weight)
    log_prob = likelihood.log_prob(x, loc, log_scale).sum(dim=1)
    loss = -(log_prob.view(-1, len(weight)) * weight.T).mean()
    (grad,) = torch.autograd.grad(loss, loc)
    return loss.item(), grad


@over(OPTIMAL)
@pytest.mark.parametrize("with_draws", [False, True])
def test_optimal_trains_on_the_log_of_the_mean_error(combination, with_draws):
    name, _, covariance_type = combination
    x, loc, _ = batch()
    if not with_draws:
        x, loc = x[:N], loc[:N]
    value, grad = loss_gradient(combination, x, loc, np.ones((N, 1)))

    free = tensor(loc).requires_grad_()
    residual = tensor(x) - free
    if covariance_type == "spherical":
        expected = D * LOG_ERROR[name](residual)
    else:
        expected = LOG_ERROR[name](residual, dim=0).sum()
    (expected_grad,) = torch.autograd.grad(expected, free)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-10)
    assert value == pytest.approx(expected.item() + D * REST[name], rel=1e-12)


@over(OPTIMAL)
def test_optimal_with_weights_trains_on_the_log_of_the_weighted_mean_error(combination):
    name, _, covariance_type = combination
    x, loc, weight = batch()
    _, grad = loss_gradient(combination, x, loc, weight)

    free = tensor(loc).requires_grad_()
    # The same as if each element were repeated `weight` times.
    power = {"gaussian": 2, "laplace": 1}[name]
    error = (tensor(x) - free).abs() ** power * tensor(np.tile(weight, (N_DRAWS, 1)))
    if covariance_type == "spherical":
        expected = D * error.mean().log() / power
    else:
        expected = error.mean(dim=0).log().sum() / power
    (expected_grad,) = torch.autograd.grad(expected, free)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-10)


@over(PROFILE)
def test_profile_trains_on_the_mean_of_the_logs(combination):
    name = combination[0]
    x, loc, weight = batch()
    value, grad = loss_gradient(combination, x[:N], loc[:N], weight)

    free = tensor(loc[:N]).requires_grad_()
    of_row = D * LOG_ERROR[name](tensor(x[:N]) - free, dim=1)
    expected = (tensor(weight)[:, 0] * of_row).mean()
    (expected_grad,) = torch.autograd.grad(expected, free)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-10)
    assert value == pytest.approx(expected.item() + D * REST[name], rel=1e-12)


@over(CLOSED_FORM)
def test_no_gradient_flows_through_a_closed_form(combination):
    x, loc, weight = batch()
    free = tensor(loc).requires_grad_()
    log_scale = build(combination).training_log_scale(
        tensor(x) - free, tensor(x)[:, :0], tensor(weight)
    )
    assert not log_scale.requires_grad
