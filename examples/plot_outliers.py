"""
A plane among outliers, and the columns of an outlier
=====================================================

The data lie near a plane in 20 dimensions, with 5 per cent of outliers along another
direction. PCA minimises the squared error, so its plane turns towards the outliers. A
linear autoencoder with a Laplace likelihood minimises the absolute error, and stays close
to the true plane.

At the end, a detector finds outliers in a table, and a display shows which columns make a
row one.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import subspace_angles
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, LaplaceAutoencoder
from skae.inspection import FeatureScoresDisplay
from skae.outlier import LikelihoodOutlierDetector

rng = np.random.default_rng(0)
basis = np.linalg.qr(rng.normal(size=(20, 2)))[0]
direction = np.linalg.qr(rng.normal(size=(20, 1)))[0]
n_samples, n_outliers = 1000, 50
X = 3 * rng.normal(size=(n_samples, 2)) @ basis.T
X += 0.1 * rng.normal(size=(n_samples, 20))
X[:n_outliers] += 30 * rng.normal(size=(n_outliers, 1)) * direction.T

# %%
# The loadings of a linear model are the directions in which its reconstruction moves for a
# step in each component.


def loadings(model):
    """Return the loadings of a linear model, (n_features, n_components)."""
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
# The linear Gaussian autoencoder is PCA. The errors of the Laplace autoencoder separate the
# outliers from the other samples. So do its scores: an unusual sample has a low score.

scores = models["Laplace autoencoder"].score_samples(X)
lowest = np.argsort(scores)[:n_outliers]
print(f"{np.mean(lowest < n_outliers):.0%} of the {n_outliers} lowest scores are outliers")

# %%
# Which columns make a row an outlier? ``score_features`` returns the part of each column in
# the score of a row. Take a table of 178 wines, and write the hue of one of them as 9.5 in
# place of 0.95, as somebody may do who types a table. The detector has never seen a label.

wines = load_wine(as_frame=True).data
wines.loc[40, "hue"] *= 10
detector = make_pipeline(StandardScaler(), LikelihoodOutlierDetector(random_state=0))
is_outlier = detector.fit_predict(wines) == -1
print(f"{is_outlier.sum()} of {len(wines)} wines are outliers; is 40? {is_outlier[40]}")

# %%
# A bar is the part of a column in the score of this row, below the median of all rows. The
# label has the value of the row and the median of the column.

FeatureScoresDisplay.from_estimator(detector, wines, 40, max_features=6)
plt.show()

# %%
# Without a row, the display takes that of the lowest score. Here no single column explains
# it: several are unusual, beside the others of the same wine.

wines = load_wine(as_frame=True).data
FeatureScoresDisplay.from_estimator(detector.fit(wines), wines, max_features=6)
plt.show()
