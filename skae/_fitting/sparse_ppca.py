"""Principal components of sparse rows, which are never dense together."""

from typing import Any

import numpy as np
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, svds

from skae._data import Rows, Standardization

# Numbers of rows that may be dense together, as those of a dense array are: 128 MB of
# float64.
_DENSE_NUMBERS = 2**24
# Part of the sum of squares of a feature below which the variance is a rounding error.
_ROUNDING = 16 * np.finfo(np.float64).eps


def is_large_sparse(X: Any, n: int) -> bool:
    """Whether X ``(n_samples, n_features)`` is sparse, and n rows are too many as dense."""
    return issparse(X) and n * X.shape[1] > _DENSE_NUMBERS


def sparse_components(
    rows: Rows, standardization: Standardization, n_components: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Decompose the covariance by products of the sparse rows with vectors.

    See `principal_components`; with n components of n rows or features, one is left out. A
    missing entry counts as the mean.
    """
    mean, unit = standardization.mean, standardization.location_unit
    X = rows.X[rows.index].astype(np.float64, copy=False)
    missing = np.isnan(X.data)
    X.data[missing] = mean[X.indices[missing]]
    weight = np.sqrt(rows.weight / len(rows))

    def matmat(V: np.ndarray) -> np.ndarray:
        V = V / unit[:, None]
        return weight[:, None] * (X @ V - mean @ V)

    def rmatmat(U: np.ndarray) -> np.ndarray:
        U = weight[:, None] * U
        return (X.T @ U - np.outer(mean, U.sum(axis=0))) / unit[:, None]

    A = LinearOperator(
        X.shape,
        matvec=lambda v: matmat(v.reshape(-1, 1))[:, 0],
        rmatvec=lambda u: rmatmat(u.reshape(-1, 1))[:, 0],
        matmat=matmat,
        rmatmat=rmatmat,
        dtype=np.float64,
    )
    total = _total(X, mean, unit, weight)
    if not total > 0:
        # ARPACK needs a matrix that is not 0.
        return np.eye(X.shape[1], n_components), np.zeros(n_components), 0.0
    q = min(n_components, min(X.shape) - 1)
    # ARPACK begins with a vector that is not orthogonal to any component.
    start = np.random.RandomState(0).standard_normal(min(X.shape))
    _, singular, Vt = svds(A, k=q, v0=start)
    order = np.argsort(singular)[::-1]
    eigenvalues = np.square(singular[order])
    return Vt[order].T, eigenvalues, max(total - float(eigenvalues.sum()), 0.0)


def _total(X: Any, mean: np.ndarray, unit: np.ndarray, weight: np.ndarray) -> float:
    """Return the sum of the squares of centred and weighted rows.

    A variance that is a rounding error counts as 0.
    """
    squared = np.square(weight)
    first, second = X.T @ squared, X.power(2).T @ squared
    total = second - 2 * mean * first + np.square(mean) * squared.sum()
    total[total <= _ROUNDING * second] = 0.0
    return float((total / np.square(unit)).sum())
