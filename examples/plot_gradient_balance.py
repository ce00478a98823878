"""
The balance of reconstruction and KL
====================================

Two terms pull at the encoder: the reconstruction, and beta times the KL. A model that is
fitted with ``gradient_balance=True`` records after each epoch how strongly each of them
does, and the angle between the two; :class:`~skae.inspection.GradientBalanceDisplay`
draws it. With a random start and a warm-up of the KL, as variational autoencoders are
mostly trained:
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
models = {
    (likelihood, mode): VariationalAutoencoder(
        likelihood=likelihood, variance_mode=mode, scale=0.2, **common
    ).fit(X)
    for likelihood in ("gaussian", "laplace")
    for mode in ("fixed", "learned")
}

figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained", sharex=True)
for ax, ((likelihood, mode), model) in zip(axes.flat, models.items(), strict=True):
    GradientBalanceDisplay.from_estimator(model, ax=ax)
    ax.set_title(f"{likelihood}, {mode} scale")
plt.show()

# %%
# After the warm-up, a quarter of the epochs, little changes: with a fixed scale both pulls
# fall a little, with a learned one the KL's grows a little. The likelihoods do not differ
# in that.

for (likelihood, mode), model in models.items():
    pulls = model.history_["grad_reconstruction_outputs"], model.history_["grad_kl_outputs"]
    change = [pull[-1] / pull[9] for pull in pulls]
    print(
        f"{likelihood:<8} {mode:<7} from epoch 10 to 40: reconstruction times "
        f"{change[0]:.2f}, KL times {change[1]:.2f}"
    )

# %%
# With respect to the encoder's parameters, over all samples, the two come to be equal and
# opposite, whatever the likelihood and beta are: that is what a stationary point is. For
# each sample on its own, above, they do not cancel, since the encoder is one function for
# all of them.

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
GradientBalanceDisplay.from_estimator(models["laplace", "learned"], of="parameters", ax=ax)
plt.show()

# %%
# Does a Laplace likelihood make beta easier to tune, as has been claimed? A study over
# four data sets is in :doc:`/results/balance`.
