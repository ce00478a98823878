"""Ratios of gamma functions, without the cancellation of their logarithms."""

import torch
from torch import Tensor

# Argument from which on Stirling's series replaces the functions; its error is below 1e-13.
_LARGE = 16.0


def log_rising(x: Tensor, r: Tensor) -> Tensor:
    """Compute log-gamma(x + r) - log-gamma(r) - x log r, also for large r."""
    # Each branch has an argument that suits it: what is not chosen has no infinite slope.
    small, large = r.clamp(max=_LARGE), r.clamp(min=_LARGE)
    exact = torch.lgamma(x + small) - torch.lgamma(small) - x * small.log()
    series = (large + x - 0.5) * torch.log1p(x / large) - x
    series = series + _stirling(large + x) - _stirling(large)
    return torch.where(r < _LARGE, exact, series)


def slope_of_log_rising(x: Tensor, r: Tensor) -> Tensor:
    """Compute the derivative of :func:`log_rising` with respect to r."""
    small, large = r.clamp(max=_LARGE), r.clamp(min=_LARGE)
    exact = torch.digamma(x + small) - torch.digamma(small) - x / small
    series = torch.log1p(x / large) - x / large + x / (2 * large * (large + x))
    series = series - _digamma_series(large + x) + _digamma_series(large)
    return torch.where(r < _LARGE, exact, series)


def _stirling(z: Tensor) -> Tensor:
    """Compute log-gamma(z) - (z - 1/2) log z + z - log(2 pi)/2 by its series."""
    w = 1 / z.square()
    return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w / 1680))) / z


def _digamma_series(z: Tensor) -> Tensor:
    """Compute log z - 1/(2 z) - digamma(z) by its series."""
    w = 1 / z.square()
    return w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w / 240)))
