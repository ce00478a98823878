"""
A linear autoencoder is PCA
===========================

Without hidden layers, a variational autoencoder with one Gaussian scale is probabilistic
PCA. With a scale per feature it is factor analysis. skae starts from these solutions in
closed form, so the scores below agree almost exactly.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder

X = StandardScaler().fit_transform(load_wine().data)


def linear(k, covariance_type):
    """Return a variational autoencoder without hidden layers."""
    return VariationalAutoencoder(
        k, hidden_layer_sizes=(), covariance_type=covariance_type, random_state=0
    )


components = np.arange(1, 5)
scores = {
    "PCA": [PCA(k).fit(X).score(X) for k in components],
    "linear, one scale": [linear(k, "spherical").fit(X).score(X) for k in components],
    "FactorAnalysis": [
        FactorAnalysis(k, tol=1e-4, max_iter=5000, svd_method="lapack").fit(X).score(X)
        for k in components
    ],
    "linear, a scale per feature": [linear(k, "diag").fit(X).score(X) for k in components],
}
print(f"{'n_components':>28}", *(f"{k:>9}" for k in components))
for name, values in scores.items():
    print(f"{name:>28}", *(f"{value:>9.4f}" for value in values))

# %%
# A small difference remains: ``PCA`` divides its noise variance by n - 1, and maximum
# likelihood divides by n.

figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for (name, values), style in zip(scores.items(), ["C0-", "C0o", "C1-", "C1o"], strict=True):
    ax.plot(components, values, style, label=name)
ax.set(xticks=components, xlabel="components", ylabel="log-likelihood (nats per sample)")
ax.legend()
plt.show()

# %%
# The models agree too: the noise variances are equal, and the codes span the same space.

pca, vae = PCA(3).fit(X), linear(3, "spherical").fit(X)
n = len(X)
print(
    f"noise variance: PCA {pca.noise_variance_ * (n - 1) / n:.5f}, skae {vae.scale_**2:.5f}"
)
cosines = np.linalg.svd(
    np.linalg.qr(pca.transform(X))[0].T @ np.linalg.qr(vae.transform(X))[0]
)[1]
print("cosines between the spaces of the codes:", cosines.round(6))
