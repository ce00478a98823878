"""From what the encoder says to the codes that are decoded, and back."""

from typing import Protocol

import torch
from torch import Tensor

from skae.engine.layers import Empty
from skae.objectives import ELBO, NegativeLogLikelihood, Objective


class Latents(Protocol):
    """The codes of a batch, and their gradients."""

    n_draws: int

    def forward(self, heads: Tensor, noise: Tensor) -> Tensor:
        """Codes to decode.

        Parameters
        ----------
        heads : Tensor of shape (R, n, n_heads * k)
            What the encoder says.
        noise : Tensor of shape (R, n_draws, n, k)
            Standard normal numbers.

        Returns
        -------
        Tensor of shape (R, n_draws * n, k)
            Codes, for each draw in turn.
        """

    def kl(self, share: Tensor) -> Tensor:
        """Mean KL of each component, in nats.

        Parameters
        ----------
        share : Tensor of shape (R, n, 1)
            What each row counts.

        Returns
        -------
        Tensor of shape (R, k) or (R, 0)
            The means.
        """

    def backward(self, grad: Tensor, kl_share: Tensor) -> Tensor:
        """Derivative of the loss with respect to the heads.

        Parameters
        ----------
        grad : Tensor of shape (R, n_draws * n, k)
            Derivative of the expected log-likelihood's part with respect to the codes.
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
    n, k : int
        Rows of a batch, and components.
    n_draws : int
        Not used.
    empty : callable
        Makes memory.
    """

    def __init__(self, n: int, k: int, n_draws: int, empty: Empty) -> None:
        self.n_draws = 1
        self._no_kl = empty(0)

    def forward(self, heads: Tensor, noise: Tensor) -> Tensor:
        """See `Latents.forward`."""
        return heads

    def kl(self, share: Tensor) -> Tensor:
        """See `Latents.kl`."""
        return self._no_kl

    def backward(self, grad: Tensor, kl_share: Tensor) -> Tensor:
        """See `Latents.backward`."""
        return grad


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
    n, k : int
        Rows of a batch, and components.
    n_draws : int
        Draws for each row.
    empty : callable
        Makes memory.
    """

    def __init__(self, n: int, k: int, n_draws: int, empty: Empty) -> None:
        self.n_draws = n_draws
        self.k = k
        self.q, self.log_std, self.std = empty(n, k), empty(n, k), empty(n, k)
        self.variance, self.twice_kl = empty(n, k), empty(n, k)
        self.z = empty(n_draws, n, k)
        self.deviation = empty(n_draws, n, k)
        self.out = empty(n, 2 * k)
        self.kl_sum = empty(1, k)

    def forward(self, heads: Tensor, noise: Tensor) -> Tensor:
        """See `Latents.forward`."""
        self.mean, h = heads[..., : self.k], heads[..., self.k :]
        torch.clamp_min(h, 0.0, out=self.q)
        torch.sub(h, self.q, out=self.log_std)
        self.log_std.add_(torch.log(self.q.add_(1.0), out=self.std))
        torch.exp(self.log_std, out=self.std)
        torch.mul(noise, self.std[:, None], out=self.deviation)
        torch.add(self.mean[:, None], self.deviation, out=self.z)
        return self.z.flatten(1, 2)

    def kl(self, share: Tensor) -> Tensor:
        """See `Latents.kl`."""
        torch.square(self.std, out=self.variance)
        torch.addcmul(self.variance, self.mean, self.mean, out=self.twice_kl)
        self.twice_kl.sub_(1.0).sub_(self.log_std, alpha=2.0)
        return torch.bmm(share.mT, self.twice_kl, out=self.kl_sum).mul_(0.5)[:, 0]

    def backward(self, grad: Tensor, kl_share: Tensor) -> Tensor:
        """See `Latents.backward`."""
        grad_mean, grad_h = self.out[..., : self.k], self.out[..., self.k :]
        by_draw = grad.view_as(self.deviation)
        self.deviation.mul_(by_draw)
        if self.n_draws == 1:
            summed, moved = by_draw[:, 0], self.deviation[:, 0]
        else:
            summed, moved = by_draw.sum(dim=1), self.deviation.sum(dim=1)
        torch.addcmul(summed, kl_share, self.mean, out=grad_mean)
        torch.addcmul(moved, kl_share, self.variance.sub_(1.0), out=grad_h).div_(self.q)
        return self.out


LATENTS: dict[type[Objective], type[Code] | type[Posterior]] = {
    ELBO: Posterior,
    NegativeLogLikelihood: Code,
}
