"""The Laplace density: absolute errors, and the median as location."""

import math

import torch
from torch import Tensor

from skae.likelihoods.location_scale import LocationScale


class LaplaceLikelihood(LocationScale):
    r"""Laplace (double exponential) density.

    .. math:: \log p(x) = -\log 2b - \frac{|x-\mu|}{b}

    With the optimal scale, :math:`b = \mathrm{mean}\,|x-\mu|`, the mean log-density of
    d features is :math:`-d (\log 2\,\mathrm{MAE} + 1)`.
    """

    is_thread_safe = True
    unit_stddev = math.sqrt(2.0)
    has_optimal_scale = True
    has_expectation = True

    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.sub(t.new_full((), -math.log(2.0)), torch.abs(t, out=out), out=out)

    def expected_log_prob(
        self, x: Tensor, loc: Tensor, std: Tensor, log_scale: Tensor
    ) -> Tensor:
        # The mean of a folded normal distribution (Leone, Nelson and Nottingham 1961).
        residual = x - loc
        ratio = residual / (math.sqrt(2) * std.clamp(min=torch.finfo(std.dtype).tiny))
        tail = math.sqrt(2 / math.pi) * std * torch.exp(-ratio.square())
        error = torch.addcmul(tail, residual, torch.erf(ratio))
        return -math.log(2) - log_scale - error * torch.exp(-log_scale)

    def influence_(self, t: Tensor) -> Tensor:
        return t.sign_()

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        # The difference of two standard exponentials is a standard Laplace variate.
        positive = torch.empty_like(loc).exponential_(generator=generator)
        negative = torch.empty_like(loc).exponential_(generator=generator)
        return loc + torch.exp(log_scale) * (positive - negative)

    def deviation(self, residual: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.abs(residual, out=out)

    def optimal_scale(self, mean_deviation: Tensor) -> Tensor:
        return mean_deviation
