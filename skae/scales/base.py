"""The base class of the scales, and the exponential with a floor."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import ClassVar

import torch
from torch import Tensor, nn

from skae._utils.capabilities import ModelPart
from skae._utils.peers import ALONE, Peers
from skae.likelihoods import Likelihood


class Scale(nn.Module, ModelPart, ABC):
    """Source of the likelihood's scale, for one ``variance_mode``.

    A scale is in the likelihood's units. Its log-scales broadcast against ``(n, d)``:
    they are ``(1, 1)`` or ``(1, d)`` if all rows share the scale, else ``(n, 1)`` or
    ``(n, d)``. For models that are trained side by side, all tensors have one more leading
    axis.

    Parameters
    ----------
    likelihood : Likelihood
        The density that the scale belongs to.
    covariance_type : {"spherical", "diag"}
        One scale for all features, or one per feature.
    n_features : int
        Number of features, d.
    floor : Tensor of shape (1, 1) or (1, d)
        Smallest scale that can be reached.
    """

    covariance_types: ClassVar[tuple[str, ...]] = ("spherical", "diag")
    needs_optimal_scale: bool = False
    # Whether gradient descent trains the scale, so that :meth:`backward` is needed.
    is_trained: bool = False
    # Whether all rows share the fitted scale; else it is a function of the code.
    is_shared: bool = True
    # The processes whose rows a batch consists of.
    peers: Peers = ALONE

    floor: Tensor

    def __init__(
        self,
        likelihood: Likelihood,
        covariance_type: str,
        n_features: int,
        floor: Tensor,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.covariance_type = covariance_type
        self.n_scales = n_features if covariance_type == "diag" else 1
        self.register_buffer("floor", floor.reshape(1, -1))

    @property
    def batch_key(self) -> Hashable:
        """See `ModelPart.batch_key`."""
        return type(self), self.covariance_type, self.n_scales

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the decoder that determine this scale."""
        return 0

    def pool(self, values: Tensor) -> Tensor:
        """Average a statistic over the features that share one scale.

        Parameters
        ----------
        values : Tensor of shape (n, d)
            A statistic of each element.

        Returns
        -------
        Tensor of shape (n, 1) or (n, d)
            The mean over all features (spherical), or the statistic itself (diag).
        """
        if self.covariance_type == "diag":
            return values
        return values.mean(dim=-1, keepdim=True)

    @abstractmethod
    def start(self, scale: Tensor) -> Tensor:
        """Set the scale at which training starts.

        Parameters
        ----------
        scale : Tensor of shape (1, 1) or (1, d)
            A first estimate from the data.

        Returns
        -------
        Tensor of shape (n_outputs,)
            Values of the decoder's extra outputs that give this scale.
        """

    @abstractmethod
    def log_scale(self, outputs: Tensor) -> Tensor:
        """Return the current log-scale of the model.

        Parameters
        ----------
        outputs : Tensor of shape (n, n_outputs)
            The decoder's extra outputs.

        Returns
        -------
        Tensor
            The log-scale; it broadcasts against ``(n, d)``.
        """

    def training_log_scale(
        self,
        residual: Tensor,
        outputs: Tensor,
        weight: Tensor,
        scratch: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Tensor:
        """Return the log-scale for a training step.

        Parameters
        ----------
        residual : Tensor of shape (n_draws * n, d)
            The batch minus its location, one draw of the codes after the other.
        outputs : Tensor of shape (n_draws * n, n_outputs)
            The decoder's extra outputs.
        weight : Tensor of shape (n, 1)
            Sample weights.
        scratch : Tensor of shape (n_draws * n, d), default=None
            Memory that may be overwritten.
        observed : Tensor of shape (n_draws * n, d), default=None
            1 for each observed entry and 0 for each missing one, in the dtype of the
            residual; by default all are observed.

        Returns
        -------
        Tensor
            The log-scale; it broadcasts against ``(n_draws * n, d)``.
        """
        return self.log_scale(outputs)

    def backward(self, grad: Tensor, outputs: Tensor, grad_outputs: Tensor) -> None:
        """Propagate a gradient from the log-scale to its parameters or outputs.

        This is the derivative that autograd would compute. A scale that is not trained has
        nothing to propagate.

        Parameters
        ----------
        grad : Tensor of shape (n_draws * n, d)
            Derivative of the loss with respect to the log-scale of each element.
        outputs : Tensor of shape (n_draws * n, n_outputs)
            The decoder's extra outputs.
        grad_outputs : Tensor of shape (n_draws * n, n_outputs)
            Memory for the derivative with respect to the outputs.
        """

    def finalize(self, mean_deviation: Tensor) -> None:
        """Set a closed-form scale from the whole training set, at the end of training.

        Parameters
        ----------
        mean_deviation : Tensor of shape (1, 1) or (1, d)
            Mean of the likelihood's deviation over the training set, and over the features
            that share a scale.
        """


def log_floored_exp(h: Tensor, floor: Tensor) -> Tensor:
    """Compute ``log(floor + exp(h))``, with the exponential made linear above h = 0.

    As a function of a free number h, this log-scale has no dead zone, which a clamp would
    have. It cannot overflow, which a plain exponential could.

    Parameters
    ----------
    h : Tensor
        Free number.
    floor : Tensor
        Smallest scale.

    Returns
    -------
    Tensor
        Log-scale.
    """
    # At h = 0 the slope of relu is 0 and that of clamp is 1, so that of the sum is 1.
    return torch.log(floor + torch.exp(h.clamp(max=0)) + torch.relu(h))


def slope_of_log_floored_exp(h: Tensor, floor: Tensor) -> Tensor:
    """Compute the derivative of :func:`log_floored_exp` with respect to h.

    Parameters
    ----------
    h : Tensor
        Free number.
    floor : Tensor
        Smallest scale.

    Returns
    -------
    Tensor
        The derivative, between 0 and 1.
    """
    return torch.exp(h.clamp(max=0) - log_floored_exp(h, floor))


def inverse_floored_exp(scale: Tensor, floor: Tensor) -> Tensor:
    """Compute the h whose :func:`log_floored_exp` is ``log(scale)``.

    Parameters
    ----------
    scale : Tensor
        Scale; if it is not clearly above the floor, 1.01 floors are taken in its place.
    floor : Tensor
        Smallest scale.

    Returns
    -------
    Tensor
        Free number h.
    """
    excess = torch.maximum(scale - floor, 0.01 * floor)
    return torch.where(excess < 1, excess.log(), excess - 1)
