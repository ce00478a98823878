"""Standardised rows, and the units in which their likelihood is stated."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from skae._data.blocks import dense, has_nan, parts_of
from skae._data.rows import Rows
from skae._data.tensor_statistics import TensorStatistics

# Smallest scale in the likelihood's units that float32 residuals can resolve.
_SMALLEST = 1e-6
# Largest scale in the likelihood's units; its inverse is the smallest. Their squares are
# within the range of float32.
LARGEST_SCALE = 1e15
# Deviations by which the mean of new data differs from the last fit's, or factor of their
# deviation, from which on they count as data in another unit.
_UNLIKE = 10.0
# Rows that are enough to see it.
_UNLIKE_ROWS = 10_000
# Numbers of a sparse array that are enough: 32 MB of float64.
_UNLIKE_NUMBERS = 2**22


@dataclass(frozen=True)
class Links:
    """What is not as usual in some features; each array is ``(n_features,)``.

    Attributes
    ----------
    is_linked : ndarray of bool
        Whether the location is the predictor of a generalised linear model.
    is_log : ndarray of bool
        Whether the feature is the logarithm of the data whose density is asked for.
    predictor : ndarray
        Linear predictor for the mean of a linked feature; 0 for others.
    unit : ndarray
        Change of a linked feature by which the predictor changes by 1; 1 for others.
    noise : ndarray
        Variance of a linked feature that no component can explain, in units of the
        predictor; 0 for others.
    scale, smallest_scale : ndarray
        First and smallest scale of a linked feature, where there is one; 1 for others.
    """

    is_linked: np.ndarray
    is_log: np.ndarray
    predictor: np.ndarray
    unit: np.ndarray
    noise: np.ndarray
    scale: np.ndarray
    smallest_scale: np.ndarray


@dataclass(frozen=True)
class Standardization:
    """Centre, spread and resolution of each feature, in the units of X, float64.

    Attributes
    ----------
    mean, std : ndarray of shape (n_features,)
        Weighted mean and standard deviation. The deviation of a constant feature is
        replaced by the root mean square of the others'.
    likelihood_unit : ndarray of shape (n_features,)
        The unit in which the likelihood is stated: one number for a spherical scale, the
        feature's own deviation for a diagonal scale.
    resolution : ndarray of shape (n_features,)
        Smallest distance between two different values of a feature.
    links : Links or None
        What is not as usual in some features; None if there is nothing.
    is_constant : ndarray of shape (n_features,) or None
        Which features are constant, so that their deviation is not their own; None if that
        is not known.
    """

    mean: np.ndarray
    std: np.ndarray
    likelihood_unit: np.ndarray
    resolution: np.ndarray
    links: Links | None = None
    is_constant: np.ndarray | None = None

    @classmethod
    def identity(cls, n_features: int) -> "Standardization":
        """Return the standardisation that changes nothing."""
        ones = np.ones(n_features)
        return cls(np.zeros(n_features), ones, ones, ones)

    def standardize(self, block: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Standardise rows ``(m, n_features)``; centred in float64, whatever the dtype."""
        centered = np.subtract(block, self.mean, dtype=np.float64)
        return np.divide(centered, self.std, out=out, casting="same_kind")

    def near(self, block: np.ndarray, n_deviations: float) -> np.ndarray:
        """Move rows ``(m, n_features)`` to at most so many deviations from the mean."""
        farthest = n_deviations * self.std
        with np.errstate(over="ignore"):
            centered = np.subtract(block, self.mean, dtype=np.float64)
        return self.mean + np.clip(centered, -farthest, farthest)

    def to_likelihood_units(self, block: np.ndarray) -> np.ndarray:
        """Centre rows ``(m, n_features)`` and divide them by the location's units."""
        return (block - self.mean) / self.location_unit

    @property
    def location_unit(self) -> np.ndarray:
        """Unit of each feature that is 1 in a location: the likelihood's, or a link's."""
        if self.links is None:
            return self.likelihood_unit
        return np.where(self.links.is_linked, self.links.unit, self.likelihood_unit)

    @property
    def center(self) -> np.ndarray:
        """Value of each feature that is 0 in the likelihood's units."""
        return (
            self.mean
            if self.links is None
            else np.where(self.links.is_linked, 0.0, self.mean)
        )

    @property
    def own_std(self) -> np.ndarray:
        """Standard deviation of each feature, 0 for a constant one, ``(n_features,)``."""
        return (
            self.std
            if self.is_constant is None
            else np.where(self.is_constant, 0, self.std)
        )

    @property
    def std_in_units(self) -> np.ndarray:
        """Standard deviation of each feature in the location's units."""
        return self.std / self.location_unit

    @property
    def module_buffers(self) -> dict[str, np.ndarray]:
        """Buffers of a module that these statistics determine, by name, float64."""
        buffers = {"std_in_units": self.std_in_units}
        return buffers | self.link_buffers

    @property
    def link_buffers(self) -> dict[str, np.ndarray]:
        """Buffers of a generalised linear model, by name; none without links."""
        if self.links is None or not self.links.is_linked.any():
            return {}
        is_linked = self.links.is_linked
        return {
            "loc_offset": self.links.predictor,
            "input_mean": np.where(is_linked, self.mean, 0.0),
            "input_std": np.where(is_linked, self.std, self.std_in_units),
        }

    def whitened(self, deviation: np.ndarray | float) -> "Standardization":
        """Return the statistics with a location's units times a number per feature."""
        likelihood_unit = self.likelihood_unit * deviation
        if self.links is None:
            return replace(self, likelihood_unit=likelihood_unit)
        links = replace(self.links, unit=self.links.unit * deviation)
        return replace(self, likelihood_unit=likelihood_unit, links=links)

    @property
    def log_det_units(self) -> float:
        """Log-determinant of the map from the likelihood's units to those of X, in nats.

        A log-density in the units of X is that in the likelihood's units less this number.
        """
        return float(np.log(self.likelihood_unit).sum())

    def on(self, device: torch.device) -> TensorStatistics:
        """Return the statistics that rows need which are tensors on a device."""
        links = self.links
        return TensorStatistics(
            torch.tensor(self.mean, device=device),
            torch.tensor(self.std, device=device),
            torch.tensor(np.log(self.likelihood_unit), device=device),
            None if links is None else torch.tensor(links.is_log, device=device),
        )

    def log_det_of(self, X: Any) -> float | np.ndarray:
        """Return the same number for the observed features of each row, ``(n,)``.

        It is one number if X ``(n, n_features)`` has no missing entry, and no feature is
        the logarithm of the data.
        """
        log_det: float | np.ndarray = self.log_det_units
        if has_nan(X):
            log_unit = np.log(self.likelihood_unit)
            log_det = _by_row(X, lambda block: ~np.isnan(block) @ log_unit)
        if self.has_logs:
            log_det = log_det + _by_row(X, self._sum_of_logs)
        return log_det

    def mean_log_det(self, rows: Rows) -> float:
        """Return the same number, averaged over rows."""
        log_det = self.log_det_units
        if rows.has_missing:
            log_det = float(rows.observed_share() @ np.log(self.likelihood_unit))
        if self.has_logs:
            sums = np.concatenate([*map(self._sum_of_logs, rows.blocks())])
            log_det += rows.peers.sum(float(rows.weight @ sums / rows.total))
        return log_det

    @property
    def has_logs(self) -> bool:
        """Whether some features are logarithms of the data."""
        return self.links is not None and bool(self.links.is_log.any())

    def _sum_of_logs(self, block: np.ndarray) -> np.ndarray:
        """Sum the observed features of rows that are logarithms, ``(n,)``."""
        assert self.links is not None
        return np.asarray(np.nansum(block[:, self.links.is_log], axis=1, dtype=np.float64))

    def log_det_by_feature(self, X: np.ndarray) -> np.ndarray:
        """Return the part of each feature in the log-determinant of a row.

        It is ``(n, n_features)``; 0 where X is missing.
        """
        log_det = np.broadcast_to(np.log(self.likelihood_unit), X.shape)
        if self.links is not None:
            log_det = log_det + np.where(self.links.is_log, X, 0.0)
        return np.where(np.isnan(X), 0.0, log_det)

    def per_scale(self, values: np.ndarray, covariance_type: str) -> np.ndarray:
        """Convert a number per feature in the units of X to one per scale.

        Returns ``(1, 1)`` for a spherical scale, the smallest of all features, or
        ``(1, n_features)``, in the likelihood's units.
        """
        # A scale beyond float64 cannot be trained with, and is refused later.
        with np.errstate(over="ignore"):
            values = (values / self.likelihood_unit).reshape(1, -1)
        if covariance_type == "spherical":
            return values.min(axis=1, keepdims=True)
        return values

    def check_proportion(
        self, name: str, scale: ArrayLike, smallest: float = 1 / LARGEST_SCALE
    ) -> None:
        """Raise ValueError if float32 cannot compute with a scale, in the units of X.

        ``smallest`` is the smallest allowed scale in the likelihood's units.
        """
        with np.errstate(over="ignore", under="ignore"):
            in_units = np.asarray(scale, dtype=np.float64) / self.likelihood_unit
        if not ((in_units >= smallest) & (in_units <= LARGEST_SCALE)).all():
            typical = np.sqrt(np.mean(np.square(self.likelihood_unit)))
            raise ValueError(
                f"{name}={scale!r} is out of proportion to X, whose standard deviation is "
                f"about {typical:.3g}; their ratio must be between {smallest:g} and "
                f"{LARGEST_SCALE:g}."
            )

    def check_range(self, X: Any) -> None:
        """Raise ValueError if float32 cannot compute with X in units of this fit."""
        low, high = np.full_like(self.mean, np.inf), np.full_like(self.mean, -np.inf)
        for part in parts_of(X):
            # Of what is observed: fmin and fmax pass over NaN.
            block = dense(X, part)
            np.fmin(low, np.fmin.reduce(block), out=low)
            np.fmax(high, np.fmax.reduce(block), out=high)
        with np.errstate(over="ignore"):
            distance = np.fmax(self.mean - low, high - self.mean) / self.std
            distance = distance.max(initial=0.0)
        if not distance <= LARGEST_SCALE:
            raise ValueError(
                "warm_start=True keeps the standardisation of the last fit, and X has "
                f"values that are {distance:.3g} of its standard deviations from its mean; "
                f"at most {LARGEST_SCALE:g} are allowed. Set warm_start=False."
            )

    def unlike_column(self, X: Any) -> int | None:
        """Return a column of X whose unit or offset seems to be another one, or None."""
        if X.shape[0] < 2:
            return None
        # Standardised first, because squares in the units of X may overflow.
        n_rows = _UNLIKE_ROWS
        if issparse(X):
            n_rows = min(n_rows, max(_UNLIKE_NUMBERS // X.shape[1], 2))
        y = self.standardize(dense(X, slice(None, None, -(-X.shape[0] // n_rows))))
        observed = ~np.isnan(y)
        # A column of fewer than two values is taken as it was.
        y[:, observed.sum(axis=0) < 2] = [[-1.0], *[[1.0]] * (len(y) - 1)]
        observed = ~np.isnan(y)
        shift = np.abs(y.mean(axis=0, where=observed))
        ratio = y.std(axis=0, where=observed)
        farthest = np.maximum(shift, ratio)
        if farthest.max() > _UNLIKE:
            return int(farthest.argmax())
        # One column may vary less in new data, but not all of them.
        return int(ratio.argmin()) if ratio.max() < 1 / _UNLIKE else None

    def smallest_scale(self) -> float:
        """Return the smallest scale that float32 can resolve, in the units of X."""
        return _SMALLEST * float(self.likelihood_unit.max())

    def floor(
        self, min_scale: float | str, covariance_type: str, is_float64: bool = False
    ) -> np.ndarray:
        """Return the smallest scale, ``(1, 1)`` or ``(1, n_features)``.

        It is in the likelihood's units; ``min_scale`` is in the units of X. "auto" is the
        standard deviation of the rounding to the data's own resolution. Unless a number is
        given for a training in float64, float32 limits the scale.
        """
        limit: float | np.ndarray = _SMALLEST
        if isinstance(min_scale, str):
            smallest = self.resolution / math.sqrt(12)
        else:
            smallest = np.full_like(self.likelihood_unit, min_scale)
            if is_float64:
                limit = 1 / LARGEST_SCALE
        floor = np.maximum(self.per_scale(smallest, covariance_type), limit)
        if self.links is not None:
            is_linked = self.links.is_linked[: floor.size]
            given = 0.0 if isinstance(min_scale, str) else min_scale
            smallest = np.maximum(self.links.smallest_scale[: floor.size], given)
            floor = np.where(is_linked, smallest, floor)
        return floor


def _by_row(X: Any, statistic: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Compute a statistic of each row of an array, in blocks if it is sparse, ``(n,)``."""
    return np.concatenate([statistic(dense(X, part)) for part in parts_of(X)])
