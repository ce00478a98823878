"""The Poisson distribution, for counts whose variance is their mean."""

import numpy as np
import torch
from torch import Tensor

from skae.likelihoods.base import Derivatives
from skae.likelihoods.generalized_linear import (
    GeneralizedLinear,
    LinkStart,
    Moments,
    counts_of,
    log1p_input,
    log_rate,
    slope_of_log_rate,
    start_of_counts,
)


class PoissonLikelihood(GeneralizedLinear):
    r"""Poisson distribution, whose location is the logarithm of the rate.

    .. math:: \log p(x) = x \eta - e^\eta - \log x!

    The data are counts: 0, 1, 2, ... There is no scale, and the score is a
    log-probability. The variance of a count given the code is its mean. Counts that vary
    more need :class:`NegativeBinomialLikelihood`.
    """

    has_analytic_gradient = True
    is_thread_safe = True
    support = "nonnegative_integer"

    def to_input(self, x: np.ndarray) -> np.ndarray:
        return log1p_input(x)

    def from_input(self, t: Tensor) -> Tensor:
        return counts_of(t)

    def start(self, moments: Moments) -> LinkStart:
        return start_of_counts(
            moments, np.zeros_like(moments.mean), np.ones_like(moments.mean)
        )

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        log_mean = log_rate(loc)
        return x * log_mean - torch.exp(log_mean) - torch.lgamma(x + 1)

    def derivatives(
        self, x: Tensor, loc: Tensor, log_scale: Tensor, weight: Tensor
    ) -> Derivatives:
        log_mean = log_rate(loc)
        mean = torch.exp(log_mean)
        log_prob = x * log_mean - mean - torch.lgamma(x + 1)
        return Derivatives(log_prob, weight * (x - mean) * slope_of_log_rate(loc))

    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        return torch.exp(log_rate(loc))

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean(loc, log_scale), generator=generator)
