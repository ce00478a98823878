"""What the training data say of units: centre, spread and resolution of the features."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from skae._rows import Rows

# Rows that are enough to see how finely a feature was measured.
_RESOLUTION_ROWS = 1000
# Smallest scale in the likelihood's units that float32 residuals can support.
_SMALLEST = 1e-6
# Largest one to compute with, and the inverse of the smallest: float32 holds their squares.
_LARGEST = 1e15
# Numbers that are looked at together.
_CHUNK_NUMBERS = 2**18


@dataclass(frozen=True)
class Units:
    """Centre, spread and resolution of each feature, in the units of X, float64.

    Attributes
    ----------
    mean, std : ndarray of shape (n_features,)
        Weighted mean and standard deviation. The deviation of a constant feature is
        replaced by the root mean square of the others'.
    unit : ndarray of shape (n_features,)
        What the likelihood's units are multiples of: one number for a spherical scale,
        the feature's own deviation for a diagonal one.
    resolution : ndarray of shape (n_features,)
        Smallest distance between two different values of a feature.
    """

    mean: np.ndarray
    std: np.ndarray
    unit: np.ndarray
    resolution: np.ndarray

    @classmethod
    def identity(cls, n_features: int) -> "Units":
        """Units that change nothing.

        Parameters
        ----------
        n_features : int
            Number of features.

        Returns
        -------
        Units
            Mean 0, all else 1.
        """
        ones = np.ones(n_features)
        return cls(np.zeros(n_features), ones, ones, ones)

    @property
    def ratio(self) -> np.ndarray:
        """Standard deviation of each feature in the likelihood's units."""
        return self.std / self.unit

    @property
    def log_unit(self) -> float:
        """What a log-density loses on the way from the likelihood's units to X's."""
        return float(np.log(self.unit).sum())

    def per_scale(self, values: np.ndarray, covariance_type: str) -> np.ndarray:
        """A number per feature as a number per scale, in the likelihood's units.

        Parameters
        ----------
        values : ndarray of shape (n_features,)
            In the units of X.
        covariance_type : {"spherical", "diag"}
            Whether all features share one scale; then the smallest value stands for all.

        Returns
        -------
        ndarray of shape (1, 1) or (1, n_features)
            In the likelihood's units.
        """
        values = (values / self.unit).reshape(1, -1)
        if covariance_type == "spherical":
            return values.min(axis=1, keepdims=True)
        return values

    def check_proportion(
        self, name: str, scale: ArrayLike, smallest: float = 1 / _LARGEST
    ) -> None:
        """Refuse a scale that is out of proportion to the data.

        Parameters
        ----------
        name : str
            Of the parameter.
        scale : float or array-like of shape (n_features,)
            In the units of X.
        smallest : float
            Smallest ratio of it to the likelihood's units.

        Raises
        ------
        ValueError
            If float32 cannot compute with it in the likelihood's units.
        """
        with np.errstate(over="ignore", under="ignore"):
            ratio = np.asarray(scale, dtype=np.float64) / self.unit
        if not ((ratio >= smallest) & (ratio <= _LARGEST)).all():
            typical = np.sqrt(np.mean(np.square(self.unit)))
            raise ValueError(
                f"{name}={scale!r} is out of proportion to X, whose standard deviation is "
                f"about {typical:.3g}; their ratio must be between {smallest:g} and "
                f"{_LARGEST:g}."
            )

    def floor(self, min_scale: float | str, covariance_type: str) -> np.ndarray:
        """Smallest scale, in the likelihood's units.

        Parameters
        ----------
        min_scale : float or "auto"
            In the units of X; "auto" is the standard deviation of rounding to the data's
            own resolution.
        covariance_type : {"spherical", "diag"}
            Whether all features share one scale.

        Returns
        -------
        ndarray of shape (1, 1) or (1, n_features)
            The floor.
        """
        if isinstance(min_scale, str):
            smallest = self.resolution / math.sqrt(12)
        else:
            smallest = np.full_like(self.unit, min_scale)
        return np.maximum(self.per_scale(smallest, covariance_type), _SMALLEST)


def measure(rows: Rows, covariance_type: str) -> Units:
    """Centre, spread and resolution of some rows.

    Parameters
    ----------
    rows : Rows
        Data.
    covariance_type : {"spherical", "diag"}
        Whether all features share one scale.

    Returns
    -------
    Units
        The statistics.
    """
    X, index = rows.X, rows.index
    share = rows.weight[:, None] / len(rows)
    size = max(1, _CHUNK_NUMBERS // X.shape[1])
    chunks = [slice(i, i + size) for i in range(0, len(rows), size)]
    # In two passes: the second one centres, so that an offset costs no digits. What the
    # first pass left of the mean is added to it.
    pivot = X[index[0]].astype(np.float64)
    mean = pivot + sum((share[c] * (X[index[c]] - pivot)).sum(axis=0) for c in chunks)
    variance = np.zeros_like(mean)
    magnitude = np.zeros_like(mean)
    for c in chunks:
        block = X[index[c]]
        variance += (share[c] * np.square(block - mean)).sum(axis=0)
        np.maximum(magnitude, np.abs(block).max(axis=0), out=magnitude)
    std = np.sqrt(variance)

    if not np.isfinite(std).all():
        raise ValueError("X has values whose squares overflow float64; rescale it.")

    rounding = 16 * np.finfo(X.dtype).eps * magnitude
    constant = std <= rounding
    typical = float(np.sqrt(np.mean(variance[~constant]))) if not constant.all() else 1.0
    std[constant] = typical
    unit = std if covariance_type == "diag" else np.full_like(std, typical)
    return Units(mean, std, unit, _resolution(rows, constant, rounding, typical))


def _resolution(
    rows: Rows,
    constant: np.ndarray,
    rounding: np.ndarray,
    typical: float,
) -> np.ndarray:
    """Smallest gap between different values of each feature, of constant ones too."""
    index = rows.index
    if len(index) > _RESOLUTION_ROWS:
        index = np.random.RandomState(0).choice(index, _RESOLUTION_ROWS, replace=False)
    gaps = np.diff(np.sort(rows.X[index].astype(np.float64), axis=0), axis=0)
    gaps[gaps <= rounding] = np.inf
    resolution = gaps.min(axis=0, initial=np.inf)
    # A feature that shows no gap is taken to be as fine as the finest other one.
    known = np.isfinite(resolution) & ~constant
    return np.where(known, resolution, resolution[known].min() if known.any() else typical)
