"""Tests of scores of linear models against closed forms and other libraries."""

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import subspace_angles
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.preprocessing import scale

from skae import LaplaceAutoencoder, VariationalAutoencoder


def linear(n_components, **parameters):
    """Return a linear variational autoencoder."""
    return VariationalAutoencoder(
        n_components, hidden_layer_sizes=(), random_state=0, **parameters
    )


def draw_low_rank(seed=0):
    """Draw rows near a plane of 3 dimensions, with noise that depends on the feature."""
    rng = np.random.RandomState(seed)
    loadings = 2 * rng.normal(size=(3, 10))
    noise = rng.uniform(0.3, 1, size=10)
    return rng.normal(size=(1000, 3)) @ loadings + noise * rng.normal(size=(1000, 10))


@pytest.mark.parametrize("variance_mode", ["optimal", "learned"])
@pytest.mark.parametrize(
    ("X", "n_components"),
    [(scale(load_wine().data), 1), (scale(load_wine().data), 3), (draw_low_rank(), 3)],
    ids=["wine-1", "wine-3", "low-rank"],
)
def test_linear_model_with_diag_scale_is_factor_analysis(X, n_components, variance_mode):
    """With a scale per feature, a linear model has the score of factor analysis."""
    reference = FactorAnalysis(n_components, max_iter=20_000, tol=1e-8, svd_method="lapack")
    exact = reference.fit(X).score(X)
    model = linear(n_components, covariance_type="diag", variance_mode=variance_mode).fit(X)
    assert exact - 0.05 < model.score(X) < exact + 1e-6


@pytest.mark.parametrize("variance_mode", ["optimal", "learned"])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 4.0])
def test_closed_form_for_each_beta(beta, variance_mode):
    """Score and scale of a linear model equal their closed forms for any beta.

    A component is active if its eigenvalue is above beta times the noise variance.
    """
    X, k = scale(load_breast_cancer().data), 5
    n, d = X.shape
    eigenvalues = np.linalg.eigvalsh(X.T @ X / n)[::-1]
    for q in range(k, -1, -1):  # q is the number of active components
        noise = eigenvalues[q:].sum() / (d - q * beta)
        if q == 0 or eigenvalues[q - 1] > beta * noise:
            break
    expected = -d / 2 * (np.log(2 * np.pi * noise) + 1)
    expected -= 0.5 * np.log(eigenvalues[:q] / (beta * noise)).sum()

    model = linear(k, beta=beta, variance_mode=variance_mode).fit(X)
    assert abs(model.score(X) - expected) < 0.01
    assert abs(model.scale_**2 / noise - 1) < 0.01


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_huge_beta_gives_the_product_of_marginals(likelihood, covariance_type):
    """With a huge beta the codes are unused, and the score is that of the marginals."""
    X = scale(load_breast_cancer().data)
    model = linear(
        5,
        likelihood=likelihood,
        covariance_type=covariance_type,
        beta=1e4,
        max_iter=200,
        n_iter_no_change=50,
    ).fit(X)
    if likelihood == "gaussian":
        loc, family = X.mean(axis=0), stats.norm
        deviation = np.square(X - loc)
        spread = np.sqrt(deviation.mean(axis=0 if covariance_type == "diag" else None))
    else:
        loc, family = np.median(X, axis=0), stats.laplace
        spread = np.abs(X - loc).mean(axis=0 if covariance_type == "diag" else None)
    expected = family(loc, spread).logpdf(X).sum(axis=1).mean()
    assert abs(model.score(X) - expected) < 0.03
    mean, std = model.posterior(X)
    kl = 0.5 * (mean**2 + std**2 - 1) - np.log(std)
    assert kl.sum(axis=1).mean() < 1e-3


def l1_pca_error(X, n_components, n_steps=100):
    """Return the mean absolute error of L1-PCA, by iteratively reweighted least squares."""
    pca = PCA(n_components).fit(X)
    codes, loadings, loc = pca.transform(X), pca.components_.copy(), pca.mean_.copy()
    for _ in range(n_steps):
        weight = 1 / np.maximum(abs(X - loc - codes @ loadings), 1e-6)
        design = np.c_[codes, np.ones(len(X))]
        for j in range(X.shape[1]):
            weighted = design * weight[:, [j]]
            solution = np.linalg.solve(weighted.T @ design, weighted.T @ X[:, j])
            loadings[:, j], loc[j] = solution[:-1], solution[-1]
        weight = 1 / np.maximum(abs(X - loc - codes @ loadings), 1e-6)
        for i in range(len(X)):
            weighted = loadings * weight[i]
            codes[i] = np.linalg.solve(weighted @ loadings.T, weighted @ (X[i] - loc))
    return abs(X - loc - codes @ loadings).mean()


def test_laplace_error_is_between_l1_pca_and_pca():
    """The error of a linear Laplace model is below PCA's and above that of L1-PCA."""
    X = scale(load_breast_cancer().data)
    pca = PCA(3).fit(X)
    worst = abs(X - pca.inverse_transform(pca.transform(X))).mean()
    best = l1_pca_error(X, 3)
    model = LaplaceAutoencoder(3, hidden_layer_sizes=(), random_state=0).fit(X)
    error = abs(X - model.reconstruct(X)).mean()
    # A linear encoder includes the codes of PCA, but not the free codes of L1-PCA.
    assert best < error < 0.98 * worst


@pytest.mark.parametrize(
    "model",
    [
        LaplaceAutoencoder(2, hidden_layer_sizes=(), random_state=0),
        linear(2, likelihood="laplace"),
    ],
    ids=["LaplaceAutoencoder", "VariationalAutoencoder"],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_laplace_finds_the_subspace_among_outliers(model, seed):
    """With 5% outliers, Laplace models find the true subspace, and PCA does not."""
    rng = np.random.RandomState(seed)
    basis = np.linalg.qr(rng.normal(size=(20, 2)))[0]
    X = 3 * rng.normal(size=(1000, 2)) @ basis.T + 0.1 * rng.normal(size=(1000, 20))
    direction = np.linalg.qr(rng.normal(size=(20, 1)))[0]
    X[:50] += 30 * rng.normal(size=(50, 1)) * direction.T

    def degrees(found):
        return np.degrees(subspace_angles(found, basis).max())

    model.fit(X)
    origin = model.inverse_transform(np.zeros((2, 2)))
    loadings = model.inverse_transform(np.eye(2)) - origin
    assert degrees(loadings.T) < 10
    assert degrees(PCA(2).fit(X).components_.T) > 20


def test_permuted_columns_permute_a_linear_model():
    """A fit to permuted columns has the same score and permuted reconstructions."""
    X = scale(load_wine().data)
    order = np.random.RandomState(0).permutation(X.shape[1])
    first = linear(3, precision="float64").fit(X)
    second = linear(3, precision="float64").fit(X[:, order])
    assert abs(first.score(X) - second.score(X[:, order])) < 1e-3
    np.testing.assert_allclose(
        first.reconstruct(X)[:, order], second.reconstruct(X[:, order]), atol=0.02
    )
