"""Numerical tests of the corrections in docs/errata.rst.

The article is C. Beckham (2021), "A statistical introduction to Gaussian and Laplace
autoencoders". The name ``printed`` stands for the formula in the article. Each test shows
that the correct formula and skae's computation agree, and that the printed formula differs.
docs/errata.rst has the explanations.
"""

import copy
import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
import torch
from sklearn.decomposition import PCA

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._data.standardization import Standardization
from skae._fitting.initialization import build_module
from skae._module import Spec
from skae.likelihoods import GaussianLikelihood, LaplaceLikelihood, make_likelihood
from skae.networks import MLP
from skae.objectives import ELBO
from skae.scales import check_scale, make_scale

PAGE = Path(__file__).parents[1] / "docs" / "errata.rst"
CPU = torch.device("cpu")
GAUSSIAN, LAPLACE = GaussianLikelihood(), LaplaceLikelihood()
# Residuals whose mean square, sum of squares, and twice either value differ clearly.
R = np.array([0.3, -1.1, 0.7, 0.05, -2.0])
N = len(R)
SSE, MSE, MAE = np.sum(R**2), np.mean(R**2), np.mean(np.abs(R))


def log_prob(likelihood, residual, scale):
    """Return skae's elementwise log-density (nats)."""
    residual, scale = np.broadcast_arrays(np.float64(residual), np.float64(scale))
    x, log_scale = torch.tensor(residual), torch.tensor(np.log(scale))
    return likelihood.log_prob(x, torch.zeros_like(x), log_scale).numpy()


def residual_gradient(likelihood, variance_mode, residual, scale=1.0):
    """Return the scale of skae's training and the slope of its loss in each residual.

    Residuals and slopes have the shape (m, n): m samples of n features.
    """
    r = torch.tensor(np.atleast_2d(residual), requires_grad=True)
    (m, n), loc = r.shape, torch.zeros_like(r)
    floor = torch.full((1, 1), 1e-30, dtype=r.dtype)
    part = make_scale(variance_mode, "spherical", likelihood, n, floor).double()
    part.start(torch.full((1, 1), scale, dtype=r.dtype))
    log_scale = part.training_log_scale(r, r.new_empty(m, 0), r.new_ones(m, 1))
    loss = -likelihood.log_prob(r, loc, log_scale).sum(dim=1).mean()
    (gradient,) = torch.autograd.grad(loss, r)
    return log_scale.exp().numpy(), gradient.numpy()


def minimiser(function):
    """Return the scale that minimises a function of the scale."""
    result = scipy.optimize.minimize_scalar(
        lambda log_scale: function(math.exp(log_scale)),
        bounds=(-30, 6),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert result.success
    return math.exp(result.x)


def slope(function, at, step=1e-6):
    """Return the central finite difference of a function."""
    return (function(at + step) - function(at - step)) / (2 * step)


def assert_equal(actual, expected, rtol=1e-10):
    """Assert that two values agree up to rounding."""
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-12)


def assert_wrong(printed, expected):
    """Assert that every printed value differs from the correct one by over 1 per cent."""
    printed, expected = np.broadcast_arrays(printed, expected)
    assert (np.abs(printed - expected) > 0.01 * np.abs(expected)).all()


def assert_other_direction(one, other):
    """Assert that two gradients have different directions, by at least 1e-3."""
    unit = [g / np.linalg.norm(g) for g in (one, other)]
    assert np.linalg.norm(unit[0] - unit[1]) > 1e-3


class Model:
    """A module with a batch and draws, whose ELBO is computed by skae and by its parts."""

    n_features = 4

    def __init__(self, likelihood, variance_mode, *, n=6, scale=1.0, hidden=(5,)):
        d, k = self.n_features, 2
        network = MLP(hidden, activation="tanh")
        likelihood = make_likelihood(likelihood)
        spec = Spec(d, k, 2, network, likelihood, variance_mode, "spherical")
        self.module = build_module(
            spec, Standardization.identity(d), 1e-6, torch.float64, CPU, seed=0
        )
        self.module.scale.start(torch.full((1, 1), scale, dtype=torch.float64))
        source = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in self.module.parameters():
                p.normal_(std=0.5, generator=source)
        self.y = torch.empty(n, d, dtype=torch.float64).normal_(generator=source)
        self.row_weight = torch.full((n, 1), 1 / n, dtype=torch.float64)
        self.draws = torch.empty(3, n, 2, dtype=torch.float64).normal_(generator=source)

    def elbo_gradient(self, beta):
        """Return the gradient of skae's loss."""
        objective = ELBO(beta, "constant", 3)
        loss, _ = objective.loss(self.module, self.y, self.row_weight, self.draws, 1.0)
        return self.gradient(loss)

    def parts(self):
        """Return residuals (n_draws, n, d), and the KL (n,) by torch.distributions."""
        mean, log_std = ELBO(1.0, "constant", 3).posterior(self.module, self.y)
        q = torch.distributions.Normal(mean, log_std.exp())
        prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        loc, _ = self.module.decode((mean + log_std.exp() * self.draws).reshape(-1, 2))
        kl = torch.distributions.kl_divergence(q, prior).sum(dim=1)
        return self.y - loc.view(3, *self.y.shape), kl

    def gradient(self, loss):
        """Return the gradient of a loss in all weights, as one vector."""
        gradients = torch.autograd.grad(loss, list(self.module.parameters()))
        return torch.cat([g.reshape(-1) for g in gradients]).numpy()


# ----------------------------------------------------------- the Gaussian likelihood


def test_gaussian_density():
    """The Gaussian density equals scipy's and integrates to 1."""
    sigma, r = 0.7, np.linspace(-3, 3, 50)
    norm = 1 / (sigma * math.sqrt(2 * math.pi))
    expected = scipy.stats.norm.pdf(r, 0, sigma)
    assert_equal(np.exp(log_prob(GAUSSIAN, r, sigma)), expected)
    assert_equal(norm * np.exp(-(r**2) / (2 * sigma**2)), expected)
    assert_wrong(norm * np.exp(r**2 / sigma**2), expected)

    def integral(density):
        return scipy.integrate.quad(density, -20, 20, points=[0])[0]

    assert_equal(integral(lambda t: np.exp(log_prob(GAUSSIAN, t, sigma))), 1, rtol=1e-7)
    # A corrected sign without the factor 1/2 still gives another integral.
    no_half = integral(lambda t: norm * math.exp(-(t**2) / sigma**2))
    assert_equal(no_half, 1 / math.sqrt(2), rtol=1e-7)


def test_gaussian_log_density():
    """The Gaussian log-density equals scipy's."""
    for sigma in (0.3, 1.0, 4.0):
        expected = scipy.stats.norm.logpdf(R, 0, sigma)
        correct = -0.5 * math.log(2 * math.pi) - math.log(sigma) - R**2 / (2 * sigma**2)
        assert_equal(correct, expected)
        assert_equal(log_prob(GAUSSIAN, R, sigma), expected)
        printed = -math.log(2 * math.pi) - math.log(sigma) - R**2 / sigma**2
        assert_wrong(printed, expected)
        # The printed log-density is also not the logarithm of the printed density.
        of_density = -0.5 * math.log(2 * math.pi) - math.log(sigma) + R**2 / sigma**2
        assert_wrong(printed, of_density)


def test_minimiser_without_the_half():
    """Without the factor 1/2, the optimal scale is wrong by the factor sqrt(2)."""
    expected = minimiser(lambda s: -scipy.stats.norm.logpdf(R, 0, s).sum())
    assert_equal(expected, math.sqrt(MSE), rtol=1e-6)
    assert_equal(residual_gradient(GAUSSIAN, "optimal", R)[0], expected, rtol=1e-6)
    printed = minimiser(lambda s: np.sum(math.log(s) + R**2 / s**2))
    assert_equal(printed, math.sqrt(2 * MSE), rtol=1e-6)
    assert_wrong(printed, expected)


def test_equation_4():
    """The negative log-likelihood of a shared scale equals scipy's; equation 4 does not."""
    for sigma in (0.3, 1.0, 4.0):
        expected = -scipy.stats.norm.logpdf(R, 0, sigma).mean()
        correct = 0.5 * math.log(2 * math.pi * sigma**2) + MSE / (2 * sigma**2)
        assert_equal(correct, expected)
        assert_equal(-log_prob(GAUSSIAN, R, sigma).mean(), expected)

    def printed(sigma):
        return math.log(sigma**2) / N + MSE / sigma**2

    # The printed loss is also not twice the truth plus a constant, because its logarithm is
    # divided by n.
    sigma = np.array([0.3, 4.0])
    truth = -scipy.stats.norm.logpdf(R[:, None], 0, sigma).mean(axis=0)
    assert_wrong(printed(0.3) - printed(4.0), 2 * (truth[0] - truth[1]))
    assert_equal(minimiser(printed), math.sqrt(SSE), rtol=1e-6)
    by_skae = minimiser(lambda s: -log_prob(GAUSSIAN, R, s).mean())
    assert_equal(by_skae, math.sqrt(MSE), rtol=1e-6)


def test_equation_5():
    """With a scale of 1 the loss per feature is half the MSE plus a constant."""
    expected = -scipy.stats.norm.logpdf(R).mean()
    assert_equal(0.5 * MSE + 0.5 * math.log(2 * math.pi), expected)
    assert_equal(-log_prob(GAUSSIAN, R, 1.0).mean(), expected)
    assert_wrong(MSE, expected)
    # The constant does not change the gradient, but the factor does: the slope is r.
    assert_equal(residual_gradient(GAUSSIAN, "fixed", R)[1][0], R)


def test_derivative_in_sigma():
    """The printed derivative with respect to sigma is twice the correct one."""
    for sigma in (0.3, 1.0, 4.0):
        printed = 2 / sigma - 2 * MSE / sigma**3
        expected = slope(lambda s: -scipy.stats.norm.logpdf(R, 0, s).mean(), sigma)
        by_skae = slope(lambda s: -log_prob(GAUSSIAN, R, s).mean(), sigma)
        assert_equal(1 / sigma - MSE / sigma**3, expected, rtol=1e-6)
        assert_equal(by_skae, expected, rtol=1e-6)
        assert_equal(printed, 2 * expected, rtol=1e-6)
        # It is the slope of the function in the article's code, not of that in its text.
        code = slope(lambda s: math.log(2 * math.pi * s**2) + MSE / s**2, sigma)
        text = slope(lambda s: math.log(s) + MSE / s**2, sigma)
        assert_equal(printed, code, rtol=1e-6)
        assert_wrong(printed, text)
    sigma = scipy.optimize.brentq(lambda s: 2 / s - 2 * MSE / s**3, 0.1, 10)
    assert_equal(sigma, math.sqrt(MSE))


def test_plugging_in_the_best_scale():
    """At the optimal scale, the log-likelihood of both densities has a closed form."""
    sigma = residual_gradient(GAUSSIAN, "optimal", R)[0]
    reached = scipy.stats.norm.logpdf(R, 0, math.sqrt(MSE)).sum()
    assert_equal(log_prob(GAUSSIAN, R, sigma).sum(), reached)
    assert_equal(-N / 2 * (math.log(2 * math.pi * MSE) + 1), reached)
    # The term that the article cancels is 1/2 per feature.
    assert_equal(-N / 2 * math.log(2 * math.pi * MSE) - reached, N / 2)
    b = residual_gradient(LAPLACE, "optimal", R)[0]
    reached = scipy.stats.laplace.logpdf(R, 0, MAE).sum()
    assert_equal(log_prob(LAPLACE, R, b).sum(), reached)
    assert_equal(-N * (math.log(2 * MAE) + 1), reached)
    # The norm without a square is no mean of squares.
    assert_equal(sigma, math.sqrt(MSE))
    assert_wrong(math.sqrt(np.linalg.norm(R) / N), sigma)


def test_likelihood_is_bounded_at_a_fixed_residual():
    """The likelihood of a fixed residual has a maximum over sigma."""
    sigma = np.logspace(-8, 4, 2001)
    for K in (0.0005, 0.3, 1.0):
        for nll in (
            -scipy.stats.norm.logpdf(math.sqrt(K), 0, sigma),
            -log_prob(GAUSSIAN, math.sqrt(K), sigma),
        ):
            bound = 0.5 * math.log(2 * math.pi * K) + 0.5
            assert nll.min() == pytest.approx(bound, abs=1e-3)
            assert nll.min() >= bound - 1e-12
            # As sigma goes to 0 the density goes to 0, so the NLL rises.
            assert nll[0] > 1e10
            assert (np.diff(nll[sigma < math.sqrt(K)]) < 0).all()
    together = log_prob(GAUSSIAN, sigma, sigma)
    assert_equal(together, -0.5 * math.log(2 * math.pi) - np.log(sigma) - 0.5)
    assert log_prob(GAUSSIAN, 1e-100, 1e-100) > 200


# ------------------------------------------------------------------------ the figures


@pytest.mark.parametrize("K", [0.0005, 1e-10])
def test_figures_2_and_3(K):
    """The curves of figures 2 and 3 are twice the NLL of the residual sqrt(K)."""
    sigma = math.sqrt(K) * np.logspace(-1, 1, 21)
    curve = np.log(2 * math.pi * sigma**2) + K / sigma**2
    square = -scipy.stats.norm.logpdf(math.sqrt(K), 0, sigma)
    caption = -scipy.stats.norm.logpdf(K, 0, sigma)
    assert_equal(curve, 2 * square)
    assert_equal(square, -log_prob(GAUSSIAN, math.sqrt(K), sigma))
    assert not np.allclose(curve, 2 * caption, rtol=0.01)
    # The figures mark sqrt(K). For x - mu = K, as in the captions, the mark would be at K.
    for residual in (math.sqrt(K), K):
        best = minimiser(lambda s, r=residual: -scipy.stats.norm.logpdf(r, 0, s))
        assert_equal(best, residual, rtol=1e-6)
        # The check in a comment of the article's code is wrong for both meanings of K.
        check = -math.log(residual * math.sqrt(2 * math.pi)) - 0.5 * K**2 / residual
        assert_wrong(check, scipy.stats.norm.logpdf(residual, 0, residual))


def test_figure_4():
    """Figure 4 shows half the gradient of log MSE, which is the gradient of log RMSE."""
    x = np.array([0.95, 0.98, 1.02, 1.05])  # y = 1
    for delta in (0.05, 0.1, 0.5):
        plotted = (x - 1) / ((x - 1) ** 2 + delta)
        expected = slope(lambda t, d=delta: np.log(((t - 1) ** 2 + d) / 2), x)
        root = slope(lambda t, d=delta: np.log(np.sqrt(((t - 1) ** 2 + d) / 2)), x)
        assert_equal(2 * plotted, expected, rtol=1e-6)
        assert_equal(plotted, root, rtol=1e-6)
        assert_wrong(plotted**2, expected**2)
        # With the optimal scale, skae's loss is (n/2) log MSE, and here n = 2.
        pairs = np.column_stack([x - 1, np.full(4, math.sqrt(delta))])
        by_skae = [residual_gradient(GAUSSIAN, "optimal", p)[1][0, 0] for p in pairs]
        assert_equal(by_skae, expected, rtol=1e-6)


def test_figure_5():
    """Figure 5 shows half the gradient of the logarithm of one squared residual."""
    x = np.array([-1.0, 0.5, 0.9, 1.2, 2.0])  # y = 1
    expected = slope(lambda t: np.log((t - 1) ** 2), x)
    plotted = 1 / (x - 1)
    assert_equal(2 / (x - 1), expected, rtol=1e-6)
    assert_wrong(plotted, expected)
    assert_equal(4 * plotted**2, expected**2, rtol=1e-6)
    # skae's loss for one feature is half this logarithm.
    by_skae = [residual_gradient(GAUSSIAN, "optimal", [t - 1])[1][0, 0] for t in x]
    assert_equal(2 * np.array(by_skae), expected, rtol=1e-6)


# ---------------------------------------------------------------------- the gradients


def test_mean_of_logs_explodes():
    """The gradient of a mean of logs has no bound; that of the log of a mean has one."""
    m, delta = 4, 0.3**2 + 0.5**2 + 0.8**2
    for small in (1e-1, 1e-4, 1e-8):
        r = np.array([[small], [0.3], [-0.5], [0.8]])  # m samples of one feature
        t = torch.tensor(r, requires_grad=True)
        (of_mean,) = torch.autograd.grad(t.square().log().mean(), t)
        assert_equal(of_mean, 2 / (m * r))
        (of_log,) = torch.autograd.grad(t.square().mean().log(), t)
        assert_equal(of_log, 2 * r / np.sum(r**2))
        # The delta curves of figure 4 are gradients of the log of a mean.
        assert_equal(of_log[0, 0], 2 * small / (small**2 + delta))
        assert abs(of_log[0, 0]) <= 1 / math.sqrt(delta)
        # Two of skae's variance modes have these gradients, times 1/2.
        assert_equal(2 * residual_gradient(GAUSSIAN, "profile", r)[1], of_mean)
        assert_equal(2 * residual_gradient(GAUSSIAN, "optimal", r)[1], of_log)
    with pytest.raises(ValueError, match="explodes"):
        check_scale("profile", "diag", GAUSSIAN)


def test_laplace_gradient_is_constant_for_a_fixed_scale_only():
    """With the optimal scale, the Laplace gradient grows as the error falls."""
    b = 0.7
    for shrink in (1.0, 0.1, 1e-3):
        r = shrink * R
        fixed = residual_gradient(LAPLACE, "fixed", r, scale=b)[1][0]
        assert_equal(fixed, np.sign(R) / b)
        best, optimal = residual_gradient(LAPLACE, "optimal", r)
        assert_equal(best, shrink * MAE)
        assert_equal(optimal[0], np.sign(R) / (shrink * MAE))
        t = torch.tensor(r, requires_grad=True)
        (by_formula,) = torch.autograd.grad(N * (2 * t.abs().mean()).log(), t)
        assert_equal(optimal[0], by_formula)
        assert_wrong(np.sign(R), optimal[0])
        # So does the Gaussian gradient with its optimal scale, whose norm is n / |r|.
        gaussian = residual_gradient(GAUSSIAN, "optimal", r)[1][0]
        assert_equal(np.linalg.norm(gaussian), N / np.linalg.norm(r))


def test_gradient_of_the_squared_norm():
    """The gradient of the squared norm is 2 r; the printed one is that of the mean."""
    t = torch.tensor(R, requires_grad=True)
    (of_sum,) = torch.autograd.grad(t.square().sum(), t)
    (of_mean,) = torch.autograd.grad(t.square().mean(), t)
    assert_equal(of_sum, 2 * R)
    assert_wrong(2 / N * R, of_sum)
    assert_equal(2 / N * R, of_mean)
    # The loss with the printed gradient is skae's times 2/n, so its KL has n/2 the weight.
    assert_equal(2 / N * residual_gradient(GAUSSIAN, "fixed", R)[1][0], of_mean)


# ------------------------------------------------------------------- smaller mistakes


def test_covariance_is_the_square():
    """The covariance is the square of the diagonal of scales."""
    sigma = np.array([0.3, 0.6, 1.5, 2.0, 4.0])
    by_skae = log_prob(GAUSSIAN, R, sigma).sum()
    expected = scipy.stats.multivariate_normal(cov=np.diag(sigma**2)).logpdf(R)
    printed = scipy.stats.multivariate_normal(cov=np.diag(sigma)).logpdf(R)
    assert_equal(by_skae, expected)
    assert_wrong(printed, expected)


def test_laplace_loss():
    """With a scale of 1 the Laplace loss is n times MAE plus a constant."""
    expected = -scipy.stats.laplace.logpdf(R).sum()
    assert_equal(N * (MAE + math.log(2)), expected)
    assert_equal(-log_prob(LAPLACE, R, 1.0).sum(), expected)
    assert_wrong(MAE, expected)
    assert_wrong(MAE, expected - N * math.log(2))  # nor without the constant
    assert_equal(residual_gradient(LAPLACE, "fixed", R)[1][0], np.sign(R))


# --------------------------------------------------------------------------- the ELBO


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_sse_plus_beta_kl(beta):
    """SSE + beta KL is twice the negative ELBO with the weight beta/2."""
    model = Model("gaussian", "fixed")
    residual, kl = model.parts()
    sse = residual.square().sum(dim=2).mean()
    printed = model.gradient(sse + beta * kl.mean())
    assert_equal(printed, 2 * model.elbo_gradient(beta / 2))
    assert_other_direction(printed, model.elbo_gradient(beta))


def test_weighting_the_kl_by_the_mse():
    """The KL weighted by the MSE has the direction of the log loss, for a fixed weight."""
    A = np.random.default_rng(0).normal(size=(N, 3))
    theta = np.array([0.4, -0.2, 0.9])

    def mse(t):
        return np.mean((R - A @ t) ** 2)

    def kl(t):
        return 0.5 * np.sum(t**2 + np.exp(t) - t - 1)

    def gradient(function):
        return scipy.optimize.approx_fprime(theta, function, 1e-7)

    now = mse(theta)
    weighted = gradient(lambda t: N * mse(t) / 2 + now * kl(t))
    log_loss = gradient(lambda t: N / 2 * np.log(mse(t)) + kl(t))
    assert_equal(weighted, now * log_loss, rtol=1e-4)
    # The weight is a constant of the step; if it has a gradient, the direction differs.
    product = gradient(lambda t: N * mse(t) / 2 + mse(t) * kl(t))
    assert_other_direction(product, log_loss)


# ------------------------------------------------------------------------ theorems


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "tanh"])
@pytest.mark.parametrize("beta", [0.05, 0.3, 4.0])
@pytest.mark.parametrize(("likelihood", "power"), [("gaussian", 0.5), ("laplace", 1.0)])
def test_beta_is_a_scale(likelihood, power, beta, hidden):
    """The gradient for scale 1 and beta is beta times that for scale beta**power."""
    one = Model(likelihood, "fixed", scale=1.0, hidden=hidden)
    other = Model(likelihood, "fixed", scale=beta**power, hidden=hidden)
    wrong = Model(likelihood, "fixed", scale=beta ** (1.5 - power), hidden=hidden)
    assert_equal(one.elbo_gradient(beta), beta * other.elbo_gradient(1.0))
    assert_other_direction(one.elbo_gradient(beta), wrong.elbo_gradient(1.0))


@pytest.mark.parametrize(("likelihood", "power"), [("gaussian", 0.5), ("laplace", 1.0)])
def test_beta_is_a_scale_in_a_fit(X, likelihood, power):
    """Fits with scale 1 and beta, and with scale beta**power, give the same model."""
    beta = 0.3
    common = {
        "likelihood": likelihood,
        "variance_mode": "fixed",
        "hidden_layer_sizes": (8,),
        "init": "random",
        "alpha": 0.0,
        "max_iter": 5,
        "precision": "float64",
        "random_state": 0,
    }
    one = VariationalAutoencoder(scale=1.0, beta=beta, **common).fit(X)
    other = VariationalAutoencoder(scale=beta**power, beta=1.0, **common).fit(X)
    plain = VariationalAutoencoder(scale=1.0, beta=1.0, **common).fit(X)
    np.testing.assert_allclose(one.reconstruct(X), other.reconstruct(X), atol=1e-4)
    for part, expected in zip(one.posterior(X), other.posterior(X), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-4)
    assert np.abs(one.reconstruct(X) - plain.reconstruct(X)).max() > 0.01
    # The scores differ, because each score uses the model's own scale.
    assert abs(one.score(X) - other.score(X)) > 0.1


FIXED = {"variance_mode": "fixed", "alpha": 0.0, "precision": "float64", "random_state": 0}


@pytest.mark.parametrize(
    ("likelihood", "power", "init"),
    [("gaussian", 0.5, "random"), ("gaussian", 0.5, "pca"), ("laplace", 1.0, "random")],
)
def test_beta_is_a_scale_but_for_epsilon(X, monkeypatch, likelihood, power, init):
    """Codes agree up to rounding only if Adam's epsilon is nearly 0."""
    adam, beta = torch._fused_adam_, 4.0
    common = {"likelihood": likelihood, "init": init, "max_iter": 10, **FIXED}
    differences = []
    for epsilon in (1e-8, 1e-30):
        monkeypatch.setattr(
            torch, "_fused_adam_", lambda *a, e=epsilon, **k: adam(*a, **{**k, "eps": e})
        )
        one = VariationalAutoencoder(scale=0.5, beta=beta, **common).fit(X)
        other = VariationalAutoencoder(scale=0.5 * beta**power, **common).fit(X)
        assert np.std(one.transform(X)) > 0.5
        differences.append(np.abs(one.transform(X) - other.transform(X)).max())
    assert 20 * differences[1] < 2e-8 < differences[0]


@pytest.mark.parametrize(
    ("likelihood", "power", "is_same"), [("gaussian", 0.5, True), ("laplace", 1.0, False)]
)
def test_beta_is_a_scale_of_the_start(X, likelihood, power, is_same):
    """The starts of both models are equal for the Gaussian, not for the Laplace density."""
    common = {
        "likelihood": likelihood, "max_iter": 1, "learning_rate_init": 1e-300, **FIXED
    }  # fmt: skip
    one = VariationalAutoencoder(scale=0.5, beta=3.0, **common).fit(X)
    other = VariationalAutoencoder(scale=0.5 * 3**power, **common).fit(X)
    difference = np.abs(one.transform(X) - other.transform(X)).max()
    assert (difference < 1e-12) == is_same


@pytest.mark.parametrize("variance_mode", ["optimal", "profile"])
def test_log_loss_weights_the_kl(variance_mode):
    """The log loss has the direction of half the SSE plus the KL weighted by the MSE."""
    # The MSE is that of the batch for "optimal", and that of a sample for "profile".
    model = Model("gaussian", variance_mode, n=6 if variance_mode == "optimal" else 1)
    d = model.n_features
    residual, kl = model.parts()
    mse, kl = residual.square().mean(), kl.mean()
    log_loss = model.elbo_gradient(1.0)
    assert_equal(log_loss, model.gradient(d / 2 * mse.log() + kl))
    residual, kl = model.parts()
    sse, kl = residual.square().sum(dim=2).mean(), kl.mean()
    weight = (sse / d).item()
    assert_equal(model.gradient(sse / 2 + weight * kl), weight * log_loss)
    residual, kl = model.parts()
    sse, kl = residual.square().sum(dim=2).mean(), kl.mean()
    assert_other_direction(model.gradient(sse / 2 + sse / d * kl), log_loss)

    model = Model("laplace", variance_mode, n=6 if variance_mode == "optimal" else 1)
    residual, kl = model.parts()
    sae, kl = residual.abs().sum(dim=2).mean(), kl.mean()
    weight = (sae / d).item()
    gradient = model.gradient(sae + weight * kl)
    assert_equal(gradient, weight * model.elbo_gradient(1.0))


def test_deterministic_likelihood_is_no_density():
    """The exponential of a deterministic score has no finite integral; a VAE's has."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2)) @ np.array([[2.0, 1.0], [-0.3, 0.6]]) + [5, -3]
    common = {
        "n_components": 1,
        "hidden_layer_sizes": (),
        "max_iter": 2,
        "precision": "float64",
        "random_state": 0,
    }
    deterministic = GaussianAutoencoder(**common).fit(X)
    variational = VariationalAutoencoder(**common).fit(X)
    pca = PCA(n_components=1).fit(X)

    def integral(log_density, side):
        axis = np.arange(-side / 2, side / 2, 0.1)
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        return np.exp(log_density(grid + X.mean(axis=0))).sum() * 0.1**2

    # The integral grows with the length of a strip along the principal axis.
    narrow, wide = (integral(deterministic.score_samples, side) for side in (20, 40))
    assert narrow > 10
    assert wide == pytest.approx(2 * narrow, rel=0.01)
    for log_density in (pca.score_samples, variational.score_samples):
        assert integral(log_density, 40) == pytest.approx(1, abs=1e-3)
    assert deterministic.score(X) > pca.score(X) + 0.5

    # If a linear reconstruction A x is no projection, the integral is finite but not 1.
    w = np.array([0.8, 0.6])
    A = 0.75 * np.outer(w, w)

    def shrunk(x):
        centred = x - X.mean(axis=0)
        return scipy.stats.norm.logpdf(centred - centred @ A.T).sum(axis=1)

    expected = 1 / abs(np.linalg.det(np.eye(2) - A))
    assert integral(shrunk, 60) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(4)


def test_best_variance_of_a_vae_has_the_decoders():
    """The best variance of a VAE includes the variance of the decoder's output."""
    rng = np.random.default_rng(0)
    loadings = np.array([[1.0, -0.5, 0.8, 0.3], [0.2, 0.9, 0.4, -1.0]])
    # With so few rows the fit uses all draws, for which a quadratic expectation is exact.
    X = rng.normal(size=(60, 2)) @ loadings + 0.5 * rng.normal(size=(60, 4))
    vae = VariationalAutoencoder(
        n_components=2,
        hidden_layer_sizes=(),
        max_iter=2,
        precision="float64",
        random_state=0,
    ).fit(X)
    _, std = vae.posterior(X)
    # The expected error of the linear decoder W z + c, in closed form.
    W = vae.inverse_transform(np.eye(2)) - vae.inverse_transform(np.zeros((1, 2)))
    of_mean = np.square(X - vae.reconstruct(X)).mean()
    of_decoder = (np.square(std) @ np.square(W)).mean()
    assert_equal(vae.scale_**2, of_mean + of_decoder, rtol=1e-8)
    assert_wrong(of_mean, vae.scale_**2)

    def score(log_scale):
        other = copy.deepcopy(vae)
        other.module_.scale.value.fill_(
            log_scale - math.log(vae._standardization.likelihood_unit[0])
        )
        return other.score(X)

    def expected(log_scale):
        return -4 / 2 * (2 * log_scale) - 4 * vae.scale_**2 / 2 * math.exp(-2 * log_scale)

    at = math.log(vae.scale_)
    assert score(at) == pytest.approx(vae.score(X), rel=1e-12)
    for other in (at - 0.1, at + 0.1, math.log(of_mean) / 2):
        assert score(other) < score(at) - 1e-3
        # The curve over the scale is that of one Gaussian with this mean square.
        assert score(other) - score(at) == pytest.approx(
            expected(other) - expected(at), rel=1e-8
        )


@pytest.mark.parametrize(
    ("loss", "likelihood", "variance_mode", "factor", "divided"),
    [
        ("SSE", "gaussian", "fixed", 2, False),
        ("MSE", "gaussian", "fixed", 2, True),
        ("SAE", "laplace", "fixed", 1, False),
        ("MAE", "laplace", "fixed", 1, True),
        ("log MSE", "gaussian", "optimal", 2, True),
        ("log RMSE", "gaussian", "optimal", 1, True),
        ("log MAE", "laplace", "optimal", 1, True),
    ],
)
def test_beta_in_the_elbos_units(loss, likelihood, variance_mode, factor, divided):
    """Each common loss plus beta KL is c times the negative ELBO with weight beta/c."""
    beta, model = 0.6, Model(likelihood, variance_mode)
    residual, kl = model.parts()
    errors = {
        "SSE": lambda: residual.square().sum(dim=2).mean(),
        "MSE": lambda: residual.square().mean(),
        "SAE": lambda: residual.abs().sum(dim=2).mean(),
        "MAE": lambda: residual.abs().mean(),
        "log MSE": lambda: residual.square().mean().log(),
        "log RMSE": lambda: residual.square().mean().sqrt().log(),
        "log MAE": lambda: residual.abs().mean().log(),
    }
    actual = model.gradient(errors[loss]() + beta * kl.mean())
    c = factor / model.n_features if divided else factor
    assert_equal(actual, c * model.elbo_gradient(beta / c))
    if c != 1:
        assert_other_direction(actual, model.elbo_gradient(beta))


# --------------------------------------------------------------------------- the page


def test_page_names_each_test_once():
    """docs/errata.rst names each test of this file once, and no other test."""
    named = re.findall(r"``(test_\w+)``", PAGE.read_text(encoding="utf-8"))
    assert sorted(named) == sorted(name for name in globals() if name.startswith("test_"))
