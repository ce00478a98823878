"""The closed-form scale of a model, and the training objective with it."""

import numpy as np
import torch
from torch import Tensor

from skae._data import Rows, Standardization
from skae._evaluation.blocks import Kept
from skae._evaluation.means import mean_of_residuals, mean_over_rows
from skae._module import AutoencoderModule
from skae._utils.device import to_double
from skae.objectives import Objective
from skae.scales import MixedScale, NoScale, Scale

# Rows that are enough to estimate a scale during training, to compare two starts, and to
# see whether a scale is at its floor.
SCALE_ROWS = 1024


def training_objective(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
) -> float:
    """Return the training objective over all rows, with the final weight of the KL.

    It is in nats, in the likelihood's units.
    """
    kl_weight = objective.kl_weight(1.0)

    def statistic(y: Tensor, draws: Tensor) -> Tensor:
        return objective.log_likelihood(module, y, draws, kl_weight)[:, None]

    mean = mean_over_rows(module, objective, rows, standardization, statistic)
    return -float(mean)


def finalize_scale(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
) -> float:
    """Set a closed-form scale from all rows, and return the training objective with it.

    The objective is in nats, in the likelihood's units.
    """
    scale, likelihood = module.scale, module.spec.likelihood
    if not scale.needs_optimal_scale:
        return training_objective(module, objective, rows, standardization)
    deviation, share, kl = _set_closed_form(module, objective, rows, standardization)
    # The log-density is linear in the deviation, so its mean is that of a residual whose
    # deviation is the mean deviation. For most likelihoods that is the optimal scale.
    if not likelihood.has_optimal_scale:  # only some of its parts have one
        return training_objective(module, objective, rows, standardization)
    residual = likelihood.optimal_scale(deviation)
    gap = (likelihood.deviation(residual) - deviation).abs()
    if not (gap <= 1e-5 * deviation).all():
        return training_objective(module, objective, rows, standardization)
    log_scale = scale.log_scale(module.std_in_units.new_empty(1, 0))
    log_prob = likelihood.log_prob(residual, torch.zeros_like(residual), log_scale)
    log_prob = to_double(log_prob)
    if share is not None:
        log_prob = log_prob * share.to(log_prob.device)
    expected = float(log_prob.mean()) * module.spec.n_features
    return objective.kl_weight(1.0) * float(kl) - expected


def update_scale(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    kept: Kept | None = None,
) -> None:
    """Set a closed-form scale from some rows; ``kept`` is for further calls with them."""
    if module.scale.needs_optimal_scale:
        _set_closed_form(module, objective, rows, standardization, kept)


def _set_closed_form(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    kept: Kept | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Set a closed-form scale; returns what `mean_of_residuals` does of the deviation."""
    likelihood = module.spec.likelihood
    # The memory of the residual is free: nothing reads it after this.
    found = mean_of_residuals(
        lambda residual: likelihood.deviation(residual, out=residual),
        module,
        objective,
        rows,
        standardization,
        kept,
    )
    module.scale.finalize(found[0])
    return found


def shared_scale(
    scale: Scale, standardization: Standardization
) -> float | np.ndarray | None:
    """Return a scale in the units of X, a float or ``(n_features,)``.

    It is None if the scale is a function of the code, or if there is none. A feature
    without scale has NaN.
    """
    if not scale.is_shared or isinstance(scale, NoScale):
        return None
    with torch.no_grad():
        log_scale = scale.log_scale(scale.floor.new_empty(1, 0))
    in_units = np.exp(log_scale.cpu().numpy()[0].astype(np.float64))
    value = in_units * standardization.likelihood_unit
    if isinstance(scale, MixedScale):
        for part, own in scale.parts:
            if isinstance(own, NoScale):
                value[part] = np.nan
        if np.isnan(value).all():
            return None
    return value if scale.covariance_type == "diag" else float(value[0])
