"""
A mixture as prior
==================

Digits form clusters, and so do their codes. A standard normal prior also covers the space
between the clusters, and draws samples from there. ``prior=GaussianMixture(20)`` fits a
mixture to the codes after training. Scores, bounds and samples then use the mixture.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, train_test_split

from skae import VariationalAutoencoder

X_train, X_test = train_test_split(load_digits().data / 16, random_state=0)
priors = {"N(0, I)": None, "mixture of 20": GaussianMixture(20, random_state=0)}
models = {
    name: VariationalAutoencoder(8, prior=prior, random_state=0).fit(X_train)
    for name, prior in priors.items()
}
for name, model in models.items():
    bound = model.log_marginal(X_test).mean()
    print(f"{name:>13}: ELBO {model.score(X_test):.2f}, bound {bound:.2f} nats, held out")

# %%
# Samples of both models, without the noise of the likelihood.

figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    images = model.sample(64, random_state=0, noise=False).reshape(8, 8, 8, 8)
    images = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 1, 3)
    ax.imshow(images.reshape(80, 80), cmap="gray_r", vmin=0, vmax=1)
    ax.set(title=f"samples, {name}", xticks=[], yticks=[])
plt.show()

# %%
# A model with two components: the codes of the test data, and draws from the prior.

small = VariationalAutoencoder(2, prior=GaussianMixture(10, random_state=0), random_state=0)
Z = small.fit(X_train).transform(X_test)
figure, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
ax.scatter(*Z.T, s=4, color="0.6")
drawn = small.prior_.sample(4000)[0]
ax.hexbin(*drawn.T, gridsize=40, mincnt=1, cmap="Blues", alpha=0.7, zorder=0)
ax.set(title="codes (points) and the mixture (cells)", xlabel="z0", ylabel="z1")
plt.show()

# %%
# The prior is a parameter of the estimator, so a search can choose the number of
# components of the mixture.

search = GridSearchCV(
    VariationalAutoencoder(
        8, prior=GaussianMixture(random_state=0), max_iter=30, random_state=0
    ),
    {"prior__n_components": [1, 5, 20]},
    cv=3,
).fit(X_train)
for parameters, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{parameters['prior__n_components']:>3} components: {score:.2f} nats")
