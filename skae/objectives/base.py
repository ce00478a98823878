"""The base class of the objectives."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from skae._module import AutoencoderModule, Spec
from skae._utils.capabilities import ModelPart
from skae.likelihoods import Likelihood

# Times in the rest of a training at which the weight of the KL is compared: every percent.
_MOMENTS = 101

# Maps x ``(n, d)``, and loc and outputs ``(n_draws, n, ...)``, to ``(n_draws, n, m)``.
Statistic = Callable[[Tensor, Tensor, Tensor], Tensor]

# Maps further outputs ``(..., n_outputs)`` to the likelihood and the log-scale.
Conditional = Callable[[Tensor], tuple[Likelihood, Tensor]]


def sum_observed(values: Tensor, observed: Tensor | None) -> Tensor:
    """Sum values over the observed features.

    Parameters
    ----------
    values : Tensor of shape (..., n, n_features)
        Values of each entry.
    observed : Tensor of shape (n, n_features) or None
        Which entries are observed; None for all.

    Returns
    -------
    Tensor of shape (..., n)
        The sums.
    """
    if observed is not None:
        values = values.masked_fill(~observed, 0.0)
    return values.sum(dim=-1)


class Objective(ModelPart, ABC):
    """Function that training minimises, and log-likelihood that is the score.

    Both are sums over features and means over samples: they are in nats per sample, of
    data in the likelihood's units.

    Attributes
    ----------
    n_heads : int
        Number of outputs of the encoder for each component.
    n_mc_samples : int
        Draws of the code for each row and training step; 0 if the code is not random.
    """

    n_heads: ClassVar[int]
    n_mc_samples: int

    @abstractmethod
    def code(self, module: AutoencoderModule, y: Tensor) -> Tensor:
        """Compute the code of each row.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.

        Returns
        -------
        Tensor of shape (n, n_components)
            Codes.
        """

    @abstractmethod
    def draws(self, spec: Spec, min_draws: int | None = None) -> Tensor:
        """Return the standard normal draws of the scores, common to all rows.

        Parameters
        ----------
        spec : Spec
            The model.
        min_draws : int, default=None
            Smallest number of draws; by default it depends on the likelihood.

        Returns
        -------
        Tensor of shape (n_draws, n_components)
            Draws, float64.
        """

    @abstractmethod
    def latents_of(self, heads: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the codes to decode, and their KL, from the encoder's output.

        Parameters
        ----------
        heads : Tensor of shape (n, n_heads * n_components)
            The encoder's output.
        draws : Tensor of shape (n_draws, n or 1, n_components)
            Standard normal draws.

        Returns
        -------
        z : Tensor of shape (n_draws * n, n_components)
            A code for each draw and row.
        kl : Tensor of shape (n, n_components or 0)
            KL of each row and component, in nats.
        """

    @abstractmethod
    def weighted_codes(
        self, module: AutoencoderModule, y: Tensor, draws: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Compute codes with weights, which stand for the distribution of the code given x.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.
        draws : Tensor of shape (n_draws, n or 1, n_components)
            Standard normal draws.

        Returns
        -------
        z : Tensor of shape (m, n, n_components)
            Codes; m is the number of draws, or 1 if the code is not random.
        log_weight : Tensor of shape (m, n)
            Logarithms of their weights, up to a constant for each row.
        decoded : tuple of Tensor
            What ``AutoencoderModule.decode`` returns for the codes ``(m * n, k)``.
        """

    def latents(
        self, module: AutoencoderModule, y: Tensor, draws: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the codes to decode, and their KL, from standardised data.

        The data are encoded first. See `Objective.latents_of`.
        """
        return self.latents_of(module.encode(y), draws)

    @abstractmethod
    def kl_weight(self, progress: float) -> float:
        """Return the weight of the KL, beta included.

        Parameters
        ----------
        progress : float
            Fraction of the training that is done; 1 at the last step.

        Returns
        -------
        float
            The weight.
        """

    def is_settled(self, progress: float) -> bool:
        """Whether the weight of the KL stays constant until the end.

        Parameters
        ----------
        progress : float
            Fraction of the training that is done.

        Returns
        -------
        bool
            True if the weight equals that of the last step from this time on.
        """
        last = self.kl_weight(1.0)
        moments = np.linspace(progress, 1.0, _MOMENTS).tolist()
        return all(self.kl_weight(moment) == last for moment in moments)

    def loss(
        self,
        module: AutoencoderModule,
        y: Tensor,
        row_weight: Tensor,
        draws: Tensor,
        progress: float,
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss of one training step.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised batch, as ``AutoencoderModule.prepare`` returns it.
        row_weight : Tensor of shape (n, 1)
            Weight of each row: its sample weight over the number of rows.
        draws : Tensor of shape (n_mc_samples, n, n_components)
            Standard normal draws; empty if the code is not random.
        progress : float
            Fraction of the training that is done; 1 at the last step.

        Returns
        -------
        loss : Tensor of shape ()
            Mean over the batch of KL weight times KL, minus the log-likelihood.
        metrics : Tensor of shape (1 + n_components or 1,)
            Log-likelihood and the KL of each component, means over the batch.
        """
        z, kl = self.latents(module, y, draws)
        log_likelihood = self.training_log_likelihood(module, y, row_weight, z)
        kl = (row_weight * kl).sum(dim=0)  # (n_components or 0,)
        loss = self.kl_weight(progress) * kl.sum() - log_likelihood
        return loss, torch.cat([log_likelihood.detach()[None], kl.detach()])

    @staticmethod
    def training_log_likelihood(
        module: AutoencoderModule, y: Tensor, row_weight: Tensor, z: Tensor
    ) -> Tensor:
        """Compute the log-likelihood of a batch with the scale of a training step.

        Parameters
        ----------
        module : AutoencoderModule
            The model; a closed-form scale updates its running mean.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised batch, as ``AutoencoderModule.prepare`` returns it.
        row_weight : Tensor of shape (n, 1)
            Weight of each row: its sample weight over the number of rows.
        z : Tensor of shape (n_draws * n, n_components)
            A code for each draw and row.

        Returns
        -------
        Tensor of shape ()
            Mean over the batch, in nats.
        """
        n_draws = len(z) // len(y)
        loc, outputs = module.decode(z)
        x = module.target(y).repeat(n_draws, 1)
        observed = module.observed(y)
        if observed is not None:
            observed = observed.repeat(n_draws, 1)
        scale_outputs, likelihood = module.split_outputs(outputs)
        log_scale = module.scale.training_log_scale(
            x - loc,
            scale_outputs,
            row_weight,
            observed=None if observed is None else observed.to(x),
        )
        log_prob = sum_observed(likelihood.log_prob(x, loc, log_scale), observed)
        by_draw = log_prob.view(n_draws, -1)
        if by_draw.device.type == "cpu":
            return (by_draw @ row_weight).mean()
        # See `weighted_sum`.
        return (by_draw * row_weight.mT).sum(dim=1).mean()

    def history(self, metrics: np.ndarray, progress: float) -> dict[str, float]:
        """Return the history of an epoch: named means over its batches.

        Parameters
        ----------
        metrics : ndarray of shape (1 + n_components or 1,)
            Means of the second value of :meth:`loss`.
        progress : float
            Fraction of the training that is done.

        Returns
        -------
        dict of str to float
            ``objective`` and ``log_likelihood``, in nats per sample.
        """
        objective = self.kl_weight(progress) * metrics[1:].sum() - metrics[0]
        return {"objective": objective, "log_likelihood": metrics[0]}

    def log_likelihood(
        self,
        module: AutoencoderModule,
        y: Tensor,
        draws: Tensor,
        kl_weight: float = 1.0,
    ) -> Tensor:
        """Compute the score of each row: expected log-likelihood minus KL.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.
        draws : Tensor of shape (n_draws, n or 1, n_components)
            Standard normal draws.
        kl_weight : float, default=1.0
            Weight of the KL; 1 for a score.

        Returns
        -------
        Tensor of shape (n,)
            Scores in nats.
        """

        observed = module.observed(y)

        def log_prob(x: Tensor, loc: Tensor, outputs: Tensor) -> Tensor:
            likelihood, log_scale = module.conditional(outputs)
            log_prob = likelihood.log_prob(x, loc, log_scale)
            return sum_observed(log_prob, observed)[..., None]

        z, kl = self.latents(module, y, draws)
        expected = self._mean_over_draws(log_prob, module, y, z)
        score = expected[:, 0] - kl_weight * self.divergence(z, kl).mean(dim=0)
        # The log-probability of nothing is 0, under any prior.
        return score if observed is None else score * observed.any(dim=1)

    @abstractmethod
    def score_parts(
        self,
        module: AutoencoderModule,
        y: Tensor,
        conditional: Conditional | None = None,
    ) -> Tensor:
        """Compute the terms of the score of each row.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.
        conditional : callable, default=None
            Maps further outputs of the decoder to the likelihood and the log-scale; by
            default ``module.conditional``.

        Returns
        -------
        Tensor of shape (n, 1 + n_features)
            The KL, and the expected log-likelihood of each feature, in nats.
        """

    def score(
        self,
        module: AutoencoderModule,
        y: Tensor,
        conditional: Conditional | None = None,
    ) -> Tensor:
        """Compute the score of each row: expected log-likelihood minus KL.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.
        conditional : callable, default=None
            See :meth:`score_parts`.

        Returns
        -------
        Tensor of shape (n,)
            Scores in nats.
        """
        parts = self.score_parts(module, y, conditional)
        return parts[:, 1:].sum(dim=1) - parts[:, 0]

    def n_draws(self, spec: Spec) -> int:
        """Return the number of codes that a score decodes at once for each row.

        Parameters
        ----------
        spec : Spec
            The model.

        Returns
        -------
        int
            The number; the default is 1.
        """
        return 1

    def divergence(self, z: Tensor, kl: Tensor) -> Tensor:
        """Compute the KL of each row from the prior of the scores, in nats.

        Parameters
        ----------
        z : Tensor of shape (n_draws * n, n_components)
            A code for each draw and row.
        kl : Tensor of shape (n, n_components or 0)
            KL of each row and component from N(0, I), in nats.

        Returns
        -------
        Tensor of shape (n_draws or 1, n)
            Terms whose mean over the draws is the KL.
        """
        return kl.sum(dim=1)[None]

    def expectation(
        self,
        module: AutoencoderModule,
        y: Tensor,
        draws: Tensor,
        statistic: Statistic,
    ) -> tuple[Tensor, Tensor]:
        """Average a statistic of the data and the decoder's output over the draws.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features) or (n, n_row)
            Standardised data, as ``AutoencoderModule.prepare`` returns them.
        draws : Tensor of shape (n_draws, n or 1, n_components)
            Standard normal draws.
        statistic : callable
            Function of x ``(n, n_features)``, and of loc and outputs ``(n_draws, n, ...)``;
            its result is ``(n_draws, n, m)``.

        Returns
        -------
        mean : Tensor of shape (n, m)
            The mean for each row.
        kl : Tensor of shape (n, n_components or 0)
            KL of each row and component, in nats.
        """
        z, kl = self.latents(module, y, draws)
        return self._mean_over_draws(statistic, module, y, z), kl

    @staticmethod
    def _mean_over_draws(
        statistic: Statistic, module: AutoencoderModule, y: Tensor, z: Tensor
    ) -> Tensor:
        """Average a statistic over the codes ``(n_draws * n, k)``; returns ``(n, m)``."""
        shape = (len(z) // max(len(y), 1), len(y))
        loc, outputs = (v.unflatten(0, shape) for v in module.decode(z))
        return statistic(module.target(y), loc, outputs).mean(dim=0)
