"""
Sampling from the model
=======================

A variational autoencoder can draw new samples. ``sample`` draws a code from the prior, and
then a sample from the likelihood of this code. With ``noise=False`` it returns the mean of
the likelihood instead. The statistics of the draws should match those of the data.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris

from skae import VariationalAutoencoder

iris = load_iris()
X = iris.data
vae = VariationalAutoencoder(2, init="random", max_iter=300, random_state=0).fit(X)
drawn = vae.sample(2000, random_state=0)
means = vae.sample(2000, random_state=0, noise=False)

# %%
# Two features of the data and of the draws. The means of the likelihood lie on a surface.
# The noise of the likelihood adds the spread of the data around the surface.

figure, axes = plt.subplots(
    1, 3, figsize=(12, 3.8), layout="constrained", sharex=True, sharey=True
)
for ax, points, title in zip(
    axes, (X, means, drawn), ("data", "means", "draws"), strict=True
):
    ax.scatter(points[:, 0], points[:, 2], s=8, alpha=0.5, linewidths=0)
    ax.set(xlabel=iris.feature_names[0], title=title)
axes[0].set_ylabel(iris.feature_names[2])
plt.show()

# %%
# Means, standard deviations and correlations of data and draws.

print("mean               data ", X.mean(axis=0).round(2))
print("                   draws", drawn.mean(axis=0).round(2))
print("standard deviation data ", X.std(axis=0).round(2))
print("                   draws", drawn.std(axis=0).round(2))
off = np.triu_indices(4, k=1)
print("correlations       data ", np.corrcoef(X.T)[off].round(2))
print("                   draws", np.corrcoef(drawn.T)[off].round(2))

# %%
# For a linear model with loadings W the covariance of the draws is known: it is
# W W' + sigma² I.

linear = VariationalAutoencoder(2, hidden_layer_sizes=(), random_state=0).fit(X)
origin, *steps = linear.inverse_transform([[0, 0], [1, 0], [0, 1]])
W = np.column_stack([step - origin for step in steps])
expected = W @ W.T + linear.scale_**2 * np.eye(4)
found = np.cov(linear.sample(100_000, random_state=0).T)
print("largest difference of the covariances:", abs(found - expected).max().round(3))
