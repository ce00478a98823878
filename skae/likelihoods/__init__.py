"""Axis 1: the density of a feature given the decoder's output.

To add a density, write a subclass of :class:`LocationScale` in a file beside
``logistic.py``, and add a line to ``LIKELIHOODS``. Without a line there, an instance can be
passed as ``likelihood``. The tests run over the registry, so each entry is tested.
"""

from skae.likelihoods.base import Likelihood, LocationScale
from skae.likelihoods.gaussian import GaussianLikelihood
from skae.likelihoods.laplace import LaplaceLikelihood
from skae.likelihoods.logistic import LogisticLikelihood

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": GaussianLikelihood,
    "laplace": LaplaceLikelihood,
    "logistic": LogisticLikelihood,
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


__all__ = [
    "LIKELIHOODS",
    "GaussianLikelihood",
    "LaplaceLikelihood",
    "Likelihood",
    "LocationScale",
    "LogisticLikelihood",
]
