"""Define the variational autoencoder for systems that have none of their own."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from worker import Coder


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


def negative_elbo(x: Tensor, loc: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return the mean negative ELBO (nats) of a Gaussian with scale 1, up to a constant."""
    return weighted_loss(x, loc, mean, log_var, 1.0)


def weighted_loss(
    x: Tensor, loc: Tensor, mean: Tensor, log_var: Tensor, beta: float
) -> Tensor:
    """Return the loss of `negative_elbo` with the KL weighted by beta."""
    error = 0.5 * (x - loc).square().sum()
    kl = 0.5 * (log_var.exp() + mean.square() - 1 - log_var).sum()
    return (error + beta * kl) / len(x)


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
