"""Probabilistic PCA in closed form, and factor analysis in a few steps from it."""

from dataclasses import replace

import numpy as np
import scipy.linalg
import torch
from sklearn.utils.extmath import randomized_svd

from skae._rows import Rows
from skae._units import Units

# Rows that are enough for a start.
_START_ROWS = 10_000
# Numbers that are scaled together.
_BLOCK_NUMBERS = 2**18
# Beyond this size of the smaller side, a randomised decomposition.
_EXACT_SIZE = 2000
# Factor analysis is worth its steps up to this number of features.
_FACTOR_FEATURES = 1000
_FACTOR_STEPS = 30


def principal_components(
    rows: Rows, units: Units, n_components: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Eigenvalues and eigenvectors of the covariance, in the likelihood's units.

    Parameters
    ----------
    rows : Rows
        Data; evenly spaced ones of them, if they are many.
    units : Units
        Statistics of the data.
    n_components : int
        Number of components wanted.

    Returns
    -------
    components : ndarray of shape (n_features, q)
        Eigenvectors; q is ``min(n_components, n_features, n)`` at most.
    eigenvalues : ndarray of shape (q,)
        Their eigenvalues, falling.
    total : float
        Sum of all eigenvalues.
    """
    rows = rows.thin(_START_ROWS)
    n, d = len(rows), rows.X.shape[1]
    q = min(n_components, n, d)
    if min(n, d) > _EXACT_SIZE:
        A = _scaled(rows, units)
        _, singular, Vt = randomized_svd(A, q, random_state=0)
        return Vt.T, np.square(singular), float(np.square(A).sum())
    if d <= n:
        # Block by block: a scaled copy of all rows at once is not needed.
        size = max(d, _BLOCK_NUMBERS // d)
        parts = [slice(first, first + size) for first in range(0, n, size)]
        blocks = (_scaled(rows, units, part) for part in parts)
        gram = sum((_product(A.T, A) for A in blocks), np.zeros((d, d)))
    else:
        A = _scaled(rows, units)
        gram = _product(A, A.T)
    size = len(gram)
    eigenvalues, vectors = scipy.linalg.eigh(gram, subset_by_index=[size - q, size - 1])
    eigenvalues = np.maximum(eigenvalues[::-1], 0.0)
    vectors = vectors[:, ::-1]
    if d > n:
        norms = np.sqrt(np.maximum(eigenvalues, np.finfo(float).tiny))
        vectors = (A.T @ vectors) / norms
    return vectors, eigenvalues, float(np.trace(gram))


def noise_variance(
    eigenvalues: np.ndarray, total: float, n_features: int, beta: float
) -> float:
    """Noise variance of linear beta-VAE with a free scale, in closed form.

    The q components with ``eigenvalue > beta * noise`` are kept, and
    ``noise = (sum of the others) / (n_features - q * beta)``. For beta = 1 it is
    probabilistic PCA (Tipping and Bishop 1999, eq. 8).

    Parameters
    ----------
    eigenvalues : ndarray of shape (q_max,)
        Leading eigenvalues of the covariance, falling.
    total : float
        Sum of all eigenvalues.
    n_features : int
        Number of all eigenvalues.
    beta : float
        Weight of the KL term.

    Returns
    -------
    float
        The variance.
    """
    for q in range(len(eigenvalues), 0, -1):
        rest = max(total - eigenvalues[:q].sum(), 0.0)
        if n_features > q * beta:
            noise = rest / (n_features - q * beta)
            if eigenvalues[q - 1] > beta * noise:
                return noise
    return total / n_features


def factor_noise(
    rows: Rows, units: Units, n_components: int, beta: float, smallest: np.ndarray
) -> np.ndarray:
    """Noise variance of each feature of a linear beta-VAE with a scale per feature.

    Fixed-point steps of maximum-likelihood factor analysis: PCA of the data in units of
    their noise, then the noise that the kept components leave (Barber 2012, section
    21.2.2). A start for training, not the optimum to the last digit.

    Parameters
    ----------
    rows : Rows
        Data; evenly spaced ones of them, if they are many.
    units : Units
        Statistics of the data.
    n_components : int
        Number of components.
    beta : float
        Weight of the KL term.
    smallest : ndarray of shape (1, n_features)
        Smallest variance.

    Returns
    -------
    ndarray of shape (n_features,)
        Variances in the likelihood's units.
    """
    A = _scaled(rows.thin(_START_ROWS), units)
    variance = np.square(A).sum(axis=0)
    d = len(variance)
    q = min(n_components, d)
    smallest = smallest[0]
    noise = np.maximum(0.5 * variance, smallest)
    if d > _FACTOR_FEATURES:
        return noise
    covariance = _product(A.T, A)
    for _ in range(_FACTOR_STEPS):
        deviation = np.sqrt(noise)
        whitened = covariance / deviation / deviation[:, None]
        eigenvalues, vectors = scipy.linalg.eigh(whitened, subset_by_index=[d - q, d - 1])
        kept = np.square(vectors) @ np.maximum(eigenvalues - beta, 0.0)
        noise = np.maximum(variance - noise * kept, smallest)
    return noise


def winsorized(rows: Rows, units: Units) -> Rows:
    """Rows with less weight the further out they are, for a start that outliers spare.

    A row beyond the median distance from the mean counts as if it were pulled in to it:
    principal components of such rows are spherical PCA (Locantore et al. 1999), but for
    the inner half.

    Parameters
    ----------
    rows : Rows
        Data.
    units : Units
        Statistics of the data.

    Returns
    -------
    Rows
        Evenly spaced ones of them, if they are many, with new weights.
    """
    rows = rows.thin(_START_ROWS)
    squared = np.square((rows.X[rows.index] - units.mean) / units.unit).sum(axis=1)
    factor = np.median(squared) / np.maximum(squared, np.finfo(float).tiny)
    return replace(rows, weight=rows.weight * np.minimum(factor, 1.0))


def _product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A times B, with as many threads as torch has now.

    Those of numpy wait for each other, a hundred times as long as this takes, where other
    processes compute.
    """
    return (torch.from_numpy(A) @ torch.from_numpy(B)).numpy()


def _scaled(rows: Rows, units: Units, part: slice = slice(None)) -> np.ndarray:
    """Centred rows in the likelihood's units, of which A'A is the covariance."""
    A = (rows.X[rows.index[part]] - units.mean) / units.unit
    A *= np.sqrt(rows.weight[part] / len(rows))[:, None]
    return A
