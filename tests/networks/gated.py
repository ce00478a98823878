"""A network of one's own, complete: gated hidden units with dropout."""

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn


class GatedUnits(nn.Module):
    """Hidden units times gates between 0 and 1, both affine maps of the input."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.both = nn.Linear(n_in, 2 * n_out)

    def forward(self, x: Tensor) -> Tensor:
        units, gates = self.both(x).chunk(2, dim=1)
        return units * torch.sigmoid(gates)


class Gated(BaseEstimator):
    """Specification of an encoder and a decoder with one layer of gated units."""

    def __init__(self, width: int = 32, dropout: float = 0.0) -> None:
        self.width = width
        self.dropout = dropout

    def encoder(self, n_features: int, n_outputs: int) -> nn.Module:
        """Build the network from standardised data to the outputs of the encoder."""
        return self._layers(n_features, n_outputs)

    def decoder(self, n_components: int, n_outputs: int) -> nn.Module:
        """Build the network from codes to locations and further outputs."""
        return self._layers(n_components, n_outputs)

    def _layers(self, n_in: int, n_out: int) -> nn.Module:
        output = nn.Linear(self.width, n_out)
        # The fit begins at its linear path, which is PCA.
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)
        return nn.Sequential(GatedUnits(n_in, self.width), nn.Dropout(self.dropout), output)
