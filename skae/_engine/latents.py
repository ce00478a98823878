"""From what the encoder says to the codes that are decoded, and back."""

from typing import Protocol

import torch
from torch import Tensor

from skae._engine.layers import Empty
from skae.objectives import ELBO, NegativeLogLikelihood, Objective


class Latents(Protocol):
    """The codes of a batch, and their gradients.

    All is done in places that are known beforehand, so that a step makes no views.
    """

    n_kl: int  # components that have a KL
    z: Tensor  # (R, n_draws * n, k), the codes to decode, for each draw in turn

    def bind(self, grad: Tensor, kl: Tensor) -> None:
        """Say where derivatives will be, and where the KL is wanted.

        Parameters
        ----------
        grad : Tensor of shape (R, n_draws * n, k)
            Place of the derivatives of the loss with respect to the codes.
        kl : Tensor of shape (R, n, n_kl)
            Place for the KL of each row and component, in nats.
        """

    def forward(self, noise: Tensor) -> None:
        """Make the codes from what the encoder says, and their KL.

        Parameters
        ----------
        noise : Tensor of shape (R, n_draws, n, k)
            Standard normal numbers.
        """

    def backward(self, kl_row_weight: Tensor) -> Tensor:
        """Derivative of the loss with respect to the heads.

        Parameters
        ----------
        kl_share : Tensor of shape (R, n, 1)
            What the KL of each row counts in the loss.

        Returns
        -------
        Tensor of shape (R, n, n_heads * k)
            The derivative; overwritten by the next call.
        """


class Code:
    """The code itself: a deterministic autoencoder.

    Parameters
    ----------
    heads : Tensor of shape (R, n, k)
        Where the encoder's output is.
    n_draws : int
        Not used: there is one code.
    empty : callable
        Makes memory.
    """

    def __init__(self, heads: Tensor, n_draws: int, empty: Empty) -> None:
        self.n_kl = 0
        self.z = heads

    def bind(self, grad: Tensor, kl: Tensor) -> None:
        """See `Latents.bind`."""
        self._grad = grad

    def forward(self, noise: Tensor) -> None:
        """See `Latents.forward`."""

    def backward(self, kl_row_weight: Tensor) -> Tensor:
        """See `Latents.backward`."""
        return self._grad


class Posterior:
    r"""Draws from a Gaussian posterior with mean m and log standard deviation l.

    With the second head h and :math:`q = 1 + \max(h, 0)` it is
    :math:`l = \log q + \min(h, 0)`, so :math:`\partial l/\partial h = 1/q`; with
    :math:`s = e^l` and standard normal e

    .. math::
        z &= m + s e, \quad KL = \tfrac12 (s^2 + m^2 - 1) - l \\
        \bar m &= \textstyle\sum \bar z + w m, \quad
        \bar h = (\sum \bar z\, s e + w (s^2 - 1)) / q

    where the sums go over the draws, and w is what the KL of the row counts.

    Parameters
    ----------
    heads : Tensor of shape (R, n, 2 * k)
        Where the encoder's output is.
    n_draws : int
        Draws for each row.
    empty : callable
        Makes memory.
    """

    def __init__(self, heads: Tensor, n_draws: int, empty: Empty) -> None:
        n, k = heads.shape[1], heads.shape[2] // 2
        self.n_draws, self.n_kl = n_draws, k
        self.mean, self.h = heads.split(k, dim=2)
        self.q, self.log_std, self.std = empty(n, k), empty(n, k), empty(n, k)
        self.excess = empty(n, k)  # of the variance over 1, halved
        self.minus_half = heads.new_full((), -0.5)
        self.z = empty(n_draws * n, k)
        # For each draw: z and s e.
        self._z = self.z.unflatten(1, (n_draws, n))
        self.moved = empty(n_draws * n, k).unflatten(1, (n_draws, n))
        self._mean, self._std = self.mean[:, None], self.std[:, None]
        self.grad_heads = empty(n, 2 * k)
        self.grad_mean, self.grad_h = self.grad_heads.split(k, dim=2)

    def bind(self, grad: Tensor, kl: Tensor) -> None:
        """See `Latents.bind`."""
        self.grad = grad.unflatten(1, self.moved.shape[1:3])
        # A single draw needs no sum.
        self.grad_sum, self.moved_sum = self.grad[:, 0], self.moved[:, 0]
        self.kl = kl

    def forward(self, noise: Tensor) -> None:
        """See `Latents.forward`."""
        torch.clamp_min(self.h, 0.0, out=self.q)
        torch.sub(self.h, self.q, out=self.log_std)
        self.log_std.add_(torch.log(self.q.add_(1.0), out=self.std))
        torch.exp(self.log_std, out=self.std)
        torch.mul(noise, self._std, out=self.moved)
        torch.add(self._mean, self.moved, out=self._z)
        torch.addcmul(self.minus_half, self.std, self.std, value=0.5, out=self.excess)
        torch.sub(self.excess, self.log_std, out=self.kl)
        self.kl.addcmul_(self.mean, self.mean, value=0.5)

    def backward(self, kl_row_weight: Tensor) -> Tensor:
        """See `Latents.backward`."""
        self.moved.mul_(self.grad)
        if self.n_draws > 1:
            self.grad_sum, self.moved_sum = self.grad.sum(dim=1), self.moved.sum(dim=1)
        torch.addcmul(self.grad_sum, kl_row_weight, self.mean, out=self.grad_mean)
        torch.addcmul(
            self.moved_sum, kl_row_weight, self.excess, value=2.0, out=self.grad_h
        )
        self.grad_h.div_(self.q)
        return self.grad_heads


LATENTS: dict[type[Objective], type[Code] | type[Posterior]] = {
    ELBO: Posterior,
    NegativeLogLikelihood: Code,
}
