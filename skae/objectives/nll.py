"""The deterministic objective: the negative log-likelihood of x given its code."""

import torch
from torch import Tensor

from skae._module import AutoencoderModule, Spec
from skae.objectives.base import Conditional, Objective


class NegativeLogLikelihood(Objective):
    """Loss of a deterministic autoencoder, ``-log p(x | z(x))``. See `Objective`."""

    has_analytic_gradient = True
    is_thread_safe = True
    n_heads = 1
    n_mc_samples = 0

    def code(self, module: AutoencoderModule, y: Tensor) -> Tensor:
        return module.encode(y)

    def draws(self, spec: Spec, min_draws: int | None = None) -> Tensor:
        return torch.zeros(1, spec.n_components, dtype=torch.float64, device="cpu")

    def latents_of(self, heads: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        return heads, heads[:, :0]

    def weighted_codes(
        self, module: AutoencoderModule, y: Tensor, draws: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        code = module.encode(y)
        return code[None], code.new_zeros(1, len(y)), module.decode(code)

    def score_parts(
        self,
        module: AutoencoderModule,
        y: Tensor,
        conditional: Conditional | None = None,
    ) -> Tensor:
        loc, outputs = module.decode(module.encode(y))
        likelihood, log_scale = (conditional or module.conditional)(outputs)
        values = likelihood.log_prob(module.target(y), loc, log_scale)
        observed = module.observed(y)
        if observed is not None:
            values = values.masked_fill(~observed, 0.0)
        return torch.cat([values.new_zeros(len(values), 1), values], dim=1)

    def kl_weight(self, progress: float) -> float:
        return 0.0
