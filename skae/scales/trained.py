"""Scales that gradient descent finds: learned and predicted."""

import torch
from torch import Tensor, nn

from skae.likelihoods import Likelihood
from skae.scales.base import Scale, inverse_floored_exp, log_floored_exp


class LearnedScale(Scale):
    """A free parameter, trained with the weights. See `Scale`."""

    def __init__(
        self,
        likelihood: Likelihood,
        covariance_type: str,
        n_features: int,
        floor: Tensor,
    ) -> None:
        super().__init__(likelihood, covariance_type, n_features, floor)
        self.free = nn.Parameter(torch.zeros(1, self.n_scales))

    def start(self, scale: Tensor) -> Tensor:
        with torch.no_grad():
            self.free.copy_(inverse_floored_exp(scale, self.floor))
        return self.free.new_empty(0)

    def log_scale(self, outputs: Tensor) -> Tensor:
        return log_floored_exp(self.free, self.floor)


class PredictedScale(Scale):
    """An output of the decoder: the scale is a function of the code."""

    is_shared = False

    @property
    def n_outputs(self) -> int:
        return self.n_scales

    def start(self, scale: Tensor) -> Tensor:
        free = inverse_floored_exp(scale, self.floor)
        return free.expand(1, self.n_scales).reshape(-1)

    def log_scale(self, outputs: Tensor) -> Tensor:
        return log_floored_exp(outputs, self.floor)
