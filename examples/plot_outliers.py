"""
A subspace among outliers
=========================

Data near a plane in 20 dimensions, and 5 per cent of outliers along another direction. A
squared error makes PCA turn towards them; a linear autoencoder with a Laplace likelihood,
whose error is absolute, keeps to the plane.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from skae import GaussianAutoencoder, LaplaceAutoencoder

rng = np.random.default_rng(0)
basis = np.linalg.qr(rng.normal(size=(20, 2)))[0]
direction = np.linalg.qr(rng.normal(size=(20, 1)))[0]
n_samples, n_outliers = 1000, 50
X = 3 * rng.normal(size=(n_samples, 2)) @ basis.T
X += 0.1 * rng.normal(size=(n_samples, 20))
X[:n_outliers] += 30 * rng.normal(size=(n_outliers, 1)) * direction.T

# %%
# A linear model decodes codes along its loadings, which are what the decoder makes of a
# step in each component.


def loadings(model):
    steps = np.vstack([np.zeros(2), np.eye(2)])
    decoded = model.inverse_transform(steps)
    return (decoded[1:] - decoded[0]).T


models = {
    "PCA": PCA(2),
    "Gaussian autoencoder": GaussianAutoencoder(2, hidden_layer_sizes=(), random_state=0),
    "Laplace autoencoder": LaplaceAutoencoder(2, hidden_layer_sizes=(), random_state=0),
}
figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", sharey=True)
for ax, (name, model) in zip(axes, models.items(), strict=True):
    model.fit(X)
    angle = np.degrees(subspace_angles(loadings(model), basis).max())
    X_hat = model.inverse_transform(model.transform(X))
    error = np.linalg.norm(X - X_hat, axis=1)
    median = np.median(error[n_outliers:])
    print(f"{name}: {angle:.1f} degrees off, median error of the others {median:.2f}")
    bins = np.geomspace(0.05, 200, 60)
    ax.hist(error[n_outliers:], bins, label="near the plane")
    ax.hist(error[:n_outliers], bins, label="outliers")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="distance from the reconstruction",
        title=f"{name}: {angle:.0f}° off",
    )
axes[0].set_ylabel("samples")
axes[0].legend()
plt.show()

# %%
# The Gaussian autoencoder is PCA. The errors of the Laplace one tell the outliers from the
# rest: a sample's score is a measure of how unusual it is, given its code.

scores = models["Laplace autoencoder"].score_samples(X)
lowest = np.argsort(scores)[:n_outliers]
print(f"{np.mean(lowest < n_outliers):.0%} of the {n_outliers} lowest scores are outliers")
