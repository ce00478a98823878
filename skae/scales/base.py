"""The contract of a scale: where the likelihood's scale comes from."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import ClassVar

import torch
from torch import Tensor, nn

from skae._utils.capabilities import ModelPart
from skae.likelihoods import Likelihood


class Scale(nn.Module, ModelPart, ABC):
    """Where the scale of the likelihood comes from (one ``variance_mode``).

    A scale works in the likelihood's own units and returns log-scales that broadcast
    against ``(n, d)``: ``(1, 1)`` or ``(1, d)`` where the scale is shared by all rows,
    ``(n, 1)`` or ``(n, d)`` where it belongs to a row. All of it may have one more axis in
    front, for models that are trained side by side.

    Parameters
    ----------
    likelihood : Likelihood
        The density that the scale is for.
    covariance_type : {"spherical", "diag"}
        One scale for all features, or one per feature.
    n_features : int
        Number of features, d.
    floor : Tensor of shape (1, 1) or (1, d)
        Smallest scale that can be reached.
    """

    covariance_types: ClassVar[tuple[str, ...]] = ("spherical", "diag")
    needs_optimal_scale: ClassVar[bool] = False
    # Whether gradient descent finds it, so that it wants :meth:`backward`.
    is_trained: ClassVar[bool] = False
    # Whether a fitted scale is a number (or one per feature) rather than a function of z.
    is_shared: ClassVar[bool] = True

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
        """Outputs that this scale asks of the decoder, beside the location."""
        return 0

    def pool(self, values: Tensor) -> Tensor:
        """Mean over the features that share one scale.

        Parameters
        ----------
        values : Tensor of shape (n, d)
            Any statistic of each element.

        Returns
        -------
        Tensor of shape (n, 1) or (n, d)
            Its mean over all features (spherical), or itself (diag).
        """
        if self.covariance_type == "diag":
            return values
        return values.mean(dim=-1, keepdim=True)

    @abstractmethod
    def start(self, scale: Tensor) -> Tensor:
        """Begin training from this scale.

        Parameters
        ----------
        scale : Tensor of shape (1, 1) or (1, d)
            First guess, from the data.

        Returns
        -------
        Tensor of shape (n_outputs,)
            What the decoder's extra outputs have to be for this scale.
        """

    @abstractmethod
    def log_scale(self, outputs: Tensor) -> Tensor:
        """Log-scale of the model as it stands.

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
    ) -> Tensor:
        """Log-scale to train a batch with.

        Parameters
        ----------
        residual : Tensor of shape (n_draws * n, d)
            The batch less its location, for each draw of the codes in turn.
        outputs : Tensor of shape (n_draws * n, n_outputs)
            The decoder's extra outputs.
        weight : Tensor of shape (n, 1)
            Sample weights.
        scratch : Tensor of shape (n_draws * n, d), default=None
            Memory that may be overwritten.

        Returns
        -------
        Tensor
            The log-scale; it broadcasts against ``(n_draws * n, d)``.
        """
        return self.log_scale(outputs)

    def backward(self, grad: Tensor, outputs: Tensor, grad_outputs: Tensor) -> None:
        """Pass the gradient of a loss on to what the log-scale is made from.

        What autograd would do, by hand. A scale that is not trained does nothing.

        Parameters
        ----------
        grad : Tensor of shape (n_draws * n, d)
            Derivative of the loss with respect to the log-scale of each element.
        outputs : Tensor of shape (n_draws * n, n_outputs)
            The decoder's extra outputs.
        grad_outputs : Tensor of shape (n_draws * n, n_outputs)
            Where the derivative with respect to them is wanted; to be overwritten.
        """

    def finalize(self, mean_deviation: Tensor) -> None:
        """Take note of the whole training set's mean deviation, when training is over.

        Parameters
        ----------
        mean_deviation : Tensor of shape (1, 1) or (1, d)
            Mean over the training set, and over the features that share a scale, of the
            likelihood's deviation.
        """


def log_floored_exp(h: Tensor, floor: Tensor) -> Tensor:
    """Logarithm of ``floor + exp(h)``, with the exponential made linear above h = 0.

    The scale of a free number h: it has no dead zone and cannot overflow, as a clamp or a
    plain exponential would.

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
    # The slope of relu at 0 is 0, that of clamp 1: so their sum has the slope 1 there.
    return torch.log(floor + torch.exp(h.clamp(max=0)) + torch.relu(h))


def slope_of_log_floored_exp(h: Tensor, floor: Tensor) -> Tensor:
    """Derivative of :func:`log_floored_exp` with respect to h.

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
    """The h whose :func:`log_floored_exp` is ``log(scale)``.

    Parameters
    ----------
    scale : Tensor
        Scale; where it is not above the floor, the nearest reachable value is taken.
    floor : Tensor
        Smallest scale.

    Returns
    -------
    Tensor
        Free number h.
    """
    excess = torch.maximum(scale - floor, 0.01 * floor)
    return torch.where(excess < 1, excess.log(), excess - 1)
