"""Gamma functions of counts, without the cancellation of their logarithms."""

import math

import torch
from torch import Tensor

# Argument from which on Stirling's series replaces the functions; its error is below 1e-13.
_LARGE = 16.0
# Relative difference below which the deviance is a series, and its number of terms.
_CLOSE, _TERMS = 0.1, 8


def log_rising(x: Tensor, r: Tensor) -> Tensor:
    """Compute log-gamma(x + r) - log-gamma(r) - x log r, for small x and any r."""
    # Each branch has an argument that suits it: what is not chosen has no infinite slope.
    small, large = r.clamp(max=_LARGE), r.clamp(min=_LARGE)
    exact = torch.lgamma(x + small) - torch.lgamma(small) - x * small.log()
    series = (large + x - 0.5) * torch.log1p(x / large) - x
    series = series + _stirling(large + x) - _stirling(large)
    return torch.where(r < _LARGE, exact, series)


def digamma_rise(x: Tensor, r: Tensor) -> Tensor:
    """Compute digamma(x + r) - digamma(r)."""
    small, large = r.clamp(max=_LARGE), r.clamp(min=_LARGE)
    exact = torch.digamma(x + small) - torch.digamma(small)
    series = torch.log1p(x / large) + x / (2 * large * (large + x))
    series = series - _digamma_series(large + x) + _digamma_series(large)
    return torch.where(r < _LARGE, exact, series)


def stirling_error(x: Tensor) -> Tensor:
    """Compute log x! - (x + 1/2) log x + x - log(2 pi)/2, where log x is 0 for x = 0."""
    small, large = x.clamp(max=_LARGE), x.clamp(min=_LARGE)
    log = torch.where(small > 0, small, 1.0).log()
    exact = torch.lgamma(small + 1) - (small + 0.5) * log + small
    return torch.where(x < _LARGE, exact - 0.5 * math.log(2 * math.pi), _stirling(large))


def deviance(x: Tensor, m: Tensor, difference: Tensor) -> Tensor:
    """Compute x log(x/m) - x + m of positive numbers, whose difference x - m is given.

    Half the Poisson deviance; by a series where x and m are close (Loader 2000).
    """
    v = difference / (x + m)
    close = v.clamp(-_CLOSE, _CLOSE)
    square = close.square()
    total = torch.zeros_like(square)
    for j in range(_TERMS, 0, -1):
        total = (total + 1 / (2 * j + 1)) * square
    series = difference * close + 2 * x * close * total
    far = x * torch.log(x / m) - difference
    return torch.where(v.abs() < _CLOSE, series, far)


def _stirling(z: Tensor) -> Tensor:
    """Compute log-gamma(z) - (z - 1/2) log z + z - log(2 pi)/2 by its series."""
    w = 1 / z.square()
    return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w / 1680))) / z


def _digamma_series(z: Tensor) -> Tensor:
    """Compute log z - 1/(2 z) - digamma(z) by its series."""
    w = 1 / z.square()
    return w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w / 240)))
