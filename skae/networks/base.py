"""The protocols of network specifications."""

from typing import Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Network(Protocol):
    """Specification of the nonlinear encoder and decoder.

    Both networks are *added* to a linear path that every autoencoder has: a network is the
    correction to a linear model. If its output starts at zero, a fit starts exactly at PCA.
    All tensors are 2-D; a network for images reshapes them inside. If the specification is
    a :class:`sklearn.base.BaseEstimator`, its parameters can be searched as
    ``network__...``.
    """

    def encoder(self, n_features: int, n_outputs: int) -> nn.Module:
        """Build the network that is added to the linear path from data to codes.

        Parameters
        ----------
        n_features : int
            Width of its input, standardised data.
        n_outputs : int
            Width of its output: the number of components, or twice that for a posterior.

        Returns
        -------
        torch.nn.Module
            From ``(n, n_features)`` to ``(n, n_outputs)``.
        """

    def decoder(self, n_components: int, n_outputs: int) -> nn.Module:
        """Build the network that is added to the linear path from codes to locations.

        Parameters
        ----------
        n_components : int
            Width of its input, codes.
        n_outputs : int
            Width of its output: the number of features, plus the extra outputs of the
            scale.

        Returns
        -------
        torch.nn.Module
            From ``(n, n_components)`` to ``(n, n_outputs)``.
        """


class BuiltInNetwork(Network, Protocol):
    """Specification whose networks take their first weights from a given generator.

    Without a generator, the weights are drawn from torch's global generator. If data have
    missing entries, the encoder has twice as many inputs as there are features: the second
    half is 1 for each entry that is observed, and else 0.
    """

    def check_parameters(self) -> None:
        """Raise if a parameter of the specification is out of range.

        Raises
        ------
        ValueError
            With the parameter.
        """

    def check_n_features(self, n_features: int) -> None:
        """Raise if the network is not made for a number of features.

        Parameters
        ----------
        n_features : int
            Number of features of the data.

        Raises
        ------
        ValueError
            With what it is made for.
        """

    def encoder(
        self,
        n_features: int,
        n_outputs: int,
        *,
        generator: torch.Generator | None = None,
    ) -> nn.Module:
        """Build the encoder. See `Network.encoder`."""

    def decoder(
        self,
        n_components: int,
        n_outputs: int,
        *,
        generator: torch.Generator | None = None,
    ) -> nn.Module:
        """Build the decoder. See `Network.decoder`."""
