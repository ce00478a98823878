"""The base class of densities whose location is a linear predictor."""

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae.likelihoods.base import Likelihood

# Linear predictor of a log-rate above which the rate grows linearly: no float32 overflows,
# and no count that float32 can hold is beyond it.
_LARGEST_LOG_RATE = 40.0
# Predictor above that, from which on the rate is constant: it is 2e32, which is finite.
_LARGEST_EXCESS = 1e15


class Moments(NamedTuple):
    """Weighted moments of columns that a fit starts from, each of shape (d,), float64.

    Attributes
    ----------
    n : ndarray
        Number of observed values; 1 at least.
    mean, variance : ndarray
        Mean and variance of the data.
    mean_input : ndarray
        Mean of :meth:`GeneralizedLinear.to_input` of the data.
    """

    n: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    mean_input: np.ndarray


class LinkStart(NamedTuple):
    """Linear predictor of a model without components, each of shape (d,), float64.

    Attributes
    ----------
    predictor : ndarray
        Value of the linear predictor that gives the mean of the data.
    slope : ndarray
        Derivative of the predictor with respect to the encoder's input, at the mean.
    noise : ndarray
        Variance of the data around their mean, in units of the predictor.
    scale : ndarray
        First scale; 1 for a likelihood without scale.
    """

    predictor: np.ndarray
    slope: np.ndarray
    noise: np.ndarray
    scale: np.ndarray


class GeneralizedLinear(Likelihood):
    r"""Density whose location is the linear predictor of a generalised linear model.

    The decoder's location :math:`\eta` is not in the units of the data: a link function
    maps the mean to it, such as the logit of a probability or the logarithm of a rate
    (McCullagh and Nelder 1989). The encoder sees the data by a function of their own,
    :meth:`to_input`, standardised. A fit starts at the first-order expansion of the link at
    the mean of the data.

    The score has a probability in place of a density if the support is discrete. It does
    not depend on units then.

    Attributes
    ----------
    has_scale : bool
        Whether the density has a scale beside the location. If not, ``log_scale`` is 0 and
        is ignored.
    """

    has_scale = False

    @property
    def unit_stddev(self) -> float:
        """Not used: a predictor has no residuals."""
        return 1.0

    def to_input(self, x: np.ndarray) -> np.ndarray:
        """Return what the encoder sees, before it is standardised.

        Parameters
        ----------
        x : ndarray of shape (n, d)
            Data; NaN is missing.

        Returns
        -------
        ndarray of shape (n, d)
            The default is the data.
        """
        return x

    def from_input(self, t: Tensor) -> Tensor:
        """Invert :meth:`to_input`, up to the rounding that standardised data have.

        Parameters
        ----------
        t : Tensor of shape (..., d)
            What the encoder sees; also numbers that no data have, which become data.

        Returns
        -------
        Tensor of shape (..., d)
            Data.
        """
        return t

    @abstractmethod
    def start(self, moments: Moments) -> LinkStart:
        """Compute the predictor at which a fit starts, from moments of the data.

        Parameters
        ----------
        moments : Moments
            Moments of each column.

        Returns
        -------
        LinkStart
            The predictor of each column.
        """

    def spread_predictor(self, predictor: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return the centre of predictors that vary, such that the mean of the data stays.

        Parameters
        ----------
        predictor : ndarray of shape (d,)
            Predictor that gives the mean of the data, if it is the same for all rows.
        variance : ndarray of shape (d,)
            Variance of normal predictors over the rows.

        Returns
        -------
        ndarray of shape (d,)
            Centre of the predictors. The default is the predictor itself.
        """
        return predictor

    @abstractmethod
    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        """Compute the mean of the data. See `Likelihood.mean`."""

    def data_mean(
        self, loc: Tensor, log_scale: Tensor, center: Tensor, unit: Tensor
    ) -> Tensor:
        return self.mean(loc, log_scale)

    def data_sample(
        self,
        loc: Tensor,
        log_scale: Tensor,
        center: Tensor,
        unit: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        return self._draw(loc, log_scale, generator)


def smoothed(moments: Moments, size: float | np.ndarray = 1.0) -> np.ndarray:
    """Return means ``(d,)`` as if each value had been seen half a time more.

    So a probability is neither 0 nor 1, and a rate is above 0. ``size`` is the number of
    values times one half.
    """
    return np.asarray((moments.n * moments.mean + 0.5) / (moments.n + size))


def log_rate(loc: Tensor) -> Tensor:
    """Compute the logarithm of a rate: the predictor, or less where it is very large."""
    return loc.clamp(max=_LARGEST_LOG_RATE) + torch.log1p(_excess(loc))


def slope_of_log_rate(loc: Tensor) -> Tensor:
    """Compute the derivative of :func:`log_rate`."""
    return 1 / (1 + _excess(loc))


def _excess(loc: Tensor) -> Tensor:
    """Compute by how much a predictor is above the largest log-rate, in bounds."""
    return (loc - _LARGEST_LOG_RATE).clamp(0, _LARGEST_EXCESS)


def log1p_input(x: np.ndarray) -> np.ndarray:
    """Return log(1 + x) of counts ``(n, d)``, in which large counts are not outliers."""
    return np.log1p(x)


def counts_of(t: Tensor) -> Tensor:
    """Return the counts whose log(1 + x) is t, rounded to integers."""
    return torch.expm1(t.clamp(min=0)).round()


def start_of_counts(moments: Moments, excess: np.ndarray, scale: np.ndarray) -> LinkStart:
    """Return the start of log-rates; ``excess`` is the variance beyond Poisson's, ``(d,)``.

    The excess is relative to the squared mean.
    """
    mean = smoothed(moments)
    # With t = log(1 + x) and the rate exp(t) - 1, the derivative of the log-rate.
    slope = 1 / -np.expm1(-np.maximum(moments.mean_input, 0.5 / moments.n))
    return LinkStart(np.log(mean), slope, 1 / mean + excess, scale)


def mean_of_log_rates(predictor: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the mean ``(d,)`` of normal log-rates; the log of the mean rate is given."""
    return np.asarray(predictor - variance / 2)
