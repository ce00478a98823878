"""The continuous Bernoulli density, for numbers from 0 to 1."""

import numpy as np
import torch
from torch import Tensor

from skae.likelihoods.base import Derivatives
from skae.likelihoods.generalized_linear import GeneralizedLinear, LinkStart, Moments
from skae.likelihoods.rates import (
    smoothed_share,
)

# Predictor below which the series around 0 replaces formulas that cancel: the first term
# that is left out is below 1e-13 of the result.
_SMALL = 0.05
# Largest predictor of a start, and bisections of it: to 1e-12.
_LARGEST_START, _BISECTIONS = 1e4, 55


class ContinuousBernoulliLikelihood(GeneralizedLinear):
    r"""Continuous Bernoulli density, whose location is its natural parameter.

    .. math:: \log p(x) = \eta x - A(\eta), \quad A(\eta) = \log\frac{e^\eta - 1}{\eta}

    The data are numbers from 0 to 1, such as the brightness of a pixel. The Bernoulli
    formula for such numbers is not a density: A is what normalises it (Loaiza-Ganem and
    Cunningham 2019). There is no scale.

    References
    ----------
    G. Loaiza-Ganem and J. P. Cunningham (2019). "The continuous Bernoulli: fixing a
    pervasive error in variational autoencoders". NeurIPS. Equations 6 to 8.
    """

    has_analytic_gradient = True
    is_thread_safe = True
    has_expectation = True
    support = "unit_interval"

    def from_input(self, t: Tensor) -> Tensor:
        return t.clamp(0, 1)

    def start(self, moments: Moments) -> LinkStart:
        mean = torch.from_numpy(smoothed_share(moments))
        low = torch.full_like(mean, -_LARGEST_START)
        high = -low
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            is_low = _mean(middle) < mean
            low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
        slope = (1 / _variance(low)).numpy()
        return LinkStart(low.numpy(), slope, slope, np.ones_like(slope))

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        return loc * x - _log_normalizer(loc)

    def derivatives(
        self, x: Tensor, loc: Tensor, log_scale: Tensor, weight: Tensor
    ) -> Derivatives:
        return Derivatives(self.log_prob(x, loc, log_scale), weight * (x - _mean(loc)))

    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        return _mean(loc)

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.empty_like(loc).uniform_(generator=generator)
        # The quantile function for a negative predictor, in which nothing overflows; that
        # of a positive one is its mirror image.
        a = -loc.abs().clamp(min=torch.finfo(loc.dtype).eps)
        value = torch.log1p(uniform * torch.expm1(a)) / a
        return torch.where(loc > 0, 1 - value, value).clamp(0, 1)


def _log_normalizer(loc: Tensor) -> Tensor:
    """Compute A, the logarithm of (exp(loc) - 1) / loc."""
    # It is even but for the term loc / 2, so no exponential overflows.
    size = loc.abs()
    large = size.clamp(min=_SMALL)
    even = large / 2 + torch.log(-torch.expm1(-large)) - large.log()
    square = loc.square().clamp(max=_SMALL**2)
    series = square * (1 / 24 - square * (1 / 2880 - square / 181440))
    return loc / 2 + torch.where(size < _SMALL, series, even)


def _mean(loc: Tensor) -> Tensor:
    """Compute the mean, the derivative of A."""
    size = loc.abs()
    large = size.clamp(min=_SMALL)
    odd = 0.5 - 1 / torch.expm1(-large) - 1 - 1 / large
    bounded = loc.clamp(-_SMALL, _SMALL)
    square = bounded.square()
    series = bounded * (1 / 12 - square * (1 / 720 - square / 30240))
    return 0.5 + torch.where(size < _SMALL, series, odd * loc.sign())


def _variance(loc: Tensor) -> Tensor:
    """Compute the variance, the second derivative of A."""
    large = loc.abs().clamp(min=_SMALL)
    far = 1 / large.square() - 0.25 / torch.sinh(large.clamp(max=500) / 2).square()
    square = loc.square().clamp(max=_SMALL**2)
    return torch.where(loc.abs() < _SMALL, 1 / 12 - square / 240, far)
