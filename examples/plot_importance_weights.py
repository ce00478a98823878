"""
Bounds on the log-likelihood
============================

The score of a variational autoencoder is the ELBO, a lower bound on log p(x). The
importance-weighted bound of ``log_marginal`` is tighter, and approaches log p(x) as the
number of draws grows. With one component, log p(x) itself can be computed as an integral.
This example compares all three.
"""

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from scipy.special import logsumexp

from skae import VariationalAutoencoder

# A noisy curve in three dimensions.
rng = np.random.default_rng(0)
angle = rng.normal(size=(600, 1))
X = np.column_stack([np.cos(2 * angle), np.sin(2 * angle), angle])
X += 0.15 * rng.normal(size=X.shape)
X, X_test = X[:400], X[400:]
models = {
    likelihood: VariationalAutoencoder(
        1, likelihood=likelihood, max_iter=60, random_state=0
    ).fit(X)
    for likelihood in ("gaussian", "laplace")
}

# %%
# log p(x) by numerical integration of p(x|z) p(z) over z, on a fine grid.


def log_marginal_by_quadrature(vae, density):
    z = np.linspace(-8, 8, 4001)
    loc = vae.inverse_transform(z[:, None])  # (grid, features)
    log_weight = scipy.stats.norm.logpdf(z) + np.log(z[1] - z[0])
    log_prob = [density.logpdf(x, loc, vae.scale_).sum(axis=1) for x in X_test]
    return logsumexp(np.array(log_prob) + log_weight, axis=1)


exact = {
    "gaussian": log_marginal_by_quadrature(models["gaussian"], scipy.stats.norm),
    "laplace": log_marginal_by_quadrature(models["laplace"], scipy.stats.laplace),
}

# %%
# The mean bound for growing numbers of draws, each with 20 random states. Points are the
# medians, and bars span the middle 80%. The bound holds in expectation, so a single random
# state may exceed log p(x). All samples share their draws. So one draw in the tails, where
# the normal posterior is thinner than the true one, shifts the mean over all samples. The
# largest of the 20 values is also printed.

n_draws = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, (name, vae) in zip(axes, models.items(), strict=True):
    bounds = np.array(
        [
            [vae.log_marginal(X_test, k, random_state=seed).mean() for k in n_draws]
            for seed in range(20)
        ]
    )
    low, median, high = np.quantile(bounds, [0.1, 0.5, 0.9], axis=0)
    truth = exact[name].mean()
    print(f"{name}: ELBO {vae.score(X_test):.3f}, exact {truth:.3f}")
    for k, middle, largest in zip(n_draws, median, bounds.max(axis=0), strict=True):
        print(f"{k:>4} draws: median {middle:.3f}, largest {largest:.3f}")
    ax.errorbar(
        n_draws,
        median,
        (median - low, high - median),
        fmt="o-",
        capsize=3,
        label="importance-weighted",
    )
    ax.axhline(truth, color="black", label="log p(x), by quadrature")
    ax.axhline(vae.score(X_test), color="gray", linestyle="--", label="ELBO (score)")
    ax.set(xscale="log", xlabel="draws", title=name)
axes[0].set_ylabel("nats per sample, held out")
axes[0].legend()
plt.show()

# %%
# With more components, log p(x) is not known. ``return_diagnostics=True`` estimates the gap
# to log p(x) for each sample. With ``tol``, samples whose gap is too large have more draws.

vae, truth = models["gaussian"], exact["gaussian"]
bound, diagnostics = vae.log_marginal(X_test, 16, return_diagnostics=True)
print(
    f"16 draws: estimated gap {diagnostics.gap.mean():.4f}, "
    f"true {np.mean(truth - bound):.4f}"
)
bound, diagnostics = vae.log_marginal(X_test, 16, tol=0.1, return_diagnostics=True)
print(
    f"tol=0.1: estimated gap {diagnostics.gap.mean():.4f}, "
    f"true {np.mean(truth - bound):.4f}, draws {diagnostics.n_samples.min()} to "
    f"{diagnostics.n_samples.max()}"
)
