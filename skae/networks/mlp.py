"""The multilayer perceptron."""

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skae._utils.capabilities import ModelPart
from skae._utils.choices import did_you_mean
from skae._utils.numbers import is_positive_integer
from skae._utils.random import random_linear

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}


class NoCorrection(nn.Module, ModelPart):
    """Network whose output is 0, for a model without hidden layers.

    Parameters
    ----------
    n_outputs : int
        Width of the output.
    """

    has_analytic_gradient = True
    is_thread_safe = True

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.n_outputs = n_outputs

    @property
    def batch_key(self) -> Hashable:
        """See `ModelPart.batch_key`."""
        return type(self), self.n_outputs

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(1, self.n_outputs).expand(len(x), -1)


def hidden_widths(hidden_layer_sizes: ArrayLike) -> tuple[int, ...]:
    """Return the widths of hidden layers as a tuple, which shares nothing with a list.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int
        See :class:`MLP`.

    Returns
    -------
    tuple of int
        The widths.

    Raises
    ------
    ValueError
        If a width is no positive integer.
    """
    sizes: Any = hidden_layer_sizes
    if hasattr(sizes, "tolist"):  # arrays and tensors
        sizes = sizes.tolist()
    widths = [sizes] if np.ndim(sizes) == 0 else list(sizes)
    if any(not is_positive_integer(width) for width in widths):
        raise ValueError(
            f"hidden_layer_sizes must be positive integers, got {hidden_layer_sizes!r}."
        )
    return tuple(map(int, widths))


class MLP(BaseEstimator):
    """Fully connected layers; the decoder mirrors the encoder.

    The output layer starts at zero, so that a fit starts at its linear path. Without
    hidden layers the autoencoder is linear.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(64,)
        Widths of the encoder's hidden layers, from the data inwards. The decoder has them
        in reverse order.

    activation : {"identity", "logistic", "relu", "tanh"}, default="relu"
        Activation of the hidden layers, by scikit-learn's names.
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (64,),
        *,
        activation: str = "relu",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation

    def encoder(
        self,
        n_features: int,
        n_outputs: int,
        *,
        generator: torch.Generator | None = None,
    ) -> nn.Module:
        """Build the map ``(n, n_features) -> (n, n_outputs)``. See `Network.encoder`.

        The first weights are drawn from the generator; None stands for torch's global one.
        """
        return self._layers([n_features, *self._widths()], n_outputs, generator)

    def decoder(
        self,
        n_components: int,
        n_outputs: int,
        *,
        generator: torch.Generator | None = None,
    ) -> nn.Module:
        """Build the map ``(n, n_components) -> (n, n_outputs)``. See `Network.decoder`.

        The first weights are drawn from the generator; None stands for torch's global one.
        """
        widths = reversed(self._widths())
        return self._layers([n_components, *widths], n_outputs, generator)

    def _widths(self) -> tuple[int, ...]:
        """Validate the parameters, and return the widths of the hidden layers."""
        widths = hidden_widths(self.hidden_layer_sizes)
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {sorted(ACTIVATIONS)}, got {self.activation!r}."
                f"{did_you_mean(self.activation, ACTIVATIONS)}"
            )
        return widths

    def _layers(
        self, sizes: list[int], n_outputs: int, generator: torch.Generator | None
    ) -> nn.Module:
        """Build a network; sizes are the widths of the input and of the hidden layers."""
        if len(sizes) == 1:
            return NoCorrection(n_outputs)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            linear = random_linear(n_in, n_out, generator)
            layers += [linear, ACTIVATIONS[self.activation]()]
        # The linear path, to which the output is added, already has a bias.
        output = random_linear(sizes[-1], n_outputs, generator, bias=False)
        nn.init.zeros_(output.weight)
        return nn.Sequential(*layers, output)
