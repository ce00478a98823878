"""Standard normal draws for the expectations over a posterior."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine


def sobol_normal(n_draws: int, n_components: int, seed: int) -> Tensor:
    """Draw standard normal points of low discrepancy.

    Over the seeds, each single point is exactly standard normal (randomised quasi-Monte
    Carlo). So means over the points are unbiased.

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
    # At 0 or 1 a normal quantile is infinite. A Sobol point has about 30 bits, so these
    # bounds change no other point.
    uniform = _sobol_points(n_draws, n_components, seed).clamp(2.0**-32, 1 - 2.0**-32)
    return torch.special.ndtri(uniform)


def _sobol_points(n_draws: int, n_components: int, seed: int) -> Tensor:
    """Draw scrambled Sobol points of the unit cube, ``(n_draws, n_components)``."""
    engine = SobolEngine(n_components, scramble=True, seed=seed)
    # The engine rounds its first point to the default dtype of the process, which must not
    # change the draws. So that point is computed here.
    first = engine.quasi.to(torch.float32) / 2**engine.MAXBIT
    points = engine.draw(n_draws, dtype=torch.float64)
    points[0] = first
    return points


def row_shift(y: Tensor, n_components: int, seed: int) -> Tensor:
    """Compute a pseudo-random point of the unit cube for each row.

    The point is a function of the row only: a linear function modulo 1, steep enough to
    wrap around many times. Rounding of the data moves the point only a little.

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
    generator = torch.Generator("cpu").manual_seed(seed)
    weights, factors = (
        torch.rand(n, generator=generator, dtype=torch.float64, device="cpu")
        for n in (y.shape[1], n_components)
    )
    weights, factors = weights.to(y.device) + 0.5, 32 * (1 + factors.to(y.device))
    return (y.double() * weights).sum(dim=1, keepdim=True).mul(factors) % 1


def shifted_normal(draws: Tensor, shift: Tensor) -> Tensor:
    """Shift standard normal draws by a rotation of their quantiles, modulo 1.

    A rotated quasi-Monte Carlo rule is again a quasi-Monte Carlo rule (Cranley and
    Patterson 1976). With another shift for each row, the errors of the rows average out.

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
    """Return a fixed set of standard normal draws with exact first and second moments.

    Antithetic pairs make the mean and all odd moments vanish. The set is whitened, so its
    covariance is exactly the identity. Then the expectation of a quadratic function has no
    error, and neither has the ELBO of a linear Gaussian model. The set is cached, because a
    search uses the same set some hundred times.

    Parameters
    ----------
    n_components : int
        Dimension of the draws.
    min_draws : int, default=32
        Smallest number of draws; whitening needs at least ``2 * n_components``.

    Returns
    -------
    Tensor of shape (n_draws, n_components)
        Draws, float64; shared by all callers, so they must not be changed.
    """
    n_pairs = max(-(-min_draws // 2), n_components)
    # A tensor made in inference mode could not be used with gradients later.
    with torch.inference_mode(False), torch.no_grad():
        half = sobol_normal(n_pairs, n_components, seed=0)
        q, r = torch.linalg.qr(half)
        half = q * r.diagonal().sign() * n_pairs**0.5
        return torch.cat([half, -half])
