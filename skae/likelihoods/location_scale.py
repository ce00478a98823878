"""The base class of densities that are shifted and stretched."""

from abc import abstractmethod

import torch
from torch import Tensor

from skae.likelihoods.base import Derivatives, Likelihood


class LocationScale(Likelihood):
    r"""Density of a location-scale family.

    .. math:: \log p(x) = \log f(t) - \log s, \quad t = (x-\mu)/s

    Here f is the density of the standard variate t. The derivatives follow from one
    function, :math:`\psi = -(\log f)'`, the influence function of robust statistics
    (Huber 1964):

    .. math:: \partial_\mu \log p = \psi(t)/s, \quad
        \partial_{\log s} \log p = t\,\psi(t) - 1

    A likelihood that defines :math:`\psi` is trained without autograd.
    """

    @abstractmethod
    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Compute the log-density log f of the standard variate.

        Parameters
        ----------
        t : Tensor
            Standardised residuals.
        out : Tensor, default=None
            Memory for the result, as in torch's own functions; not t itself.

        Returns
        -------
        Tensor
            Log-density of each element, in nats.
        """

    def influence_(self, t: Tensor) -> Tensor:
        """Replace t by minus the derivative of log f at t, in place.

        This method is optional: without it, autograd computes the derivative.

        Parameters
        ----------
        t : Tensor
            Standardised residuals; overwritten.

        Returns
        -------
        Tensor
            The same tensor.

        Raises
        ------
        TypeError
            If the likelihood does not define the method.
        """
        raise TypeError(f"{type(self).__name__} has no influence function.")

    def differentiate_(self, t: Tensor, *, out: Tensor, grad_outputs: Tensor) -> Tensor:
        """Compute log f, and replace t by the influence, as :meth:`influence_` does.

        A likelihood with further outputs of the decoder needs it for training without
        autograd. All others inherit it.

        Parameters
        ----------
        t : Tensor of shape (..., n_features)
            Standardised residuals; overwritten.
        out : Tensor of shape (..., n_features)
            Memory for log f.
        grad_outputs : Tensor of shape (..., n_outputs)
            Memory for the derivatives of log f with respect to the further outputs.

        Returns
        -------
        Tensor
            The tensor t, which is now the influence.

        Raises
        ------
        TypeError
            If the likelihood does not define :meth:`influence_`.
        """
        self.standard_log_prob(t, out=out)
        return self.influence_(t)

    @property
    def has_analytic_gradient(self) -> bool:
        """Whether the derivatives are defined and belong to this log-density.

        The derivative is :meth:`influence_`, or :meth:`differentiate_` of a likelihood
        with further outputs. It is False for a subclass that overrides the density
        without its derivative. See `ModelPart.has_analytic_gradient`.
        """
        cls = type(self)

        def defined_in(name: str) -> int:
            """Return the position, among the base classes, of the one with a definition."""
            return next(i for i, c in enumerate(cls.__mro__) if name in vars(c))

        has_outputs = (
            cls.start_outputs is not Likelihood.start_outputs
            or cls.start_parameters is not Likelihood.start_parameters
        )
        derivative = "differentiate_" if has_outputs else "influence_"
        return (
            cls.log_prob is LocationScale.log_prob
            and getattr(cls, derivative) is not getattr(LocationScale, derivative)
            and defined_in(derivative) <= defined_in("standard_log_prob")
            and (not has_outputs or defined_in(derivative) <= defined_in("given"))
        )

    def log_prob(self, x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        return self.standard_log_prob((x - loc) * torch.exp(-log_scale)) - log_scale

    def derivatives(
        self, x: Tensor, loc: Tensor, log_scale: Tensor, weight: Tensor
    ) -> Derivatives:
        precision = torch.exp(-log_scale)
        t = (x - loc) * precision
        kept, log_f = t.clone(), torch.empty_like(t)
        n_features = t.shape[-1]
        n_outputs = len(self.start_outputs(n_features))
        n_outputs += len(self.start_parameters(n_features))
        outputs = t.new_empty(*t.shape[:-1], n_outputs)
        influence = self.differentiate_(t, out=log_f, grad_outputs=outputs)
        if n_outputs:
            outputs = outputs.unflatten(-1, (-1, n_features)) * weight[..., None, :]
            outputs = outputs.flatten(-2)
        return Derivatives(
            log_f - log_scale,
            influence * precision * weight,
            (kept * influence - 1) * weight,
            outputs if n_outputs else None,
        )
