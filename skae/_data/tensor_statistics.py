"""Statistics of the training data on a device, for rows that are there already."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TensorStatistics:
    """What `Standardization` says of rows, for rows that are tensors on a device.

    Attributes
    ----------
    mean, std : Tensor of shape (n_features,)
        Mean and standard deviation of each feature, float64.
    log_unit : Tensor of shape (n_features,)
        Logarithm of the likelihood's unit of each feature, float64.
    is_log : Tensor of shape (n_features,) or None
        Whether a feature is the logarithm of the data; None if none is.
    """

    mean: Tensor
    std: Tensor
    log_unit: Tensor
    is_log: Tensor | None

    def standardize(self, block: Tensor) -> Tensor:
        """Standardise rows ``(m, n_features)``, in float64. See `Standardization`."""
        return (block.double() - self.mean) / self.std

    def near(self, block: Tensor, n_deviations: float) -> Tensor:
        """Move rows to at most so many deviations from the mean. See `Standardization`."""
        farthest = n_deviations * self.std
        return self.mean + torch.clamp(block.double() - self.mean, -farthest, farthest)

    def log_det_of(self, X: Tensor) -> Tensor:
        """Return the log-determinant of each row, ``(n,)`` or one number.

        See `Standardization.log_det_of`.
        """
        log_det = self.log_unit.sum()
        if not X.sum().isfinite() and X.isnan().any():
            log_det = (~X.isnan()).double() @ self.log_unit
        if self.is_log is not None:
            log_det = log_det + X[:, self.is_log].double().nansum(dim=1)
        return log_det

    def log_det_by_feature(self, X: Tensor) -> Tensor:
        """Return the part of each feature, 0 where X is missing, ``(n, n_features)``."""
        log_det = self.log_unit.expand(X.shape)
        if self.is_log is not None:
            log_det = log_det + torch.where(self.is_log, X.double(), 0.0)
        return log_det.masked_fill(X.isnan(), 0.0)
