"""The Poisson distribution, for counts whose variance is their mean."""

import math

import numpy as np
import torch
from torch import Tensor

from skae.likelihoods.base import Derivatives
from skae.likelihoods.gamma import deviance, stirling_error
from skae.likelihoods.generalized_linear import LinkStart, Moments
from skae.likelihoods.rates import (
    CountLikelihood,
    draw_poisson,
    log_rate,
    slope_of_log_rate,
    start_of_counts,
)


class PoissonLikelihood(CountLikelihood):
    r"""Poisson distribution, whose location is the logarithm of the rate.

    .. math:: \log p(x) = x \eta - e^\eta - \log x!

    The data are counts: 0, 1, 2, ... There is no scale, and the score is a
    log-probability. The variance of a count given the code is its mean. Counts that vary
    more need :class:`NegativeBinomialLikelihood`.

    References
    ----------
    C. Loader (2000). "Fast and accurate computation of binomial probabilities". Report,
    Lucent Technologies. Section 2, for sums of large numbers that cancel.
    """

    has_analytic_gradient = True
    is_thread_safe = True
    has_expectation = True

    def start(self, moments: Moments) -> LinkStart:
        return start_of_counts(
            moments, np.zeros_like(moments.mean), np.ones_like(moments.mean)
        )

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        log_mean = log_rate(loc)
        mean = torch.exp(log_mean)
        # The form of Loader (2000), in which nothing large cancels.
        count = x.clamp(min=1)
        log_mass = -0.5 * torch.log(2 * math.pi * count) - stirling_error(count)
        log_mass = log_mass - deviance(count, mean, count - mean, log_mean)
        return torch.where(x < 1, -mean, log_mass)

    def derivatives(
        self, x: Tensor, loc: Tensor, log_scale: Tensor, weight: Tensor
    ) -> Derivatives:
        by_log_mean = x - torch.exp(log_rate(loc))
        return Derivatives(
            self.log_prob(x, loc, log_scale),
            weight * by_log_mean * slope_of_log_rate(loc),
        )

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        return draw_poisson(self.mean(loc, log_scale), generator)
