"""
The five variance modes
=======================

The variance mode determines how the scale of the noise is found. Here the noise of the data
varies: it is twice as large for half of the features, and grows with a latent variable. The
held-out ELBO shows which variance mode describes these data best.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skae import VariationalAutoencoder
from skae.scales import legal_combinations

rng = np.random.default_rng(0)
Z = rng.normal(size=(1500, 2))
X = Z @ rng.normal(size=(2, 12))
noise = 0.2 * np.repeat([1.0, 2.0], 6) * np.exp(0.5 * Z[:, :1])
X_train, X_test, noise_train, noise_test = train_test_split(
    X + noise * rng.normal(size=X.shape), noise, random_state=0
)

# %%
# ``legal_combinations`` lists the valid combinations of likelihood, variance mode and
# covariance type. The mode ``"fixed"`` needs a scale. Here one model has the root mean
# square of the true noise, which is unknown for real data, and one has a tenth of it.

rms = np.sqrt(np.mean(noise_train**2))
scores = {}
for likelihood, mode, covariance_type in legal_combinations():
    if likelihood != "gaussian":
        continue
    for scale in (rms, 0.1 * rms) if mode == "fixed" else (1.0,):
        if mode == "fixed" and covariance_type == "diag":
            continue  # one number for all features is the same as "spherical"
        vae = VariationalAutoencoder(
            2,
            variance_mode=mode,
            covariance_type=covariance_type,
            scale=scale,
            max_iter=30,
            random_state=0,
        ).fit(X_train)
        label = f"{mode}, {covariance_type}"
        if mode == "fixed":
            label = f"fixed, {scale:.2f}"
        scores[label] = vae.score(X_test)
        print(f"{label:>22} {scores[label]:9.2f}")

figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
names = [name for name in scores if name != f"fixed, {0.1 * rms:.2f}"]
ax.barh(names[::-1], [scores[name] - scores[names[0]] for name in names[::-1]])
ax.set_xlabel(f"held-out ELBO above that of the scale {rms:.2f} (nats)")
plt.show()

# %%
# The plot leaves out the fixed scale that is ten times too small: its score is far lower,
# because the model cannot adapt its scale to its errors. ``"predicted"`` is the only mode
# with a scale for each sample. The plot below compares the noise of draws from this model,
# as a root mean square over the features, with the true noise.

predicted = VariationalAutoencoder(
    2, variance_mode="predicted", covariance_type="diag", max_iter=30, random_state=0
).fit(X_train)
noisy = predicted.sample(4000, random_state=1)
clean = predicted.sample(4000, random_state=1, noise=False)  # the same codes
spread = np.sqrt(np.mean((noisy - clean) ** 2, axis=1))
true_spread = np.sqrt(np.mean(noise_test**2, axis=1))
quantiles = np.linspace(0.05, 0.95, 19)
figure, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
ax.plot(quantiles, np.quantile(spread, quantiles), "o-", label="drawn by the model")
ax.plot(quantiles, np.quantile(true_spread, quantiles), "k--", label="true")
ax.axhline(rms, color="gray", linestyle=":", label="one scale for all")
ax.set(xlabel="quantile over samples", ylabel="noise of a sample (root mean square)")
ax.legend()
plt.show()
