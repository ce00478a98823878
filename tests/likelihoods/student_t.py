"""A likelihood with a parameter, as a user may write it: Student's t density."""

import math

import torch
from torch import Tensor

from skae.likelihoods import LocationScale


class StudentT(LocationScale):
    r"""Student's t density with a given number of degrees of freedom.

    .. math::
        \log p(x) = \log\Gamma\tfrac{\nu+1}2 - \log\Gamma\tfrac\nu2 - \tfrac12\log\pi\nu
        - \log s - \tfrac{\nu+1}2 \log\left(1 + t^2/\nu\right), \quad t = (x-\mu)/s

    Its tails fall as a power of t, so an outlier has almost no influence on a fit. The
    optimal scale has no closed form.

    Parameters
    ----------
    df : float, default=5.0
        Degrees of freedom, :math:`\nu`; above 2, so that the standard deviation is finite.

    Raises
    ------
    ValueError
        If `df` is not above 2.
    """

    is_thread_safe = True

    def __init__(self, df: float = 5.0) -> None:
        if not df > 2:
            raise ValueError(f"df must be above 2, got {df!r}.")
        # The instance attributes decide which models are trained side by side: those with
        # equal df.
        self.df = df

    @property
    def unit_stddev(self) -> float:
        """Standard deviation for the scale 1."""
        return math.sqrt(self.df / (self.df - 2))

    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        half = (self.df + 1) / 2
        constant = math.lgamma(half) - math.lgamma(self.df / 2)
        constant -= 0.5 * math.log(math.pi * self.df)
        ratio = torch.div(torch.square(t, out=out), self.df, out=out)
        log_kernel = torch.log1p(ratio, out=out)
        return torch.sub(t.new_full((), constant), log_kernel, alpha=half, out=out)

    def influence_(self, t: Tensor) -> Tensor:
        # (df + 1) t / (df + t^2), divided by t: no square overflows, and t = 0 gives 0.
        return t.add_(self.df / t).reciprocal_().mul_(self.df + 1)

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        # A point in the plane in polar form (Bailey 1994); as df grows, the radius becomes
        # that of Box and Muller.
        exponential = torch.empty_like(loc).exponential_(generator=generator)
        angle = torch.empty_like(loc).uniform_(0, 2 * math.pi, generator=generator)
        radius = (self.df * torch.expm1(2 / self.df * exponential)).sqrt()
        return loc + torch.exp(log_scale) * radius * torch.cos(angle)
