"""The evidence lower bound, and the importance-weighted bound."""

import math
from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor

from skae._module import AutoencoderModule, Spec
from skae.objectives.base import Conditional, Objective, sum_observed
from skae.objectives.draws import matched_normal, shifted_normal
from skae.objectives.expectation import (
    draws_of_scores,
    expect,
    expected_log_prob,
    n_draws_of_means,
)
from skae.objectives.schedules import KLSchedule, Schedule, factor_at, make_schedule

# Draws of an importance-weighted bound that are in memory at the same time.
DRAWS_AT_ONCE = 128
# KL in nats above which a component counts as active.
ACTIVE_KL = 0.01


class ELBO(Objective):
    r"""Negative evidence lower bound with a beta-weighted KL.

    .. math:: -E_{q(z|x)} \log p(x|z) + \beta\, KL(q(z|x) \,\|\, N(0, I))

    The posterior is Gaussian with diagonal covariance (Kingma and Welling 2014, eq. 10 and
    appendix B; Higgins et al. 2017 for beta). Scores do not depend on beta.

    Parameters
    ----------
    beta : float
        Weight of the KL term in training.
    schedule : str or callable
        A key of ``KL_SCHEDULES``, or a function that maps the fraction of the training that
        is done to the factor of beta.
    n_mc_samples : int
        Draws of the code for each row and training step.
    log_prior_ratio : callable, default=None
        For scores under another prior: maps codes ``(m, n_components)`` to the logarithm of
        its density over that of N(0, I), ``(m,)``. Training does not use it.
    """

    has_analytic_gradient = True
    n_heads = 2

    def __init__(
        self,
        beta: float,
        schedule: str | Schedule,
        n_mc_samples: int,
        log_prior_ratio: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.log_prior_ratio = log_prior_ratio
        self.beta = beta
        self.schedule = make_schedule(schedule)
        self.n_mc_samples = n_mc_samples

    @property
    def is_thread_safe(self) -> bool:
        """Whether the schedule is thread-safe and the prior is N(0, I)."""
        schedule = self.schedule
        is_safe = isinstance(schedule, KLSchedule) and schedule.is_thread_safe
        return is_safe and self.log_prior_ratio is None

    @property
    def batch_key(self) -> Hashable | None:
        """See `ModelPart.batch_key`. It is None for a user-defined schedule."""
        return (type(self), self.n_mc_samples) if self.is_thread_safe else None

    def posterior(self, module: AutoencoderModule, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and log standard deviation of q(z|x).

        The standard deviation is exp(h) of the encoder's second head h, made linear above
        h = 0, so that no input can make it overflow.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.

        Returns
        -------
        mean, log_std : Tensor of shape (n, n_components)
            The posterior.
        """
        return self._posterior(module.encode(y))

    @staticmethod
    def _posterior(heads: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and log standard deviation, ``(n, k)``, from heads ``(n, 2 k)``."""
        mean, h = heads.chunk(2, dim=1)
        # At h = 0 the slope of relu is 0 and that of clamp is 1, so that of the sum is 1.
        return mean, h.clamp(max=0) + torch.log1p(torch.relu(h))

    def code(self, module: AutoencoderModule, y: Tensor) -> Tensor:
        return module.encode(y).chunk(2, dim=1)[0]

    def draws(self, spec: Spec, min_draws: int | None = None) -> Tensor:
        if min_draws is None:
            min_draws = n_draws_of_means(spec)
        return matched_normal(spec.n_components, min_draws)

    def latents_of(self, heads: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self._posterior(heads)
        std = log_std.exp()
        z = mean + std * draws.to(std.dtype)  # (n_draws, n, n_components)
        kl = 0.5 * (std.square() + mean.square() - 1) - log_std
        return z.view(-1, mean.shape[1]), kl

    def kl_weight(self, progress: float) -> float:
        return self.beta * factor_at(self.schedule, progress)

    def history(self, metrics: np.ndarray, progress: float) -> dict[str, float]:
        kl = metrics[1:]
        return {
            **super().history(metrics, progress),
            "kl": kl.sum(),
            "beta": self.kl_weight(progress),
            "active_units": int((kl > ACTIVE_KL).sum()),
        }

    def divergence(self, z: Tensor, kl: Tensor) -> Tensor:
        total = super().divergence(z, kl)
        if self.log_prior_ratio is None:
            return total
        return total - self.log_prior_ratio(z).view(-1, len(kl))

    def n_draws(self, spec: Spec) -> int:
        return len(draws_of_scores(spec)[0])

    def score_parts(
        self,
        module: AutoencoderModule,
        y: Tensor,
        conditional: Conditional | None = None,
    ) -> Tensor:
        of_outputs = conditional or module.conditional

        def evaluate(y: Tensor, heads: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
            """Compute the parts with some draws, and the standard error of their sum."""
            z, kl = self.latents_of(heads, draws)
            shape = len(draws), len(y)
            loc, outputs = (v.unflatten(0, shape) for v in module.decode(z))
            by_feature, rest = expected_log_prob(of_outputs, module.target(y), loc, outputs)
            divergence = self.divergence(z, kl)
            observed = module.observed(y)
            if observed is not None:
                by_feature = by_feature.masked_fill(~observed, 0.0)
                # The log-probability of nothing is 0, under any prior.
                divergence = divergence * observed.any(dim=1)
            spread = sum_observed(rest, observed)  # (n_pairs, n)
            if len(divergence) > 1:
                first, second = divergence.chunk(2)
                spread = spread - 0.5 * (first + second)
            error = spread.std(dim=0) / len(spread) ** 0.5
            return torch.cat([divergence.mean(dim=0)[:, None], by_feature], dim=1), error

        return expect(evaluate, y, module.encode(y), draws_of_scores(module.spec))

    def proposal(
        self, module: AutoencoderModule, y: Tensor
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Make the distribution from which an importance-weighted bound draws codes.

        It is the posterior. The components of a row with missing entries depend on each
        other, so there the correlations are those of the linear model of the start. In no
        direction is its variance above that of the prior, or of the posterior.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.

        Returns
        -------
        callable
            Maps standard normal draws ``(n_draws, n or 1, n_components)`` to codes
            ``(n_draws, n, n_components)`` and to the logarithm of their density under
            N(0, I) over that under the proposal, ``(n_draws, n)``.
        """
        mean, log_std = self.posterior(module, y)
        observed = module.observed(y)
        if observed is None:

            def transformed(draws: Tensor) -> tuple[Tensor, Tensor]:
                draws = draws.to(mean.dtype)
                z = mean + log_std.exp() * draws
                # The constants -log(2 pi)/2 of both densities cancel.
                log_ratio = 0.5 * (draws.square() - z.square()) + log_std
                return z, log_ratio.sum(dim=2)

            return transformed
        U, log_det = module.fill.posterior_factor(~observed, log_std.double().exp())
        U, log_det = U.to(mean.dtype), log_det.to(mean.dtype)

        def correlated(draws: Tensor) -> tuple[Tensor, Tensor]:
            draws = draws.to(mean.dtype).expand(-1, len(mean), -1)
            z = mean + torch.einsum("njk,snk->snj", U, draws)
            return z, 0.5 * (draws.square() - z.square()).sum(dim=2) + log_det

        return correlated

    def log_weights(
        self,
        module: AutoencoderModule,
        y: Tensor,
        draws: Tensor,
        proposal: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Compute the logarithm of p(x, z) / q(z|x) for each draw.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.
        draws : Tensor of shape (n_draws, n or 1, n_components)
            Standard normal draws.
        proposal : callable, default=None
            The :meth:`proposal` for these rows; by default it is made.

        Returns
        -------
        Tensor of shape (n_draws, n)
            Log importance weights (Burda, Grosse and Salakhutdinov 2016, eq. 8).
        """
        z, log_ratio = (proposal or self.proposal(module, y))(draws)
        decoded = module.decode(z.reshape(-1, z.shape[2]))
        return self._weigh(module, y, z, log_ratio, decoded)

    def weighted_codes(
        self, module: AutoencoderModule, y: Tensor, draws: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        z, log_ratio = self.proposal(module, y)(draws)
        decoded = module.decode(z.reshape(-1, z.shape[2]))
        return z, self._weigh(module, y, z, log_ratio, decoded), decoded

    def _weigh(
        self,
        module: AutoencoderModule,
        y: Tensor,
        z: Tensor,
        log_ratio: Tensor,
        decoded: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Compute log importance weights ``(n_draws, n)``; see `log_weights`."""
        loc, outputs = decoded
        x = module.target(y).repeat(len(z), 1)
        likelihood, log_scale = module.conditional(outputs)
        observed = module.observed(y)
        if observed is not None:
            observed = observed.repeat(len(z), 1)
        log_prob = sum_observed(likelihood.log_prob(x, loc, log_scale), observed)
        if self.log_prior_ratio is not None:
            log_prob = log_prob + self.log_prior_ratio(z.reshape(-1, z.shape[2]))
        return log_prob.view(len(z), -1) + log_ratio

    def log_marginal(
        self,
        module: AutoencoderModule,
        y: Tensor,
        draws: Tensor,
        shift: Tensor | None = None,
    ) -> Tensor:
        """Compute the importance-weighted bound of log p(x), and its effective draws.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.
        draws : Tensor of shape (n_draws, 1, n_components)
            Standard normal draws; memory does not grow with their number.
        shift : Tensor of shape (n, n_components), default=None
            Shift of the draws of each row, see ``shifted_normal``.

        Returns
        -------
        Tensor of shape (n, 2)
            The bound in nats, and the effective number of draws. The latter is the squared
            sum of the weights over the sum of their squares.
        """
        log_sum = y.new_full((len(y),), -math.inf)
        log_sum_squares = log_sum
        proposal = self.proposal(module, y)
        for chunk in draws.split(DRAWS_AT_ONCE):
            if shift is not None:
                chunk = shifted_normal(chunk, shift)
            log_weights = self.log_weights(module, y, chunk, proposal)
            log_sum = torch.logaddexp(log_sum, torch.logsumexp(log_weights, dim=0))
            log_sum_squares = torch.logaddexp(
                log_sum_squares, torch.logsumexp(2 * log_weights, dim=0)
            )
        effective = torch.exp(2 * log_sum - log_sum_squares)
        bound = log_sum - math.log(len(draws))
        observed = module.observed(y)
        if observed is not None:
            # The log-probability of nothing is 0, under any prior.
            bound = bound * observed.any(dim=1)
        return torch.stack([bound, effective], dim=1)
