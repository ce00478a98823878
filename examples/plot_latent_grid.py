"""
The digits on a plane
=====================

A variational autoencoder with two components maps each digit to a point of a plane.
:class:`~skae.inspection.LatentSpaceDisplay` plots these points, and the images that the
decoder returns for a grid of points.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import VariationalAutoencoder
from skae.inspection import LatentSpaceDisplay, ReconstructionDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
vae = VariationalAutoencoder(2, hidden_layer_sizes=(128,), max_iter=80, random_state=0)
vae.fit(X_train)

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
LatentSpaceDisplay.from_estimator(vae, X_test, y_test, ax=left)
LatentSpaceDisplay.from_estimator(vae, X_test, image_shape=(8, 8), n_images=18, ax=right)
plt.show()

# %%
# Reconstructions of unseen digits. They lose details, because two numbers stand for the 64
# pixels of an image.

ReconstructionDisplay.from_estimator(vae, X_test, image_shape=(8, 8))
plt.show()
