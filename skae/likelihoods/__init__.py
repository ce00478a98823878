"""Axis 1: the density of a feature given the decoder's output.

To add a density, write a subclass of :class:`LocationScale` in a file beside
``logistic.py``, and add a line to ``LIKELIHOODS``. Without a line there, an instance can be
passed as ``likelihood``. The tests run over the registry, so each entry is tested.
"""

import torch
from torch import Tensor

from skae.likelihoods.base import Likelihood, LocationScale
from skae.likelihoods.gaussian import GaussianLikelihood
from skae.likelihoods.laplace import LaplaceLikelihood
from skae.likelihoods.logistic import LogisticLikelihood
from skae.likelihoods.mixture import MixtureLikelihood

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": GaussianLikelihood,
    "laplace": LaplaceLikelihood,
    "logistic": LogisticLikelihood,
    "mixture": MixtureLikelihood,
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
    values = likelihood.start_outputs(n_features)
    if not isinstance(values, Tensor) or values.ndim != 1:
        raise TypeError(
            f"{type(likelihood).__name__}.start_outputs must return a tensor of one axis, "
            f"but returned {values!r}."
        )
    return len(values)


def draw(
    likelihood: Likelihood, loc: Tensor, log_scale: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw one value for each element, and check the shape. See `Likelihood.sample`."""
    values = likelihood.sample(loc, log_scale, generator)
    if not isinstance(values, Tensor) or values.shape != loc.shape:
        shape = tuple(getattr(values, "shape", ()))
        raise ValueError(
            f"{type(likelihood).__name__}.sample must return a tensor of the shape of loc, "
            f"{tuple(loc.shape)}, but returned {type(values).__name__} of shape {shape}."
        )
    return values


__all__ = [
    "LIKELIHOODS",
    "GaussianLikelihood",
    "LaplaceLikelihood",
    "Likelihood",
    "LocationScale",
    "LogisticLikelihood",
    "MixtureLikelihood",
]
