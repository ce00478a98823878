"""
A mixture as prior
==================

Digits come in clusters, and their codes too. A standard normal prior also covers what is
between them, and draws samples from there. ``prior=GaussianMixture(20)`` fits a mixture to
the codes after training, which scores, bounds and samples then take.
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
# Samples, without the likelihood's noise.

figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    images = model.sample(64, random_state=0, noise=False).reshape(8, 8, 8, 8)
    images = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 1, 3)
    ax.imshow(images.reshape(80, 80), cmap="gray_r", vmin=0, vmax=1)
    ax.set(title=f"samples, {name}", xticks=[], yticks=[])
plt.show()

# %%
# A code of two components: those of the test data, and where draws from the prior fall.

small = VariationalAutoencoder(2, prior=GaussianMixture(10, random_state=0), random_state=0)
Z = small.fit(X_train).transform(X_test)
figure, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
ax.scatter(*Z.T, s=4, color="0.6")
drawn = small.prior_.sample(4000)[0]
ax.hexbin(*drawn.T, gridsize=40, mincnt=1, cmap="Blues", alpha=0.7, zorder=0)
ax.set(title="codes (points) and the mixture (cells)", xlabel="z0", ylabel="z1")
plt.show()

# %%
# How many components? The prior is part of the estimator: a search may ask.

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
