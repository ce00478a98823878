"""Reference densities of the registered likelihoods: all tests take them from here.

A new likelihood of the registry needs a line in `SCIPY`, `TAIL` and `TORCH`. With a closed
form of the optimal scale, it needs a line in `DEVIATION`, `FROM_MEAN` and `OPTIMUM` too. A
likelihood with a parameter is registered with its default: its distribution of SciPy is,
for example, ``FrozenShape(scipy.stats.t, 5.0)``. A likelihood with further outputs of the
decoder needs a line in `GIVEN`; in `SCIPY` is its distribution at the start.
"""

import copy
import math

import numpy as np
import scipy.special
import scipy.stats
import torch
from torch import distributions


class Mixture:
    """Mixture of distributions of SciPy.

    Parameters
    ----------
    centres, widths, weights : array-like of shape (K, ...)
        Location, scale and probability of each component.
    family : scipy.stats distribution, default=scipy.stats.logistic
        Distribution of a component.
    """

    def __init__(self, centres, widths, weights, family=scipy.stats.logistic):
        self.family = family
        arrays = (centres, widths, weights)
        self.centres, self.widths, self.weights = map(np.asarray, arrays)

    @classmethod
    def given(cls, outputs, K=3, family=scipy.stats.logistic):
        """Return the mixtures ``(..., d)`` of decoder outputs ``(..., 3 * K * d)``."""
        shape = (*outputs.shape[:-1], 3, K, -1)
        by_component = np.reshape(np.asarray(outputs), shape)
        offsets, h, logits = np.moveaxis(by_component, (-3, -2), (0, 1))
        widths = 1 + np.where(h < 0, np.exp(np.minimum(h, 0)), 1 + h)
        weights = scipy.special.softmax(logits, axis=0)
        return cls(offsets * widths, widths, weights, family)

    def __call__(self, loc=0.0, scale=1.0):
        """Return the mixture of ``loc + scale * t``."""
        loc, scale = np.asarray(loc), np.asarray(scale)
        centres, widths = loc + scale * self.centres, scale * self.widths
        return Mixture(centres, widths, self.weights, self.family)

    def _by_component(self, x, loc, scale):
        """Yield a probability and the arguments of SciPy's methods for each component."""
        for centre, width, weight in zip(
            self.centres, self.widths, self.weights, strict=True
        ):
            yield weight, (x, loc + scale * centre, scale * width)

    def logpdf(self, x, loc=0.0, scale=1.0):
        """Return the log-density."""
        terms = [
            np.log(weight) + self.family.logpdf(*arguments)
            for weight, arguments in self._by_component(x, loc, scale)
        ]
        return scipy.special.logsumexp(terms, axis=0)

    def cdf(self, x):
        """Return the distribution function."""
        return sum(
            weight * self.family.cdf(*arguments)
            for weight, arguments in self._by_component(x, 0.0, 1.0)
        )

    def mean(self):
        """Return the mean."""
        return (self.weights * self.centres).sum(axis=0)

    def _central_moments(self):
        """Return the second and the fourth central moment."""
        gap = self.centres - self.mean()
        variance, kurtosis = self.family.stats(moments="vk")
        own = self.widths**2 * variance
        fourth = own**2 * (kurtosis + 3) + 6 * gap**2 * own + gap**4
        return [(self.weights * m).sum(axis=0) for m in (own + gap**2, fourth)]

    def var(self):
        """Return the variance."""
        return self._central_moments()[0]

    def std(self):
        """Return the standard deviation."""
        return np.sqrt(self.var())

    def stats(self, moments):
        """Return the excess kurtosis, "k"."""
        assert moments == "k"
        variance, fourth = self._central_moments()
        return fourth / variance**2 - 3


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


# Distributions of SciPy with the parameters loc and scale.
SCIPY = {
    "gaussian": scipy.stats.norm,
    "laplace": scipy.stats.laplace,
    "logistic": scipy.stats.logistic,
    "student_t": FrozenShape(scipy.stats.t, 5.0),
    "mixture": Mixture([-1.01, 0, 1.01], [1.01] * 3, [1 / 3] * 3),
}
# Distributions of SciPy from further outputs of the decoder.
GIVEN = {"mixture": Mixture.given}


def scipy_of(model, Z):
    """Return SciPy's density of an estimator's t = (x - loc) / scale, for codes ``(n, k)``.

    Also returns the mean of t, ``(n, d)`` or 0.
    """
    if model.likelihood not in GIVEN:
        return SCIPY[model.likelihood], 0.0
    module = copy.deepcopy(model.module_).double()
    with torch.no_grad():
        _, outputs = module.decode(torch.tensor(Z, dtype=torch.float64))
    distribution = scipy_given(model.likelihood, outputs[:, module.scale.n_outputs :])
    return distribution, distribution.mean()


def scipy_given(name, outputs):
    """Return the distribution of SciPy for the likelihood's own outputs, ``(..., m)``."""
    return GIVEN[name](outputs) if name in GIVEN else SCIPY[name]


# Log-densities of t = (x - loc) / scale that do not underflow for large t, as SciPy's do.
TAIL = {
    "gaussian": lambda t: -0.5 * t**2 - 0.5 * math.log(2 * math.pi),
    "laplace": lambda t: -abs(t) - math.log(2),
    "logistic": lambda t: -abs(t) - 2 * math.log1p(math.exp(-abs(t))),
    "student_t": lambda t: (
        scipy.stats.t.logpdf(0, 5.0)
        - 3 * np.logaddexp(0, 2 * np.log(abs(t) + 1e-300) - math.log(5.0))
    ),
    "mixture": lambda t: scipy.special.logsumexp(
        [TAIL["logistic"]((t - c) / 1.01) - math.log(3 * 1.01) for c in (-1.01, 0, 1.01)]
    ),
}


def torch_logistic(loc, scale):
    """Return torch's logistic distribution, which is a transformed uniform one."""
    uniform = distributions.Uniform(torch.zeros_like(loc), torch.ones_like(loc))
    logit = distributions.SigmoidTransform().inv
    affine = distributions.AffineTransform(loc, scale)
    return distributions.TransformedDistribution(uniform, [logit, affine])


def torch_mixture(loc, scale, outputs):
    """Return a mixture of torch's logistic distributions, for outputs of the decoder."""
    mixture = Mixture.given(outputs)
    centres, widths, weights = (
        torch.from_numpy(values).movedim(0, -1)
        for values in (mixture.centres, mixture.widths, mixture.weights)
    )
    loc, scale = loc[..., None], scale[..., None]
    return distributions.MixtureSameFamily(
        distributions.Categorical(probs=weights),
        torch_logistic(loc + scale * centres, scale * widths),
    )


# Distributions of torch, from loc and scale, and from outputs if they are in `GIVEN`.
TORCH = {
    "gaussian": distributions.Normal,
    "laplace": distributions.Laplace,
    "logistic": torch_logistic,
    "mixture": torch_mixture,
    "student_t": lambda loc, scale: distributions.StudentT(5.0, loc, scale),
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
