"""
MNIST, Gaussian against Laplace
===============================

This example compares a Gaussian and a Laplace variational autoencoder on MNIST, a
comparison that the source article announced as "coming soon". The images are downloaded
from OpenML. Without an internet connection the example uses the smaller digits of
scikit-learn instead.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.model_selection import train_test_split

from skae import VariationalAutoencoder
from skae.inspection import ReconstructionDisplay

try:
    # fetch_openml warns about each retry if there is no connection.
    with warnings.catch_warnings(action="ignore"):
        X, _ = fetch_openml("mnist_784", version=1, as_frame=False, return_X_y=True)
except OSError:
    X, _ = load_digits(return_X_y=True)
    print("OpenML cannot be reached: these are scikit-learn's digits.")

side = int(np.sqrt(X.shape[1]))
X_train, X_test = train_test_split(
    (X / X.max()).astype(np.float32), train_size=1200, test_size=400, random_state=0
)
print(f"{len(X_train)} images of {side} x {side} for training, {len(X_test)} for testing")

# %%
# Both models have the same network, and one scale for all pixels in closed form.

models = {
    likelihood: VariationalAutoencoder(
        16,
        likelihood=likelihood,
        hidden_layer_sizes=(128,),
        max_iter=30,
        random_state=0,
    ).fit(X_train)
    for likelihood in ("gaussian", "laplace")
}
for name, vae in models.items():
    error = X_test - vae.reconstruct(X_test)
    print(
        f"{name:>9}: held-out ELBO {vae.score(X_test):8.2f} nats, scale {vae.scale_:.3f}, "
        f"mean squared error {np.mean(error**2):.4f}, absolute {np.mean(abs(error)):.4f}"
    )

# %%
# Reconstructions of unseen images.

figure, axes = plt.subplots(2, 1, figsize=(9, 6), layout="constrained")
for ax, (name, vae) in zip(axes, models.items(), strict=True):
    ReconstructionDisplay.from_estimator(vae, X_test, image_shape=(side, side), ax=ax)
    ax.set_title(name)
plt.show()

# %%
# New images: draws from each model, without the noise of the likelihood.

figure, axes = plt.subplots(2, 10, figsize=(9, 2.2), layout="constrained")
for row, (name, vae) in zip(axes, models.items(), strict=True):
    for ax, image in zip(row, vae.sample(10, random_state=0, noise=False), strict=True):
        ax.imshow(image.reshape(side, side), cmap="gray_r", vmin=0, vmax=1)
        ax.axis("off")
    row[0].set_title(name, loc="left")
plt.show()

# %%
# Many pixels of such images are exactly 0. A small scale gives such pixels an arbitrarily
# large density, so scores of these data are less informative: see :doc:`/guide/scores`.
