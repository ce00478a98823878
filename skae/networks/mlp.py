"""The multilayer perceptron."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}


# Inputs up to which the weights between hidden layers take the whole learning rate.
_FEW_INPUTS = 16


def step_sizes(network: nn.Module) -> dict[Tensor, float]:
    """What the learning rate of some weights is multiplied by: those between hidden layers.

    Adam's steps have one size for all weights. The inputs of a layer after a hidden one do
    not vary around 0 (after a rectifier they are positive), so its steps add up: with many
    inputs, each of them moves all that a unit sees by more than its spread, and rectifiers
    die. The steps of such weights fall with the number of inputs (Yang et al. 2022, table
    3, for hidden weights; those of output weights are left as they are).

    Parameters
    ----------
    network : torch.nn.Module
        A network; only of a chain of layers is anything known.

    Returns
    -------
    dict of Parameter to float
        Numbers below 1.
    """
    if type(network) is not nn.Sequential:
        return {}
    between = [layer for layer in network if isinstance(layer, nn.Linear)][1:-1]
    return {
        layer.weight: _FEW_INPUTS / layer.in_features
        for layer in between
        # The weight of a parametrized layer, which is of another type, is no parameter.
        if type(layer) is nn.Linear and layer.in_features > _FEW_INPUTS
    }


class NoCorrection(nn.Module):
    """Zeros: what a network without hidden layers adds to the linear path.

    Parameters
    ----------
    n_outputs : int
        Width of the zeros.
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.n_outputs = n_outputs

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(1, self.n_outputs).expand(len(x), -1)


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

    def encoder(self, n_features: int, n_outputs: int) -> nn.Module:
        """From ``(n, n_features)`` to ``(n, n_outputs)``. See `Network.encoder`."""
        return self._layers([n_features, *self._widths()], n_outputs)

    def decoder(self, n_components: int, n_outputs: int) -> nn.Module:
        """From ``(n, n_components)`` to ``(n, n_outputs)``. See `Network.decoder`."""
        return self._layers([n_components, *reversed(self._widths())], n_outputs)

    def _widths(self) -> list[int]:
        widths = np.atleast_1d(self.hidden_layer_sizes).tolist()
        if any(not isinstance(w, Integral) or w <= 0 for w in widths):
            raise ValueError(
                "hidden_layer_sizes must be positive integers, got "
                f"{self.hidden_layer_sizes!r}."
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {sorted(ACTIVATIONS)}, got {self.activation!r}."
            )
        return widths

    def _layers(self, sizes: list[int], n_outputs: int) -> nn.Module:
        if len(sizes) == 1:
            return NoCorrection(n_outputs)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), ACTIVATIONS[self.activation]()]
        # The linear path, which the output is added to, has a bias already.
        output = nn.Linear(sizes[-1], n_outputs, bias=False)
        nn.init.zeros_(output.weight)
        return nn.Sequential(*layers, output)
