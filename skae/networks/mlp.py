"""The multilayer perceptron."""

from collections.abc import Hashable, Sequence
from itertools import pairwise
from numbers import Real
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
from skae._utils.signatures import make_methods_readable

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


class Residual(nn.Module, ModelPart):
    """Layers whose output is added to their input, or to a linear map of it.

    Parameters
    ----------
    layers : torch.nn.Module
        From ``(n, n_in)`` to ``(n, n_out)``.
    shortcut : torch.nn.Module or None
        Linear map ``(n, n_in) -> (n, n_out)`` for the input; None if the widths are equal.
    """

    is_thread_safe = True

    def __init__(self, layers: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.layers = layers
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        direct = x if self.shortcut is None else self.shortcut(x)
        return direct + self.layers(x)


def hidden_widths(
    hidden_layer_sizes: ArrayLike, name: str = "hidden_layer_sizes"
) -> tuple[int, ...]:
    """Return the widths of hidden layers as a tuple, which shares nothing with a list.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int
        See :class:`MLP`.
    name : str, default="hidden_layer_sizes"
        Name of the parameter, for the error.

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
        raise ValueError(f"{name} must be positive integers, got {hidden_layer_sizes!r}.")
    return tuple(map(int, widths))


def check_activation(activation: str) -> None:
    """Raise a ValueError if there is no activation of this name.

    Parameters
    ----------
    activation : str
        The name.

    Raises
    ------
    ValueError
        With the names that there are.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}."
            f"{did_you_mean(activation, ACTIVATIONS)}"
        )


@make_methods_readable
class MLP(BaseEstimator):
    """Fully connected layers; the decoder mirrors the encoder.

    The output layer starts at zero, so that a fit starts at its linear path. Without
    hidden layers the autoencoder is linear, whatever the other parameters are.

    Between two affine maps are a layer normalisation, the activation and dropout, in this
    order, as far as they are asked for. With one of the three options, training uses
    autograd.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(64,)
        Widths of the encoder's hidden layers, from the data inwards. The decoder has them
        in reverse order.

    activation : {"identity", "logistic", "relu", "tanh"}, default="relu"
        Activation of the hidden layers, by scikit-learn's names.

    residual : bool, default=False
        Whether each hidden layer after the first is added to the one before it, both before
        normalisation and activation [1]_. If their widths differ, it is added to a linear
        map of the one before. The first hidden layer has no such shortcut: the linear path
        is one around the whole network.

    layer_norm : bool, default=False
        Whether each hidden layer is normalised over its units [2]_, separately for each
        row.

    dropout : float, default=0.0
        Probability that a hidden unit is set to 0 in a step of the training, from 0 to
        below 1. Which ones follows from the `random_state` of the estimator.

    See Also
    --------
    Conv : Convolutions, for images.

    References
    ----------
    .. [1] He, K., Zhang, X., Ren, S., Sun, J. (2016). "Identity mappings in deep residual
       networks". ECCV; "full pre-activation", figure 4 (e).
    .. [2] Ba, J. L., Kiros, J. R., Hinton, G. E. (2016). "Layer normalization".
       arXiv:1607.06450.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VariationalAutoencoder
    >>> from skae.networks import MLP
    >>> network = MLP((64, 64), residual=True, layer_norm=True, dropout=0.1)
    >>> vae = VariationalAutoencoder(8, network=network, max_iter=2, random_state=0)
    >>> vae.set_params(network__dropout=0.2).fit(load_digits().data[:500]).n_iter_
    2
    """

    # Values for pickles of former versions, which do not have these parameters.
    residual: bool = False
    layer_norm: bool = False
    dropout: float = 0.0

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (64,),
        *,
        activation: str = "relu",
        residual: bool = False,
        layer_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.residual = residual
        self.layer_norm = layer_norm
        self.dropout = dropout

    def check_parameters(self) -> None:
        """Raise if a parameter is out of range. See `BuiltInNetwork.check_parameters`."""
        self._widths()

    def check_n_features(self, n_features: int) -> None:
        """Accept any number of features. See `BuiltInNetwork.check_n_features`."""

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
        check_activation(self.activation)
        for name in ("residual", "layer_norm"):
            value = getattr(self, name)
            if not isinstance(value, bool | np.bool_):
                raise ValueError(f"{name} must be True or False, got {value!r}.")
        p = self.dropout
        if isinstance(p, bool) or not isinstance(p, Real) or not 0 <= p < 1:
            raise ValueError(f"dropout must be a number from 0 to below 1, got {p!r}.")
        return widths

    def _layers(
        self, sizes: list[int], n_outputs: int, generator: torch.Generator | None
    ) -> nn.Module:
        """Build a network; sizes are the widths of the input and of the hidden layers."""
        if len(sizes) == 1:
            return NoCorrection(n_outputs)
        layers: list[nn.Module] = [random_linear(sizes[0], sizes[1], generator)]
        for n_in, n_out in pairwise(sizes[1:]):
            further = [*self._between(n_in), random_linear(n_in, n_out, generator)]
            if self.residual:
                shortcut = None
                if n_in != n_out:
                    shortcut = random_linear(n_in, n_out, generator, bias=False)
                further = [Residual(nn.Sequential(*further), shortcut)]
            layers += further
        # The linear path, to which the output is added, already has a bias.
        output = random_linear(sizes[-1], n_outputs, generator, bias=False)
        nn.init.zeros_(output.weight)
        return nn.Sequential(*layers, *self._between(sizes[-1]), output)

    def _between(self, width: int) -> list[nn.Module]:
        """Build what lies between two affine maps, for a layer of this width."""
        layers: list[nn.Module] = []
        if self.layer_norm:
            layers.append(nn.LayerNorm(width, device="cpu", dtype=torch.float32))
        layers.append(ACTIVATIONS[self.activation]())
        if self.dropout > 0:
            layers.append(nn.Dropout(float(self.dropout)))
        return layers
