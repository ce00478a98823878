"""Scales that are computed from the residuals in closed form: optimal and profile."""

from typing import ClassVar

import torch
from torch import Tensor

from skae._utils.matmul import weighted_sum
from skae.likelihoods import Likelihood
from skae.scales.base import Scale

# Weight of the newest batch in the running log-scale: a mean over about ten batches, which
# is less noisy than one batch and follows the training.
_MOMENTUM = 0.1


class ClosedFormScale(Scale):
    """Maximum-likelihood scale of residuals, by the likelihood's formula.

    By the envelope theorem the gradient through the optimal scale is zero, so the backward
    pass takes the scale as constant. The gradient is then that of the log of the mean
    error. Between steps, a running mean replaces the scale. At the end, :meth:`finalize`
    sets the closed form over the whole training set. See `Scale`.

    Parameters
    ----------
    likelihood : Likelihood
        The density that the scale belongs to; it has ``has_optimal_scale``.
    covariance_type : {"spherical", "diag"}
        One scale for all features, or one per feature.
    n_features : int
        Number of features, d.
    floor : Tensor of shape (1, 1) or (1, d)
        Smallest scale that can be reached.
    """

    needs_optimal_scale = True

    # Size of the batches over that from which a batch has a scale of its own. Below 1, as
    # in a stream of single rows, steps take the running mean, and batches count for less.
    batch_share: float = 1.0

    value: Tensor

    def __init__(
        self,
        likelihood: Likelihood,
        covariance_type: str,
        n_features: int,
        floor: Tensor,
    ) -> None:
        super().__init__(likelihood, covariance_type, n_features, floor)
        self.register_buffer("value", floor.new_zeros(1, self.n_scales))

    def _log_optimum(self, mean_deviation: Tensor) -> Tensor:
        """Return the log of the optimal scale, or of the floor if that is larger."""
        scale = self.likelihood.optimal_scale(mean_deviation)
        return torch.maximum(scale, self.floor).log()

    def start(self, scale: Tensor) -> Tensor:
        self.value.copy_(torch.maximum(scale, self.floor).log())
        return self.value.new_empty(0)

    def log_scale(self, outputs: Tensor) -> Tensor:
        return self.value

    def finalize(self, mean_deviation: Tensor) -> None:
        self.value.copy_(self._log_optimum(mean_deviation))

    def _batch_optimum(
        self, deviation: Tensor, weight: Tensor, observed: Tensor | None
    ) -> Tensor:
        """Return the best log-scale for all rows and draws; update the running mean."""
        n_draws = deviation.shape[-2] // weight.shape[-2]
        if n_draws > 1:
            weight = torch.cat(n_draws * [weight], dim=-2)
        # A batch in which all weights are 0 must not divide by 0.
        tiny = torch.finfo(weight.dtype).tiny
        if observed is None:
            total = weight.sum(dim=-2, keepdim=True)
            sums = self.pool(weighted_sum(weight, deviation))
            sums, total = self._over_peers(sums, total)
            mean = sums.div_(total.clamp_min_(tiny))
            optimum = self._log_optimum(mean)
        else:
            total = self.pool(weighted_sum(weight, observed))
            sums = self.pool(weighted_sum(weight, deviation * observed))
            sums, total = self._over_peers(sums, total)
            mean = sums / total.clamp_min(tiny)
            # A batch without a value of a feature says nothing of its scale.
            optimum = torch.where(total > 0, self._log_optimum(mean), self.value)
        if self.batch_share < 1:
            # A mean of deviations, because the logarithm of a residual of 0 is infinite.
            running = self.likelihood.deviation(self.value.exp())
            mean = torch.where(total > tiny, mean, running)
            optimum = self._log_optimum(running.lerp(mean, _MOMENTUM * self.batch_share))
            self.value.copy_(optimum)
            return optimum
        self.value.lerp_(optimum, _MOMENTUM)
        return optimum

    def _over_peers(self, sums: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Add up two tensors ``(..., 1, m)`` over all processes, by one call."""
        if self.peers.is_alone:
            return sums, total
        m = sums.shape[-1]
        both = self.peers.sum_(torch.cat([sums, total], dim=-1))
        return both[..., :m], both[..., m:]


class OptimalScale(ClosedFormScale):
    """Optimal scale of the batch at each step: ``variance_mode="optimal"``.

    Training minimises the log of the batch's mean error, as in the sigma-VAE (Rybkin,
    Daniilidis and Levine 2021, eq. 6). At the end, the scale is that of the training set.
    Its parameters are those of `Scale`.

    References
    ----------
    O. Rybkin, K. Daniilidis and S. Levine (2021). "Simple and effective VAE training with
    calibrated decoders". ICML. Equation 6.
    """

    has_analytic_gradient = True
    is_thread_safe = True

    def training_log_scale(
        self,
        residual: Tensor,
        outputs: Tensor,
        weight: Tensor,
        scratch: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Tensor:
        with torch.no_grad():
            deviation = self.likelihood.deviation(residual, out=scratch)
            return self._batch_optimum(deviation, weight, observed)


class ProfileScale(ClosedFormScale):
    """Optimal scale of each sample at each step: ``variance_mode="profile"``.

    Training minimises the mean over samples of the log of a sample's mean error. The
    stored scale is that of the training set: with a scale that depends on x, the likelihood
    would not be a density. Its parameters are those of `Scale`.
    """

    has_analytic_gradient = True
    is_thread_safe = True
    covariance_types: ClassVar[tuple[str, ...]] = ("spherical",)

    def training_log_scale(
        self,
        residual: Tensor,
        outputs: Tensor,
        weight: Tensor,
        scratch: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Tensor:
        with torch.no_grad():
            deviation = self.likelihood.deviation(residual, out=scratch)
            self._batch_optimum(deviation, weight, observed)
            # The objective is an expectation over the draws, so the scale is optimal for
            # their mean.
            n_draws = residual.shape[-2] // weight.shape[-2]
            if observed is None:
                pooled = self.pool(deviation)
            else:
                n_observed = observed.sum(dim=-1, keepdim=True).clamp_min(1)
                pooled = (deviation * observed).sum(dim=-1, keepdim=True) / n_observed
            of_rows = pooled.unflatten(-2, (n_draws, -1)).mean(dim=-3)
            return torch.cat(n_draws * [self._log_optimum(of_rows)], dim=-2)
