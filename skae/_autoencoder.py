"""The deterministic autoencoders: a likelihood each, one objective."""

from skae._base import BaseAutoencoder
from skae.likelihoods import GaussianLikelihood, LaplaceLikelihood, Likelihood
from skae.objectives import NegativeLogLikelihood, Objective


class GaussianAutoencoder(BaseAutoencoder):
    """Autoencoder with a Gaussian likelihood.

    @@SHARED@@
    """

    def _make_likelihood(self) -> Likelihood:
        return GaussianLikelihood()

    def _make_objective(self) -> Objective:
        return NegativeLogLikelihood()


class LaplaceAutoencoder(BaseAutoencoder):
    """Autoencoder with a Laplace likelihood.

    @@SHARED@@
    """

    def _make_likelihood(self) -> Likelihood:
        return LaplaceLikelihood()

    def _make_objective(self) -> Objective:
        return NegativeLogLikelihood()
