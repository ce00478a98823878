"""Axis 1: the density of a feature given the decoder's output.

To add a density, write a subclass of :class:`LocationScale` in a file beside
``logistic.py``, and add a line to ``LIKELIHOODS``. Without a line there, an instance can be
passed as ``likelihood``. The tests run over the registry, so each entry is tested.
"""

from torch import Tensor

from skae.likelihoods.base import Derivatives, Likelihood
from skae.likelihoods.bernoulli import BernoulliLikelihood
from skae.likelihoods.categorical import CategoricalLikelihood
from skae.likelihoods.continuous_bernoulli import ContinuousBernoulliLikelihood
from skae.likelihoods.gaussian import GaussianLikelihood
from skae.likelihoods.generalized_linear import GeneralizedLinear, LinkStart, Moments
from skae.likelihoods.laplace import LaplaceLikelihood
from skae.likelihoods.location_scale import LocationScale
from skae.likelihoods.log_normal import LogNormalLikelihood
from skae.likelihoods.logistic import LogisticLikelihood
from skae.likelihoods.mixed import Mixed
from skae.likelihoods.mixture import MixtureLikelihood
from skae.likelihoods.negative_binomial import NegativeBinomialLikelihood
from skae.likelihoods.poisson import PoissonLikelihood
from skae.likelihoods.student_t import StudentTLikelihood

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "categorical": CategoricalLikelihood,
    "continuous_bernoulli": ContinuousBernoulliLikelihood,
    "gaussian": GaussianLikelihood,
    "laplace": LaplaceLikelihood,
    "log_normal": LogNormalLikelihood,
    "logistic": LogisticLikelihood,
    "mixed": Mixed,
    "mixture": MixtureLikelihood,
    "negative_binomial": NegativeBinomialLikelihood,
    "poisson": PoissonLikelihood,
    "student_t": StudentTLikelihood,
}


def make_likelihood(likelihood: str | Likelihood) -> Likelihood:
    """Return the likelihood of a name, or the instance itself.

    Parameters
    ----------
    likelihood : str or Likelihood
        A key of ``LIKELIHOODS`` or an instance.

    Returns
    -------
    Likelihood
        A new likelihood with default parameters, or the instance.
    """
    if isinstance(likelihood, Likelihood):
        return likelihood
    return LIKELIHOODS[likelihood]()


def n_outputs(likelihood: Likelihood, n_features: int) -> int:
    """Return the number of a likelihood's further outputs. See `Likelihood.given`."""
    return _length(likelihood, "start_outputs", n_features)


def n_parameters(likelihood: Likelihood, n_features: int) -> int:
    """Return the number of a likelihood's free parameters. See `Likelihood.given`."""
    return _length(likelihood, "start_parameters", n_features)


def _length(likelihood: Likelihood, method: str, n_features: int) -> int:
    """Return the number of the values that a method returns for all features."""
    values = getattr(likelihood, method)(n_features)
    if not isinstance(values, Tensor) or values.ndim != 1:
        raise TypeError(
            f"{type(likelihood).__name__}.{method} must return a tensor of one axis, "
            f"but returned {values!r}."
        )
    return len(values)


__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "ContinuousBernoulliLikelihood",
    "Derivatives",
    "GaussianLikelihood",
    "GeneralizedLinear",
    "LaplaceLikelihood",
    "Likelihood",
    "LinkStart",
    "LocationScale",
    "LogNormalLikelihood",
    "LogisticLikelihood",
    "Mixed",
    "MixtureLikelihood",
    "Moments",
    "NegativeBinomialLikelihood",
    "PoissonLikelihood",
    "StudentTLikelihood",
]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
