"""The registered likelihoods by kind, for tests that run over the registry."""

from skae.likelihoods import LIKELIHOODS, GeneralizedLinear, LocationScale
from skae.scales import legal_combinations

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


def generalized_linear_combinations():
    """Return the legal combinations of generalised linear likelihoods."""
    return [c for c in legal_combinations() if c[0] in GENERALIZED_LINEAR]
