"""Gradients of the two terms of a variational objective, at the encoder."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from skae._module import AutoencoderModule
from skae._utils.device import to_double
from skae.networks.randomness import fixed_draws
from skae.objectives.base import Objective


def gradient_balance(
    module: AutoencoderModule,
    objective: Objective,
    y: Tensor,
    row_weight: Tensor,
    draws: Tensor,
    progress: float = 1.0,
) -> dict[str, float]:
    r"""Compare the gradients of the reconstruction term and of beta KL.

    The terms of row i are :math:`R_i = -E_q \log p(x_i|z)` and :math:`K_i = \beta\, KL_i`.
    With the encoder's outputs :math:`h_i` and weights :math:`w_i` of sum 1,

    .. math::
        \|R\|_h^2 = \sum_i w_i \, \|\partial R_i / \partial h_i\|^2, \quad
        \cos_h = \frac{\sum_i w_i \, \partial R_i / \partial h_i
        \cdot \partial K_i / \partial h_i}{\|R\|_h \, \|K\|_h},

    which does not depend on the number of rows. The outputs are the posterior's means and
    the numbers h that determine its standard deviations. With respect to the encoder's
    parameters, the gradients are those of the means :math:`\sum_i w_i R_i` and
    :math:`\sum_i w_i K_i`.

    The expectation is a mean over draws, whose noise would increase a norm. The squared
    norm of the reconstruction term's gradient is estimated without that bias: it is the
    inner product of the gradients from the two halves of the draws.

    A scale in closed form is that of these rows, and its gradient is 0, as in training. The
    module is evaluated in evaluation mode; neither the module nor the ``grad`` of its
    parameters changes.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        The objective that it is trained for.
    y : Tensor of shape (n, n_features)
        Standardised rows.
    row_weight : Tensor of shape (n, 1)
        Weight of each row, w; above 0 and of sum 1.
    draws : Tensor of shape (n_draws, n or 1, n_components)
        Standard normal draws, an even number; the halves should be independent.
    progress : float, default=1.0
        Fraction of the training that is done, which determines the weight of the KL.

    Returns
    -------
    dict of str to float
        ``grad_reconstruction_outputs``, ``grad_kl_outputs`` and ``grad_cosine_outputs``:
        the norms, in nats per unit of the outputs, and the cosine of the angle between the
        gradients. The same three keys with ``_parameters`` are with respect to the
        encoder's parameters. A cosine is NaN if a gradient is 0.
    """
    training = module.training
    # A closed-form scale updates its running mean with each batch.
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    module.eval()
    try:
        draws_of_networks = fixed_draws(
            module.encoder, module.decoder, device=module.device
        )
        with torch.enable_grad(), draws_of_networks:
            outputs, parameters = _gradients(
                module, objective, y, row_weight, draws, progress
            )
    finally:
        module.train(training)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    return {**_compare(outputs, "outputs"), **_compare(parameters, "parameters")}


def _gradients(
    module: AutoencoderModule,
    objective: Objective,
    y: Tensor,
    row_weight: Tensor,
    draws: Tensor,
    progress: float,
) -> tuple[list[Tensor], list[Tensor]]:
    """Compute gradients with respect to the outputs ``(n, m)`` and to the parameters.

    Each list has three: of the reconstruction term with each half of the draws, and of
    the KL.
    """
    heads = module.encode(y)
    # The terms depend on the encoder through its outputs only, so the outputs are leaves.
    # Both halves of the draws together determine the scale.
    leaves = [heads.detach().requires_grad_() for _ in range(2)]
    latents = [
        objective.latents_of(leaf, half)
        for leaf, half in zip(leaves, draws.chunk(2), strict=True)
    ]
    z, kl = torch.cat([latent[0] for latent in latents]), latents[0][1]
    reconstruction = -objective.training_log_likelihood(module, y, row_weight, z)
    weighted = objective.kl_weight(progress) * (row_weight * kl).sum()
    # The mean over a half is twice its part of the mean over all draws.
    first, second = (2 * g for g in _derivative(reconstruction, leaves))
    gradients = [first, second, *_derivative(weighted, leaves[:1])]
    parts = (module.linear_encoder, module.encoder)
    encoder = [p for part in parts for p in part.parameters() if p.requires_grad]
    parameters = [
        torch.cat([g.reshape(-1) for g in _derivative(heads, encoder, gradient)])
        if encoder
        else heads.new_zeros(0)
        for gradient in gradients
    ]
    # A row adds w g to a gradient of the mean, and (w g)^2 / w = w g^2 to a squared norm.
    # Both are 0 for a weight below the range of float32.
    root = row_weight.sqrt().clamp_min(torch.finfo(row_weight.dtype).tiny)
    return [gradient / root for gradient in gradients], parameters


def _derivative(
    of: Tensor, by: Sequence[Tensor], grad: Tensor | None = None
) -> Sequence[Tensor]:
    """Compute a gradient; the ``grad`` of the parameters does not change."""
    if grad is not None:
        # A scalar of the same gradients. For any other tensor, torch imports sympy, which
        # takes a second and changes the filters of warnings.
        of = (of * grad).sum()
    return torch.autograd.grad(
        of, by, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def _compare(gradients: Sequence[Tensor], of: str) -> dict[str, float]:
    """Compute the norms of two gradients, and the cosine of the angle between them."""
    # A gradient beyond the range of float32 is the largest number of this range.
    first, second, kl = (to_double(g.nan_to_num()).reshape(-1) for g in gradients)
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
