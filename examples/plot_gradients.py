"""
Gradients of the error and of its logarithm
===========================================

With a fixed scale the loss is the squared error, whose gradient falls with the residual.
With the best scale it is the logarithm of the mean squared error, whose gradient grows as
the error falls, until one element has all of it. Without a mean there is nothing to stop
it. Here are the source article's figures 4 and 5, and what becomes of them for the
Laplace likelihood.
"""

# %%
# The gradients are those of skae's own likelihoods and variance modes. A variance mode
# says which scale a batch is trained with.

import matplotlib.pyplot as plt
import numpy as np
import torch

from skae.likelihoods import GaussianLikelihood, LaplaceLikelihood
from skae.scales import make_scale


def gradient(likelihood, variance_mode, residuals):
    """Slope of the loss (nats) in each residual: rows are samples, columns features."""
    r = torch.tensor(residuals, requires_grad=True)
    n, d = r.shape
    floor = torch.full((1, 1), 1e-12, dtype=r.dtype)
    scale = make_scale(variance_mode, "spherical", likelihood, d, floor).double()
    scale.start(torch.ones(1, 1, dtype=r.dtype))
    zero, weight = torch.zeros_like(r), torch.ones(n, 1, dtype=r.dtype)
    log_scale = scale.training_log_scale(r, r.new_empty(n, 0), weight)
    loss = -likelihood.log_prob(r, zero, log_scale).sum(dim=1).mean()
    return torch.autograd.grad(loss, r)[0].numpy()


LIKELIHOODS = {"Gaussian": GaussianLikelihood(), "Laplace": LaplaceLikelihood()}
residual = np.linspace(-0.5, 0.5, 800)  # 0 is not among them

# %%
# One sample of two features: the first residual varies, the square of the second is
# delta. With the best scale the gradient is :math:`2r / (r^2 + \delta)`, steep around 0
# where delta is small, but 0 at 0. For the Laplace likelihood it is
# :math:`2\,\mathrm{sign}(r) / (|r| + \sqrt\delta)`: it does not vanish, and it grows with
# the precision as well. With a fixed scale it is the sign alone.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharex=True)
for ax, (name, likelihood) in zip(axes, LIKELIHOODS.items(), strict=True):
    for delta in (0.05, 0.1, 0.5):
        slopes = [
            gradient(likelihood, "optimal", [[r, np.sqrt(delta)]])[0, 0] for r in residual
        ]
        ax.plot(residual, slopes, label=rf"best scale, $\delta$ = {delta}")
    slopes = [gradient(likelihood, "fixed", [[r, 0.0]])[0, 0] for r in residual]
    ax.plot(residual, slopes, "k:", label="scale 1")
    ax.set(xlabel="residual", title=name)
    ax.legend(fontsize="small")
axes[0].set_ylabel("gradient (nats)")
plt.show()

# %%
# One sample of one feature has no mean: the gradient is 1 / r, and explodes. A batch does
# not help by itself. If each sample has its own best scale (``"profile"``), the loss is a
# mean of logarithms, and still explodes; if the batch shares one (``"optimal"``), it is
# the logarithm of a mean, and does not. So skae refuses ``variance_mode="profile"`` with
# ``covariance_type="diag"``.

others = np.random.default_rng(0).normal(size=7) * 0.3
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for mode, batch, label in [
    ("profile", [], "one residual: log of its square"),
    ("profile", others, "batch of 8: mean of the logs"),
    ("optimal", others, "batch of 8: log of the mean"),
]:
    slopes = [
        gradient(LIKELIHOODS["Gaussian"], mode, np.array([[r], *([o] for o in batch)]))[
            0, 0
        ]
        for r in residual
    ]
    ax.plot(residual, np.abs(slopes), label=label)
ax.set(yscale="log", ylim=(1e-2, 1e3), xlabel="residual", ylabel="|gradient| (nats)")
ax.legend()
plt.show()

# %%
# What "fixed" and "optimal" do to the balance of reconstruction and KL follows from
# these: see :doc:`/errata`.
