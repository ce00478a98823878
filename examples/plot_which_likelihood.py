"""
Choosing a likelihood
=====================

The residuals show which likelihood suits the data.
:class:`~skae.inspection.ResidualQQDisplay` plots the quantiles of the residuals against
those of a Gaussian and of a Laplace density, each with its optimal scale. The points of a
suitable density follow the diagonal. The held-out scores compare the same models in nats.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.inspection import ResidualQQDisplay

rng = np.random.default_rng(0)
Z, W = rng.normal(size=(800, 2)), rng.normal(size=(2, 10))
X = StandardScaler().fit_transform(load_breast_cancer().data)
data = {
    "drawn, Gaussian noise": Z @ W + 0.3 * rng.normal(size=(800, 10)),
    "drawn, Laplace noise": Z @ W + 0.3 * rng.laplace(size=(800, 10)),
    "breast_cancer": X,
}

# %%
# The display compares both densities with the residuals of one model. Here this is the
# Gaussian model, whose residuals do not favour the Laplace density.

figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for ax, (name, X) in zip(axes, data.items(), strict=True):
    X_train, X_test = train_test_split(X, random_state=0)
    scores = {}
    for likelihood in ("gaussian", "laplace"):
        vae = VariationalAutoencoder(2, likelihood=likelihood, max_iter=40, random_state=0)
        scores[likelihood] = vae.fit(X_train).score(X_test)
        if likelihood == "gaussian":
            ResidualQQDisplay.from_estimator(vae, X_test, ax=ax)
    ax.set_title(name)
    print(f"{name}: held-out ELBO", {k: f"{v:.2f}" for k, v in scores.items()})
plt.show()

# %%
# There are two cautions. First, residuals resemble the likelihood of their own model. A
# Laplace likelihood makes many residuals small and leaves a few large, for any noise. Here
# are two deterministic models of the data with Gaussian noise, with two components more
# than needed.

X_train, X_test = train_test_split(data["drawn, Gaussian noise"], random_state=0)
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for ax, model in zip(axes, (GaussianAutoencoder, LaplaceAutoencoder), strict=True):
    fitted = model(4, max_iter=40, random_state=0).fit(X_train)
    ResidualQQDisplay.from_estimator(fitted, X_test, ax=ax)
    ax.set_title(model.__name__)
plt.show()

# %%
# So use the residuals of a Gaussian model. Second, pooled residuals of features with
# different noise have heavier tails than those of each feature. With
# ``covariance_type="diag"`` each feature has its own scale, in the model and in the
# display.
