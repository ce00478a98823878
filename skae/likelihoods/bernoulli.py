"""The Bernoulli distribution, for flags: 0 or 1."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from skae.likelihoods.base import Derivatives
from skae.likelihoods.generalized_linear import GeneralizedLinear, LinkStart, Moments
from skae.likelihoods.rates import (
    smoothed_share,
)


class BernoulliLikelihood(GeneralizedLinear):
    r"""Bernoulli distribution, whose location is the logit of the probability of 1.

    .. math:: \log p(x) = x \log \sigma(\eta) + (1-x) \log \sigma(-\eta)

    Here :math:`\sigma` is the logistic function. The data are 0 or 1. There is no scale,
    and the score is a log-probability.
    """

    has_analytic_gradient = True
    is_thread_safe = True
    has_expectation = True
    support = "boolean"

    def from_input(self, t: Tensor) -> Tensor:
        return t.clamp(0, 1).round()

    def start(self, moments: Moments) -> LinkStart:
        p = smoothed_share(moments)
        slope = 1 / (p * (1 - p))
        return LinkStart(np.log(p) - np.log1p(-p), slope, slope, np.ones_like(p))

    def spread_predictor(self, predictor: np.ndarray, variance: np.ndarray) -> np.ndarray:
        # The logistic function is close to a normal distribution function of variance 8/pi.
        return np.asarray(predictor * np.sqrt(1 + np.pi / 8 * variance))

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        return x * loc + logsigmoid(-loc)

    def derivatives(
        self, x: Tensor, loc: Tensor, log_scale: Tensor, weight: Tensor
    ) -> Derivatives:
        log_prob = self.log_prob(x, loc, log_scale)
        return Derivatives(log_prob, weight * (x - torch.sigmoid(loc)))

    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        return torch.sigmoid(loc)

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.empty_like(loc).uniform_(generator=generator)
        return (uniform < torch.sigmoid(loc)).to(loc.dtype)
