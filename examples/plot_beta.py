"""
The effect of beta
==================

``beta`` is the weight of the KL term in training. A larger value switches components off, a
smaller value reconstructs better. The score is always the unweighted ELBO, so models with
different ``beta`` can be compared. :class:`~skae.inspection.KLSpectrumDisplay` shows the KL
of each component.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import VariationalAutoencoder
from skae.inspection import KLSpectrumDisplay

X_train, X_test = train_test_split(load_digits().data / 16, random_state=0)
betas = [0.25, 0.5, 1.0, 2.0, 4.0]
models = {
    beta: VariationalAutoencoder(16, beta=beta, max_iter=15, random_state=0).fit(X_train)
    for beta in betas
}

# %%
# The KL of each component for three of these models. The KL measures, in nats, how much
# information a code holds about its sample.

figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained", sharey=True)
for ax, beta in zip(axes, (0.25, 1.0, 4.0), strict=True):
    display = KLSpectrumDisplay.from_estimator(models[beta], X_test, ax=ax)
    ax.set_title(f"beta = {beta}: {ax.get_title()}", fontsize="medium")
plt.show()

# %%
# Reconstruction error and score of each model. Training maximises the ELBO only for
# beta = 1. On held-out data, another beta may score as well.

errors = [np.mean((X_test - models[b].reconstruct(X_test)) ** 2) for b in betas]
elbos = [models[b].score(X_test) for b in betas]
bounds = [models[b].log_marginal(X_test).mean() for b in betas]
for beta, error, elbo, bound in zip(betas, errors, elbos, bounds, strict=True):
    print(
        f"beta {beta:<5} mean squared error {error:.4f}  ELBO {elbo:.2f}  bound {bound:.2f}"
    )

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(betas, errors, "o-")
left.set(xscale="log", xlabel="beta", ylabel="mean squared error, held out")
right.plot(betas, elbos, "o-", label="ELBO")
right.plot(betas, bounds, "o-", label="importance-weighted bound")
right.set(xscale="log", xlabel="beta", ylabel="nats per sample, held out")
right.legend()
for ax in (left, right):
    ax.set_xticks(betas, betas)
    ax.minorticks_off()
plt.show()

# %%
# With a fixed scale, beta *is* a scale: sigma = 1 with any beta trains like sigma² = beta
# with beta = 1. Both models have the same random start here. The trained models are the
# same, but their scores differ, because each score uses the model's own scale.

common = {
    "variance_mode": "fixed",
    "init": "random",
    "alpha": 0.0,
    "max_iter": 5,
    "precision": "float64",
    "random_state": 0,
}
one = VariationalAutoencoder(4, scale=0.3, beta=4.0, **common).fit(X_train)
other = VariationalAutoencoder(4, scale=0.6, beta=1.0, **common).fit(X_train)
difference = abs(one.transform(X_test) - other.transform(X_test)).max()
print(f"largest difference of the codes: {difference:.1g}")
print(f"scores: {one.score(X_test):.2f} and {other.score(X_test):.2f}")
