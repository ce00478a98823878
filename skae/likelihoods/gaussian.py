"""The normal density: squared errors, and the mean as location."""

import math

import torch
from torch import Tensor

from skae.likelihoods.base import Likelihood


class GaussianLikelihood(Likelihood):
    r"""Normal density.

    .. math:: \log p(x) = -\tfrac12 \log 2\pi - \log\sigma - \frac{(x-\mu)^2}{2\sigma^2}

    With the scale at its optimum :math:`\sigma^2 = \mathrm{mean}\,(x-\mu)^2` a vector of
    d features reaches :math:`-\tfrac d2 (\log 2\pi\,\mathrm{MSE} + 1)`.
    """

    unit_stddev = 1.0
    has_optimal_scale = True
    heavy_tailed = False

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        standardized = (x - loc) * torch.exp(-log_scale)
        return -0.5 * standardized.square() - (log_scale + 0.5 * math.log(2 * math.pi))

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.empty_like(loc).normal_(generator=generator)
        return loc + torch.exp(log_scale) * noise

    def deviation(self, residual: Tensor) -> Tensor:
        return residual.square()

    def optimal_scale(self, mean_deviation: Tensor) -> Tensor:
        return mean_deviation.sqrt()
