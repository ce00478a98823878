"""Reference densities of the registered likelihoods: all tests take them from here.

A new likelihood of the registry needs a line in `SCIPY`, `TAIL` and `TORCH`. With a closed
form of the optimal scale, it needs a line in `DEVIATION`, `FROM_MEAN` and `OPTIMUM` too. A
likelihood with a parameter is registered with its default: its distribution of SciPy is,
for example, ``FrozenShape(scipy.stats.t, 5.0)``.
"""

import math

import numpy as np
import scipy.stats
import torch
from torch import distributions

# Distributions of SciPy with the parameters loc and scale.
SCIPY = {
    "gaussian": scipy.stats.norm,
    "laplace": scipy.stats.laplace,
    "logistic": scipy.stats.logistic,
}
# Log-densities of t = (x - loc) / scale that do not underflow for large t, as SciPy's do.
TAIL = {
    "gaussian": lambda t: -0.5 * t**2 - 0.5 * math.log(2 * math.pi),
    "laplace": lambda t: -abs(t) - math.log(2),
    "logistic": lambda t: -abs(t) - 2 * math.log1p(math.exp(-abs(t))),
}


def torch_logistic(loc, scale):
    """Return torch's logistic distribution, which is a transformed uniform one."""
    uniform = distributions.Uniform(torch.zeros_like(loc), torch.ones_like(loc))
    logit = distributions.SigmoidTransform().inv
    affine = distributions.AffineTransform(loc, scale)
    return distributions.TransformedDistribution(uniform, [logit, affine])


# Distributions of torch, from loc and scale.
TORCH = {
    "gaussian": distributions.Normal,
    "laplace": distributions.Laplace,
    "logistic": torch_logistic,
}

# For likelihoods with a closed form of the optimal scale: the statistic of a residual whose
# mean determines that scale, and the scale as a function of the mean.
DEVIATION = {"gaussian": np.square, "laplace": np.abs}
FROM_MEAN = {"gaussian": np.sqrt, "laplace": lambda mean: mean}
# Mean log-density of residuals at the optimal scale.
OPTIMUM = {
    "gaussian": lambda r: -0.5 * (math.log(2 * math.pi * np.mean(r**2)) + 1),
    "laplace": lambda r: -(math.log(2 * np.mean(np.abs(r))) + 1),
}


class FrozenShape:
    """A distribution of SciPy with its shape parameters fixed.

    Parameters
    ----------
    distribution : scipy.stats distribution
        The distribution, such as ``scipy.stats.t``.
    *shape : float
        The values of its shape parameters.
    """

    def __init__(self, distribution, *shape):
        self.distribution = distribution
        self.shape = shape

    def __call__(self, loc=0.0, scale=1.0):
        """Return the frozen distribution."""
        return self.distribution(*self.shape, loc=loc, scale=scale)

    def logpdf(self, x, loc=0.0, scale=1.0):
        """Return the log-density."""
        return self.distribution.logpdf(x, *self.shape, loc=loc, scale=scale)

    def std(self):
        """Return the standard deviation for the scale 1."""
        return self.distribution.std(*self.shape)

    def fit(self, data, floc=0.0):
        """Return shape parameters, location and maximum-likelihood scale."""
        fixed = {f"f{i}": value for i, value in enumerate(self.shape)}
        *_, loc, scale = self.distribution.fit(data, floc=floc, **fixed)
        return loc, scale
