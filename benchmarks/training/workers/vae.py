"""Define the variational autoencoder for systems that have none of their own."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from worker import OPTIMAL_SCALE, UNIT_SCALE, Coder


def mlp(sizes: list[int]) -> nn.Sequential:
    """Return linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class VAE(nn.Module):
    """A variational autoencoder with an MLP each way and a Gaussian posterior."""

    def __init__(self, n_features: int, hidden: list[int], k: int) -> None:
        super().__init__()
        self.encoder = mlp([n_features, *hidden, 2 * k])
        self.decoder = mlp([k, *reversed(hidden), n_features])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        return self.decoder(z), mean, log_var


def reconstruction_loss(x: Tensor, loc: Tensor, objective: str = UNIT_SCALE) -> Tensor:
    """Return the mean negative Gaussian log-likelihood (nats), up to a constant.

    With the optimal scale of the batch, the maximum over the scale is -d/2 log(mean squared
    error) plus a constant, for d features.
    """
    squares = (x - loc).square()
    if objective == OPTIMAL_SCALE:
        return 0.5 * x.shape[1] * squares.mean().log()
    return 0.5 * squares.sum() / len(x)


def kl_divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """Return the mean KL (nats) of a normal posterior from N(0, I)."""
    return 0.5 * (log_var.exp() + mean.square() - 1 - log_var).sum() / len(mean)


def negative_elbo(
    x: Tensor,
    loc: Tensor,
    mean: Tensor,
    log_var: Tensor,
    *,
    objective: str = UNIT_SCALE,
    beta: float = 1.0,
) -> Tensor:
    """Return the mean negative ELBO (nats) up to a constant, the KL weighted by beta."""
    return reconstruction_loss(x, loc, objective) + beta * kl_divergence(mean, log_var)


def make_coder(model: nn.Module, encode, decode) -> Coder:
    """Return a coder from functions of tensors; `encode` returns mean and log-variance."""
    model.eval()

    @torch.inference_mode()
    def encode_array(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, log_var = encode(torch.from_numpy(X))
        return mean.numpy(), log_var.numpy()

    @torch.inference_mode()
    def decode_array(Z: np.ndarray) -> np.ndarray:
        return decode(torch.from_numpy(Z)).numpy()

    n_parameters = sum(p.numel() for p in model.parameters())
    return Coder(encode_array, decode_array, n_parameters)


def vae_coder(model: VAE) -> Coder:
    """Return the coder of a `VAE`."""
    return make_coder(model, lambda x: model.encoder(x).chunk(2, dim=1), model.decoder)
