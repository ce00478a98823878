"""Compare scores with closed forms and with other libraries.

tests/test_proofs.py and tests/estimators/test_scores.py test the same comparisons.
``python benchmarks/proofs.py`` takes less than a minute.
"""

import warnings

import numpy as np
import torch
from report import write
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import scale

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder

torch.set_num_threads(1)
warnings.simplefilter("ignore")
rows = []


def linear(k, **parameters):
    """Return a linear variational autoencoder with k components."""
    return VariationalAutoencoder(k, hidden_layer_sizes=(), random_state=0, **parameters)


def add(what, expected, actual):
    """Append a row to the table."""
    rows.append([what, f"{expected:.5f}", f"{actual:.5f}", f"{actual - expected:+.1e}"])


def exact_ppca(X, k):
    """Return log-likelihood (nats) and noise variance of maximum-likelihood PPCA."""
    n, d = X.shape
    values = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2 / n
    noise = values[k:].sum() / (d - k)
    log_det = np.log(values[:k]).sum() + (d - k) * np.log(noise)
    return -0.5 * (d * np.log(2 * np.pi) + log_det + d), noise


rng = np.random.RandomState(0)
low_rank = rng.normal(size=(1000, 3)) @ (2 * rng.normal(size=(3, 10)))
low_rank += rng.uniform(0.3, 1, size=10) * rng.normal(size=low_rank.shape)
ppca = {
    "breast_cancer, raw": (load_breast_cancer().data, 5),
    "digits/16, raw": (load_digits().data / 16, 8),
    "wine, raw": (load_wine().data, 5),
    "iris, raw": (load_iris().data, 2),
    "low rank": (low_rank, 3),
}
for name, (X, k) in ppca.items():
    model = linear(k).fit(X)
    score, noise = exact_ppca(X, k)
    add(f"PPCA log-likelihood: {name}, k={k}", score, model.score(X))
    add(f"PPCA noise over exact: {name}", 1, model.scale_**2 / noise)

for name, X, k in [
    ("wine, standardised", scale(load_wine().data), 3),
    ("low rank", low_rank, 3),
]:
    factor = FactorAnalysis(k, max_iter=20_000, tol=1e-8, svd_method="lapack").fit(X)
    model = linear(k, covariance_type="diag").fit(X)
    add(f"FactorAnalysis.score: {name}, k={k}", factor.score(X), model.score(X))

X = scale(load_breast_cancer().data)
d, k = X.shape[1], 5
values = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
for beta in (0.5, 1, 2, 4):
    for q in range(k, -1, -1):
        noise = values[q:].sum() / (d - q * beta)
        if q == 0 or values[q - 1] > beta * noise:
            break
    expected = -d / 2 * (np.log(2 * np.pi * noise) + 1)
    expected -= 0.5 * np.log(values[:q] / (beta * noise)).sum()
    actual = linear(k, beta=beta, variance_mode="learned").fit(X).score(X)
    add(f"closed form for beta={beta}: breast_cancer, k={k}", expected, actual)

for likelihood in ("gaussian", "laplace"):
    loc = X.mean(axis=0) if likelihood == "gaussian" else np.median(X, axis=0)
    family = stats.norm if likelihood == "gaussian" else stats.laplace
    power = 2 if likelihood == "gaussian" else 1
    spread = (abs(X - loc) ** power).mean(axis=0) ** (1 / power)
    expected = family(loc, spread).logpdf(X).sum(axis=1).mean()
    model = linear(
        k,
        likelihood=likelihood,
        covariance_type="diag",
        beta=1e4,
        max_iter=200,
        n_iter_no_change=50,
    )
    add(f"beta=1e4, product of marginals: {likelihood}", expected, model.fit(X).score(X))

raw = load_wine().data
for estimator, family in (
    (GaussianAutoencoder, stats.norm),
    (LaplaceAutoencoder, stats.laplace),
):
    model = estimator(3, random_state=0).fit(raw)
    density = family(model.inverse_transform(model.transform(raw)), model.scale_)
    expected = density.logpdf(raw).sum(axis=1).mean()
    add(f"scipy.stats: {estimator.__name__}, wine, raw", expected, model.score(raw))

iris = load_iris().data
base = VariationalAutoencoder(2, random_state=0).fit(iris).score(iris)
for a, c in ((1e-6, 0.0), (1e6, 0.0), (1e6, 1e6), (1.0, 1e6), (1e-6, 1.0)):
    moved = a * iris + c
    actual = VariationalAutoencoder(2, random_state=0).fit(moved).score(moved)
    expected = base - iris.shape[1] * np.log(a)
    add(f"units: iris times {a:g} plus {c:g}, default network", expected, actual)

write(
    "proofs",
    "Scores and what they must equal",
    "python benchmarks/proofs.py",
    """
Log-likelihoods are in nats per sample. Models are linear (``hidden_layer_sizes=()``) unless
a row names a network. All other parameters have their defaults.
""",
    ["what", "exact", "skae", "gap"],
    rows,
)
