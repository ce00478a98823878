"""The base class of densities whose location is a linear predictor."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae.likelihoods.base import Likelihood


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

    smallest_scale : float
        The scale from which on a smaller one makes no difference, and the smallest noise of
        a feature at the start.
    """

    has_scale = False
    smallest_scale: ClassVar[float] = 1e-3

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
