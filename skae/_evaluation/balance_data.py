"""The rows and draws that the balance of the gradients is measured with."""

import torch
from torch import Tensor

from skae._data import Rows, Standardization
from skae._module import AutoencoderModule
from skae._utils.device import move_double
from skae.objectives import Objective

# Rows and different draws that the balance of the gradients is computed from.
_BALANCE_ROWS = 512
_BALANCE_DRAWS = 256


def choose_balance_data(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose rows and draws for the balance of the gradients, the same in each epoch.

    Returns rows ``(n, d)``, row weights ``(n, 1)`` and draws ``(n_draws, n, k)``. No random
    number is drawn, so that the training does not depend on the measurement.
    """
    rows = rows.subsample(_BALANCE_ROWS)
    y = torch.from_numpy(standardization.standardize(rows.block()))
    y = module.prepare(move_double(y, module.device))
    row_weight = torch.from_numpy(rows.weight / len(rows))[:, None]
    # The draws are pairs, z and -z, half the set apart. Each row takes two different
    # pairs, one for each half of its own draws.
    draws = objective.draws(module.spec, _BALANCE_DRAWS)
    half = len(draws) // 2
    shift = torch.tensor([[0], [half // 3]], device="cpu")
    pair = (torch.arange(len(rows), device="cpu") + shift) % half
    draws = torch.stack([draws[pair], draws[pair + half]], dim=1).flatten(0, 1)
    like = module.std_in_units
    return y.to(like), row_weight.to(like), draws.to(like)
