"""The registered likelihoods by kind and their data, for tests over the registry."""

import numpy as np
import scipy.special

from skae.likelihoods import LIKELIHOODS, GeneralizedLinear, LocationScale
from skae.scales import SCALES, legal_combinations

# Densities of x - loc in units of a scale.
LOCATION_SCALE = [
    name
    for name, kind in LIKELIHOODS.items()
    if issubclass(kind, LocationScale) and not kind.takes_logarithm
]
# Distributions whose location is a linear predictor.
GENERALIZED_LINEAR = [
    name for name, kind in LIKELIHOODS.items() if issubclass(kind, GeneralizedLinear)
]


def location_scale_combinations():
    """Return the legal combinations of location-scale likelihoods."""
    return [c for c in legal_combinations() if c[0] in LOCATION_SCALE]


def combinations_in_turns():
    """Return half of these: each likelihood with each mode, in one covariance type.

    The type alternates over modes and likelihoods, so that each has both.
    """
    modes = sorted(SCALES)

    def is_shown(name, mode, kind):
        turn = LOCATION_SCALE.index(name) + modes.index(mode)
        # This mode has one type.
        return mode == "profile" or (turn + (kind == "diag")) % 2 == 1

    return [c for c in location_scale_combinations() if is_shown(*c)]


def generalized_linear_combinations():
    """Return the legal combinations of generalised linear likelihoods."""
    return [c for c in legal_combinations() if c[0] in GENERALIZED_LINEAR]


def table(name, n=200, d=5, seed=0):
    """Draw data of the support of a likelihood, whose columns depend on each other."""
    rng = np.random.default_rng(seed)
    eta = rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + rng.normal(size=d)
    noise = rng.normal(size=(n, d))
    if name == "bernoulli":
        return (rng.uniform(size=(n, d)) < scipy.special.expit(2 * eta)).astype(float)
    if name == "categorical":
        return np.clip(np.round(eta + 0.3 * noise), -1, 1)
    if name == "continuous_bernoulli":
        return scipy.special.expit(eta + 0.3 * noise)
    if name == "log_normal":
        return np.exp(eta + 0.3 * noise)
    if name in ("poisson", "negative_binomial"):
        rate = np.exp(0.7 * eta + 1)
        if name == "negative_binomial":
            rate = rate * rng.gamma(2, 0.5, size=(n, d))
        return rng.poisson(rate).astype(float)
    X = eta + 0.3 * noise
    if name == "mixed":
        X[:, 0] = X[:, 0] > 0
        X[:, 1] = np.clip(np.round(X[:, 1]), -1, 1)
        X[:, 2] = rng.poisson(20 * np.exp(eta[:, 2]))
    return X
