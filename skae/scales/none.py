"""No scale, of a likelihood that has none."""

from torch import Tensor

from skae.scales.base import Scale


class NoScale(Scale):
    """Absence of a scale, for likelihoods without one: ``variance_mode="none"``.

    The log-scale is 0. Its parameters are those of `Scale`.
    """

    has_analytic_gradient = True
    is_thread_safe = True

    def start(self, scale: Tensor) -> Tensor:
        return self.floor.new_empty(0)

    def log_scale(self, outputs: Tensor) -> Tensor:
        return self.floor.new_zeros(*self.floor.shape[:-1], 1)
