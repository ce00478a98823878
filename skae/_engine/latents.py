"""The codes of a batch, made from the encoder's outputs, and their gradients."""

from typing import Protocol

import torch
from torch import Tensor

from skae._engine.layers import Empty
from skae.objectives import ELBO, NegativeLogLikelihood, Objective


class Latents(Protocol):
    """The codes of a batch, and their gradients.

    All results have fixed memory, so that a step makes no views.

    Attributes
    ----------
    n_kl : int
        Components that have a KL.
    z : Tensor of shape (R, n_draws * n, k)
        The codes to decode, draw by draw.
    """

    n_kl: int
    z: Tensor

    def bind(self, grad: Tensor, kl: Tensor) -> None:
        """Set the memory of the codes' gradient and of the KL.

        ``grad`` is ``(R, n_draws * n, k)``; ``kl``, in nats, is ``(R, n, n_kl)``.
        """

    def forward(self, noise: Tensor) -> None:
        """Compute codes and KL from the encoder's outputs and normal noise.

        ``noise`` is ``(R, n_draws, n, k)``.
        """

    def backward(self, kl_row_weight: Tensor) -> Tensor:
        """Return the gradient of the heads, ``(R, n, n_heads * k)``.

        ``kl_row_weight``, ``(R, n, 1)``, is the weight of each row's KL in the loss. The
        next call overwrites the result.
        """


class Code:
    """The code of a deterministic autoencoder: the encoder's output, ``(R, n, k)``."""

    def __init__(self, heads: Tensor, n_draws: int, empty: Empty) -> None:
        self.n_kl = 0
        self.z = heads

    def bind(self, grad: Tensor, kl: Tensor) -> None:
        """Set the memory of the codes' gradient."""
        self._grad = grad

    def forward(self, noise: Tensor) -> None:
        """Do nothing: the code is the encoder's output."""

    def backward(self, kl_row_weight: Tensor) -> Tensor:
        """Return the gradient of the code, ``(R, n, k)``."""
        return self._grad


class Posterior:
    r"""Draws from a Gaussian posterior with mean m and log standard deviation l.

    With the second head h and :math:`q = 1 + \max(h, 0)`, the log standard deviation is
    :math:`l = \log q + \min(h, 0)`, so :math:`\partial l/\partial h = 1/q`. With
    :math:`s = e^l` and standard normal e,

    .. math::
        z &= m + s e, \quad KL = \tfrac12 (s^2 + m^2 - 1) - l \\
        \bar m &= \textstyle\sum \bar z + w m, \quad
        \bar h = (\sum \bar z\, s e + w (s^2 - 1)) / q

    where the sums go over the draws, and w is the weight of the row's KL.

    Parameters
    ----------
    heads : Tensor of shape (R, n, 2 * k)
        Memory of the encoder's output.
    n_draws : int
        Draws for each row.
    empty : callable
        Allocates memory.
    """

    def __init__(self, heads: Tensor, n_draws: int, empty: Empty) -> None:
        n, k = heads.shape[1], heads.shape[2] // 2
        self.n_draws, self.n_kl = n_draws, k
        self.mean, self.h = heads.split(k, dim=2)
        self.q, self.log_std, self.std = empty(n, k), empty(n, k), empty(n, k)
        self.excess = empty(n, k)  # (s^2 - 1) / 2
        self.minus_half = heads.new_full((), -0.5)
        self.z = empty(n_draws * n, k)
        # z and s e of each draw.
        self._z = self.z.unflatten(1, (n_draws, n))
        self.scaled_noise = empty(n_draws * n, k).unflatten(1, (n_draws, n))
        self._mean, self._std = self.mean[:, None], self.std[:, None]
        self.grad_heads = empty(n, 2 * k)
        self.grad_mean, self.grad_h = self.grad_heads.split(k, dim=2)

    def bind(self, grad: Tensor, kl: Tensor) -> None:
        """Set the memory of the codes' gradient and of the KL."""
        self.grad = grad.unflatten(1, self.scaled_noise.shape[1:3])
        # A single draw needs no sum.
        self.grad_sum, self.scaled_noise_sum = self.grad[:, 0], self.scaled_noise[:, 0]
        self.kl = kl

    def forward(self, noise: Tensor) -> None:
        """Compute the codes and their KL."""
        torch.clamp_min(self.h, 0.0, out=self.q)
        torch.sub(self.h, self.q, out=self.log_std)
        self.log_std.add_(torch.log(self.q.add_(1.0), out=self.std))
        torch.exp(self.log_std, out=self.std)
        torch.mul(noise, self._std, out=self.scaled_noise)
        torch.add(self._mean, self.scaled_noise, out=self._z)
        torch.addcmul(self.minus_half, self.std, self.std, value=0.5, out=self.excess)
        torch.sub(self.excess, self.log_std, out=self.kl)
        self.kl.addcmul_(self.mean, self.mean, value=0.5)

    def backward(self, kl_row_weight: Tensor) -> Tensor:
        """Return the gradient of the heads, ``(R, n, 2 * k)``."""
        self.scaled_noise.mul_(self.grad)
        if self.n_draws > 1:
            self.grad_sum, self.scaled_noise_sum = (
                self.grad.sum(dim=1),
                self.scaled_noise.sum(dim=1),
            )
        torch.addcmul(self.grad_sum, kl_row_weight, self.mean, out=self.grad_mean)
        torch.addcmul(
            self.scaled_noise_sum, kl_row_weight, self.excess, value=2.0, out=self.grad_h
        )
        self.grad_h.div_(self.q)
        return self.grad_heads


LATENTS: dict[type[Objective], type[Code] | type[Posterior]] = {
    ELBO: Posterior,
    NegativeLogLikelihood: Code,
}
