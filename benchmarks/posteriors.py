"""Variational autoencoders whose posteriors have a diagonal or a full covariance."""

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.decomposition import FactorAnalysis
from torch import Tensor, nn

N_HIDDEN = 64
# Smallest scale in training, in standard deviations of a feature.
MIN_SCALE = 0.01


class Variant(NamedTuple):
    """A posterior: the basis of its start and its factor; and what it is compared with."""

    basis: str
    factor: str = "none"
    # Of the first weights, the batches and the draws.
    seed: int = 0
    base: str = "diagonal"


class Start(NamedTuple):
    """A linear model and its posterior, N(E x, D^(1/2) C C' D^(1/2))."""

    W: np.ndarray  # (d, k)
    noise: np.ndarray  # (d,), variances
    E: np.ndarray  # (k, d)
    std: np.ndarray  # (k,), square roots of the diagonal D
    C: np.ndarray  # (k, k), lower triangular


def make_start(fa: FactorAnalysis, variant: Variant) -> Start:
    """Rotate the loadings of factor analysis, and return its posterior in closed form.

    In the basis "noise", W' diag(1 / noise) W is diagonal; in "features", W' W is.
    """
    W, noise = fa.components_.T, fa.noise_variance_
    units = np.sqrt(noise)[:, None] if variant.basis == "noise" else 1.0
    W = W @ np.linalg.svd(W / units, full_matrices=False)[2].T
    precision = np.eye(W.shape[1]) + W.T @ (W / noise[:, None])
    S = np.linalg.inv(precision)
    if variant.factor == "fixed":
        std = np.sqrt(np.diagonal(S))
        C = np.linalg.cholesky(S / np.outer(std, std))
    else:  # the best diagonal, which is exact in the basis "noise"
        std, C = 1 / np.sqrt(np.diagonal(precision)), np.eye(len(S))
    return Start(W, noise, S @ (W / noise[:, None]).T, std, C)


class Model(nn.Module):
    """A variational autoencoder: the linear path of a start, corrected by networks."""

    def __init__(self, start: Start, variant: Variant, family: str) -> None:
        super().__init__()
        d, k = start.W.shape
        self.variant, self.family, self.d, self.k = variant, family, d, k
        self.encoder, self.decoder = nn.Linear(d, 2 * k), nn.Linear(k, d)
        self.rows, self.columns = torch.tril_indices(k, k, -1)
        n_below = len(self.rows)
        self.encoder_network = _network(d, 2 * k)
        if variant.factor == "per row":
            # All variants begin with the same other weights, and have the same draws.
            with torch.random.fork_rng(devices=[]):
                self.encoder_network[-1] = _zero_layer(2 * k + n_below)
        self.decoder_network = _network(k, 2 * d if family == "laplace" else d)
        std = torch.tensor(start.std)
        deviation = np.sqrt(start.noise)
        self.register_buffer("code_gain", std)
        self.register_buffer("loc_gain", torch.tensor(np.minimum(3 * deviation, 1.0)))
        self.register_buffer("C", torch.tensor(start.C))
        self.below = nn.Parameter(torch.zeros(n_below), variant.factor == "trained")
        scale = deviation if family == "gaussian" else deviation / math.sqrt(2)
        self.log_scale = nn.Parameter(torch.tensor(np.log(scale - MIN_SCALE)))
        self.double()
        with torch.no_grad():
            self.encoder.weight.zero_()
            self.encoder.weight[:k] = torch.tensor(start.E) / std[:, None]
            self.encoder.bias.zero_()
            self.encoder.bias[k:] = std.log()
            self.decoder.weight.copy_(torch.tensor(start.W))
            self.decoder.bias.zero_()

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return means and log D^(1/2), (n, k), and C, (k, k) or (n, k, k) or None."""
        out = self.encoder_network(x)
        mean, log_std = (self.encoder(x) + out[:, : 2 * self.k]).split(self.k, dim=1)
        mean, C = mean * self.code_gain, None
        if self.variant.factor == "fixed":
            C = self.C
        elif self.variant.factor == "trained":
            C = self._with_below(self.below[None])[0]
        elif self.variant.factor == "per row":
            C = self._with_below(out[:, 2 * self.k :])
        return mean, log_std, C

    def _with_below(self, below: Tensor) -> Tensor:
        """Fill C below its diagonal, from (n, k (k - 1) / 2) to (n, k, k)."""
        C = self.C.expand(len(below), -1, -1).clone()
        C[:, self.rows, self.columns] = below
        return C

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x | z), (n, s), of draws (n, s, k)."""
        out = self.decoder_network(z)
        loc = self.decoder(z) + self.loc_gain * out[..., : self.d]
        raw = self.log_scale
        if self.family == "laplace":
            raw = raw + out[..., self.d :]
        scale = MIN_SCALE + raw.exp()
        r = (x[:, None] - loc) / scale
        if self.family == "laplace":
            return -(r.abs() + (2 * scale).log()).sum(dim=-1)
        return -(0.5 * r.square() + scale.log() + 0.5 * math.log(2 * math.pi)).sum(dim=-1)

    def elbo(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return the ELBO, (n,), by one draw and the KL divergence in closed form."""
        mean, log_std, C = self.posterior(x)
        z = _draw(mean, log_std, C, noise)
        return self.log_likelihood(x, z)[:, 0] - divergence(mean, log_std, C)

    def log_weights(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return log p(x, z) - log q(z | x), (n, s), of draws by noise (n, s, k)."""
        mean, log_std, C = self.posterior(x)
        z = _draw(mean, log_std, C, noise)
        # The constant of both normal densities cancels.
        log_ratio = 0.5 * (noise.square() - z.square()).sum(dim=-1)
        return self.log_likelihood(x, z) + log_ratio + _log_det(log_std, C)[:, None]


def _network(n_in: int, n_out: int) -> nn.Sequential:
    """Return one hidden layer, whose output is 0 at the start."""
    last = _zero_layer(n_out)
    return nn.Sequential(nn.Linear(n_in, N_HIDDEN), nn.Tanh(), last)


def _zero_layer(n_out: int) -> nn.Linear:
    """Return a last layer whose weights are 0."""
    layer = nn.Linear(N_HIDDEN, n_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _draw(mean: Tensor, log_std: Tensor, C: Tensor | None, noise: Tensor) -> Tensor:
    """Return codes (n, s, k) of standard normal noise (n, s, k)."""
    turned = noise if C is None else noise @ C.mT
    return mean[:, None] + log_std.exp()[:, None] * turned


def _log_det(log_std: Tensor, C: Tensor | None) -> Tensor:
    """Return the log-determinant of the posterior's factor, (n,)."""
    log_det = log_std.sum(dim=1)
    return log_det if C is None else log_det + C.diagonal(0, -2, -1).log().sum(dim=-1)


def divergence(mean: Tensor, log_std: Tensor, C: Tensor | None) -> Tensor:
    """Return the KL divergence from the prior N(0, I), (n,)."""
    variance = (2 * log_std).exp()
    if C is not None:
        variance = variance * C.square().sum(dim=-1)
    squared = (mean.square() + variance - 1).sum(dim=1)
    return 0.5 * squared - _log_det(log_std, C)
