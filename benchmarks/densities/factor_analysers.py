"""Fit a mixture of factor analysers by expectation maximisation."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans

# Updates of the loadings and the noise for each update of the responsibilities. They cost
# little, because they need only the covariance of each component.
_INNER_STEPS = 3
# Smallest share of a row in a component, so that no weight is zero.
_SMALLEST_COUNT = 1e-8


class MixtureOfFactorAnalysers(BaseEstimator):
    """Mixture of normals with covariances of low rank plus a diagonal.

    Each component j has a mean, loadings W_j of `n_factors` columns and a diagonal noise
    P_j: x ~ sum_j w_j N(m_j, W_j W_j' + P_j) (Ghahramani and Hinton 1996). After the
    responsibilities, weights and means are updated, then loadings and noise by steps of
    EM for factor analysis on the covariance of the component. No step decreases the
    likelihood.

    `min_noise` is the smallest variance of the noise, in squared units of X. The fit ends
    when the mean log-likelihood of an iteration gains less than `tol` (nats).
    """

    def __init__(
        self,
        n_components: int = 1,
        n_factors: int = 1,
        *,
        min_noise: float = 1e-3,
        tol: float = 1e-4,
        max_iter: int = 300,
        random_state: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_factors = n_factors
        self.min_noise = min_noise
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: None = None) -> MixtureOfFactorAnalysers:
        """Fit to X, (n, d), from the clusters of k-means."""
        labels = KMeans(self.n_components, n_init=1, random_state=self.random_state)
        responsibilities = np.eye(self.n_components)[labels.fit_predict(X)]
        covariances = self._update_means(X, responsibilities)
        self._start(covariances)
        self.history_: list[float] = []
        for _ in range(self.max_iter):
            log_joint = self._log_joint(X)
            log_density = logsumexp(log_joint, axis=1)
            self.history_.append(float(log_density.mean()))
            if len(self.history_) > 1 and self.history_[-1] - self.history_[-2] < self.tol:
                break
            responsibilities = np.exp(log_joint - log_density[:, None])
            covariances = self._update_means(X, responsibilities)
            for _ in range(_INNER_STEPS):
                self._update_factors(covariances)
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Return the log-density of each row (nats), (n,)."""
        return logsumexp(self._log_joint(X), axis=1)

    def score(self, X: np.ndarray, y: None = None) -> float:
        """Return the mean log-density (nats)."""
        return float(self.score_samples(X).mean())

    @property
    def covariances_(self) -> np.ndarray:
        """Covariances of the components, (n_components, d, d)."""
        low_rank = self.loadings_ @ self.loadings_.transpose(0, 2, 1)
        return low_rank + self.noise_[:, :, None] * np.eye(self.noise_.shape[1])

    def _start(self, covariances: np.ndarray) -> None:
        """Start with the principal axes of each component, (n_components, d, d)."""
        values, vectors = np.linalg.eigh(covariances)
        values, vectors = values[:, ::-1], vectors[:, :, ::-1]
        q = self.n_factors
        rest = values[:, q:].mean(axis=1) if q < values.shape[1] else np.zeros(len(values))
        scales = np.sqrt(np.maximum(values[:, :q] - rest[:, None], self.min_noise))
        self.loadings_ = vectors[:, :, :q] * scales[:, None, :]  # (n_components, d, q)
        explained = np.square(self.loadings_).sum(axis=2)
        diagonal = np.diagonal(covariances, axis1=1, axis2=2)
        self.noise_ = np.maximum(diagonal - explained, self.min_noise)

    def _update_means(self, X: np.ndarray, responsibilities: np.ndarray) -> np.ndarray:
        """Update weights and means; return the covariances (n_components, d, d)."""
        counts = responsibilities.sum(axis=0) + _SMALLEST_COUNT
        self.weights_ = counts / counts.sum()
        self.means_ = responsibilities.T @ X / counts[:, None]
        covariances = []
        for share, count, mean in zip(responsibilities.T, counts, self.means_, strict=True):
            centred = (X - mean) * np.sqrt(share)[:, None]
            covariances.append(centred.T @ centred / count)
        return np.stack(covariances)

    def _update_factors(self, covariances: np.ndarray) -> None:
        """Take a step of EM for factor analysis in each component (Rubin, Thayer 1982)."""
        # Regression of the factors on the features, (n_components, q, d).
        projection = np.linalg.solve(self.covariances_, self.loadings_).transpose(0, 2, 1)
        cross = covariances @ projection.transpose(0, 2, 1)  # (n_components, d, q)
        second = projection @ (cross - self.loadings_)
        second = second + np.eye(self.n_factors)  # (n_components, q, q)
        self.loadings_ = np.linalg.solve(
            second.transpose(0, 2, 1), cross.transpose(0, 2, 1)
        ).transpose(0, 2, 1)
        diagonal = np.diagonal(covariances, axis1=1, axis2=2)
        explained = (self.loadings_ * cross).sum(axis=2)
        self.noise_ = np.maximum(diagonal - explained, self.min_noise)

    def _log_joint(self, X: np.ndarray) -> np.ndarray:
        """Return the log-density of each row and component, weight included, (n, j)."""
        columns = []
        factors = np.linalg.cholesky(self.covariances_)
        for weight, mean, factor in zip(self.weights_, self.means_, factors, strict=True):
            # A product with the inverse is many times faster than n solutions.
            inverse = solve_triangular(factor, np.eye(len(mean)), lower=True)
            white = (X - mean) @ inverse.T  # (n, d)
            log_det = 2 * np.log(np.diagonal(factor)).sum()
            constant = np.log(weight) - (len(mean) * np.log(2 * np.pi) + log_det) / 2
            columns.append(constant - np.square(white).sum(axis=1) / 2)
        return np.stack(columns, axis=1)
