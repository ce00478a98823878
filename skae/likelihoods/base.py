"""The contract of a likelihood: what a new one has to say about itself."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from skae._utils.capabilities import ModelPart


class Likelihood(ModelPart, ABC):
    """The density of one feature, given the decoder's output.

    A likelihood knows nothing of where its location and scale come from. All tensors
    broadcast against each other; ``log_scale`` is the natural logarithm of ``scale``,
    which means what it means in :mod:`scipy.stats` and :mod:`torch.distributions`.

    Attributes
    ----------
    unit_stddev : float
        Standard deviation of the density whose scale is 1.

    has_optimal_scale : bool
        Whether the maximum-likelihood scale of given residuals has a closed form.
        Then :meth:`deviation` and :meth:`optimal_scale` must be defined, and the
        variance modes ``"optimal"`` and ``"profile"`` are open.

    heavy_tailed : bool
        Whether an outlier costs less than its square, so that a fit may ignore it: then
        training also considers a start that does.
    """

    unit_stddev: ClassVar[float]
    has_optimal_scale: ClassVar[bool] = False
    heavy_tailed: ClassVar[bool] = True

    @abstractmethod
    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        """Normalised log-density of each element.

        Parameters
        ----------
        x, loc, log_scale : Tensor
            Data, location and log-scale; they broadcast.

        Returns
        -------
        Tensor
            Elementwise log-density, in nats.
        """

    @abstractmethod
    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        """One draw for each element.

        Parameters
        ----------
        loc, log_scale : Tensor
            Location, of the shape of the result, and log-scale.
        generator : torch.Generator
            The source of randomness; no other may be used.

        Returns
        -------
        Tensor
            Draws of the shape of ``loc``.
        """

    def deviation(self, residual: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Elementwise statistic whose mean determines the best scale.

        Parameters
        ----------
        residual : Tensor
            ``x - loc``.
        out : Tensor, default=None
            Where the result may be written, as torch's own functions do.

        Returns
        -------
        Tensor
            The statistic, of the shape of ``residual``.
        """
        raise TypeError(f"{type(self).__name__} has no closed-form scale.")

    def optimal_scale(self, mean_deviation: Tensor) -> Tensor:
        """Maximum-likelihood scale of residuals with this mean deviation.

        Parameters
        ----------
        mean_deviation : Tensor
            (Weighted) mean of :meth:`deviation` over all that share one scale.

        Returns
        -------
        Tensor
            The scale, of the shape of ``mean_deviation``.
        """
        raise TypeError(f"{type(self).__name__} has no closed-form scale.")


class LocationScale(Likelihood):
    r"""A density that is a standard one, moved and stretched.

    .. math:: \log p(x) = \log f(t) - \log s, \quad t = (x-\mu)/s

    Its derivatives follow from one function, :math:`\psi = -(\log f)'`, the influence
    function of robust statistics (Huber 1964):
    :math:`\partial_\mu \log p = \psi(t)/s` and
    :math:`\partial_{\log s} \log p = t\,\psi(t) - 1`. A likelihood that knows its
    :math:`\psi` trains without autograd.
    """

    @abstractmethod
    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Log-density log f of the standard variate.

        Parameters
        ----------
        t : Tensor
            Standardised data.
        out : Tensor, default=None
            Where the result may be written, as torch's own functions do; not t itself.

        Returns
        -------
        Tensor
            Elementwise log-density, in nats.
        """

    def influence_(self, t: Tensor) -> Tensor:
        """Replace t by minus the derivative of log f at t, in place.

        Not every likelihood offers it; those that do not are left to autograd.

        Parameters
        ----------
        t : Tensor
            Standardised data; overwritten.

        Returns
        -------
        Tensor
            The same tensor, overwritten.
        """
        raise TypeError(f"{type(self).__name__} has no influence function.")

    @property
    def has_analytic_gradient(self) -> bool:
        """Whether :meth:`influence_` is defined, and belongs to this log-density.

        It is False for a subclass that changes the density and not its derivative.
        """
        cls = type(self)

        def defined_in(name: str) -> int:
            return next(i for i, c in enumerate(cls.__mro__) if name in vars(c))

        return (
            cls.log_prob is LocationScale.log_prob
            and cls.influence_ is not LocationScale.influence_
            and defined_in("influence_") <= defined_in("standard_log_prob")
        )

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        return self.standard_log_prob((x - loc) * torch.exp(-log_scale)) - log_scale
