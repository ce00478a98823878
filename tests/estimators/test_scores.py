"""Tests of scores against public attributes, scipy and exact probabilistic PCA."""

import copy
import functools
import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    load_wine,
)
from sklearn.decomposition import PCA

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.objectives import ELBO
from skae.objectives.draws import matched_normal
from tests.families import location_scale_combinations
from tests.helpers import ignore_spread
from tests.likelihoods.references import GIVEN, SCIPY, scipy_of

# Raw data have units that differ a thousandfold.
pytestmark = ignore_spread

DETERMINISTIC = {"gaussian": GaussianAutoencoder, "laplace": LaplaceAutoencoder}
COMBINATIONS = location_scale_combinations()

# Raw data, with their own units and their constant columns.
RAW = {
    "breast_cancer": load_breast_cancer().data,
    "digits": load_digits().data,
    "iris": load_iris().data,
}
BUNDLED = {
    **RAW,
    "diabetes": load_diabetes().data,
    "linnerud": load_linnerud().data,
    "wine": load_wine().data,
}
every_bundled_set = pytest.mark.parametrize("name", sorted(BUNDLED))

# Constant columns have scales at the floor; the digits have three such columns.
floor_is_expected = pytest.mark.filterwarnings(
    "ignore:The scales? of .* floor:sklearn.exceptions.ConvergenceWarning"
)


def draw_low_rank(n=300, d=10, k=3, noise=0.5):
    """Draw n rows of d features near a plane of k dimensions."""
    rng = np.random.default_rng(0)
    codes, loadings = rng.normal(size=(n, k)), 2 * rng.normal(size=(k, d))
    return codes @ loadings + noise * rng.normal(size=(n, d)) + rng.normal(size=d)


def given_scale(X, covariance_type):
    """Return a scale for variance_mode="fixed" of the size of the data."""
    typical = 0.3 * math.sqrt(X.var(axis=0).mean())
    return (
        typical if covariance_type == "spherical" else 0.3 * X.std(axis=0) + 0.1 * typical
    )


def fit(Model, X, combination, **settings):
    """Fit a model with a (likelihood, variance mode, covariance type)."""
    name, mode, covariance_type = combination
    if Model is VariationalAutoencoder:
        settings["likelihood"] = name
    return Model(
        3,
        variance_mode=mode,
        covariance_type=covariance_type,
        scale=given_scale(X, covariance_type) if mode == "fixed" else 1.0,
        max_iter=3,
        random_state=0,
        **settings,
    ).fit(X)


def scale_of(model, Z, X):
    """Return the scale in the units of X for each code and feature, (n, d)."""
    if model.variance_mode != "predicted":
        assert np.all(np.asarray(model.scale_) > 0)
        return np.broadcast_to(model.scale_, (len(Z), X.shape[1]))
    assert model.scale_ is None
    module = copy.deepcopy(model.module_).double()
    with torch.no_grad():
        _, outputs = module.decode(torch.tensor(Z))
        outputs = outputs[:, : module.scale.n_outputs]
        scale = module.scale.log_scale(outputs).exp().numpy()
    # Units of the module: one for all features, or the standard deviation of each one.
    std = X.std(axis=0)
    typical = math.sqrt(np.mean(std[std > 0] ** 2))
    unit = typical if model.covariance_type == "spherical" else np.where(std, std, typical)
    return np.broadcast_to(scale * unit, (len(Z), X.shape[1]))


# --------------------------------------------------------- densities, recomputed


@floor_is_expected
@pytest.mark.parametrize("data", sorted(RAW))
@pytest.mark.parametrize(
    "combination", [c for c in COMBINATIONS if c[0] in DETERMINISTIC], ids="-".join
)
def test_score_of_a_deterministic_autoencoder(combination, data):
    """Scores equal scipy's log-density of X given its reconstruction and the scale."""
    X, distribution = RAW[data], SCIPY[combination[0]]
    model = fit(DETERMINISTIC[combination[0]], X, combination)
    Z = model.transform(X)
    X_hat = model.inverse_transform(Z)
    expected = distribution.logpdf(X, X_hat, scale_of(model, Z, X)).sum(axis=1)
    actual = model.score_samples(X)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert model.score(X) == pytest.approx(expected.mean(), rel=1e-6)
    weight = np.random.default_rng(0).uniform(size=len(X))
    assert model.score(X, sample_weight=weight) == pytest.approx(
        np.average(expected, weights=weight), rel=1e-6
    )
    np.testing.assert_allclose(model.reconstruct(X), X_hat, rtol=1e-9, atol=1e-9)


def many_draws(model, n=256):
    """Return draws with exact moments, the same for all rows, (n_draws, 1, k)."""
    return matched_normal(model.n_components_, n)[:, None].numpy()


def mean_over_draws(model, X, draws):
    """Return the ELBO as a plain mean over given draws, (n,), in the units of X."""
    objective = ELBO(beta=1.0, schedule="constant", n_mc_samples=1)
    data = model._validate(X)
    values = model._over_rows(
        lambda module, y: objective.log_likelihood(module, y, torch.tensor(draws)),
        data,
        n_draws=min(len(draws), 256),
    )
    return model._to_units(values, data).numpy()


def assert_close_to_expectation(model, X):
    """Assert that scores have no more than the documented error, in nats."""
    exact = mean_over_draws(model, X, many_draws(model, 2**11))
    gap = model.score_samples(X) - exact
    assert math.sqrt(np.square(gap).mean()) < 0.1
    assert abs(gap.mean()) < 0.05


def elbo_by_draws(model, X, draws, X_train):
    """Return the ELBO (n_draws, n) from public attributes, scipy and the exact KL."""
    mean, std = model.posterior(X)
    np.testing.assert_array_equal(mean, model.transform(X))
    kl = 0.5 * (std**2 + mean**2 - 1 - np.log(std**2)).sum(axis=1)
    Z = (mean + std * draws).reshape(-1, mean.shape[1])
    scale, (distribution, mean) = scale_of(model, Z, X_train), scipy_of(model, Z)
    loc = model.inverse_transform(Z) - scale * mean
    log_prob = distribution.logpdf(np.tile(X, (len(draws), 1)), loc, scale).sum(axis=1)
    return log_prob.reshape(len(draws), -1) - kl


# One of the tables for each combination, in turns.
ON_RAW = [
    pytest.param(combination, data, id="-".join([*combination, data]))
    for combination, data in zip(COMBINATIONS, itertools.cycle(sorted(RAW)))
]


@floor_is_expected
@pytest.mark.parametrize(("combination", "data"), ON_RAW)
def test_score_of_a_variational_autoencoder(combination, data):
    """For given draws, the ELBO is that of scipy; scores are close to its expectation."""
    X = RAW[data]
    model = fit(VariationalAutoencoder, X, combination, activation="tanh")
    some = X[:: len(X) // 10]
    draws = many_draws(model)
    expected = elbo_by_draws(model, some, draws, X).mean(axis=0)
    actual = mean_over_draws(model, some, draws)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert_close_to_expectation(model, X[:: len(X) // 25])
    scores = model.score_samples(some)
    np.testing.assert_array_equal(model.elbo(some), scores)
    assert model.score(some) == pytest.approx(scores.mean(), rel=1e-9)


def even_draws(k, n=2048):
    """Return quasi-random draws, nearly exact for a posterior of few dimensions."""
    uniform = scipy.stats.qmc.Sobol(k, seed=0).random(n)
    return scipy.stats.norm.ppf(uniform)[:, None]


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
@pytest.mark.parametrize("hidden", [(), (64,)], ids=["linear", "network"])
def test_elbo_is_the_expectation_over_the_posterior(combination, hidden):
    """The ELBO is close to its expectation by many more draws than a score uses."""
    X = RAW["iris"]
    model = fit(VariationalAutoencoder, X, combination, hidden_layer_sizes=hidden)
    exact = elbo_by_draws(model, X[::6], even_draws(3), X).mean(axis=0)
    gap = model.elbo(X[::6]) - exact
    name, mode, _ = combination
    if hidden == () and name == "gaussian" and mode != "predicted":
        # The expectation of a quadratic function of z is exact in a score.
        assert np.abs(gap).max() < 0.01
    else:
        assert np.abs(gap).max() < 0.25
        assert abs(gap.mean()) < 0.08


@pytest.mark.parametrize(
    ("likelihood", "kind"),
    [*zip(sorted(SCIPY), itertools.cycle(["spherical", "diag"])), ("gaussian", "diag")],
)
def test_elbo_of_many_components_is_accurate(likelihood, kind):
    """The mean score is accurate although all rows share the draws and their error."""
    X = RAW["breast_cancer"]
    model = VariationalAutoencoder(
        8,
        likelihood=likelihood,
        variance_mode="learned",
        covariance_type=kind,
        max_iter=20,
        random_state=0,
    ).fit(X)
    some = X[::14]
    exact = elbo_by_draws(model, some, even_draws(8, 1024), X).mean(axis=0)
    assert model.score(some) == pytest.approx(exact.mean(), abs=0.1)


@pytest.mark.parametrize("beta", [0.2, 1.0, 5.0])
def test_score_does_not_weight_the_kl(beta):
    """The score is the ELBO with weight 1 of the KL for any beta."""
    X = RAW["iris"]
    model = VariationalAutoencoder(2, beta=beta, max_iter=5, random_state=0).fit(X)
    expected = elbo_by_draws(model, X, many_draws(model), X).mean(axis=0)
    np.testing.assert_allclose(model.score_samples(X), expected, atol=0.1)


@pytest.mark.parametrize("Model", [GaussianAutoencoder, VariationalAutoencoder])
def test_float64_training_has_accurate_scores(Model):
    """With precision="float64" scores equal scipy's to 10 digits."""
    X = RAW["breast_cancer"]
    combination = ("gaussian", "optimal", "spherical")
    model = fit(Model, X, combination, precision="float64")
    if Model is VariationalAutoencoder:
        draws = many_draws(model)
        expected = elbo_by_draws(model, X, draws, X).mean(axis=0)
        actual = mean_over_draws(model, X, draws)
    else:
        X_hat = model.reconstruct(X)
        expected = scipy.stats.norm.logpdf(X, X_hat, model.scale_).sum(axis=1)
        actual = model.score_samples(X)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


@pytest.mark.parametrize("Model", [GaussianAutoencoder, LaplaceAutoencoder])
@pytest.mark.parametrize("kind", ["spherical", "diag"])
@pytest.mark.parametrize("mode", ["optimal", "profile"])
def test_closed_form_scale_uses_the_whole_training_set(Model, kind, mode):
    """The fitted scale is the weighted closed form over all training residuals."""
    if (mode, kind) == ("profile", "diag"):
        kind = "spherical"
    X = RAW["iris"]
    weight = np.random.default_rng(0).uniform(0.1, 2, size=len(X))
    model = Model(
        1,
        variance_mode=mode,
        covariance_type=kind,
        min_scale=1e-5,
        max_iter=10,
        random_state=0,
    ).fit(X, sample_weight=weight)
    residual = np.abs(X - model.reconstruct(X))
    power = 2 if Model is GaussianAutoencoder else 1
    mean = np.average(residual**power, axis=0, weights=weight)
    if kind == "spherical":
        mean = mean.mean()
    np.testing.assert_allclose(model.scale_, mean ** (1 / power), rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
@pytest.mark.parametrize("kind", ["spherical", "diag"])
def test_closed_form_scale_of_a_vae_includes_the_posterior_spread(likelihood, kind):
    """The fitted scale is that of the expected error over the posterior."""
    X = RAW["iris"]
    model = VariationalAutoencoder(
        2, likelihood=likelihood, covariance_type=kind, max_iter=10, random_state=0
    ).fit(X)
    mean, std = model.posterior(X)
    power = {"gaussian": 2, "laplace": 1}[likelihood]
    Z = (mean + std * even_draws(2)).reshape(-1, 2)
    error = np.abs(X - model.inverse_transform(Z).reshape(-1, *X.shape)) ** power
    error = error.mean() if kind == "spherical" else error.mean(axis=(0, 1))
    # A score is exact for quadratic functions of the draws, but not for absolute values.
    rtol = {"gaussian": 0.02, "laplace": 0.02}[likelihood]
    np.testing.assert_allclose(model.scale_, error ** (1 / power), rtol=rtol)
    without = np.mean(np.abs(X - model.reconstruct(X)) ** power) ** (1 / power)
    assert np.mean(np.asarray(model.scale_) ** power) ** (1 / power) > 1.05 * without


# ------------------------------------------------------------------- against PPCA


def exact_ppca(X, k):
    """Return log-likelihood (nats) and noise variance (divided by n) of exact PPCA."""
    n, d = X.shape
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2 / n
    values = np.append(values, np.zeros(max(d - n, 0)))
    noise = values[k:].mean()
    log_det = np.log(values[:k]).sum() + (d - k) * math.log(noise)
    return -0.5 * (d * math.log(2 * math.pi) + log_det + d), noise


PPCA = {
    "breast_cancer-2": (RAW["breast_cancer"], 2),
    "breast_cancer-5": (RAW["breast_cancer"], 5),
    "digits/16-8": (RAW["digits"] / 16, 8),
    "iris-1": (RAW["iris"], 1),
    "iris-2": (RAW["iris"], 2),
    "wine-3": (BUNDLED["wine"], 3),
    "low_rank-3": (draw_low_rank(), 3),
    "low_rank-5": (draw_low_rank(), 5),
}


@functools.cache
def linear_vae(name, mode):
    """Return a fitted linear model; fits are cached."""
    X, k = PPCA[name]
    return VariationalAutoencoder(
        k, hidden_layer_sizes=(), variance_mode=mode, random_state=0
    ).fit(X)


@pytest.mark.parametrize("name", sorted(PPCA))
@pytest.mark.parametrize("mode", ["optimal", "learned"])
def test_linear_vae_is_ppca(name, mode):
    """A linear VAE has the log-likelihood and the noise variance of exact PPCA."""
    (X, k), model = PPCA[name], linear_vae(name, mode)
    n = len(X)
    exact, noise = exact_ppca(X, k)
    pca = PCA(k, svd_solver="full").fit(X)
    # scikit-learn divides by n - 1, so its likelihood is slightly lower.
    assert noise == pytest.approx(pca.noise_variance_ * (n - 1) / n, rel=1e-6)
    assert exact - 0.01 < pca.score(X) <= exact
    score = model.score(X)
    assert exact - 0.02 < score <= exact + 1e-8 * abs(exact)
    assert model.scale_**2 == pytest.approx(noise, rel=0.02)


@pytest.mark.parametrize("name", sorted(PPCA))
def test_linear_vae_has_the_ppca_density_of_new_rows(name):
    """The density equals that of PPCA on, between and far from the training rows."""
    (X, k), model = PPCA[name], linear_vae(name, "optimal")
    pca = PCA(k, svd_solver="full").fit(X)
    pca.explained_variance_ *= (len(X) - 1) / len(X)
    pca.noise_variance_ *= (len(X) - 1) / len(X)
    rng = np.random.default_rng(0)
    new = np.vstack(
        [
            X[:20],
            (X[:20] + X[20:40]) / 2,
            pca.inverse_transform(
                3 * rng.normal(size=(20, k)) * np.sqrt(pca.explained_variance_)
            ),
        ]
    )
    expected = pca.score_samples(new)
    assert np.abs(model.score_samples(new) - expected).max() < 0.1 + 0.01 * np.ptp(expected)


@pytest.mark.parametrize("name", ["low_rank-3", "iris-2", "wine-3"])
def test_linear_vae_reaches_ppca_from_a_random_start(name):
    """Training from a random start also reaches exact PPCA."""
    X, k = PPCA[name]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    model = VariationalAutoencoder(
        k,
        hidden_layer_sizes=(),
        init="random",
        max_iter=300,
        learning_rate_init=0.02,
        random_state=0,
        n_iter_no_change=300,
    ).fit(X)
    exact, noise = exact_ppca(X, k)
    assert exact - 0.1 < model.score(X) <= exact + 1e-6 * abs(exact)
    assert model.scale_**2 == pytest.approx(noise, rel=0.1)


@functools.cache
def default_fit(Model, name):
    """Return a fit with default parameters; fits are cached."""
    return Model(random_state=0).fit(BUNDLED[name])


@every_bundled_set
def test_vae_is_never_worse_than_ppca_on_its_training_data(name):
    """The training score is at least the log-likelihood of exact PPCA."""
    X = BUNDLED[name]
    exact, _ = exact_ppca(X, 2)
    assert default_fit(VariationalAutoencoder, name).score(X) >= exact - 1e-6 * abs(exact)


@every_bundled_set
def test_gaussian_autoencoder_is_never_worse_than_pca(name):
    """The mean squared error on the training data is at most that of PCA."""
    X = BUNDLED[name]
    pca = PCA(2, svd_solver="full").fit(X)
    best = np.mean((X - pca.inverse_transform(pca.transform(X))) ** 2)
    model = default_fit(GaussianAutoencoder, name)
    mse = np.mean((X - model.reconstruct(X)) ** 2)
    assert mse <= best * (1 + 1e-6)
    assert model.scale_ == pytest.approx(math.sqrt(mse), rel=1e-5)


@every_bundled_set
def test_laplace_autoencoder_is_never_worse_than_pca(name):
    """The mean absolute error on the training data is at most that of PCA."""
    X = BUNDLED[name]
    pca = PCA(2, svd_solver="full").fit(X)
    best = np.mean(np.abs(X - pca.inverse_transform(pca.transform(X))))
    model = default_fit(LaplaceAutoencoder, name)
    mae = np.mean(np.abs(X - model.reconstruct(X)))
    assert mae <= best * (1 + 1e-6)
    assert model.scale_ == pytest.approx(mae, rel=1e-5)


def test_networks_beat_the_linear_model_on_curved_data():
    """On data near a curve, a VAE with networks has a much better score than PPCA."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-2, 2, size=(400, 1))
    X = np.hstack([3 * t, t**2, np.sin(2 * t)]) + 0.1 * rng.normal(size=(400, 3))
    exact, noise = exact_ppca(X, 1)
    model = VariationalAutoencoder(1, random_state=0).fit(X)
    assert model.score(X) > exact + 0.5
    assert model.scale_**2 < 0.3 * noise


# ------------------------------------------------------------------- equivariance

FACTORS = [1e-6, 1e-3, 1e3, 1e6]
# Factors and offsets in units of the data: each factor once, with and without an offset.
UNITS = [(1e-6, 0.0), (1e-3, 1e6), (1e3, 0.0), (1e6, 1e6)]


@functools.cache
def score_of(name, Model, factor, offset, **settings):
    """Return the score of a fit to data in other units; scores are cached."""
    X = factor * BUNDLED[name] + factor * offset
    return Model(2, **{"random_state": 0, **settings}).fit(X).score(X)


def score_error(name, Model, factor, offset, **settings):
    """Return the score minus its expected value after a change of units."""
    before = score_of(name, Model, 1.0, 0.0, **settings)
    after = score_of(name, Model, factor, offset, **settings)
    return after + BUNDLED[name].shape[1] * math.log(factor) - before


over_units = [
    pytest.mark.parametrize("name", ["breast_cancer", "iris", "wine"]),
    pytest.mark.parametrize(("factor", "offset"), UNITS),
]


def every_unit(test):
    """Parametrise a test over data sets and units."""
    for mark in over_units:
        test = mark(test)
    return test


@every_unit
@pytest.mark.parametrize("Model", [GaussianAutoencoder, VariationalAutoencoder])
def test_linear_models_do_not_depend_on_units(Model, name, factor, offset):
    """The score of a linear model changes by -d log(factor)."""
    assert abs(score_error(name, Model, factor, offset, hidden_layer_sizes=())) < 1e-3


@every_unit
@pytest.mark.parametrize(
    "Model", [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]
)
@pytest.mark.parametrize("init", ["pca", "random"])
def test_short_fits_do_not_depend_on_units(Model, init, name, factor, offset):
    """Short fits are equal; rounding errors grow exponentially with the steps."""
    settings = {"max_iter": 4, "precision": "float64", "init": init}
    settings["learning_rate_init"] = 5e-3
    assert abs(score_error(name, Model, factor, offset, **settings)) < 1e-3


@pytest.mark.parametrize("name", ["iris", "wine"])
@pytest.mark.parametrize(("factor", "offset"), UNITS)
@pytest.mark.parametrize("Model", [GaussianAutoencoder, VariationalAutoencoder])
def test_default_fits_hardly_depend_on_units(Model, name, factor, offset):
    """Default fits do not depend on units, up to rounding errors of the data."""
    error = abs(score_error(name, Model, factor, offset))
    if not offset:
        assert error < 1e-6
        return
    # An offset rounds the data. After a hundred epochs this rounding has the effect of
    # another random_state.
    scores = [score_of(name, Model, 1.0, 0.0, random_state=seed) for seed in range(5)]
    assert error < max(np.ptp(scores), 0.01)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("mode", ["fixed", "learned", "predicted"])
@pytest.mark.parametrize("kind", ["spherical", "diag"])
def test_other_variance_modes_do_not_depend_on_units(mode, kind, factor):
    """The other variance modes have the expected score after a change of units."""
    X = RAW["iris"]

    def score(Y, unit):
        model = VariationalAutoencoder(
            variance_mode=mode,
            covariance_type=kind,
            scale=0.3 * unit if mode == "fixed" else 1.0,
            max_iter=4,
            precision="float64",
            random_state=0,
        )
        return model.fit(Y).score(Y)

    expected = score(X, 1.0) - 4 * math.log(factor)
    assert score(factor * (X + 7), factor) == pytest.approx(expected, abs=1e-3)


def test_codes_and_reconstructions_follow_the_units():
    """Codes are equal in other units; reconstructions and scales have the new units."""
    X = RAW["iris"]
    settings = {"max_iter": 4, "precision": "float64", "random_state": 0}
    before = GaussianAutoencoder(**settings).fit(X)
    after = GaussianAutoencoder(**settings).fit(1e3 * X - 5e4)
    Z = before.transform(X)
    np.testing.assert_allclose(after.transform(1e3 * X - 5e4), Z, atol=2e-5)
    np.testing.assert_allclose(
        after.inverse_transform(Z), 1e3 * before.inverse_transform(Z) - 5e4, rtol=1e-6
    )
    assert after.scale_ == pytest.approx(1e3 * before.scale_, rel=1e-6)


# ----------------------------------------------------------------------- sampling


def linear_map(model, k):
    """Return W and m of a linear decoder with location W z + m."""
    m = model.inverse_transform(np.zeros((1, k)))[0]
    return (model.inverse_transform(np.eye(k)) - m).T, m


# With a shape that depends on the code, the mean is no linear function of the code.
@pytest.mark.parametrize("likelihood", sorted(set(SCIPY) - set(GIVEN)))
@pytest.mark.parametrize("kind", ["spherical", "diag"])
def test_samples_of_a_linear_model_have_its_mean_and_covariance(likelihood, kind):
    """Samples have mean m and covariance W W' plus the variance of the noise."""
    X, n = 1e3 * draw_low_rank() + 1e5, 100_000
    model = VariationalAutoencoder(
        3,
        likelihood=likelihood,
        variance_mode="learned",
        covariance_type=kind,
        hidden_layer_sizes=(),
        max_iter=3,
        random_state=0,
    ).fit(X)
    W, m = linear_map(model, 3)
    noise = np.broadcast_to(SCIPY[likelihood](scale=model.scale_).var(), 10)
    expected = W @ W.T + np.diag(noise)
    draws = model.sample(n, random_state=1)
    assert draws.shape == (n, 10)
    centered = draws - m
    variance = np.diag(expected)
    assert np.all(np.abs(centered.mean(axis=0)) < 4.5 * np.sqrt(variance / n))
    products = np.einsum("ni,nj->nij", centered[:20_000], centered[:20_000])
    error = products.std(axis=0) / math.sqrt(n)
    actual = centered.T @ centered / n
    assert np.all(np.abs(actual - expected) < 4.5 * error)


def test_samples_of_a_linear_gaussian_model_are_normal():
    """Whitened samples of a linear Gaussian model are standard normal."""
    model, n = linear_vae("low_rank-3", "optimal"), 20_000
    W, m = linear_map(model, 3)
    whitened = np.linalg.solve(
        np.linalg.cholesky(W @ W.T + model.scale_**2 * np.eye(10)),
        (model.sample(n, random_state=1) - m).T,
    )
    for values in whitened:
        assert scipy.stats.kstest(values, scipy.stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("likelihood", sorted(SCIPY))
def test_noise_has_the_likelihoods_distribution(likelihood):
    """Samples of an almost constant decoder have the distribution of the likelihood."""
    X = np.random.default_rng(0).normal(size=(300, 4)) * [1, 1, 1, 1e-3] + 3
    model = VariationalAutoencoder(
        1,
        likelihood=likelihood,
        variance_mode="fixed",
        scale=50.0,
        hidden_layer_sizes=(),
        max_iter=2,
        learning_rate_init=1e-4,
        random_state=0,
    ).fit(X)
    W, m = linear_map(model, 1)
    assert np.abs(W).max() < 0.3
    draws = model.sample(20_000, random_state=0)
    for column in range(4):
        expected = SCIPY[likelihood](m[column], 50)
        assert scipy.stats.kstest(draws[:, column], expected.cdf).pvalue > 1e-3


def test_samples_with_a_predicted_scale_have_its_mean_and_variance():
    """The variance of samples is that of the location plus the mean squared scale."""
    X, n = RAW["iris"], 100_000
    combination = ("gaussian", "predicted", "diag")
    model = fit(VariationalAutoencoder, X, combination)
    draws = model.sample(n, random_state=3)
    Z = np.random.default_rng(0).normal(size=(n, 3))
    loc, scale = model.inverse_transform(Z), scale_of(model, Z, X)
    variance = loc.var(axis=0) + (scale**2).mean(axis=0)
    error = np.sqrt(2 * variance / n)
    assert np.all(np.abs(draws.mean(axis=0) - loc.mean(axis=0)) < 4.5 * error)
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.05)


def test_samples_without_noise_lie_in_the_decoders_range():
    """Without noise, samples of a linear model have the form W z + m with normal z."""
    model = linear_vae("low_rank-3", "optimal")
    W, m = linear_map(model, 3)
    draws = model.sample(5000, random_state=0, noise=False) - m
    z, *_ = np.linalg.lstsq(W, draws.T)
    np.testing.assert_allclose(W @ z, draws.T, atol=1e-5)
    for values in z:
        assert scipy.stats.kstest(values, scipy.stats.norm.cdf).pvalue > 1e-3


def test_samples_without_noise_lie_on_the_decoders_curve():
    """Without noise, samples of a model with one component lie on the decoder's curve."""
    X = RAW["iris"]
    model = VariationalAutoencoder(1, max_iter=20, random_state=0).fit(X)
    grid = model.inverse_transform(np.linspace(-5, 5, 20_001)[:, None])
    draws = model.sample(200, random_state=0, noise=False)
    away = np.sqrt(((draws[:, None] - grid) ** 2).sum(axis=2)).min(axis=1)
    assert away.max() < 1e-3
    noisy = model.sample(200, random_state=0)
    away = np.sqrt(((noisy[:, None] - grid) ** 2).sum(axis=2)).min(axis=1)
    assert np.median(away) > model.scale_ / 2


@pytest.mark.parametrize("noise", [True, False])
def test_sampling_is_reproducible(noise):
    """`random_state` determines the samples, and global random states do not change."""
    model = linear_vae("iris-2", "optimal")

    def global_states():
        numpys = np.random.get_state()[1]  # noqa: NPY002  (the global state under test)
        return torch.get_rng_state().tolist(), numpys.tolist()

    before = global_states()
    first = model.sample(50, random_state=5, noise=noise)
    np.testing.assert_array_equal(model.sample(50, random_state=5, noise=noise), first)
    assert not np.isclose(model.sample(50, random_state=6, noise=noise), first).any()
    unseeded = [model.sample(50, noise=noise) for _ in range(2)]
    assert not np.isclose(*unseeded).any()
    state = np.random.RandomState(5)
    successive = [model.sample(50, random_state=state, noise=noise) for _ in range(2)]
    assert not np.isclose(*successive).any()
    again = model.sample(50, random_state=np.random.RandomState(5), noise=noise)
    np.testing.assert_array_equal(again, successive[0])
    assert model.sample(random_state=0, noise=noise).shape == (1, 4)
    assert global_states() == before
