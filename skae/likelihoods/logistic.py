"""The logistic density: smooth at its centre, with exponential tails."""

import math

import torch
from torch import Tensor

from skae.likelihoods.location_scale import LocationScale


class LogisticLikelihood(LocationScale):
    r"""Logistic density.

    .. math:: \log p(x) = -t - \log s - 2 \log(1 + e^{-t}), \quad t = (x-\mu)/s

    The density is smooth at its centre, like the normal one, and its tails are
    exponential, like those of the Laplace density. The optimal scale has no closed form.
    """

    is_thread_safe = True
    has_expectation = True
    unit_stddev = math.pi / math.sqrt(3.0)

    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        # The density is symmetric: for -|t| in place of t, no exponential overflows. The
        # exponential is at most 1, so the logarithm of the sum has nearly the accuracy of
        # softplus, in a fraction of its time.
        t = -t.abs()
        return torch.sub(t, (torch.exp(t) + 1).log(), alpha=2, out=out)

    def influence_(self, t: Tensor) -> Tensor:
        return t.mul_(0.5).tanh_()

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.empty_like(loc).uniform_(generator=generator)
        # The logit of 0 is infinite.
        tiny = torch.finfo(loc.dtype).tiny
        return loc + torch.exp(log_scale) * torch.logit(uniform.clamp(min=tiny))
