"""
Gradients of the error and of its logarithm
===========================================

With a fixed scale, the Gaussian loss is the squared error, and its gradient shrinks with
the residual. With the optimal scale, the loss is the logarithm of the mean squared error,
and its gradient grows as the error falls. Without a mean the gradient has no bound. This
example reproduces figures 4 and 5 of the source article, and adds the Laplace likelihood.
"""

# %%
# The gradients are those of skae's own likelihoods and variance modes. The variance mode
# determines the scale of a batch in training.

import matplotlib.pyplot as plt
import numpy as np
import torch

from skae.likelihoods import GaussianLikelihood, LaplaceLikelihood
from skae.scales import make_scale


def gradient(likelihood, variance_mode, residuals):
    """Return the slope of the loss (nats) in each residual, (n_samples, n_features)."""
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
residual = np.linspace(-0.5, 0.5, 800)  # an even number, so that 0 is left out

# %%
# One sample of two features: the first residual r varies, and the square of the second is
# delta. With the optimal scale the Gaussian gradient is :math:`2r / (r^2 + \delta)`. It is
# steep around 0 if delta is small, but 0 at 0. The Laplace gradient is
# :math:`2\,\mathrm{sign}(r) / (|r| + \sqrt\delta)`. It does not vanish at 0, and it also
# grows as the error falls. With a scale of 1 it is the sign alone.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharex=True)
for ax, (name, likelihood) in zip(axes, LIKELIHOODS.items(), strict=True):
    for delta in (0.05, 0.1, 0.5):
        slopes = [
            gradient(likelihood, "optimal", [[r, np.sqrt(delta)]])[0, 0] for r in residual
        ]
        ax.plot(residual, slopes, label=rf"optimal scale, $\delta$ = {delta}")
    slopes = [gradient(likelihood, "fixed", [[r, 0.0]])[0, 0] for r in residual]
    ax.plot(residual, slopes, "k:", label="scale 1")
    ax.set(xlabel="residual", title=name)
    ax.legend(fontsize="small")
axes[0].set_ylabel("gradient (nats)")
plt.show()

# %%
# With one sample of one feature there is no mean: the gradient is 1 / r, and explodes at 0.
# A batch alone does not help. If each sample has its own optimal scale (``"profile"``), the
# loss is a mean of logarithms, and its gradient still explodes. If the batch has one scale
# (``"optimal"``), the loss is the logarithm of a mean, and its gradient is bounded. So skae
# refuses ``variance_mode="profile"`` with ``covariance_type="diag"``.

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
# These gradients determine the balance of reconstruction and KL with ``"fixed"`` and
# ``"optimal"``: see :doc:`/errata`.
