"""Turn densities of a variational autoencoder into masses of counts and categories.

A density cannot be compared with a mass. But a model with a density becomes a model of
counts if its draws are rounded, and of categories if the largest of their columns decides.
The mass of a value is then the probability that a draw becomes this value. Given the code,
features are independent, so this probability follows from distribution functions; the
importance-weighted bound is the mean over codes.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from skae import VariationalAutoencoder
from skae.likelihoods import (
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    LogisticLikelihood,
    MixtureLikelihood,
)

# Smallest mass of an element; a normal density has less beyond 37 standard deviations.
_SMALLEST_MASS = 1e-300
# Edges of the grid on which columns of 0 and 1 are compared. The scale of such a column is
# at least the rounding error, 0.29, so the grid is fine.
_EDGES = torch.cat(
    [
        torch.tensor([-math.inf], dtype=torch.float64),
        torch.linspace(-2.5, 3.5, 49, dtype=torch.float64),
        torch.tensor([math.inf], dtype=torch.float64),
    ]
)


def _normal_cdf(t: Tensor) -> Tensor:
    """Return the distribution function of N(0, 1), with all digits of the lower tail."""
    # Not _normal_cdf, which is 0 below -8.
    return 0.5 * torch.erfc(-t / math.sqrt(2))


def _laplace_cdf(t: Tensor) -> Tensor:
    """Return the distribution function of the standard Laplace density."""
    tail = 0.5 * torch.exp(-t.abs())
    return torch.where(t < 0, tail, 1 - tail)


_CDF: dict[object, Callable[[Tensor], Tensor]] = {
    GaussianLikelihood: _normal_cdf,
    LaplaceLikelihood: _laplace_cdf,
    LogisticLikelihood: torch.sigmoid,
    "gaussian": _normal_cdf,
    "laplace": _laplace_cdf,
    "logistic": torch.sigmoid,
}


def standard_mass(likelihood: Likelihood, low: Tensor, high: Tensor) -> Tensor:
    """Return the probability of intervals of the standard variate, ``(..., d)``."""
    if not isinstance(likelihood, MixtureLikelihood):
        return _symmetric_mass(_CDF[type(likelihood)], low, high)
    offset, h, logit = likelihood._shape(low)  # each (K, n, d)
    width = torch.exp(h.clamp(max=0)) + torch.relu(h) + 1
    cdf = _CDF[likelihood.component]
    masses = [
        weight * _symmetric_mass(cdf, low / w - shift, high / w - shift)
        for weight, w, shift in zip(logit.softmax(dim=0), width, offset, strict=True)
    ]
    return torch.stack(masses).sum(dim=0)


def _symmetric_mass(cdf: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Return the mass of an interval, computed in the lower tail of a symmetric density."""
    is_upper = low + high > 0
    low, high = torch.where(is_upper, -high, low), torch.where(is_upper, -low, high)
    return cdf(high) - cdf(low)


@dataclass(frozen=True)
class GivenCode:
    """The densities of the features given codes, in the units of X.

    `loc` and `log_scale` are ``(n, d)`` or broadcast, in the units of the likelihood.
    """

    likelihood: Likelihood
    loc: Tensor
    log_scale: Tensor
    mean: Tensor  # (d,)
    unit: Tensor

    def log_density(self, X: np.ndarray) -> np.ndarray:
        """Return the log-density of each element of X, ``(n, d)``."""
        x = (torch.as_tensor(X) - self.mean) / self.unit
        log_density = self.likelihood.log_prob(x, self.loc, self.log_scale)
        return (log_density - torch.log(self.unit)).numpy()

    def mass(self, low: np.ndarray | Tensor, high: np.ndarray | Tensor) -> np.ndarray:
        """Return the probability of an interval for each element, ``(..., n, d)``."""
        ends = (self._standardize(torch.as_tensor(x)) for x in (low, high))
        return standard_mass(self.likelihood, *ends).numpy()

    def _standardize(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.unit - self.loc) * torch.exp(-self.log_scale)


# Function of the densities given a code of each row, with results ``(n,)``.
LogConditional = Callable[[GivenCode], np.ndarray]


def decoder(model: VariationalAutoencoder) -> Callable[[np.ndarray], GivenCode]:
    """Return a function of codes, ``(n, k)``, with the densities given these codes."""
    module = copy.deepcopy(model.module_).double()
    standardization = model._standardization
    mean, unit = (
        torch.as_tensor(np.asarray(x, dtype=float))
        for x in (standardization.mean, standardization.likelihood_unit)
    )

    def decode(Z: np.ndarray) -> GivenCode:
        with torch.no_grad():
            loc, outputs = module.decode(torch.as_tensor(Z))
            likelihood, log_scale = module.conditional(outputs)
        return GivenCode(likelihood, loc, log_scale, mean, unit)

    return decode


def importance_bound(
    model: VariationalAutoencoder,
    X: np.ndarray,
    log_conditional: LogConditional,
    n_draws: int,
    seed: int = 0,
) -> np.ndarray:
    """Return the importance-weighted bound on the log-mass of each row, ``(n,)``.

    It is that of `VariationalAutoencoder.log_marginal`, with `log_conditional` in the place
    of log p(x|z).
    """
    decode = decoder(model)
    mean, std = model.posterior(X)
    rng = np.random.default_rng(seed)
    log_weights = []
    for _ in range(n_draws):
        noise = rng.standard_normal(mean.shape)
        Z = mean + std * noise
        if model.prior_ is None:
            log_prior = _log_normal(Z)
        else:
            log_prior = model.prior_.score_samples(Z)
        log_posterior = _log_normal(noise) - np.log(std).sum(axis=1)
        log_weights.append(log_conditional(decode(Z)) + log_prior - log_posterior)
    return logsumexp(log_weights, axis=0) - math.log(n_draws)


def _log_normal(Z: np.ndarray) -> np.ndarray:
    """Return the log-density of N(0, I), ``(n,)``."""
    return -0.5 * (np.square(Z) + math.log(2 * math.pi)).sum(axis=1)


def count_edges(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval that is rounded to each count; all below 1/2 becomes 0."""
    return np.where(counts == 0, -np.inf, counts - 0.5), counts + 0.5


def log_mass_of_counts(
    given: GivenCode, counts: np.ndarray, log1p: bool = False
) -> np.ndarray:
    """Return the log-mass of rows of rounded counts, ``(n,)``.

    With `log1p`, the densities are those of log(1 + count).
    """
    low, high = count_edges(counts)
    if log1p:
        low = np.where(counts == 0, low, np.log1p(counts - 0.5))
        high = np.log1p(high)
    return np.log(np.maximum(given.mass(low, high), _SMALLEST_MASS)).sum(axis=1)


def log_density_of_counts(log_density: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the log-density of counts, ``(n,)``, from that of log(1 + count)."""
    return log_density - np.log1p(counts).sum(axis=1)


def log_mass_of_categories(
    given: GivenCode, X: np.ndarray, groups: Sequence[slice]
) -> np.ndarray:
    """Return the log-mass of the categories of rows, ``(n,)``.

    A group of columns of X is 1 for the category of the row and 0 for all others. The mass
    of a category is the probability that its column is the largest of the group,

    .. math:: P(c) = \\int f_c(t) \\prod_{j \\ne c} F_j(t)\\, dt

    by a sum over a grid, divided by the sum over c.
    """
    if not groups:
        return np.zeros(len(X))
    edges = _EDGES[:, None, None].expand(-1, len(X), X.shape[1])
    steps = given.mass(edges[:-1], edges[1:])  # (n_cells, n, d)
    below = np.cumsum(steps, axis=0) - steps / 2
    log_below = np.log(np.maximum(below, _SMALLEST_MASS))
    total = np.zeros(len(X))
    for group in groups:
        logs, weights = log_below[..., group], steps[..., group]
        others = np.exp(logs.sum(axis=-1, keepdims=True) - logs)
        mass = np.maximum((weights * others).sum(axis=0), _SMALLEST_MASS)
        chosen = (mass * X[:, group]).sum(axis=1)
        total += np.log(chosen / mass.sum(axis=1))
    return total
