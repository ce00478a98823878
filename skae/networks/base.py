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
        """The network that is added to the linear path from data to codes.

        Parameters
        ----------
        n_features : int
            Width of its input, standardised data.
        n_outputs : int
            Width of its output: the components, twice for a posterior.

        Returns
        -------
        torch.nn.Module
            From ``(n, n_features)`` to ``(n, n_outputs)``.
        """

    def decoder(self, n_components: int, n_outputs: int) -> nn.Module:
        """The network that is added to the linear path from codes to locations.

        Parameters
        ----------
        n_components : int
            Width of its input, codes.
        n_outputs : int
            Width of its output: the features, and what the scale asks for.

        Returns
        -------
        torch.nn.Module
            From ``(n, n_components)`` to ``(n, n_outputs)``.
        """
