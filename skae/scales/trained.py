"""Scales that gradient descent trains: learned and predicted."""

import torch
from torch import Tensor, nn

from skae.likelihoods import Likelihood
from skae.scales.base import (
    Scale,
    inverse_floored_exp,
    log_floored_exp,
    slope_of_log_floored_exp,
)


class LearnedScale(Scale):
    """Free parameter that is trained with the weights: ``variance_mode="learned"``.

    It begins at the scale of the start of the fit, and stays above the floor. See `Scale`.

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

    has_analytic_gradient = True
    is_thread_safe = True
    is_trained = True

    def __init__(
        self,
        likelihood: Likelihood,
        covariance_type: str,
        n_features: int,
        floor: Tensor,
    ) -> None:
        super().__init__(likelihood, covariance_type, n_features, floor)
        self.free = nn.Parameter(floor.new_zeros(1, self.n_scales))

    def start(self, scale: Tensor) -> Tensor:
        with torch.no_grad():
            self.free.copy_(inverse_floored_exp(scale, self.floor))
        return self.free.new_empty(0)

    def log_scale(self, outputs: Tensor) -> Tensor:
        return log_floored_exp(self.free, self.floor)

    def backward(self, grad: Tensor, outputs: Tensor, grad_outputs: Tensor) -> None:
        total = grad.sum(dim=-2, keepdim=True).sum_to_size(self.free.shape)
        assert self.free.grad is not None
        torch.mul(
            total, slope_of_log_floored_exp(self.free, self.floor), out=self.free.grad
        )


class PredictedScale(Scale):
    """Output of the decoder: ``variance_mode="predicted"``.

    The scale is a function of the code, and stays above the floor. Its parameters are those
    of `Scale`.
    """

    has_analytic_gradient = True
    is_thread_safe = True
    is_trained = True
    is_shared = False

    @property
    def n_outputs(self) -> int:
        return self.n_scales

    def start(self, scale: Tensor) -> Tensor:
        free = inverse_floored_exp(scale, self.floor)
        return free.expand(1, self.n_scales).reshape(-1)

    def log_scale(self, outputs: Tensor) -> Tensor:
        return log_floored_exp(outputs, self.floor)

    def backward(self, grad: Tensor, outputs: Tensor, grad_outputs: Tensor) -> None:
        total = grad.sum_to_size(outputs.shape)
        torch.mul(total, slope_of_log_floored_exp(outputs, self.floor), out=grad_outputs)
