"""Standard normal draws for the expectations over a posterior."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from skae._utils.random import seeded


def sobol_normal(n_draws: int, n_components: int, seed: int) -> Tensor:
    """Low-discrepancy standard normal draws.

    Each point alone is exactly standard normal over the seeds (randomised quasi-Monte
    Carlo), so that means over the points are unbiased.

    Parameters
    ----------
    n_draws, n_components : int
        Number of draws, and their dimension.
    seed : int
        Seed of the scrambling.

    Returns
    -------
    Tensor of shape (n_draws, n_components)
        Draws, float64.
    """
    # In torch's own precision, whatever the process has set.
    with seeded(0):
        engine = SobolEngine(n_components, scramble=True, seed=seed)
    # A Sobol point has 30 bits or so; the middle of its cell is never 0 or 1.
    uniform = engine.draw(n_draws, dtype=torch.float64).clamp(2.0**-32, 1 - 2.0**-32)
    return torch.special.ndtri(uniform)


def row_shift(y: Tensor, n_components: int, seed: int) -> Tensor:
    """A point of the unit cube for each row, which looks random and is not.

    It depends on the row alone: a linear function of it, wrapped around a hundred times.
    Rounding moves it by little.

    Parameters
    ----------
    y : Tensor of shape (n, n_features)
        Standardised data.
    n_components : int
        Dimension of the cube.
    seed : int
        Seed of the function.

    Returns
    -------
    Tensor of shape (n, n_components)
        Points, float64.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(y.shape[1], generator=generator, dtype=torch.float64)
    factors = 32 * (1 + torch.rand(n_components, generator=generator, dtype=torch.float64))
    weights, factors = weights.to(y.device) + 0.5, factors.to(y.device)
    return (y.double() * weights).sum(dim=1, keepdim=True).mul(factors) % 1


def shifted_normal(draws: Tensor, shift: Tensor) -> Tensor:
    """Standard normal draws, moved along with a shift of their quantiles.

    A randomised quasi-Monte Carlo rule stays one under such a rotation (Cranley and
    Patterson 1976); with another shift for each row the errors of the rows average out.

    Parameters
    ----------
    draws : Tensor of shape (n_draws, 1, n_components)
        Standard normal draws.
    shift : Tensor of shape (n, n_components)
        Points of the unit cube.

    Returns
    -------
    Tensor of shape (n_draws, n, n_components)
        Draws for each row, float64.
    """
    uniform = (torch.special.ndtr(draws) + shift) % 1
    return torch.special.ndtri(uniform.clamp(2.0**-32, 1 - 2.0**-32))


@lru_cache(maxsize=16)
def matched_normal(n_components: int, min_draws: int = 32) -> Tensor:
    """A fixed set of standard normal draws with exact first and second moments.

    Antithetic pairs make the mean and all odd moments vanish, and the set is whitened, so
    its covariance is exactly the identity. An expectation of anything quadratic in the
    draws has no error, and the ELBO of a linear Gaussian model with it. A fit asks for the
    same set several times, and a search some hundred times: it is remembered.

    Parameters
    ----------
    n_components : int
        Dimension of the draws.
    min_draws : int, default=32
        Smallest number of draws; whitening needs at least ``2 * n_components``.

    Returns
    -------
    Tensor of shape (n_draws, n_components)
        Draws, float64; not to be written to.
    """
    n_pairs = max(-(-min_draws // 2), n_components)
    # Outside of inference mode, so that whoever asks next may use them with gradients.
    with torch.inference_mode(False), torch.no_grad():
        half = sobol_normal(n_pairs, n_components, seed=0)
        q, r = torch.linalg.qr(half)
        half = q * r.diagonal().sign() * n_pairs**0.5
        return torch.cat([half, -half])
