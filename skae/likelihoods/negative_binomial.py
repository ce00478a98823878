"""The negative binomial distribution, for counts that vary more than Poisson's."""

import math

import numpy as np
import torch
from torch import Tensor

from skae.likelihoods.base import Derivatives
from skae.likelihoods.gamma import deviance, digamma_rise, stirling_error
from skae.likelihoods.generalized_linear import LinkStart, Moments
from skae.likelihoods.rates import (
    CountLikelihood,
    draw_poisson,
    log_rate,
    slope_of_log_rate,
    smoothed_rate,
    start_of_counts,
)

# First scale: its bounds. The model without components has the excess of the data, of which
# components explain a part.
_SMALLEST_START, _LARGEST_START = 0.1, 3.0
_PART_LEFT = 0.5
# Logarithm of the largest scale, and minus that of the smallest: float32 holds the shapes.
_LARGEST_LOG_SCALE = 20.0


class NegativeBinomialLikelihood(CountLikelihood):
    r"""Negative binomial distribution, whose location is the logarithm of the mean.

    A count is Poisson with the rate :math:`\mu g`, where g has a gamma distribution of mean
    1 and standard deviation s, the scale:

    .. math:: \log p(x) = \log\Gamma(x+r) - \log\Gamma(r) - \log x!
        + x \log\frac{\mu}{r+\mu} + r \log\frac{r}{r+\mu}, \quad r = 1/s^2

    Here :math:`\mu = e^\eta`. The variance is :math:`\mu + s^2 \mu^2`; the limit s = 0 is
    Poisson's. The data are counts: 0, 1, 2, ... The scale has no unit and no closed form,
    and the score is a log-probability.

    References
    ----------
    C. Loader (2000). "Fast and accurate computation of binomial probabilities". Report,
    Lucent Technologies. Section 2, for sums of large numbers that cancel.
    """

    has_analytic_gradient = True
    is_thread_safe = True
    has_expectation = True
    has_scale = True

    def start(self, moments: Moments) -> LinkStart:
        mean = smoothed_rate(moments)
        # The square of the mean may overflow.
        excess = np.maximum(moments.variance - mean, 0) / mean / mean
        scale = np.sqrt(_PART_LEFT * excess).clip(_SMALLEST_START, _LARGEST_START)
        return start_of_counts(moments, np.square(scale), scale)

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        r, log_mean = _shape(log_scale), log_rate(loc)
        mean = torch.exp(log_mean)
        ratio = mean / r
        # The form of Loader (2000), in which nothing large cancels.
        count = x.clamp(min=1)
        difference = (count - mean) / (1 + ratio)
        share = (count + r) / (1 + ratio)  # (x + r) times the probability r / (r + mean)
        log_share = torch.log(count + r) - torch.log1p(ratio)
        log_mass = (
            stirling_error(count + r)
            - stirling_error(r)
            - stirling_error(count)
            - deviance(r, share, -difference, log_share)
            - deviance(count, share * ratio, difference, log_share + log_mean - r.log())
            - 0.5 * torch.log(2 * math.pi * count)
            - 0.5 * torch.log1p(count / r)
        )
        return torch.where(x < 1, -r * torch.log1p(ratio), log_mass)

    def derivatives(
        self, x: Tensor, loc: Tensor, log_scale: Tensor, weight: Tensor
    ) -> Derivatives:
        r = _shape(log_scale)
        mean = torch.exp(log_rate(loc))
        ratio = mean / r
        by_log_mean = (x - mean) / (1 + ratio)
        # The derivative with respect to the shape is this difference, less by_log_mean / r.
        difference = digamma_rise(x, r) - torch.log1p(ratio)
        by_log_scale = 2 * (by_log_mean - r * difference)
        return Derivatives(
            self.log_prob(x, loc, log_scale),
            weight * by_log_mean * slope_of_log_rate(loc),
            weight * by_log_scale,
        )

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        r = _shape(log_scale).expand_as(loc).contiguous()
        gamma = torch._standard_gamma(r, generator=generator) / r
        return draw_poisson(self.mean(loc, log_scale) * gamma, generator)


def _shape(log_scale: Tensor) -> Tensor:
    """Compute the shape r of the gamma distribution."""
    return torch.exp(-2 * log_scale.clamp(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE))
