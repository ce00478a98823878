"""Probabilistic PCA in closed form, and factor analysis in a few steps from it."""

from dataclasses import replace

import numpy as np
import scipy.linalg
import torch
from sklearn.utils.extmath import randomized_svd

from skae._data import BLOCK_NUMBERS, Rows, Standardization
from skae._fitting.sparse_ppca import is_large_sparse, sparse_components

# Rows that are enough for a start.
_START_ROWS = 10_000
# Size of the smaller side of the data beyond which the decomposition is randomised.
_EXACT_SIZE = 2000
# Ratio of the variances of two features from which on the covariance has lost the smaller
# one's digits, because the product of the data has squared the ratio of the spreads.
_LARGEST_RATIO = 1e10
# Size of the smaller side of the data beyond which an exact decomposition of the data, in
# place of their covariance, takes too long.
_PRECISE_SIZE = 500
# Features up to which a step of factor analysis is an eigendecomposition of the covariance,
# which takes a tenth of a second here and grows with their cube. For more features, a
# subspace follows the leading components from step to step.
_FACTOR_FEATURES = 1000
# Dimensions of that subspace beyond the components, which speed up its convergence.
_FURTHER_DIMENSIONS = 10
# Numbers of the rows from which a subspace is found: a step takes a tenth of a second.
_SUBSPACE_NUMBERS = 10**7
# Steps before the first noise, while the subspace is still far from the components.
_FIRST_STEPS = 4
# Fixed-point steps of factor analysis; the training goes on from their result.
_FACTOR_STEPS = 30


def principal_components(
    rows: Rows, standardization: Standardization, n_components: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Decompose the covariance in the likelihood's units, of a subsample of many rows.

    Returns eigenvectors ``(n_features, q)``, falling eigenvalues ``(q,)``, and the sum of
    the other eigenvalues; q is at most ``min(n_components, n_features, n)``.
    """
    rows = rows.subsample(_START_ROWS)
    n, d = len(rows), rows.X.shape[1]
    q = min(n_components, n, d)
    if is_wide_sparse(rows):
        return sparse_components(rows, standardization, q)
    if min(n, d) > _EXACT_SIZE:
        A = _scaled(rows, standardization)
        _, singular, Vt = randomized_svd(A, q, random_state=0)
        eigenvalues = np.square(singular)
        return Vt.T, eigenvalues, max(float(np.square(A).sum() - eigenvalues.sum()), 0.0)
    if d <= n:
        # Block by block, to avoid a scaled copy of all rows at once.
        size = max(d, BLOCK_NUMBERS // d)
        parts = [slice(first, first + size) for first in range(0, n, size)]
        blocks = (_scaled(rows, standardization, part) for part in parts)
        gram = sum((_product(A.T, A) for A in blocks), np.zeros((d, d)))
        variances = np.diagonal(gram)
        if d <= _PRECISE_SIZE and _differ_too_much(variances):
            A = _scaled(rows, standardization)
            _, singular, Vt = scipy.linalg.svd(A, full_matrices=False)
            eigenvalues = np.square(singular)
            return Vt[:q].T, eigenvalues[:q], float(eigenvalues[q:].sum())
    else:
        A = _scaled(rows, standardization)
        gram = _product(A, A.T)
    vectors, eigenvalues, rest = components_of(gram, q)
    if d > n:
        norms = np.sqrt(np.maximum(eigenvalues, np.finfo(float).tiny))
        vectors = (A.T @ vectors) / norms
    return vectors, eigenvalues, rest


def is_wide_sparse(rows: Rows) -> bool:
    """Whether only a few principal components are affordable, since rows stay sparse."""
    n, d = min(rows.total, _START_ROWS), rows.X.shape[1]
    return is_large_sparse(rows.X, n) and (min(n, d) > _EXACT_SIZE or d > n)


def components_of(
    gram: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Decompose a covariance ``(m, m)``; see `principal_components`."""
    eigenvalues, vectors = _leading(gram, n_components)
    eigenvalues = np.maximum(eigenvalues[::-1], 0.0)
    rest = max(float(np.trace(gram) - eigenvalues.sum()), 0.0)
    return vectors[:, ::-1], eigenvalues, rest


def _leading(gram: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues ``(q,)``, rising, and their vectors ``(m, q)``.

    Raises ValueError if the matrix ``(m, m)`` is not finite.
    """
    size = len(gram)
    eigenvalues, vectors = scipy.linalg.eigh(
        gram, subset_by_index=[size - n_components, size - 1]
    )
    return eigenvalues, vectors


def _differ_too_much(variances: np.ndarray) -> bool:
    """Whether variances ``(d,)`` make a decomposition of the covariance inaccurate."""
    smallest = variances[variances > 0].min(initial=np.inf)
    return bool(variances.max() > _LARGEST_RATIO * smallest)


def noise_variance(
    eigenvalues: np.ndarray, rest: float, n_features: int, beta: float
) -> float:
    """Return the noise variance of linear beta-VAE with a free scale, in closed form.

    The q components with ``eigenvalue > beta * noise`` are kept, and
    ``noise = (sum of the others) / (n_features - q * beta)``. For beta = 1 it is
    probabilistic PCA (Tipping and Bishop 1999, eq. 8). The leading eigenvalues ``(q_max,)``
    fall; ``rest`` is the sum of the others of all ``n_features``.
    """
    for q in range(len(eigenvalues), 0, -1):
        if n_features > q * beta:
            noise = rest / (n_features - q * beta)
            if eigenvalues[q - 1] > beta * noise:
                return noise
        rest += eigenvalues[q - 1]
    return rest / n_features


def factor_noise(
    rows: Rows,
    standardization: Standardization,
    n_components: int,
    beta: float,
    smallest: np.ndarray,
) -> np.ndarray:
    """Estimate the noise variances of a linear beta-VAE with a scale per feature.

    Fixed-point steps of maximum-likelihood factor analysis: PCA of the data in units of
    their noise, then the noise that the kept components leave (Barber 2012, section
    21.2.2). The result ``(n_features,)``, in the likelihood's units, is a start for
    training and not the exact optimum. ``smallest``, ``(1, n_features)``, bounds it.
    """
    d = rows.X.shape[1]
    q, smallest = min(n_components, d), smallest[0]
    if d > _FACTOR_FEATURES:
        most = max(_SUBSPACE_NUMBERS // d, 1)
        A = _scaled(rows.subsample(min(most, _START_ROWS)), standardization)
        variance = np.square(A).sum(axis=0)
        noise = np.maximum(0.5 * variance, smallest)
        return _factor_noise_of_rows(A, variance, noise, q, beta, smallest)
    rows = rows.subsample(_START_ROWS)
    if len(rows) < d:
        A = _scaled(rows, standardization)
        return _factor_noise_of_few_rows(A, q, beta, smallest)
    parts = rows.parts() if is_large_sparse(rows.X, len(rows)) else [slice(None)]
    variance, covariance = np.zeros(d), np.zeros((d, d))
    for part in parts:
        A = _scaled(rows, standardization, part)
        variance += np.square(A).sum(axis=0)
        covariance += _product(A.T, A)
    noise = np.maximum(0.5 * variance, smallest)
    return factor_noise_of(covariance, variance, noise, q, beta, smallest)


def _factor_noise_of_few_rows(
    A: np.ndarray, n_components: int, beta: float, smallest: np.ndarray
) -> np.ndarray:
    """Take the steps of `factor_noise_of` from rows A ``(n, n_features)``, few of them.

    The products of the rows have the eigenvalues of the covariance, and are smaller.
    """
    variance = np.square(A).sum(axis=0)
    noise = np.maximum(0.5 * variance, smallest)
    q = min(n_components, len(A))
    for _ in range(_FACTOR_STEPS):
        scaled = A / np.sqrt(noise)
        eigenvalues, vectors = _leading(_product(scaled, scaled.T), q)
        # Those that are not kept may be 0, and have no vector among the features.
        share = np.maximum(eigenvalues - beta, 0.0) / np.maximum(eigenvalues, beta)
        kept = np.square(_product(scaled.T, vectors)) @ share
        noise = np.maximum(variance - noise * kept, smallest)
    return noise


def factor_noise_of(
    covariance: np.ndarray,
    variance: np.ndarray,
    noise: np.ndarray,
    n_components: int,
    beta: float,
    smallest: np.ndarray,
    n_steps: int = _FACTOR_STEPS,
) -> np.ndarray:
    """Take fixed-point steps of factor analysis from a noise ``(n_features,)``.

    ``variance`` is the diagonal of the covariance ``(n_features, n_features)``.
    """
    d = len(covariance)
    n_components = min(n_components, d)
    for _ in range(n_steps):
        deviation = np.sqrt(noise)
        whitened = covariance / deviation / deviation[:, None]
        eigenvalues, vectors = _leading(whitened, n_components)
        kept = np.square(vectors) @ np.maximum(eigenvalues - beta, 0.0)
        noise = np.maximum(variance - noise * kept, smallest)
    return noise


def _factor_noise_of_rows(
    A: np.ndarray,
    variance: np.ndarray,
    noise: np.ndarray,
    n_components: int,
    beta: float,
    smallest: np.ndarray,
) -> np.ndarray:
    """Take fixed-point steps as `factor_noise_of` does, from rows A ``(n, n_features)``.

    Each step is one of subspace iteration, too (Halko, Martinsson and Tropp 2011), so that
    no matrix of ``n_features`` squared is needed.
    """
    n, d = A.shape
    size = min(n_components + _FURTHER_DIMENSIONS, n, d)
    loadings = np.random.RandomState(0).normal(size=(d, size))
    for step in range(_FIRST_STEPS + _FACTOR_STEPS):
        deviation = np.sqrt(noise)[:, None]
        basis, _ = scipy.linalg.qr(loadings / deviation, mode="economic")
        left = _product(A, basis / deviation)  # (n, size)
        _, singular, Vt = scipy.linalg.svd(left, full_matrices=False)
        if step >= _FIRST_STEPS:
            vectors = (basis @ Vt.T)[:, :n_components]
            kept = np.maximum(np.square(singular[:n_components]) - beta, 0.0)
            noise = np.maximum(variance - noise * (np.square(vectors) @ kept), smallest)
        # In the units of the data, because the noise that they are divided by changes.
        loadings = _product(A.T, left)
    return noise


def variance_of(rows: Rows, standardization: Standardization) -> np.ndarray:
    """Return the variance of rows around the mean, in the likelihood's units, ``(d,)``."""
    rows = rows.subsample(_START_ROWS)
    squared = (np.square(_scaled(rows, standardization, part)) for part in rows.parts())
    return sum((block.sum(axis=0) for block in squared), np.zeros(rows.X.shape[1]))


def winsorized(rows: Rows, standardization: Standardization) -> Rows:
    """Reduce the weight of outlying rows, for a start that they do not determine.

    A row beyond the median distance from the mean counts as if it were moved to that
    distance: principal components of such rows are spherical PCA (Locantore et al. 1999),
    except for the inner half. Many rows are subsampled.
    """
    rows = rows.subsample(_START_ROWS)
    squared = np.concatenate(
        [_squared_norms(block, standardization) for block in rows.blocks()]
    )
    median, factor = np.median(squared), np.ones(len(squared))
    np.divide(median, squared, out=factor, where=squared > median)
    return replace(rows, weight=rows.weight * factor)


def _squared_norms(block: np.ndarray, standardization: Standardization) -> np.ndarray:
    """Return the squared norms of centred rows, in the likelihood's units, ``(m,)``."""
    squared = np.square(standardization.to_likelihood_units(block))
    missing = np.isnan(squared)
    if missing.any():
        # A missing entry counts like the mean of the others.
        mean = np.nanmean(squared, axis=1, keepdims=True)
        squared = np.where(missing, mean, squared)
    return squared.sum(axis=1)


def _product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Multiply two matrices with the current number of torch's threads.

    If other processes compute, numpy's threads wait for each other a hundred times as long
    as the product takes.
    """
    return (torch.from_numpy(A) @ torch.from_numpy(B)).numpy()


def _scaled(
    rows: Rows, standardization: Standardization, part: slice = slice(None)
) -> np.ndarray:
    """Centre and scale rows: A ``(m, n_features)``, such that A'A is the covariance.

    A missing entry counts as the mean.
    """
    A = standardization.to_likelihood_units(rows.block(part))
    if rows.has_missing:
        A[np.isnan(A)] = 0.0
    A *= np.sqrt(rows.weight[part] / len(rows))[:, None]
    return A
