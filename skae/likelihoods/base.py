"""The base classes of the likelihoods."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae._utils.capabilities import ModelPart

# Points and weights for the expectation over a standard normal variable. On the data of the
# benchmarks, more points change no score by 0.002 nats.
_HERMITE_RULE = tuple(
    (float(node), float(weight / math.sqrt(2 * math.pi)))
    for node, weight in zip(*np.polynomial.hermite_e.hermegauss(5), strict=True)
)


class Derivatives(NamedTuple):
    """A log-density and its weighted derivatives.

    Attributes
    ----------
    log_prob : Tensor of shape (..., n_features)
        Log-density of each element, in nats.
    loc : Tensor of shape (..., n_features)
        Derivative with respect to the location.
    log_scale : Tensor of shape (..., n_features) or None
        Derivative with respect to the log-scale; None without a scale.
    outputs : Tensor of shape (..., n_outputs) or None
        Derivative with respect to the further outputs; None without outputs.
    """

    log_prob: Tensor
    loc: Tensor
    log_scale: Tensor | None = None
    outputs: Tensor | None = None


class Likelihood(ModelPart, ABC):
    """Density of one feature, given the decoder's output.

    A likelihood does not depend on how location and scale are computed. All tensors
    broadcast against each other. ``log_scale`` is the natural logarithm of ``scale``, which
    is defined as in :mod:`scipy.stats` and :mod:`torch.distributions`.

    Attributes
    ----------
    unit_stddev : float
        Standard deviation of the density whose scale is 1.

    has_optimal_scale : bool
        Whether the maximum-likelihood scale of residuals has a closed form. Then
        :meth:`deviation` and :meth:`optimal_scale` must be defined, and the variance modes
        ``"optimal"`` and ``"profile"`` are allowed.

    has_scale : bool
        Whether the density has a scale. If not, ``variance_mode`` is "none".

    takes_logarithm : bool
        Whether the methods take the logarithm of the data, :meth:`to_input`, whose density
        this is. An estimator subtracts the logarithm from its scores, so that they are
        those of the data.

    support : str
        The values that data may have, a key of ``SUPPORTS``.

    heavy_tailed : bool
        Whether the log-density of an outlier falls more slowly than its square, so that
        the optimum may leave the outlier aside. Then training also tries a start in which
        outliers have less weight.

    has_expectation : bool
        Whether the log-density of a feature depends on its own location only, and
        :meth:`expected_log_prob` is accurate. Then a score takes few draws.

    is_smooth : bool
        Whether the log-density is a smooth function of all outputs of the decoder. Then a
        score takes some tens of draws.

    is_quadratic : bool
        Whether the log-density of a feature is a quadratic function of its location. Then a
        score needs half as many evaluations.
    """

    has_optimal_scale: ClassVar[bool] = False
    has_scale: bool = True
    takes_logarithm: ClassVar[bool] = False
    support: ClassVar[str] = "real"
    has_expectation: bool = False
    is_smooth: bool = False
    is_quadratic: bool = False
    _declared = (*ModelPart._declared, "has_expectation", "is_smooth", "is_quadratic")

    @property
    @abstractmethod
    def unit_stddev(self) -> float:
        """Standard deviation of the density whose scale is 1."""

    @property
    def heavy_tailed(self) -> bool:
        """Whether an outlier costs less than the square of its residual."""
        return True

    def __repr__(self) -> str:
        """Return the class and the instance attributes."""
        parameters = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({parameters})"

    def start_outputs(self, n_features: int) -> Tensor:
        """Return the values at which further outputs of the decoder start.

        A density whose shape depends on the code takes further outputs of the decoder,
        beside location and scale. The default is none.

        Parameters
        ----------
        n_features : int
            Number of features.

        Returns
        -------
        Tensor of shape (n_outputs,)
            First value of each further output; their number is that of the outputs. It is
            a multiple of ``n_features``: all features of one group of outputs follow each
            other.
        """
        return torch.zeros(0, device="cpu")

    def start_parameters(self, n_features: int) -> Tensor:
        """Return the values at which free parameters of the density start.

        A density whose shape is learned, the same for all rows, takes parameters that are
        trained with the weights. The default is none.

        Parameters
        ----------
        n_features : int
            Number of features.

        Returns
        -------
        Tensor of shape (n_parameters,)
            First values. Their number is a multiple of ``n_features``, as for
            :meth:`start_outputs`.
        """
        return torch.zeros(0, device="cpu")

    def given(self, outputs: Tensor) -> "Likelihood":
        """Return the likelihood whose shape is that of further outputs of the decoder.

        Parameters
        ----------
        outputs : Tensor of shape (..., n_outputs + n_parameters)
            As many outputs as :meth:`start_outputs` has values, and after them the free
            parameters, as many as :meth:`start_parameters` has values. They may be a view
            of memory that is filled later, so they are not read here.

        Returns
        -------
        Likelihood
            Its methods take tensors of shape (..., n_features). The default is the
            likelihood itself.
        """
        return self

    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        """Compute the mean of the density; by default it is the location.

        Parameters
        ----------
        loc, log_scale : Tensor
            Location, which has the shape of the result, and log-scale.

        Returns
        -------
        Tensor
            Means of the shape of ``loc``.
        """
        return loc

    @abstractmethod
    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        """Compute the normalised log-density of each element.

        Parameters
        ----------
        x, loc, log_scale : Tensor
            Data, location and log-scale; they broadcast.

        Returns
        -------
        Tensor
            Log-density of each element, in nats.
        """

    def expected_log_prob(
        self, x: Tensor, loc: Tensor, std: Tensor, log_scale: Tensor
    ) -> Tensor:
        """Compute the expected log-density for a normal location.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Data.
        loc, std : Tensor of shape (n, n_features)
            Mean and standard deviation of the location.
        log_scale : Tensor
            Log-scale, which broadcasts.

        Returns
        -------
        Tensor of shape (n, n_features)
            The expectation, in nats. The default is a Gauss-Hermite rule of 5 points, which
            is exact if the log-density is a polynomial of degree 9.
        """
        values = [
            self.log_prob(x, loc + node * std, log_scale) * weight
            for node, weight in _HERMITE_RULE
        ]
        return torch.stack(values).sum(dim=0)

    @abstractmethod
    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one value for each element.

        Parameters
        ----------
        loc, log_scale : Tensor
            Location, which has the shape of the result, and log-scale.
        generator : torch.Generator
            The only source of randomness.

        Returns
        -------
        Tensor
            Draws of the shape of ``loc``.
        """

    def parts(self, n_features: int) -> "list[tuple[slice, Likelihood]]":
        """Return the densities of ranges of features; by default one for all.

        Parameters
        ----------
        n_features : int
            Number of features.

        Returns
        -------
        list of (slice, Likelihood)
            Ranges that together are all features, and the density of each.
        """
        return [(slice(0, n_features), self)]

    def to_input(self, x: np.ndarray) -> np.ndarray:
        """Return the function of the data whose density this is; by default the data.

        Parameters
        ----------
        x : ndarray of shape (n, d)
            Data; NaN is missing.

        Returns
        -------
        ndarray of shape (n, d)
            What the encoder sees, before it is standardised.
        """
        return x

    def data_mean(
        self, loc: Tensor, log_scale: Tensor, center: Tensor, unit: Tensor
    ) -> Tensor:
        """Compute the mean of the data in their own units.

        Parameters
        ----------
        loc, log_scale : Tensor
            Location and log-scale in the likelihood's units.
        center, unit : Tensor of shape (n_features,)
            The value that is 0 in the likelihood's units, and these units.

        Returns
        -------
        Tensor
            Means of the shape of ``loc``.
        """
        return self.mean(loc, log_scale) * unit + center

    def data_sample(
        self,
        loc: Tensor,
        log_scale: Tensor,
        center: Tensor,
        unit: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw data in their own units.

        Parameters
        ----------
        loc, log_scale : Tensor
            Location and log-scale in the likelihood's units.
        center, unit : Tensor of shape (n_features,)
            The value that is 0 in the likelihood's units, and these units.
        generator : torch.Generator
            The only source of randomness.

        Returns
        -------
        Tensor
            Draws of the shape of ``loc``.
        """
        return self._draw(loc, log_scale, generator) * unit + center

    def _draw(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        """Draw by :meth:`sample`, and check the shape of the result."""
        values = self.sample(loc, log_scale, generator)
        if not isinstance(values, Tensor) or values.shape != loc.shape:
            shape = tuple(getattr(values, "shape", ()))
            raise ValueError(
                f"{type(self).__name__}.sample must return a tensor of the shape of loc, "
                f"{tuple(loc.shape)}, but returned {type(values).__name__} of shape "
                f"{shape}."
            )
        return values

    def derivatives(
        self, x: Tensor, loc: Tensor, log_scale: Tensor, weight: Tensor
    ) -> Derivatives:
        """Compute the log-density and its derivatives, for training without autograd.

        A subclass that defines it sets ``has_analytic_gradient = True``. A location-scale
        density defines ``influence_`` in its place.

        Parameters
        ----------
        x, loc : Tensor of shape (..., n_features)
            Data and location.
        log_scale : Tensor
            Log-scale, which broadcasts.
        weight : Tensor of shape (..., n_features) or (..., 1)
            Factor of the derivatives of each element, not of the log-density.

        Returns
        -------
        Derivatives
            The log-density and its derivatives.

        Raises
        ------
        TypeError
            If the likelihood does not define the method.
        """
        raise TypeError(f"{type(self).__name__} has no derivatives of its own.")

    def start_deviation(self, residual: Tensor) -> Tensor:
        """Compute the statistic of residuals whose mean determines the first scale.

        Parameters
        ----------
        residual : Tensor of shape (..., n_features)
            ``x - loc``.

        Returns
        -------
        Tensor
            The statistic, of the shape of ``residual``.
        """
        return self.deviation(residual) if self.has_optimal_scale else residual.square()

    def start_scale(self, mean_deviation: Tensor) -> Tensor:
        """Compute the first scale from the mean of :meth:`start_deviation`.

        Parameters
        ----------
        mean_deviation : Tensor of shape (1, 1) or (1, n_features)
            Mean over the elements that share one scale.

        Returns
        -------
        Tensor
            The scale, of the shape of ``mean_deviation``.
        """
        if self.has_optimal_scale:
            return self.optimal_scale(mean_deviation)
        return mean_deviation.sqrt() / self.unit_stddev

    def deviation(self, residual: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Compute the statistic of each residual whose mean determines the optimal scale.

        Parameters
        ----------
        residual : Tensor
            ``x - loc``.
        out : Tensor, default=None
            Memory for the result, as in torch's own functions.

        Returns
        -------
        Tensor
            The statistic, of the shape of ``residual``.

        Raises
        ------
        TypeError
            If the optimal scale has no closed form.
        """
        raise TypeError(f"{type(self).__name__} has no closed-form scale.")

    def optimal_scale(self, mean_deviation: Tensor) -> Tensor:
        """Compute the maximum-likelihood scale from the mean deviation of residuals.

        Parameters
        ----------
        mean_deviation : Tensor
            (Weighted) mean of :meth:`deviation` over the elements that share one scale.

        Returns
        -------
        Tensor
            The scale, of the shape of ``mean_deviation``.

        Raises
        ------
        TypeError
            If the optimal scale has no closed form.
        """
        raise TypeError(f"{type(self).__name__} has no closed-form scale.")
