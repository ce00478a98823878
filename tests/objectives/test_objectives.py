"""Both objectives against torch.distributions, quadrature and finite differences."""

import copy
import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch import distributions

from skae import VariationalAutoencoder
from skae._module import Spec
from skae.likelihoods import LIKELIHOODS
from skae.networks import MLP
from skae.objectives import (
    ELBO,
    KL_SCHEDULES,
    CyclicalSchedule,
    DecreasingSchedule,
    LinearSchedule,
    NegativeLogLikelihood,
)
from skae.objectives.draws import matched_normal, sobol_normal
from skae.objectives.schedules import make_schedule
from tests.families import LOCATION_SCALE, location_scale_combinations
from tests.likelihoods.references import GIVEN, TORCH, scipy_given, scipy_of
from tests.objectives.models import D, K, make_module

N = 7
COMBINATIONS = location_scale_combinations()
OBJECTIVES = {
    "elbo": ELBO(beta=0.7, schedule="constant", n_mc_samples=3),
    "nll": NegativeLogLikelihood(),
}

every_combination = pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
every_objective = pytest.mark.parametrize("objective", sorted(OBJECTIVES))


def make_batch(n=N, seed=1):
    rng = np.random.default_rng(seed)
    y = torch.tensor(rng.normal(size=(n, D)))
    weight = rng.uniform(0.2, 2, size=(n, 1))
    return y, torch.tensor(weight / weight.mean())


def draws_for(objective, seed=11):
    generator = torch.Generator().manual_seed(seed)
    shape = (objective.n_mc_samples, N, K)
    return torch.empty(shape, dtype=torch.float64).normal_(generator=generator)


def posterior(module, y):
    """Compute q(z|x) by the formula: exp of the second head, linear above 0."""
    mean, h = module.encode(y).detach().numpy().reshape(len(y), 2, K).swapaxes(0, 1)
    std = np.where(h < 0, np.exp(np.minimum(h, 0)), 1 + h)
    return distributions.Normal(torch.tensor(mean), torch.tensor(std))


def name_of(module):
    """Return the name of a module's likelihood."""
    (name,) = (n for n, c in LIKELIHOODS.items() if c is type(module.spec.likelihood))
    return name


def parameters_of(module, z):
    """Decode codes to location, scale and the likelihood's own outputs."""
    loc, outputs = module.decode(z)
    of_scale, own = outputs.tensor_split([module.scale.n_outputs], dim=1)
    return loc, module.scale.log_scale(of_scale).exp().expand_as(loc), own


def conditional(module, z):
    """Compute p(x|z) with torch.distributions."""
    loc, scale, own = (
        part.reshape(*z.shape[:-1], part.shape[1])
        for part in parameters_of(module, z.reshape(-1, K))
    )
    name = name_of(module)
    return TORCH[name](loc, scale, own) if name in GIVEN else TORCH[name](loc, scale)


# -------------------------------------------------------------------------- posterior


@pytest.mark.parametrize("bias", [-3.0, 0.3, 3.0])
def test_posterior_codes_and_kl(bias):
    module, (y, _) = make_module(COMBINATIONS[0], 2), make_batch()
    with torch.no_grad():
        module.linear_encoder.bias[K:] += bias
        q = posterior(module, y)
        mean, log_std = OBJECTIVES["elbo"].posterior(module, y)
        np.testing.assert_allclose(mean, q.mean, rtol=1e-12)
        np.testing.assert_allclose(log_std.exp(), q.stddev, rtol=1e-12)
        assert torch.equal(OBJECTIVES["elbo"].code(module, y), mean)

        draws = torch.tensor(np.random.default_rng(0).normal(size=(3, N, K)))
        z, kl = OBJECTIVES["elbo"].latents(module, y, draws)
        expected = q.mean + q.stddev * draws
        np.testing.assert_allclose(z.view(3, N, K), expected, rtol=1e-12)
        prior = distributions.Normal(torch.zeros(K), torch.ones(K))
        expected = distributions.kl_divergence(q, prior)
        assert kl.shape == (N, K)
        np.testing.assert_allclose(kl, expected, rtol=1e-10, atol=1e-13)


def test_slope_of_the_posterior_is_its_finite_difference():
    """Also if the second head is exactly 0, as in a component beyond those of PCA."""
    module, (y, _) = make_module(COMBINATIONS[0], 2), make_batch()
    objective = OBJECTIVES["elbo"]
    for target in (-2.0, 0.0, 2.0):
        with torch.no_grad():
            for p in module.encoder.parameters():
                p.zero_()
            module.linear_encoder.weight.zero_()
            module.code_gain.fill_(1)
            module.linear_encoder.bias.fill_(target)
        module.zero_grad()
        objective.posterior(module, y)[1].sum().backward()
        actual = module.linear_encoder.bias.grad[K:] / N
        step, values = 1e-6, []
        for shift in (step, -step):
            with torch.no_grad():
                module.linear_encoder.bias.fill_(target + shift)
                values.append(objective.posterior(module, y)[1].mean().item())
        expected = (values[0] - values[1]) / (2 * step)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_no_input_overflows_the_posterior(sign):
    module = make_module(COMBINATIONS[0], 2)
    y = sign * torch.tensor([[1e30, 1e30, 1e30, 1e30], [1e30, 0, -1e30, 1e15]]).double()
    objective = OBJECTIVES["elbo"]
    with torch.no_grad():
        _, log_std = objective.posterior(module, y)
        z, kl = objective.latents(module, y, objective.draws(module.spec)[:, None])
        assert log_std.max() > 10 or log_std.min() < -10
        for values in (log_std, log_std.exp(), z, kl):
            assert torch.isfinite(values).all()
        scores = objective.log_likelihood(module, y, objective.draws(module.spec)[:, None])
        assert torch.isfinite(scores).all()
        single = module.float()
        _, log_std = objective.posterior(single, y.float())
        z, _ = objective.latents(single, y.float(), objective.draws(single.spec)[:, None])
        for values in (log_std, log_std.exp(), z):
            assert torch.isfinite(values).all()


def test_far_inputs_keep_a_gradient():
    module = make_module(COMBINATIONS[0], 2)
    y = 1e3 * make_batch()[0]
    z, kl = OBJECTIVES["elbo"].latents(module, y, matched_normal(K)[:, None])
    (z.square().sum() + kl.sum()).backward()
    for p in (module.linear_encoder.weight, module.encoder[-1].weight):
        assert torch.isfinite(p.grad).all()
        assert (p.grad != 0).all()


# ---------------------------------------------------------------- scores, row by row


@every_combination
def test_elbo_is_a_brute_force_monte_carlo(combination):
    # The weights are small: with a predicted scale near 0, no mean would converge.
    module, (y, _) = make_module(combination, 2, spread=0.25), make_batch()
    x = module.target(y)
    rng = np.random.default_rng(5)
    with torch.no_grad():
        q = posterior(module, y)
        eps = torch.tensor(rng.normal(size=(20_000, N, K)))
        z = q.mean + q.stddev * eps
        prior = distributions.Normal(0.0, 1.0)
        terms = conditional(module, z).log_prob(x).sum(-1)
        terms += (prior.log_prob(z) - q.log_prob(z)).sum(-1)
        draws = matched_normal(K, 2**12)[:, None]
        actual = OBJECTIVES["elbo"].log_likelihood(module, y, draws)
    error = terms.std(dim=0) / math.sqrt(len(terms))
    assert actual.shape == (N,)
    assert ((actual - terms.mean(dim=0)).abs() < 4 * error).all()
    assert (error < 0.2).all()


@every_combination
def test_score_of_the_deterministic_objective_equals_scipy(combination):
    module, (y, _) = make_module(combination, 1), make_batch()
    objective = OBJECTIVES["nll"]
    with torch.no_grad():
        actual = objective.log_likelihood(module, y, objective.draws(module.spec)[:, None])
        loc, scale, own = parameters_of(module, module.encode(y))
        assert torch.equal(objective.code(module, y), module.encode(y))
    expected = scipy_given(combination[0], own).logpdf(
        module.target(y).numpy(), loc.numpy(), scale.numpy()
    )
    np.testing.assert_allclose(actual, expected.sum(axis=1), rtol=1e-10)


@every_combination
def test_log_weights_equal_torch_distributions(combination):
    module, (y, _) = make_module(combination, 2), make_batch()
    draws = torch.tensor(np.random.default_rng(2).normal(size=(300, 1, K)))
    objective = OBJECTIVES["elbo"]
    with torch.no_grad():
        q = posterior(module, y)
        z = q.mean + q.stddev * draws
        expected = conditional(module, z).log_prob(module.target(y)).sum(-1)
        expected += (distributions.Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(-1)
        actual = objective.log_weights(module, y, draws)
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)
        bound, effective = objective.log_marginal(module, y, draws).T
    expected = expected.numpy()
    total = scipy.special.logsumexp(expected, axis=0)
    np.testing.assert_allclose(bound, total - math.log(300), rtol=1e-10)
    weights = np.exp(expected - total)
    np.testing.assert_allclose(effective, 1 / (weights**2).sum(axis=0), rtol=1e-8)


def test_scores_do_not_depend_on_beta():
    module, (y, _) = make_module(COMBINATIONS[0], 2), make_batch()
    draws = matched_normal(K)[:, None]
    with torch.no_grad():
        scores = [
            ELBO(beta, schedule, 2).log_likelihood(module, y, draws)
            for beta, schedule in itertools.product((0.0, 1.0, 50.0), KL_SCHEDULES)
        ]
        for other in scores[1:]:
            assert torch.equal(other, scores[0])
        _, kl = OBJECTIVES["elbo"].latents(module, y, draws)
        weighted = OBJECTIVES["elbo"].log_likelihood(module, y, draws, kl_weight=3.0)
    np.testing.assert_allclose(weighted, scores[0] - 2 * kl.sum(dim=1), rtol=1e-12)


def test_expectation_of_a_quadratic_is_exact():
    module, (y, _) = make_module(COMBINATIONS[0], 2), make_batch()
    with torch.no_grad():
        for p in module.decoder.parameters():
            p.zero_()
        q = posterior(module, y)
        mean, _ = OBJECTIVES["elbo"].expectation(
            module,
            y,
            matched_normal(K)[:, None],
            lambda x, loc, _: (x - loc).square(),
        )
        W = module.linear_decoder.weight * module.loc_gain[:, None] * module.latent_gain
        b = module.linear_decoder.bias * module.loc_gain
        expected = (module.target(y) - q.mean @ W.T - b).square()
        expected += q.variance @ W.T.square()
    np.testing.assert_allclose(mean, expected, rtol=1e-12)


def test_expectation_with_other_draws_for_each_row():
    module, (y, _) = make_module(COMBINATIONS[0], 2), make_batch()
    draws = torch.tensor(np.random.default_rng(2).normal(size=(5, N, K)))
    objective = OBJECTIVES["elbo"]
    with torch.no_grad():
        together = objective.log_likelihood(module, y, draws)
        alone = [
            objective.log_likelihood(module, y[i : i + 1], draws[:, i : i + 1])
            for i in range(N)
        ]
    np.testing.assert_allclose(together, torch.cat(alone), rtol=1e-12)


# --------------------------------------------------------------------------- the loss


@every_combination
@every_objective
def test_gradients_reach_every_parameter(combination, objective):
    objective = OBJECTIVES[objective]
    module, (y, weight) = make_module(combination, objective.n_heads), make_batch()
    loss, _ = objective.loss(module, y, weight / N, draws_for(objective), 1.0)
    loss.backward()
    for name, p in module.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        assert (p.grad != 0).all(), name


@every_combination
@every_objective
def test_gradient_is_the_finite_difference_of_the_loss(combination, objective):
    """Also for a closed-form scale, which is constant in the backward pass."""
    objective = OBJECTIVES[objective]
    module, (y, weight) = make_module(combination, objective.n_heads), make_batch()
    parameters = list(module.parameters())
    start = [p.detach().clone() for p in parameters]
    rng = np.random.default_rng(3)
    direction = [torch.tensor(rng.normal(size=p.shape)) for p in parameters]

    def loss_at(step):
        with torch.no_grad():
            for p, first, way in zip(parameters, start, direction, strict=True):
                p.copy_(first + step * way)
        return objective.loss(module, y, weight / N, draws_for(objective), 1.0)[0]

    loss_at(0.0).backward()
    slope = sum(
        (p.grad * w).sum().item() for p, w in zip(parameters, direction, strict=True)
    )
    step = 1e-6
    difference = (loss_at(step) - loss_at(-step)).item() / (2 * step)
    assert slope == pytest.approx(difference, rel=1e-5)


@pytest.mark.parametrize(
    "combination",
    [c for c in COMBINATIONS if c[1] in {"fixed", "learned", "predicted"}],
    ids="-".join,
)
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_loss_equals_its_formula(combination, beta):
    # The weights are small: torch's logistic density rounds to 0 or 1 at small scales.
    module, (y, weight) = make_module(combination, 2, spread=0.3), make_batch()
    objective = ELBO(beta, "linear", n_mc_samples=3)
    with torch.no_grad():
        draws = draws_for(objective)
        loss, metrics = objective.loss(module, y, weight / N, draws, progress=0.05)
        q = posterior(module, y)
        log_prob = conditional(module, q.mean + q.stddev * draws).log_prob(module.target(y))
        kl = distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).numpy()
    log_prob = log_prob.sum(-1).mean(0).numpy()
    w = weight[:, 0].numpy()
    log_likelihood, kl = np.mean(w * log_prob), np.mean(w[:, None] * kl, axis=0)
    # A twentieth of the training is a fifth of the warm-up.
    expected = 0.2 * beta * kl.sum() - log_likelihood
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(metrics, [log_likelihood, *kl], rtol=1e-12)
    history = objective.history(metrics.numpy(), 0.05)
    assert history["objective"] == pytest.approx(expected)
    assert history["log_likelihood"] == pytest.approx(log_likelihood)
    assert history["kl"] == pytest.approx(kl.sum())
    assert history["beta"] == pytest.approx(0.2 * beta)


@every_combination
def test_an_integer_weight_is_a_repeated_row(combination):
    objective = OBJECTIVES["nll"]
    y, _ = make_batch()
    times = np.array([1, 3, 2, 1, 1, 4, 1])
    weight = torch.tensor(times[:, None].astype(float))
    no_draws = torch.empty(0, 1, K)
    total = times.sum()
    weighted, _ = objective.loss(
        make_module(combination, 1), y, weight / total, no_draws, 1.0
    )
    repeated, _ = objective.loss(
        make_module(combination, 1),
        y[np.repeat(np.arange(N), times)],
        torch.full((total, 1), 1 / total, dtype=torch.float64),
        no_draws,
        1.0,
    )
    assert weighted.item() == pytest.approx(repeated.item(), rel=1e-12)


def test_deterministic_objective_has_no_kl():
    objective, (y, weight) = OBJECTIVES["nll"], make_batch()
    module = make_module(COMBINATIONS[0], 1)
    loss, metrics = objective.loss(module, y, weight / N, draws_for(objective), 0.5)
    assert objective.n_heads == 1
    assert objective.kl_weight(1.0) == 0
    np.testing.assert_allclose(metrics, [-loss.item()])
    assert set(objective.history(metrics.numpy(), 0.5)) == {"objective", "log_likelihood"}


def test_active_units_are_counted():
    kl = np.array([1e-9, 0.5, 2.0, 1e-4])
    history = OBJECTIVES["elbo"].history(np.array([-1.0, *kl]), 1.0)
    assert history["active_units"] == 2
    assert history["kl"] == pytest.approx(kl.sum())


@pytest.mark.parametrize("name", LOCATION_SCALE)
def test_numbers_of_draws_of_a_score(name):
    """The numbers of the guide: a kink or a heavy tail needs more draws."""
    for k in (1, 16, 17, 200):
        spec = Spec(D, k, 2, MLP(()), LIKELIHOODS[name](), "fixed", "spherical")
        draws = OBJECTIVES["elbo"].draws(spec)
        assert draws.shape == (max(32 if name == "gaussian" else 256, 2 * k), k)
        assert len(OBJECTIVES["elbo"].draws(spec, 8)) == max(8, 2 * k)


def test_which_objectives_are_thread_safe():
    """A user-defined schedule may raise, which must end its own fit only."""

    class UserDefined(CyclicalSchedule):
        pass

    assert all(ELBO(1.0, name, 1).is_thread_safe for name in KL_SCHEDULES)
    assert ELBO(1.0, CyclicalSchedule(3), 1).is_thread_safe
    assert not ELBO(1.0, UserDefined(3), 1).is_thread_safe
    assert not ELBO(1.0, lambda progress: 1.0, 1).is_thread_safe
    assert NegativeLogLikelihood().is_thread_safe


# ------------------------------------------------------------------------- schedules


SCHEDULES = [
    *map(make_schedule, KL_SCHEDULES),
    LinearSchedule(share=1.0),
    LinearSchedule(share=0.3, start=3.0),
    CyclicalSchedule(n_cycles=7, rise=1.0),
    CyclicalSchedule(n_cycles=1, rise=0.1),
    DecreasingSchedule(start=2.5, share=1.0),
    DecreasingSchedule(start=0.5, share=0.1),
]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


@every_schedule
def test_schedules_end_at_one(schedule):
    assert schedule(1.0) == 1
    assert all(0 <= schedule(p) < 100 for p in np.linspace(0, 1, 300))
    assert ELBO(3.5, schedule, 1).kl_weight(1.0) == 3.5


@every_schedule
def test_schedules_can_be_copied(schedule):
    values = [schedule(p) for p in np.linspace(0, 1, 50)]
    for copied in (clone(schedule), copy.deepcopy(schedule)):
        assert copied is not schedule
        assert [copied(p) for p in np.linspace(0, 1, 50)] == values


def test_warm_ups_increase():
    for schedule in (make_schedule("linear"), LinearSchedule(0.9)):
        values = [schedule(p) for p in np.linspace(0.001, 1, 200)]
        assert np.all(np.diff(values) >= 0)
        assert values[0] < 0.01


def test_values_of_the_schedules():
    assert make_schedule("constant")(1e-9) == 1
    linear = [make_schedule("linear")(p) for p in (0, 0.1, 0.2, 0.25, 0.5)]
    np.testing.assert_allclose(linear, [0, 0.4, 0.8, 1, 1])
    half = [LinearSchedule(0.5, start=3.0)(p) for p in (0, 0.25, 0.5, 0.75)]
    np.testing.assert_allclose(half, [3, 2, 1, 1])
    # In each quarter, half is an increase and half is constant; a cycle includes its end.
    cyclical = [make_schedule("cyclical")(p / 16) for p in range(17)]
    np.testing.assert_allclose(cyclical, [0, *4 * [0.5, 1, 1, 1]])
    after = [make_schedule("cyclical")(p / 16 + 0.001) for p in (4, 8, 12)]
    np.testing.assert_allclose(after, 3 * [0.008])
    falling = [make_schedule("decreasing")(p) for p in (0, 0.25, 0.5, 0.7)]
    np.testing.assert_allclose(falling, [10, 10**0.5, 1, 1])


@pytest.mark.parametrize("n_cycles", range(1, 30))
def test_a_cycle_ends_at_1_however_its_end_is_rounded(n_cycles):
    schedule = CyclicalSchedule(n_cycles, rise=1.0)
    for i in range(1, n_cycles + 1):
        for end in (i / n_cycles, sum(i * [1 / n_cycles]), 7 * i / (7 * n_cycles)):
            assert schedule(end) == pytest.approx(1)


def test_when_the_weight_is_settled():
    def settled(schedule, *moments):
        return [ELBO(2.0, schedule, 1).is_settled(moment) for moment in moments]

    assert settled("constant", 0.01) == [True]
    assert settled("linear", 0.24, 0.25, 0.5) == [False, True, True]
    # The weight equals the last one at the top of an earlier cycle too, but not for long.
    assert settled("cyclical", 0.2, 0.25, 0.7, 0.87, 0.88) == [*4 * [False], True]
    assert settled("decreasing", 0.4, 0.5) == [False, True]
    assert settled(lambda progress: progress, 0.5, 0.99, 1.0) == [False, False, True]
    assert OBJECTIVES["nll"].is_settled(0.01)


# ---------------------------------------------------------------------------- bounds


def bound(objective, module, y, draws):
    return objective.log_marginal(module, y, draws[:, None])[:, 0]


def exact_log_marginal(module, y, k):
    """Compute log of the integral of p(x|z) p(z), by the trapezoidal rule on a grid."""
    axis = np.linspace(-7, 7, {1: 20_001, 2: 501}[k])
    grid = np.stack(np.meshgrid(*k * [axis], indexing="ij"), axis=-1).reshape(-1, k)
    loc, scale, own = parameters_of(module, torch.tensor(grid))
    distribution = scipy_given(name_of(module), own)
    log_prior = scipy.stats.norm.logpdf(grid).sum(axis=1)
    log_volume = k * math.log(axis[1] - axis[0])
    exact = []
    for x in module.target(y).numpy():
        log_prob = distribution.logpdf(x, loc.numpy(), scale.numpy()).sum(axis=1)
        exact.append(scipy.special.logsumexp(log_prob + log_prior) + log_volume)
    return np.array(exact)


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
@pytest.mark.parametrize("k", [1, 2])
def test_bounds_tighten_from_the_elbo_to_the_exact_value(likelihood, k):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(100, k))
    bent = np.hstack([Z, Z**2, np.sin(2 * Z)])
    X = bent @ rng.normal(size=(3 * k, 4)) + 0.4 * rng.normal(size=(100, 4))
    vae = VariationalAutoencoder(
        k, likelihood=likelihood, max_iter=30, hidden_layer_sizes=(8,), random_state=0
    ).fit(X)
    module = copy.deepcopy(vae.module_).double()
    with torch.no_grad():  # with a posterior that is too wide, the bounds differ
        module.linear_encoder.bias[k:] += 0.7 / module.code_gain[k:]
    y = torch.tensor((X[:8] - X.mean(axis=0)) / X.std(axis=0))
    objective = ELBO(1.0, "constant", 1)

    with torch.no_grad():
        exact = exact_log_marginal(module, y, k)
        elbo = objective.log_likelihood(module, y, matched_normal(k, 2**13)[:, None])
        # All rows share the draws, so only the seeds average: a small K needs many.
        bounds = {
            n: np.array(
                [
                    bound(objective, module, y, sobol_normal(n, k, seed))
                    for seed in range(n_seeds)
                ]
            )
            for n, n_seeds in {1: 1000, 4: 1000, 16: 300, 128: 30, 8192: 10}.items()
        }
    means = [b.mean() for b in bounds.values()]
    errors = [b.mean(axis=1).std(ddof=1) / math.sqrt(len(b)) for b in bounds.values()]
    assert elbo.mean().item() == pytest.approx(means[0], abs=4 * errors[0])
    for (lower, upper), spread in zip(
        itertools.pairwise(means), itertools.pairwise(errors), strict=True
    ):
        assert lower < upper + 2 * math.hypot(*spread)
    assert means[0] + 10 * errors[0] < means[1]
    assert means[-1] - means[0] > 0.1
    # For each row, up to the standard error over the seeds.
    for values in bounds.values():
        error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
        assert np.all(elbo.numpy() <= values.mean(axis=0) + 4 * error)
        assert np.all(values.mean(axis=0) <= exact + 4 * error + 1e-4)
    np.testing.assert_allclose(bounds[8192].mean(axis=0), exact, atol=1e-2)


def test_the_mean_bound_of_one_draw_is_the_elbo():
    module, (y, _) = make_module(("gaussian", "fixed", "spherical"), 2), make_batch()
    objective = OBJECTIVES["elbo"]
    with torch.no_grad():
        elbo = objective.log_likelihood(module, y, matched_normal(K, 2**12)[:, None])
        bounds = np.stack(
            [bound(objective, module, y, sobol_normal(1, K, seed)) for seed in range(1000)]
        )
    error = bounds.std(axis=0, ddof=1) / math.sqrt(len(bounds))
    assert np.all(np.abs(bounds.mean(axis=0) - elbo.numpy()) < 4 * error)


@pytest.mark.parametrize("likelihood", sorted(LOCATION_SCALE))
def test_log_marginal_of_an_estimator(likelihood):
    """The public method: in the units of X, for each likelihood and one component."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(80, 1))
    X = 1e3 * (np.hstack([z, z**2, -z]) + 0.3 * rng.normal(size=(80, 3))) + 1e5
    vae = VariationalAutoencoder(
        1, likelihood=likelihood, variance_mode="learned", max_iter=20, random_state=0
    ).fit(X)
    axis = np.linspace(-7, 7, 20_001)[:, None]
    distribution, mean = scipy_of(vae, axis)
    loc = vae.inverse_transform(axis) - vae.scale_ * mean
    log_step = math.log(axis[1, 0] - axis[0, 0])
    log_prior = scipy.stats.norm.logpdf(axis[:, 0])
    exact = np.array(
        [
            scipy.special.logsumexp(
                distribution.logpdf(x, loc, vae.scale_).sum(axis=1) + log_prior + log_step
            )
            for x in X[:20]
        ]
    )
    bounds = np.mean(
        [vae.log_marginal(X[:20], 2**15, random_state=seed) for seed in range(4)], axis=0
    )
    # With tails heavier than those of the posterior, single rows converge slowly.
    assert bounds.mean() == pytest.approx(exact.mean(), abs=3e-3)
    np.testing.assert_allclose(bounds, exact, atol=3e-2)
    # But for the error of an estimated expectation.
    elbo = vae.elbo(X[:20])
    assert elbo.mean() < exact.mean()
    assert np.all(elbo < exact + 0.02)
    np.testing.assert_allclose(
        vae.log_marginal(X[:5], 64), vae.log_marginal(X[:20], 64)[:5], rtol=1e-12
    )


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_errors_of_rows_average_out(likelihood):
    """A mean over rows is a safe bound: with few draws it is below the exact value."""
    rng = np.random.default_rng(0)
    X = rng.laplace(size=(300, 1)) @ [[1.0, -2.0]] + 0.2 * rng.laplace(size=(300, 2))
    vae = VariationalAutoencoder(1, likelihood=likelihood, random_state=0).fit(X)
    exact = vae.log_marginal(X, 2**13).mean()
    few = [vae.log_marginal(X, 8, random_state=seed).mean() for seed in range(10)]
    assert np.mean(few) < exact + 0.005
    assert max(few) < exact + 0.03
    assert min(few) > vae.score(X) - 0.03


def test_diagnostics_of_log_marginal():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(80, 1))
    X = np.hstack([z, z**2, -z]) + 0.3 * rng.normal(size=(80, 3))
    vae = VariationalAutoencoder(1, max_iter=20, random_state=0).fit(X)
    X = np.vstack([X[:20], 6 * X[:20]])  # the latter are outliers, for which q is poor
    exact = vae.log_marginal(X, 2**16)
    rough, before = vae.log_marginal(X, 8, return_diagnostics=True)
    np.testing.assert_allclose(rough, vae.log_marginal(X, 8), rtol=1e-12)
    np.testing.assert_array_equal(before.n_samples, 8)
    assert np.all((before.gap >= 0) & (before.gap <= 0.5))
    # The estimated gap of a row is correlated with its error.
    assert scipy.stats.spearmanr(before.gap, np.abs(exact - rough)).statistic > 0.5

    with pytest.warns(ConvergenceWarning, match=r"of 40 samples is not within tol=0\.01"):
        better, after = vae.log_marginal(X, 8, tol=0.01, return_diagnostics=True)
    again = after.n_samples > 8
    np.testing.assert_array_equal(again, before.gap > 0.01)
    assert again.any()
    assert not again.all()
    np.testing.assert_array_equal(better[~again], rough[~again])
    assert np.all((after.gap <= 0.01) | (after.n_samples == 16384))
    assert np.abs(exact - better)[again].mean() < 0.2 * np.abs(exact - rough)[again].mean()
    for n in set(after.n_samples):
        rows = after.n_samples == n
        np.testing.assert_allclose(better[rows], vae.log_marginal(X[rows], n), rtol=1e-12)
