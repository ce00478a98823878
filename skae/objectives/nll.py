"""The deterministic objective: the negative log-likelihood of x given its code."""

import torch
from torch import Tensor

from skae._module import AutoencoderModule
from skae.objectives.base import Objective


class NegativeLogLikelihood(Objective):
    """``-log p(x | z(x))``: the loss of a deterministic autoencoder."""

    n_heads = 1

    def code(self, module: AutoencoderModule, y: Tensor) -> Tensor:
        return module.encode(y)

    def draws(self, n_components: int, min_draws: int = 32) -> Tensor:
        return torch.zeros(1, n_components, dtype=torch.float64)

    def training_draws(
        self, y: Tensor, n_components: int, generator: torch.Generator
    ) -> Tensor:
        return y.new_empty(1, 1, n_components)

    def latents(
        self, module: AutoencoderModule, y: Tensor, draws: Tensor
    ) -> tuple[Tensor, Tensor]:
        return module.encode(y), y[:, :0]

    def kl_weight(self, progress: float) -> float:
        return 0.0
