"""Shares, rates and counts of generalised linear models."""

import numpy as np
import torch
from torch import Tensor

from skae.likelihoods.generalized_linear import GeneralizedLinear, LinkStart, Moments

# Linear predictor of a log-rate above which the rate grows linearly: no float32 overflows,
# and no count that float32 can hold is beyond it.
_LARGEST_LOG_RATE = 40.0
# Rate above which a count is as good as normal.
_LARGEST_POISSON = 1e15
# Predictor above that, from which on the rate is constant: it is 2e32, which is finite.
_LARGEST_EXCESS = 1e15


class CountLikelihood(GeneralizedLinear):
    """Distribution of counts whose location is the logarithm of the mean.

    The encoder sees log(1 + x), in which large counts are no outliers.
    """

    support = "nonnegative_integer"

    def to_input(self, x: np.ndarray) -> np.ndarray:
        return np.log1p(x)

    def from_input(self, t: Tensor) -> Tensor:
        return torch.expm1(t.clamp(min=0)).round()

    def spread_predictor(self, predictor: np.ndarray, variance: np.ndarray) -> np.ndarray:
        # The mean of exp(eta) for a normal eta.
        return np.asarray(predictor - variance / 2)

    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        return torch.exp(log_rate(loc))


def smoothed_share(moments: Moments) -> np.ndarray:
    """Return shares ``(d,)`` as if 0 and 1 had been seen half a time more.

    So a share is neither 0 nor 1.
    """
    return np.asarray((moments.n * moments.mean + 0.5) / (moments.n + 1))


def smoothed_rate(moments: Moments) -> np.ndarray:
    """Return mean counts ``(d,)`` as if there had been half a count more: above 0."""
    return np.asarray(moments.mean + 0.5 / moments.n)


def log_rate(loc: Tensor) -> Tensor:
    """Compute the logarithm of a rate: the predictor, or less where it is very large."""
    return loc.clamp(max=_LARGEST_LOG_RATE) + torch.log1p(_excess(loc))


def slope_of_log_rate(loc: Tensor) -> Tensor:
    """Compute the derivative of :func:`log_rate`."""
    return 1 / (1 + _excess(loc))


def _excess(loc: Tensor) -> Tensor:
    """Compute by how much a predictor is above the largest log-rate, in bounds."""
    return (loc - _LARGEST_LOG_RATE).clamp(0, _LARGEST_EXCESS)


def start_of_counts(moments: Moments, excess: np.ndarray, scale: np.ndarray) -> LinkStart:
    """Return the start of log-rates; ``excess`` is the variance beyond Poisson's, ``(d,)``.

    The excess is relative to the squared mean.
    """
    mean = smoothed_rate(moments)
    # With t = log(1 + x) and the rate exp(t) - 1, the derivative of the log-rate.
    slope = 1 / -np.expm1(-np.maximum(moments.mean_input, 0.5 / moments.n))
    return LinkStart(np.log(mean), slope, 1 / mean + excess, scale)


def draw_poisson(rate: Tensor, generator: torch.Generator) -> Tensor:
    """Draw Poisson counts; from a rounded normal distribution for very large rates."""
    # torch computes counts as integers of 64 bits.
    small = torch.poisson(rate.clamp(max=_LARGEST_POISSON), generator=generator)
    if not bool((rate > _LARGEST_POISSON).any()):
        return small
    noise = torch.empty_like(rate).normal_(generator=generator)
    large = (rate + rate.sqrt() * noise).round()
    return torch.where(rate > _LARGEST_POISSON, large, small)
