"""The normal density: squared errors, and the mean as location."""

import math

import torch
from torch import Tensor

from skae.likelihoods.location_scale import LocationScale


class GaussianLikelihood(LocationScale):
    r"""Normal density.

    .. math:: \log p(x) = -\tfrac12 \log 2\pi - \log\sigma - \frac{(x-\mu)^2}{2\sigma^2}

    With the optimal scale, :math:`\sigma^2 = \mathrm{mean}\,(x-\mu)^2`, the mean
    log-density of d features is :math:`-\tfrac d2 (\log 2\pi\,\mathrm{MSE} + 1)`.
    """

    is_thread_safe = True
    unit_stddev = 1.0
    has_optimal_scale = True
    has_expectation = True
    is_quadratic = True
    heavy_tailed = False

    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        constant = t.new_full((), -0.5 * math.log(2 * math.pi))
        return torch.addcmul(constant, t, t, value=-0.5, out=out)

    def expected_log_prob(
        self, x: Tensor, loc: Tensor, std: Tensor, log_scale: Tensor
    ) -> Tensor:
        spread = std * torch.exp(-log_scale)
        return self.log_prob(x, loc, log_scale) - 0.5 * spread.square()

    def influence_(self, t: Tensor) -> Tensor:
        return t

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.empty_like(loc).normal_(generator=generator)
        return loc + torch.exp(log_scale) * noise

    def deviation(self, residual: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.square(residual, out=out)

    def optimal_scale(self, mean_deviation: Tensor) -> Tensor:
        return mean_deviation.sqrt()
