"""
The balance of reconstruction and KL
====================================

Two terms of the loss have a gradient for the encoder: the reconstruction, and beta times
the KL. With ``gradient_balance=True`` a fit records, after each epoch, the norms of both
gradients and the angle between them. :class:`~skae.inspection.GradientBalanceDisplay`
plots these values. The models below have a random start and a warm-up of the KL, which is
the usual training of variational autoencoders.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skae import VariationalAutoencoder
from skae.inspection import GradientBalanceDisplay

X = load_digits().data / 16
common = {
    "n_components": 8,
    "init": "random",
    "kl_schedule": "linear",
    "max_iter": 40,
    "gradient_balance": True,
    "random_state": 0,
}
scales = {
    "fixed": {"variance_mode": "fixed", "scale": 0.2},
    "learned": {"variance_mode": "learned"},
}
models = {
    (likelihood, mode): VariationalAutoencoder(
        likelihood=likelihood, **parameters, **common
    ).fit(X)
    for likelihood in ("gaussian", "laplace")
    for mode, parameters in scales.items()
}

figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained", sharex=True)
for ax, ((likelihood, mode), model) in zip(axes.flat, models.items(), strict=True):
    GradientBalanceDisplay.from_estimator(model, ax=ax)
    ax.set_title(f"{likelihood}, {mode} scale")
plt.show()

# %%
# The warm-up takes a quarter of the epochs; after it, little changes. With a fixed scale
# both gradients fall a little, with a learned scale the gradient of the KL grows a little.
# Both likelihoods behave alike.

for (likelihood, mode), model in models.items():
    norms = model.history_["grad_reconstruction_outputs"], model.history_["grad_kl_outputs"]
    change = [norm[-1] / norm[9] for norm in norms]
    print(
        f"{likelihood:<8} {mode:<7} from epoch 10 to 40: reconstruction times "
        f"{change[0]:.2f}, KL times {change[1]:.2f}"
    )

# %%
# The gradients above are with respect to the encoder's outputs, for each sample. The plot
# below is with respect to the encoder's parameters, over all samples. These two gradients
# become equal and opposite for any likelihood and beta, because training ends near a
# stationary point. The gradients of single samples do not cancel, since all samples share
# one encoder.

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
GradientBalanceDisplay.from_estimator(models["laplace", "learned"], of="parameters", ax=ax)
plt.show()

# %%
# The source article claims that a Laplace likelihood makes beta easier to tune.
# :doc:`/results/balance` tests this claim on four data sets.
