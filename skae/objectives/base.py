"""The contract of an objective: what training minimises and what a score means."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from skae._module import AutoencoderModule, Spec
from skae._utils.capabilities import ModelPart

# Moments of the rest of a training at which the weight of the KL is looked at.
_MOMENTS = 101


# From x ``(n, d)``, and loc and outputs ``(n_draws, n, ...)``, to ``(n_draws, n, m)``.
Statistic = Callable[[Tensor, Tensor, Tensor], Tensor]


class Objective(ModelPart, ABC):
    """What training minimises, and the log-likelihood that a score reports.

    Sums over features, means over samples: everything is in nats per sample, of data in
    the likelihood's units.

    Attributes
    ----------
    n_heads : int
        Numbers that the encoder must give for each component.
    n_mc_samples : int
        Draws of the code for each row and step of training; 0 where it is not random.
    """

    n_heads: ClassVar[int]
    n_mc_samples: int

    @abstractmethod
    def code(self, module: AutoencoderModule, y: Tensor) -> Tensor:
        """The code of each row.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features)
            Standardised data.

        Returns
        -------
        Tensor of shape (n, n_components)
            Codes.
        """

    @abstractmethod
    def draws(self, spec: Spec, min_draws: int | None = None) -> Tensor:
        """The standard normal draws, common to all rows, that scores are computed with.

        Parameters
        ----------
        spec : Spec
            The model.
        min_draws : int, default=None
            Smallest number of draws; by default what the likelihood asks for.

        Returns
        -------
        Tensor of shape (n_draws, n_components)
            Draws, float64.
        """

    @abstractmethod
    def latents_of(self, heads: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Codes to decode, and what they cost, from what the encoder says.

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
            Cost of each row and component, in nats.
        """

    def latents(
        self, module: AutoencoderModule, y: Tensor, draws: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Codes to decode, and what they cost, of standardised data.

        What the encoder says of them decides. See `Objective.latents_of`.
        """
        return self.latents_of(module.encode(y), draws)

    @abstractmethod
    def kl_weight(self, progress: float) -> float:
        """Weight of the cost of the codes, beta included.

        Parameters
        ----------
        progress : float
            Share of the training that is done; 1 at the last step.

        Returns
        -------
        float
            The weight.
        """

    def is_settled(self, progress: float) -> bool:
        """Whether the weight of the KL stays what it is until the end.

        Parameters
        ----------
        progress : float
            Share of the training that is done.

        Returns
        -------
        bool
            True if the weight is that of the last step from here on.
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
        """What one step of training minimises.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features)
            Standardised batch.
        share : Tensor of shape (n, 1)
            What each row counts: its weight over the number of rows.
        draws : Tensor of shape (n_mc_samples, n, n_components)
            Standard normal draws; without any the code is not random.
        progress : float
            Share of the training that is done; 1 at the last step.

        Returns
        -------
        loss : Tensor of shape ()
            Mean over the batch of KL weight times KL, less the log-likelihood.
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
        """Log-likelihood of a batch, with the scale that a step of training takes.

        Parameters
        ----------
        module : AutoencoderModule
            The model; a closed-form scale takes note of the batch.
        y : Tensor of shape (n, n_features)
            Standardised batch.
        share : Tensor of shape (n, 1)
            What each row counts: its weight over the number of rows.
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
        log_scale = module.scale.training_log_scale(x - loc, outputs, row_weight)
        log_prob = module.spec.likelihood.log_prob(x, loc, log_scale).sum(dim=1)
        return (log_prob.view(n_draws, -1) @ row_weight).mean()

    def history(self, metrics: np.ndarray, progress: float) -> dict[str, float]:
        """Named means over an epoch.

        Parameters
        ----------
        metrics : ndarray of shape (1 + n_components or 1,)
            Means of the second value of :meth:`loss`.
        progress : float
            Share of the training that is done.

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
        """The score of each row: the expected log-likelihood less the KL.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features)
            Standardised data.
        draws : Tensor of shape (n_draws, n or 1, n_components)
            Standard normal draws.
        kl_weight : float, default=1.0
            Weight of the KL; a score leaves it at 1.

        Returns
        -------
        Tensor of shape (n,)
            Scores in nats.
        """

        def log_prob(x: Tensor, loc: Tensor, outputs: Tensor) -> Tensor:
            log_scale = module.scale.log_scale(outputs)
            log_prob = module.spec.likelihood.log_prob(x, loc, log_scale)
            return log_prob.sum(dim=-1, keepdim=True)

        z, kl = self.latents(module, y, draws)
        expected = self._mean_over_draws(log_prob, module, y, z)
        return expected[:, 0] - kl_weight * self.divergence(z, kl)

    def divergence(self, z: Tensor, kl: Tensor) -> Tensor:
        """KL of each row from the prior of the scores, in nats.

        Parameters
        ----------
        z : Tensor of shape (n_draws * n, n_components)
            A code for each draw and row.
        kl : Tensor of shape (n, n_components or 0)
            KL of each row and component from N(0, I), in nats.

        Returns
        -------
        Tensor of shape (n,)
            The KL of each row.
        """
        return kl.sum(dim=1)

    def expectation(
        self,
        module: AutoencoderModule,
        y: Tensor,
        draws: Tensor,
        statistic: Statistic,
    ) -> tuple[Tensor, Tensor]:
        """Mean over the draws of a statistic of the data and the decoder's output.

        Parameters
        ----------
        module : AutoencoderModule
            The model.
        y : Tensor of shape (n, n_features)
            Standardised data.
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
            Cost of each row and component, in nats.
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
