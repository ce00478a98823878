"""Mean and covariance of rows with missing entries, by the EM algorithm."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skae._data import Rows, Standardization
from skae._fitting.ppca import components_of, factor_noise_of, noise_variance

# Features up to which the covariance is worth its memory. With more, a missing entry counts
# as the mean at the start.
MOST_FEATURES = 1000
# Rows that are enough for a start; fewer of wide data.
_FEWEST_ROWS, _START_ROWS = 200, 5000
# Steps of EM at most, and the gain in nats per row below which they end.
_FEW_STEPS, _MOST_STEPS = 20, 200
_SMALLEST_GAIN = 3e-4
# Multiply-adds of all steps, which bound rows and steps for wide data: some seconds.
_MOST_OPERATIONS = 4e10
# Fixed-point steps of factor analysis within each step of EM.
_FACTOR_STEPS = 3
# Smallest noise of a feature, relative to its variance: no entry is filled without error.
_SMALLEST_NOISE = 1e-6
# Numbers of a block of rows: 32 MB of float64.
_NUMBERS = 2**22


@dataclass(frozen=True)
class Moments:
    """Expected moments of complete rows, in the likelihood's units, float64.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
        Mean, from that of the standardisation.
    covariance : ndarray of shape (n_features, n_features)
        Covariance.
    noise : ndarray of shape (n_features,)
        Variances of the noise of the linear model.
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: np.ndarray


def expected_moments(
    rows: Rows,
    standardization: Standardization,
    n_components: int,
    *,
    is_diagonal: bool = False,
    smallest: float | np.ndarray = 0.0,
    fixed_noise: np.ndarray | None = None,
) -> Moments:
    """Estimate the moments by EM of a linear model with Gaussian noise.

    The missing entries are the unknowns: each step takes the expected first and second
    moments of the complete rows given the observed entries, and fits the model to them in
    closed form. A fixed point is a maximum of the likelihood of the observed entries
    (Dempster, Laird and Rubin 1977), and the closed form of its moments is the model again.

    The noise is one variance for all features (probabilistic PCA, Tipping and Bishop 1999),
    one for each (``is_diagonal``, factor analysis), or given, ``(n_features,)``.
    """
    d = rows.X.shape[1]
    q = min(n_components, d)
    operations_per_row = d * q * (d + q)
    n_affordable = _MOST_OPERATIONS / (_FEW_STEPS * operations_per_row)
    rows = rows.subsample(int(np.clip(n_affordable, _FEWEST_ROWS, _START_ROWS)))
    X = torch.from_numpy(standardization.to_likelihood_units(rows.block()))
    missing = X.isnan()
    X = X.masked_fill(missing, 0.0)
    weight = torch.from_numpy(rows.weight / len(rows))
    share = weight @ (~missing).double()
    # Of a feature that these rows lack, only the variance in all rows is known.
    known = torch.from_numpy(np.square(standardization.std_in_units))
    variance = torch.where(share > 0, (weight @ X.square()) / share, known)
    mean = X.new_zeros(d)
    covariance = (
        X.mT @ (weight[:, None] * X) + (weight @ missing.double() * variance).diag()
    )
    floor = torch.maximum(
        torch.as_tensor(smallest, device="cpu").double(),
        _SMALLEST_NOISE * torch.maximum(variance, _SMALLEST_NOISE * variance.mean()),
    ).clamp_min(torch.finfo(torch.float32).tiny)
    noise = torch.maximum(0.5 * variance, floor)
    last = -np.inf
    n_steps = _MOST_OPERATIONS / (len(X) * operations_per_row + 20 * d**3)
    for _ in range(int(np.clip(n_steps, 3, _MOST_STEPS))):
        if fixed_noise is not None:
            given = torch.from_numpy(np.broadcast_to(fixed_noise, d).copy())
            noise = torch.maximum(given, floor)
        elif is_diagonal:
            fitted = factor_noise_of(
                covariance.numpy(),
                covariance.diagonal().numpy(),
                noise.numpy(),
                q,
                1.0,
                floor.numpy(),
                _FACTOR_STEPS,
            )
            noise = torch.from_numpy(fitted)
        else:
            _, eigenvalues, rest = components_of(covariance.numpy(), q)
            value = noise_variance(eigenvalues, rest, d, 1.0)
            noise = X.new_full((d,), max(value, float(floor.min())))
        deviation = noise.sqrt()
        vectors, eigenvalues, _ = components_of(
            (covariance / deviation / deviation[:, None]).numpy(), q
        )
        loadings = torch.from_numpy(vectors * np.sqrt(np.maximum(eigenvalues - 1.0, 0.0)))
        step = _expect(X, missing, weight, mean, deviation, loadings)
        mean, covariance, log_likelihood = step
        if log_likelihood < last + _SMALLEST_GAIN:
            break
        last = log_likelihood
    return Moments(mean.numpy(), covariance.numpy(), noise.numpy())


def _expect(
    X: Tensor,
    missing: Tensor,
    weight: Tensor,
    mean: Tensor,
    deviation: Tensor,
    loadings: Tensor,
) -> tuple[Tensor, Tensor, float]:
    """Return expected mean and covariance, and the log-likelihood in nats per row.

    The rows are ``(n, d)``, their weights ``(n,)`` add up to 1. The model has a mean
    ``(d,)``, the standard deviation of its noise ``(d,)``, and loadings ``(d, q)`` in units
    of it.
    """
    n, d = X.shape
    q = loadings.shape[1]
    first, second = X.new_zeros(d), X.new_zeros(d, d)
    log_likelihood = 0.0
    size = max(1, _NUMBERS // (q * max(d, q)))
    for rows in torch.arange(n, device="cpu").split(size):
        hidden, w = missing[rows], weight[rows]
        observed = (~hidden).double()
        u = (X[rows] - mean) / deviation * observed
        M = (observed[:, :, None] * loadings).mT @ loadings
        M.diagonal(dim1=1, dim2=2).add_(1.0)
        factor = torch.linalg.cholesky(M)
        # The code's mean, and U U' = M^-1.
        z = torch.cholesky_solve((u @ loadings)[..., None], factor)[..., 0]
        filled = torch.where(hidden, z @ loadings.T, u)
        identity = torch.eye(q, dtype=X.dtype, device="cpu").expand_as(M)
        U = torch.linalg.solve_triangular(factor, identity, upper=False).mT
        # The covariance of what is missing: the code's, and the noise.
        A = torch.where(hidden, w.sqrt()[:, None], 0.0)[..., None] * (loadings @ U)
        A = A.transpose(0, 1).flatten(1)
        first += w @ filled
        second += filled.mT @ (w[:, None] * filled) + A @ A.T
        second.diagonal().add_(w @ hidden.double())
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        constant = observed @ (2 * deviation.log() + np.log(2 * np.pi))
        quadratic = (u * (u - z @ loadings.T)).sum(dim=1)
        log_likelihood -= 0.5 * float(w @ (constant + log_det + quadratic))
    covariance = (second - first[:, None] * first) * deviation * deviation[:, None]
    return mean + first * deviation, covariance, log_likelihood
