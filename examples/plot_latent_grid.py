"""
The digits on a plane
=====================

A variational autoencoder with two components maps each digit to a point of a plane.
:class:`~skae.inspection.LatentSpaceDisplay` plots these points. The digits were not in the
fit, and the model has not seen their classes, which are the colours.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import VariationalAutoencoder
from skae.inspection import LatentSpaceDisplay, ReconstructionDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
vae = VariationalAutoencoder(
    2, hidden_layer_sizes=(256, 128), max_iter=150, random_state=0
).fit(X_train)

figure, ax = plt.subplots(figsize=(6, 5), layout="constrained")
LatentSpaceDisplay.from_estimator(vae, X_test, y_test, ax=ax)
plt.show()

# %%
# The decoder turns each point of the plane into an image. These are the images of a grid of
# points.

figure, ax = plt.subplots(figsize=(6, 5), layout="constrained")
LatentSpaceDisplay.from_estimator(vae, X_test, image_shape=(8, 8), n_images=12, ax=ax)
plt.show()

# %%
# Reconstructions of digits that were not in the fit. They lose details, because two numbers
# stand for the 64 pixels of an image.

ReconstructionDisplay.from_estimator(vae, X_test, image_shape=(8, 8))
plt.show()

# %%
# Two hidden layers and 150 epochs make a better map than the defaults: see
# :doc:`/guide/when`.
