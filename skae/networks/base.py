"""The contract of a network."""

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Network(Protocol):
    """A recipe for the two nonlinear halves of an autoencoder.

    What the recipe makes is *added* to a linear path that every autoencoder here has, so
    a network is the correction to a linear model. One whose output starts at zero lets a
    fit begin exactly at PCA. All tensors are 2-D; a network that wants images reshapes
    inside itself. Write it as a :class:`sklearn.base.BaseEstimator`, and its parameters
    can be searched as ``network__...``.
    """

    def encoder(self, n_features: int, n_outputs: int) -> nn.Module:
        """Module from ``(n, n_features)`` to ``(n, n_outputs)``."""

    def decoder(self, n_components: int, n_outputs: int) -> nn.Module:
        """Module from ``(n, n_components)`` to ``(n, n_outputs)``."""
