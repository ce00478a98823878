r"""
The likelihood as a function of its scale
=========================================

A residual has a optimal scale. This example plots skae's likelihoods as functions of the
scale, for the two residuals of figures 2 and 3 of the source article. For both densities
the negative log-likelihood of one residual r is smallest at the scale \|r\|. It has no
lower bound only if the residual goes to 0 together with the scale.
"""

# %%
# ``log_prob`` of a likelihood takes data, location and the logarithm of the scale. It
# returns the log-density of each element in nats.

import matplotlib.pyplot as plt
import numpy as np
import torch

from skae.likelihoods import GaussianLikelihood, LaplaceLikelihood

LIKELIHOODS = {"Gaussian": GaussianLikelihood(), "Laplace": LaplaceLikelihood()}


def negative_log_likelihood(likelihood, residual, scale):
    """Return the negative log-likelihood (nats) of one residual at each scale."""
    log_scale = torch.tensor(np.log(scale))
    x = torch.full_like(log_scale, residual)
    return -likelihood.log_prob(x, torch.zeros_like(x), log_scale).numpy()


figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for ax, residual in zip(axes, [np.sqrt(0.0005), 1e-5], strict=True):
    scale = np.geomspace(residual / 5, 300 * residual, 1000)
    for name, likelihood in LIKELIHOODS.items():
        nll = negative_log_likelihood(likelihood, residual, scale)
        best = nll.argmin()
        (line,) = ax.plot(scale, nll, label=name)
        ax.plot(scale[best], nll[best], "o", color=line.get_color())
        print(
            f"residual {residual:.3g}: the {name} density is best at scale "
            f"{scale[best]:.3g}, with {nll[best]:.2f} nats"
        )
    ax.axvline(residual, color="gray", linestyle=":", zorder=0)
    ax.set(xscale="log", xlabel="scale", title=f"residual = {residual:.3g}")
axes[0].set_ylabel("negative log-likelihood (nats)")
axes[0].legend()
plt.show()

# %%
# The article plots twice this function; its minimum is at the same scale. The smaller the
# residual, the lower the minimum. A density has no upper bound, so every fitted scale has a
# floor, ``min_scale``.
#
# For many residuals with one scale, the optimal scale has a closed form. It is the root
# mean square for the Gaussian, and the mean absolute value for the Laplace likelihood.

residuals = torch.tensor(np.random.default_rng(0).normal(size=1000))
grid = torch.linspace(0.5, 1.5, 2001, dtype=torch.float64)
for name, likelihood in LIKELIHOODS.items():
    closed = likelihood.optimal_scale(likelihood.deviation(residuals).mean())
    zero = torch.zeros_like(residuals)
    total = likelihood.log_prob(residuals, zero, grid.log()[:, None]).sum(dim=1)
    print(f"{name}: closed form {closed:.3f}, best of the grid {grid[total.argmax()]:.3f}")
