"""A likelihood with a parameter, as a user may write it: the generalised normal density."""

import math

import torch
from torch import Tensor

from skae.likelihoods import LocationScale


class GeneralizedNormal(LocationScale):
    r"""Generalised normal (exponential power) density with a given power p.

    .. math::
        \log p(x) = -|t|^p - \log 2\Gamma(1 + 1/p) - \log s, \quad t = (x-\mu)/s

    A power of 1 is the Laplace density, 2 a normal density of variance 1/2 for the scale 1.
    As p grows, the density becomes uniform on [-s, s].

    Parameters
    ----------
    power : float, default=1.5
        The power p, 1 or more: with a smaller power, the derivative at 0 is infinite.

    Raises
    ------
    ValueError
        If `power` is not a finite number of at least 1.
    """

    is_thread_safe = True
    has_optimal_scale = True

    def __init__(self, power: float = 1.5) -> None:
        if not 1 <= power < math.inf:
            raise ValueError(f"power must be a finite number, 1 or more, got {power!r}.")
        # The instance attributes decide which models are trained side by side: those with
        # equal power.
        self.power = power

    @property
    def unit_stddev(self) -> float:
        """Standard deviation for the scale 1."""
        return math.sqrt(math.gamma(3 / self.power) / math.gamma(1 / self.power))

    @property
    def heavy_tailed(self) -> bool:
        """Whether log f falls more slowly than a square."""
        return self.power < 2

    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        constant = t.new_full((), -math.log(2) - math.lgamma(1 + 1 / self.power))
        return torch.sub(constant, self.deviation(t, out=out), out=out)

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        # |t|^p has a gamma distribution of shape 1/p, and t either sign.
        shape = torch.full_like(loc, 1 / self.power)
        size = torch._standard_gamma(shape, generator=generator).pow(1 / self.power)
        sign = 2 * torch.empty_like(loc).bernoulli_(0.5, generator=generator) - 1
        return loc + torch.exp(log_scale) * sign * size

    def influence_(self, t: Tensor) -> Tensor:
        # p |t|^(p - 1), with the sign of t; 0 at 0.
        sign = torch.sign(t)
        return t.abs_().pow_(self.power - 1).mul_(self.power).mul_(sign)

    def deviation(self, residual: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.pow(torch.abs(residual, out=out), self.power, out=out)

    def optimal_scale(self, mean_deviation: Tensor) -> Tensor:
        # The derivative of -m / s^p - log s is 0 at s^p = p m.
        return (self.power * mean_deviation).pow(1 / self.power)
