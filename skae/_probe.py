"""A look at the gradients of a model in training, at the end of each epoch."""

import torch

from skae._module import AutoencoderModule
from skae._rows import Rows
from skae._units import Units
from skae.objectives import Objective, gradient_balance

# Rows that are looked at, and different draws.
_ROWS = 512
_DRAWS = 256


class GradientProbe:
    """The balance of the gradients, always at the same rows and draws.

    It has no part in the training: it draws no random number and leaves all as it was.

    Parameters
    ----------
    module : AutoencoderModule
        The model in training.
    objective : Objective
        What it is trained for.
    rows : Rows
        Training data; at most 512 of them, evenly spaced, are looked at.
    units : Units
        Their statistics.
    """

    def __init__(
        self, module: AutoencoderModule, objective: Objective, rows: Rows, units: Units
    ) -> None:
        some = rows.thin(_ROWS)
        self.module, self.objective = module, objective
        y = torch.from_numpy((some.X[some.index] - units.mean) / units.std)
        self.y = y.to(module.ratio)
        self.share = torch.from_numpy(some.weight / len(some))[:, None].to(module.ratio)
        # The draws are pairs, z and -z, half the set apart; each row takes two different
        # ones, one for each half of its own draws.
        draws = objective.draws(module.spec, _DRAWS)
        half = len(draws) // 2
        pair = (torch.arange(len(some)) + torch.tensor([[0], [half // 3]])) % half
        self.draws = torch.stack([draws[pair], draws[pair + half]], dim=1).flatten(0, 1)
        self.draws = self.draws.to(module.ratio)

    def __call__(self, progress: float) -> dict[str, float]:
        """The balance as it stands.

        Parameters
        ----------
        progress : float
            Share of the training that is done.

        Returns
        -------
        dict of str to float
            See :func:`skae.objectives.gradient_balance`.
        """
        return gradient_balance(
            self.module, self.objective, self.y, self.share, self.draws, progress
        )
