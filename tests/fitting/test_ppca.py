"""The closed-form start of a fit against scikit-learn's PCA and numerical optimisation."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA, FactorAnalysis

import skae._fitting.ppca
from skae._data.feature_moments import measure
from skae._data.rows import Rows
from skae._evaluation import finalize_scale, over_rows
from skae._fitting.initialization import build_module, initialize
from skae._fitting.ppca import (
    factor_noise,
    noise_variance,
    principal_components,
    winsorized,
)
from skae._module import Spec
from skae.likelihoods import GaussianLikelihood
from skae.networks import MLP
from skae.objectives import ELBO, NegativeLogLikelihood


def all_rows(X, weight=None):
    weight = np.ones(len(X)) if weight is None else np.asarray(weight, dtype=float)
    return Rows(X, np.arange(len(X)), weight / weight.mean())


def low_rank(n=300, d=10, k=3, noise=0.5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, k)) @ rng.normal(size=(k, d)) * 2 + noise * rng.normal(
        size=(n, d)
    )


CPU = torch.device("cpu")
DATA = {
    "breast_cancer": (load_breast_cancer().data, 5),
    "digits": (load_digits().data / 16, 8),
    "iris": (load_iris().data, 2),
    "wine": (load_wine().data, 3),
    "low_rank": (low_rank(), 3),
}
every_set = pytest.mark.parametrize("name", sorted(DATA))


def eigenvalues(X):
    """Compute the eigenvalues of the maximum-likelihood covariance, in falling order."""
    return np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2 / len(X)


# ------------------------------------------------------------------------- components


@pytest.mark.parametrize("shape", [(200, 6), (200, 1), (8, 30), (7, 7), (2, 5)])
@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("kind", ["spherical", "diag"])
def test_components_equal_scikit_learn(shape, k, kind):
    rng = np.random.default_rng(0)
    n, d = shape
    X = rng.normal(size=shape) @ rng.normal(size=(d, d)) * np.linspace(1, 30, d) + 100
    rows = all_rows(X)
    standardization = measure(rows, kind)
    components, values, rest = principal_components(rows, standardization, k)
    q = min(k, n, d)
    pca = PCA(q, svd_solver="full").fit(X / standardization.likelihood_unit)
    expected = pca.explained_variance_ * (n - 1) / n
    size = expected[0]
    assert components.shape == (d, q)
    np.testing.assert_allclose(values, expected, rtol=1e-8, atol=1e-12 * size)
    assert values.sum() + rest == pytest.approx(
        (X / standardization.likelihood_unit).var(axis=0).sum(), rel=1e-10
    )
    # Centred data of n rows have rank n - 1, so the last direction is arbitrary.
    known = values > 1e-10 * size
    cosine = np.abs((components[:, known] * pca.components_[known].T).sum(axis=0))
    np.testing.assert_allclose(cosine, 1, rtol=1e-8)
    lengths = np.linalg.norm(components[:, known], axis=0)
    np.testing.assert_allclose(lengths, 1, rtol=1e-8)


@pytest.mark.parametrize("ratio", [1e2, 1e5, 1e8, 1e12])
def test_small_eigenvalues_are_exact_beside_large_ones(ratio):
    """Those of features of spread 1 beside a feature that is independent of them."""
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.normal(size=(500, 7)) - 0.5)[0]
    X -= X.mean(axis=0)
    X = np.linalg.qr(X)[0][:, :6] * np.sqrt(500)  # orthogonal columns of variance 1
    expected = np.array([ratio, 2.0, 1.5, 1.0, 0.5, 0.25]) ** 2
    rows = all_rows(X * np.sqrt(expected))
    _, values, rest = principal_components(rows, measure(rows, "spherical"), 3)
    unit = measure(rows, "spherical").likelihood_unit
    precision = {"rtol": max(1e-9, 1e-14 * ratio)}
    np.testing.assert_allclose(values, expected[:3] / unit[0] ** 2, **precision)
    np.testing.assert_allclose(rest, expected[3:].sum() / unit[0] ** 2, **precision)


@pytest.mark.parametrize("shape", [(60, 6), (8, 30)])
@pytest.mark.parametrize("kind", ["spherical", "diag"])
def test_weights_equal_repeated_rows(shape, kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape) * np.linspace(1, 4, shape[1])
    times = rng.integers(1, 6, size=len(X))
    rows = all_rows(X, times)
    standardization = measure(rows, kind)
    components, values, rest = principal_components(rows, standardization, 3)
    repeated = np.repeat(X, times, axis=0) / standardization.likelihood_unit
    pca = PCA(3, svd_solver="full").fit(repeated)
    n = len(repeated)
    np.testing.assert_allclose(values, pca.explained_variance_ * (n - 1) / n, rtol=1e-8)
    cosine = np.abs((components * pca.components_.T).sum(axis=0))
    np.testing.assert_allclose(cosine, 1, rtol=1e-8)
    assert values.sum() + rest == pytest.approx(repeated.var(axis=0).sum(), rel=1e-10)


@pytest.mark.parametrize("shape", [(400, 80), (80, 400)])
def test_randomised_decomposition_is_near_the_exact_one(shape, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(shape[0], 5)) * [50, 40, 30, 20, 10] @ rng.normal(
        size=(5, shape[1])
    ) + 0.1 * rng.normal(size=shape)
    rows = all_rows(X)
    standardization = measure(rows, "spherical")
    monkeypatch.setattr(skae._fitting.ppca, "_EXACT_SIZE", 10)
    components, values, rest = principal_components(rows, standardization, 5)
    pca = PCA(5, svd_solver="full").fit(X / standardization.likelihood_unit)
    n = len(X)
    np.testing.assert_allclose(values, pca.explained_variance_ * (n - 1) / n, rtol=1e-4)
    cosine = np.abs((components * pca.components_.T).sum(axis=0))
    np.testing.assert_allclose(cosine, 1, rtol=1e-4)
    assert values.sum() + rest == pytest.approx(
        (X / standardization.likelihood_unit).var(axis=0).sum(), rel=1e-10
    )


def test_subsample_of_many_rows_is_unbiased():
    X = np.random.default_rng(0).normal(size=(30_000, 3)) * [3, 2, 1] + 5
    rows = all_rows(X)
    standardization = measure(rows, "spherical")
    _, values, _ = principal_components(rows, standardization, 3)
    exact = eigenvalues(X) / standardization.likelihood_unit[0] ** 2
    np.testing.assert_allclose(values, exact, rtol=0.06)
    # Nor if the rows are sorted, as in a fit.
    rows = all_rows(X[np.argsort(X[:, 0])])
    _, values, _ = principal_components(rows, standardization, 3)
    np.testing.assert_allclose(values, exact, rtol=0.06)


# ---------------------------------------------------------------------- noise variance


@every_set
def test_noise_variance_equals_scikit_learn(name):
    X, _ = DATA[name]
    n, d = X.shape
    values = eigenvalues(X)
    for k in {1, 2, d // 2, d - 1}:
        expected = PCA(k, svd_solver="full").fit(X).noise_variance_ * (n - 1) / n
        actual = noise_variance(values[:k], values[k:].sum(), d, beta=1.0)
        assert actual == pytest.approx(expected, rel=1e-5)


def linear_objective(log_noise, values, k, beta):
    """Compute minus the best beta-ELBO of a linear model for a noise variance.

    A component of variance l is decoded with w from a posterior of mean e x and variance p.
    It has E log p(x|z) = -((1 - w e)^2 l + w^2 p) / (2 noise), up to a constant that all
    components share, and KL = (p + e^2 l - 1 - log p) / 2. The best w, e and p of each
    component are searched.
    """
    noise = math.exp(log_noise)

    def loss(parameters, value):
        w, e, log_p = parameters
        p = math.exp(log_p)
        error = ((1 - w * e) ** 2 * value + w**2 * p) / (2 * noise)
        return error + 0.5 * beta * (p + e**2 * value - 1 - log_p)

    total = 0.5 * len(values) * math.log(2 * math.pi * noise)
    for i, value in enumerate(values):
        best = value / (2 * noise)  # loss of an unused component
        if i < k:
            guess = [math.sqrt(value), 0.9 / math.sqrt(value), -1.0]
            found = scipy.optimize.minimize(loss, guess, args=(value,), method="BFGS")
            best = min(best, found.fun)
        total += best
    return total


BETAS = [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(
    "values",
    [
        np.array([9.0, 4.0, 2.0, 1.0, 0.8, 0.5]),
        np.array([30.0, 1.1, 1.0, 1.0, 0.9, 0.9, 0.8, 0.8]),
    ],
)
def test_noise_variance_maximises_the_beta_elbo(values, beta):
    k = 3
    actual = noise_variance(values[:k], values[k:].sum(), len(values), beta)
    found = scipy.optimize.minimize_scalar(
        linear_objective, bounds=(-2.5, 2.5), args=(values, k, beta), method="bounded"
    )
    assert actual == pytest.approx(math.exp(found.x), rel=2e-3)


def closed_form(values, k, beta):
    """Compute the best noise variance of the linear beta-VAE, and its ELBO per sample.

    The ELBO has KL weight 1. For q used components out of n, the noise is the sum of the
    unused eigenvalues over n - q beta; a component is used if its eigenvalue exceeds beta
    times the noise.
    """
    n = len(values)
    for q in range(k, -1, -1):
        if n <= q * beta:
            continue
        noise = values[q:].sum() / (n - q * beta)
        if q == 0 or values[q - 1] > beta * noise:
            break
    elbo = -0.5 * n * (math.log(2 * math.pi * noise) + 1)
    return noise, elbo - 0.5 * np.log(values[:q] / (beta * noise)).sum()


@every_set
@pytest.mark.parametrize("beta", BETAS)
def test_noise_variance_equals_closed_form(name, beta):
    X, k = DATA[name]
    values = eigenvalues(X)
    actual = noise_variance(values[:k], values[k:].sum(), len(values), beta)
    assert actual == pytest.approx(closed_form(values, k, beta)[0], rel=1e-8)


def test_degenerate_spectra():
    # No variance outside the components, equal eigenvalues, no variance.
    assert noise_variance(np.array([2.0, 1.0]), 0.0, 5, 1.0) == 0
    assert noise_variance(np.ones(2), 3.0, 5, 1.0) == pytest.approx(1)
    assert noise_variance(np.zeros(2), 0.0, 5, 1.0) == 0
    # With as many components as features, the last is the noise (Tipping and Bishop).
    assert noise_variance(np.array([3.0, 2.0, 1.0]), 0.0, 3, 1.0) == pytest.approx(1)
    # Without a KL, the noise is the remaining variance over the number of features.
    assert noise_variance(np.array([3.0, 2.0]), 1.0, 3, 0.0) == pytest.approx(1 / 3)


# ---------------------------------------------------------- factor analysis, outliers


def uneven_noise(n=2000):
    """Draw data of three factors with a different noise for each feature."""
    rng = np.random.default_rng(0)
    noise = np.linspace(0.3, 2, 10)
    loadings = 2 * rng.normal(size=(3, 10))
    return rng.normal(size=(n, 3)) @ loadings + noise * rng.normal(size=(n, 10))


@pytest.mark.parametrize("kind", ["spherical", "diag"])
@pytest.mark.parametrize("name", ["uneven", "wine"])
def test_factor_noise_is_near_maximum_likelihood(name, kind):
    """With its best loadings, it is compared with scikit-learn's factor analysis."""
    X = 100 * uneven_noise() + 7 if name == "uneven" else DATA["wine"][0]
    rows = all_rows(X)
    standardization = measure(rows, kind)
    smallest = np.full((1, X.shape[1]), 1e-12)
    noise = (
        factor_noise(rows, standardization, 3, 1.0, smallest)
        * standardization.likelihood_unit**2
    )

    deviation = np.sqrt(noise)
    pca = PCA(svd_solver="full").fit((X - X.mean(axis=0)) / deviation)
    values = pca.explained_variance_ * (len(X) - 1) / len(X)
    kept = pca.components_[:3] * np.sqrt(np.maximum(values[:3] - 1, 0))[:, None] * deviation
    covariance = kept.T @ kept + np.diag(noise)
    mean = X.mean(axis=0)
    actual = scipy.stats.multivariate_normal(mean, covariance).logpdf(X).mean()
    # The iterations of scikit-learn converge further for standardised features.
    scaled, log_std = (X - mean) / X.std(axis=0), np.log(X.std(axis=0)).sum()
    reference = FactorAnalysis(3, tol=1e-8, max_iter=20_000, svd_method="lapack")
    exact = reference.fit(scaled).score(scaled) - log_std
    assert exact - 0.02 < actual < exact + 1e-4
    # Probabilistic PCA is far from it, even for standardised features.
    assert exact_ppca(scaled, 3) - log_std < exact - 0.2


@pytest.mark.parametrize("beta", [1.0, 2.0, 3.0])
def test_factor_noise_nearly_maximises_the_beta_elbo(beta):
    """All other parameters are at their best, which is PPCA in units of the noise."""
    X, k = uneven_noise(), 3
    rows = all_rows(X)
    standardization = measure(rows, "diag")
    covariance = np.cov(X / standardization.likelihood_unit, rowvar=False, ddof=0)

    def gain(values):
        kept = np.maximum(values[:k], beta)
        return 0.5 * (kept - beta - beta * np.log(kept / beta)).sum()

    def loss(log_noise):
        whitened = covariance / np.exp(0.5 * (log_noise + log_noise[:, None]))
        values = np.linalg.eigvalsh(whitened)[::-1]
        constant = len(values) * math.log(2 * math.pi) + log_noise.sum()
        return 0.5 * (constant + values.sum()) - gain(values)

    values = np.array([9.0, 4.0, 3.0, 1.0])
    nothing, best = (linear_objective(0.0, values, q, beta) for q in (0, k))
    assert gain(values) == pytest.approx(nothing - best, abs=1e-6)
    noise = factor_noise(rows, standardization, k, beta, np.full((1, X.shape[1]), 1e-12))
    found = scipy.optimize.minimize(loss, np.log(noise), method="BFGS")
    assert found.fun - 1e-9 <= loss(np.log(noise)) < found.fun + 0.01


@pytest.mark.parametrize(("n", "d"), [(400, 60), (40, 90)])
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_factor_noise_of_many_features_is_that_of_few(n, d, beta, monkeypatch):
    """The subspace that replaces eigendecompositions leads to the same noise."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(3, d))
    X = rng.normal(size=(n, 3)) @ loadings + rng.uniform(0.5, 2, d) * rng.normal(
        size=(n, d)
    )
    rows = all_rows(X)
    standardization, smallest = measure(rows, "diag"), np.full((1, d), 1e-6)
    few = factor_noise(rows, standardization, 3, beta, smallest)
    monkeypatch.setattr(skae._fitting.ppca, "_FACTOR_FEATURES", 10)
    many = factor_noise(rows, standardization, 3, beta, smallest)
    np.testing.assert_allclose(many, few, rtol=0.02)
    assert not np.allclose(few, np.maximum(0.5 * X.var(axis=0), 1e-6), rtol=0.2)


def test_factor_noise_of_many_features_recovers_the_noise():
    """Just above the limit of the exact steps, the result is factor analysis as well."""
    d = skae._fitting.ppca._FACTOR_FEATURES + 1
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.5, 2, size=d)
    X = rng.normal(size=(1000, 2)) @ rng.normal(size=(2, d))
    X += noise * rng.normal(size=X.shape)
    rows = all_rows(X)
    standardization = measure(rows, "diag")
    found = factor_noise(rows, standardization, 2, 1.0, np.full((1, d), 1e-6))
    found = np.sqrt(found) * standardization.likelihood_unit
    np.testing.assert_allclose(found, noise, rtol=0.12)


@pytest.mark.parametrize(("n", "d", "k"), [(40, 90, 3), (150, 160, 5), (6, 20, 9)])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_factor_noise_of_few_rows_is_that_of_their_covariance(n, d, k, beta):
    """Fewer rows than features are decomposed in the smaller space, with equal results."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d))
    X += rng.uniform(0.5, 2, d) * rng.normal(size=(n, d))
    X[:, 4] = X[:, 5]
    times = rng.integers(1, 4, size=n)
    rows = all_rows(X, times)
    standardization, smallest = measure(rows, "diag"), np.full(d, 1e-3)
    unit = standardization.likelihood_unit
    covariance = np.cov(X / unit, rowvar=False, ddof=0, fweights=times)
    variance = np.diagonal(covariance)
    noise = np.maximum(0.5 * variance, smallest)
    for _ in range(skae._fitting.ppca._FACTOR_STEPS):
        deviation = np.sqrt(noise)
        values, vectors = np.linalg.eigh(covariance / np.outer(deviation, deviation))
        kept = np.square(vectors[:, -k:]) @ np.maximum(values[-k:] - beta, 0)
        noise = np.maximum(variance - noise * kept, smallest)
    found = factor_noise(rows, standardization, k, beta, smallest[None])
    np.testing.assert_allclose(found, noise, rtol=1e-6)


def test_factor_noise_of_few_rows_needs_no_large_decomposition(monkeypatch):
    """400 rows of 781 features, which two columns of names have, took a minute."""
    sizes = []
    leading = skae._fitting.ppca._leading

    def recorded(gram, n_components):
        sizes.append(len(gram))
        return leading(gram, n_components)

    monkeypatch.setattr(skae._fitting.ppca, "_leading", recorded)
    X = np.eye(120)[np.random.default_rng(0).permutation(120)[:70]]
    X += 0.1 * np.random.default_rng(1).normal(size=X.shape)
    rows = all_rows(X)
    factor_noise(rows, measure(rows, "diag"), 2, 1.0, np.full((1, 120), 1e-3))
    assert set(sizes) == {70}


def test_factor_noise_uses_weights():
    X, times = uneven_noise(300), np.random.default_rng(1).integers(1, 5, size=300)
    smallest = np.full((1, 10), 1e-12)
    weighted = all_rows(X, times)
    repeated = all_rows(np.repeat(X, times, axis=0))
    np.testing.assert_allclose(
        factor_noise(weighted, measure(weighted, "diag"), 3, 1.0, smallest),
        factor_noise(repeated, measure(repeated, "diag"), 3, 1.0, smallest),
        rtol=1e-8,
    )


def test_factor_noise_has_a_floor():
    X = uneven_noise()
    X[:, 4] = X[:, 5]  # one component explains both columns
    rows = all_rows(X)
    noise = factor_noise(rows, measure(rows, "diag"), 9, 1.0, np.full((1, 10), 1e-3))
    assert noise.min() == pytest.approx(1e-3)


def test_winsorized_start_resists_outliers():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(20, 2)))[0]
    X = 3 * rng.normal(size=(1000, 2)) @ basis.T + 0.1 * rng.normal(size=(1000, 20))
    X[::20] += 30 * rng.normal(size=(50, 1)) * np.linalg.qr(rng.normal(size=(20, 1)))[0].T
    rows = all_rows(X)
    standardization = measure(rows, "spherical")

    def degrees(rows):
        components, _, _ = principal_components(rows, standardization, 2)
        return np.degrees(scipy.linalg.subspace_angles(components, basis).max())

    assert degrees(rows) > 20
    assert degrees(winsorized(rows, standardization)) < 10


def test_winsorized_weights_equal_shortened_rows():
    X, times = low_rank(201), np.random.default_rng(1).integers(1, 4, size=201)
    rows = all_rows(X, times)
    standardization = measure(rows, "diag")
    distance = np.linalg.norm((X - standardization.mean) / standardization.std, axis=1)
    pulled = winsorized(rows, standardization)
    np.testing.assert_array_equal(pulled.index, rows.index)
    reach = np.sqrt(pulled.weight / rows.weight) * distance
    inner = distance <= np.median(distance)
    np.testing.assert_allclose(reach[inner], distance[inner], rtol=1e-12)
    np.testing.assert_allclose(reach[~inner], np.median(distance), rtol=1e-12)


# ------------------------------------------------------------------ the model it starts


def started(X, k, beta, kind="spherical", objective=None, weight=None):
    """Make a module at its closed-form start, with the optimal scale."""
    objective = objective or ELBO(beta, "constant", 1)
    rows = all_rows(X, weight)
    standardization = measure(rows, kind)
    spec = Spec(
        X.shape[1], k, objective.n_heads, MLP(()), GaussianLikelihood(), "optimal", kind
    )
    module = build_module(spec, standardization, 1e-12, torch.float64, CPU, seed=0)
    model = module, objective, rows, standardization
    initialize(*model, init="pca", fixed_scale=None, device=CPU)
    finalize_scale(*model)
    # The start estimates the scale from some rows and draws; this is the optimum.
    guess = module.scale.log_scale(None).clone()
    draws = objective.draws(module.spec)[:, None]

    def squared_error(y):
        return objective.expectation(
            module, y, draws, lambda x, loc, _: (x - loc).square()
        )[0]

    error = over_rows(squared_error, X, standardization, module)
    mean = np.average(error, axis=0, weights=weight)
    module.scale.finalize(module.scale.pool(torch.tensor(mean[None])))
    np.testing.assert_allclose(guess, module.scale.log_scale(None), atol=0.05)
    return module, objective, standardization


def scores(module, objective, standardization, X):
    """Compute the ELBO of each row in the units of X."""
    draws = objective.draws(module.spec)[:, None]
    values = over_rows(
        lambda y: objective.log_likelihood(module, y, draws), X, standardization, module
    )
    return values - standardization.log_det_units


def exact_ppca(X, k):
    """Compute the maximum log-likelihood of probabilistic PCA per sample."""
    values = eigenvalues(X)
    d = X.shape[1]
    log_det = np.log(values[:k]).sum() + (d - k) * math.log(values[k:].mean())
    return -0.5 * (d * math.log(2 * math.pi) + log_det + d)


@every_set
def test_exact_ppca_equals_scikit_learn(name):
    """PCA.score uses variances that are larger by n / (n - 1)."""
    X, k = DATA[name]
    n, d = X.shape
    factor = (n - 1) / n
    # S -> S n / (n - 1) raises the log-determinant and lowers the trace term.
    expected = exact_ppca(X, k) - 0.5 * d * (-math.log(factor)) + 0.5 * d * (1 - factor)
    assert PCA(k, svd_solver="full").fit(X).score(X) == pytest.approx(expected, rel=1e-6)


@every_set
def test_start_is_exact_ppca(name):
    X, k = DATA[name]
    module, objective, standardization = started(X, k, beta=1.0)
    actual = scores(module, objective, standardization, X).mean()
    assert actual == pytest.approx(exact_ppca(X, k), abs=1e-6)
    scale = module.scale.log_scale(None).exp().item() * standardization.likelihood_unit[0]
    assert scale**2 == pytest.approx(eigenvalues(X)[k:].mean(), rel=1e-6)


@every_set
def test_start_has_ppca_density_of_each_row(name):
    X, k = DATA[name]
    module, objective, standardization = started(X, k, beta=1.0)
    n = len(X)
    pca = PCA(k, svd_solver="full").fit(X)
    pca.explained_variance_ *= (n - 1) / n
    pca.noise_variance_ *= (n - 1) / n
    expected = pca.score_samples(X)
    np.testing.assert_allclose(
        scores(module, objective, standardization, X), expected, rtol=1e-5
    )


@every_set
@pytest.mark.parametrize("beta", BETAS)
def test_start_is_closed_form_of_beta(name, beta):
    X, k = DATA[name]
    noise, elbo = closed_form(eigenvalues(X), k, beta)
    module, objective, standardization = started(X, k, beta)
    assert scores(module, objective, standardization, X).mean() == pytest.approx(
        elbo, abs=0.01
    )
    scale = module.scale.log_scale(None).exp().item() * standardization.likelihood_unit[0]
    assert scale**2 == pytest.approx(noise, rel=0.01)


def test_start_uses_weights():
    rng = np.random.default_rng(0)
    X, times = low_rank(80), rng.integers(1, 5, size=80)
    module, objective, standardization = started(X, 3, 1.0, weight=times)
    repeated = np.repeat(X, times, axis=0)
    actual = scores(module, objective, standardization, repeated).mean()
    assert actual == pytest.approx(exact_ppca(repeated, 3), abs=1e-6)


@pytest.mark.parametrize("k", [4, 7])
def test_start_with_all_components_is_full_gaussian(k):
    X = load_iris().data
    module, objective, standardization = started(X, k, beta=1.0)
    exact = exact_ppca(X, 3)  # the last component is the noise: full covariance
    actual = scores(module, objective, standardization, X).mean()
    assert actual == pytest.approx(exact, abs=1e-3)
    assert actual <= exact + 1e-9


def test_start_with_fewer_rows_than_features():
    X = np.random.default_rng(0).normal(size=(12, 40))
    module, objective, standardization = started(X, 3, beta=1.0)
    values = np.append(eigenvalues(X)[:12], np.zeros(28))
    log_det = np.log(values[:3]).sum() + 37 * math.log(values[3:].mean())
    expected = -0.5 * (40 * math.log(2 * math.pi) + log_det + 40)
    actual = scores(module, objective, standardization, X).mean()
    assert actual == pytest.approx(expected, abs=1e-6)


def test_diagonal_start_is_at_least_ppca_of_standardised_data():
    """A scale per feature at its optimum can only raise the likelihood."""
    X, k = DATA["wine"]
    module, objective, standardization = started(X, k, beta=1.0, kind="diag")
    lower = (
        exact_ppca((X - X.mean(axis=0)) / X.std(axis=0), k) - np.log(X.std(axis=0)).sum()
    )
    actual = scores(module, objective, standardization, X).mean()
    assert lower - 1e-6 <= actual < lower + X.shape[1]


@every_set
def test_start_of_deterministic_autoencoder_is_pca(name):
    X, k = DATA[name]
    module, objective, standardization = started(
        X, k, 1.0, objective=NegativeLogLikelihood()
    )

    def reconstruct(y):
        return module.decode(objective.code(module, y))[0]

    X_hat = (
        over_rows(reconstruct, X, standardization, module) * standardization.likelihood_unit
        + standardization.mean
    )
    pca = PCA(k, svd_solver="full").fit(X)
    expected = pca.inverse_transform(pca.transform(X))
    np.testing.assert_allclose(X_hat, expected, atol=1e-7 * X.std())
    codes = over_rows(lambda y: objective.code(module, y), X, standardization, module)
    np.testing.assert_allclose(np.cov(codes.T, bias=True), np.eye(k), atol=1e-5)
    d = X.shape[1]
    mse = np.mean((X - expected) ** 2)
    best = -0.5 * d * (math.log(2 * math.pi * mse) + 1)
    assert scores(module, objective, standardization, X).mean() == pytest.approx(
        best, rel=1e-6
    )
