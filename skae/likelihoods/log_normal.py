"""The log-normal density, for positive amounts."""

import numpy as np
import torch
from torch import Tensor

from skae.likelihoods.gaussian import GaussianLikelihood


class LogNormalLikelihood(GaussianLikelihood):
    r"""Log-normal density: the logarithm of the data is normal.

    .. math:: \log p(x) = \log N(\log x; \mu, \sigma^2) - \log x

    The data are positive. Location and scale are those of the logarithm, as in
    :class:`torch.distributions.LogNormal`, so a scale of 0.1 is about 10 per cent. The
    methods of this class take logarithms; an estimator takes the logarithm of the data, and
    adds the last term to its scores. All variance modes apply. The mean of the data is
    :math:`e^{\mu + \sigma^2/2}`.
    """

    is_thread_safe = True
    has_expectation = True
    is_quadratic = True
    takes_logarithm = True
    support = "positive"

    def to_input(self, x: np.ndarray) -> np.ndarray:
        return np.log(x)

    def data_mean(
        self, loc: Tensor, log_scale: Tensor, center: Tensor, unit: Tensor
    ) -> Tensor:
        variance = torch.square(torch.exp(log_scale) * unit)
        return torch.exp(loc * unit + center + 0.5 * variance)

    def data_sample(
        self,
        loc: Tensor,
        log_scale: Tensor,
        center: Tensor,
        unit: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        return torch.exp(super().data_sample(loc, log_scale, center, unit, generator))
