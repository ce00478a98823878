"""The score of validation data in each epoch of a training."""

import numpy as np
from torch import Tensor

from skae._data import Rows, Standardization
from skae._evaluation.blocks import Kept, over_rows
from skae._module import AutoencoderModule
from skae.objectives import Objective

# Draws of the posterior for the validation score during training.
_VALIDATION_DRAWS = 8


def validation_score(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    kept: Kept,
) -> float:
    """Return the weighted mean score of some rows, in nats, in the units of X."""

    def make_draws() -> Tensor:
        draws = objective.draws(module.spec, _VALIDATION_DRAWS)[:, None]
        return draws.to(module.std_in_units)

    draws = kept.get("draws", make_draws)
    scores = over_rows(
        lambda y: objective.log_likelihood(module, y, draws),
        rows.X,
        standardization,
        module,
        n_draws=len(draws),
        index=rows.index,
        kept=kept,
    )
    total = float(np.sum(scores.astype(np.float64) * rows.weight))
    mean = rows.peers.sum(total) / rows.total
    return mean - kept.get("log_det", lambda: standardization.mean_log_det(rows))
