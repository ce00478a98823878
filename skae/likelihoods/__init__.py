"""Axis 1: the density of a feature given the decoder's output.

To add one, write a file beside ``logistic.py`` and a line in ``LIKELIHOODS``; or pass an
instance of your own subclass of :class:`Likelihood` as ``likelihood``. The tests run over
the registry, so a registered likelihood is a tested one.
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
    """The likelihood of this name, or the instance itself.

    Parameters
    ----------
    likelihood : str or Likelihood
        A key of ``LIKELIHOODS`` or an instance.

    Returns
    -------
    Likelihood
        The likelihood.
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
    "make_likelihood",
]
