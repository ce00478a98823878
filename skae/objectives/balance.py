"""How strongly the two terms of a variational objective pull at the encoder."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from skae._module import AutoencoderModule
from skae.objectives.base import Objective


def gradient_balance(
    module: AutoencoderModule,
    objective: Objective,
    y: Tensor,
    row_weight: Tensor,
    draws: Tensor,
    progress: float = 1.0,
) -> dict[str, float]:
    r"""Gradients of the reconstruction term and of beta KL, and the angle between them.

    With the terms of row i, :math:`R_i = -E_q \log p(x_i|z)` and
    :math:`K_i = \beta\, KL_i`, the encoder's outputs :math:`h_i` for it, and what it
    counts, :math:`w_i`, of sum 1,

    .. math::
        \|R\|_h^2 = \sum_i w_i \, \|\partial R_i / \partial h_i\|^2, \quad
        \cos_h = \frac{\sum_i w_i \, \partial R_i / \partial h_i
        \cdot \partial K_i / \partial h_i}{\|R\|_h \, \|K\|_h},

    which does not depend on the number of rows. The outputs are the posterior's means and
    the numbers whose exponential its standard deviations are. With respect to the
    encoder's parameters the gradients are those of the means :math:`\sum_i w_i R_i` and
    :math:`\sum_i w_i K_i`.

    The expectation is a mean over draws, whose noise would add to a norm. So the squared
    norm of the reconstruction term's gradient is estimated without that bias: by the
    inner product of its gradients from the two halves of the draws.

    A scale in closed form is that of these rows, and its own gradient is 0, as in a step.
    The module is evaluated in evaluation mode; neither it nor the ``grad`` of its
    parameters changes.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        What it is trained for.
    y : Tensor of shape (n, n_features)
        Standardised rows.
    share : Tensor of shape (n, 1)
        What each row counts, w; above 0 and of sum 1.
    draws : Tensor of shape (n_draws, n or 1, n_components)
        Standard normal draws, an even number; the halves should be independent.
    progress : float, default=1.0
        Share of the training that is done, for the weight of the KL.

    Returns
    -------
    dict of str to float
        ``grad_reconstruction_outputs``, ``grad_kl_outputs`` and ``grad_cosine_outputs``:
        the norms, in nats per unit of the outputs, and the cosine of the angle; and the
        same three with respect to the ``_parameters`` of the encoder. A cosine is NaN
        where a gradient is 0.
    """
    training = module.training
    # A closed-form scale takes note of each batch that it is shown.
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    module.eval()
    try:
        with torch.enable_grad():
            outputs, parameters = _gradients(
                module, objective, y, row_weight, draws, progress
            )
    finally:
        module.train(training)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    return {**_compared(outputs, "outputs"), **_compared(parameters, "parameters")}


def _gradients(
    module: AutoencoderModule,
    objective: Objective,
    y: Tensor,
    row_weight: Tensor,
    draws: Tensor,
    progress: float,
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients for the outputs of each row, and for the parameters.

    Three of each: of the reconstruction term with each half of the draws, and of the KL.
    """
    heads = module.encode(y)
    # The terms depend on the encoder by its outputs alone: from these on, backwards. The
    # halves share a scale that is computed from both.
    leaves = [heads.detach().requires_grad_() for _ in range(2)]
    latents = [
        objective.latents_of(leaf, half)
        for leaf, half in zip(leaves, draws.chunk(2), strict=True)
    ]
    z, kl = torch.cat([latent[0] for latent in latents]), latents[0][1]
    reconstruction = -objective.training_log_likelihood(module, y, row_weight, z)
    weighted = objective.kl_weight(progress) * (row_weight * kl).sum()
    # Each half makes half of the mean.
    first, second = (2 * g for g in _derivative(reconstruction, leaves))
    pulls = [first, second, *_derivative(weighted, leaves[:1])]
    halves = (module.linear_encoder, module.encoder)
    encoder = [p for half in halves for p in half.parameters() if p.requires_grad]
    parameters = [
        torch.cat([g.reshape(-1) for g in _derivative(heads, encoder, pull)])
        if encoder
        else heads.new_zeros(0)
        for pull in pulls
    ]
    # What a row pulls with on its own, in the metric of the mean over rows.
    return [pull / row_weight.sqrt() for pull in pulls], parameters


def _derivative(
    of: Tensor, by: Sequence[Tensor], grad: Tensor | None = None
) -> Sequence[Tensor]:
    """The gradient; the ``grad`` of the parameters stays as it is."""
    return torch.autograd.grad(
        of, by, grad, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def _compared(gradients: Sequence[Tensor], of: str) -> dict[str, float]:
    """Norms of two gradients, and the cosine of the angle between them."""
    first, second, kl = (g.double().reshape(-1) for g in gradients)
    norm = math.sqrt(max(float(first @ second), 0.0))
    kl_norm = float(kl.norm())
    cosine = math.nan
    if norm * kl_norm > 0:
        cosine = float((first + second) @ kl) / (2 * norm * kl_norm)
        cosine = min(max(cosine, -1.0), 1.0)
    return {
        f"grad_reconstruction_{of}": norm,
        f"grad_kl_{of}": kl_norm,
        f"grad_cosine_{of}": cosine,
    }
