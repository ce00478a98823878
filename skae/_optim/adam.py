"""The update of parameters in one flat buffer."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from skae._optim.flat_parameters import FlatParameters

# The first of some models, what its learning rate is multiplied by, and values, gradients
# and means of both kinds.
_Run = tuple[int, float, list[list[Tensor]]]


class Adam:
    """Adam over one flat buffer (Kingma and Ba 2015).

    A step is one fused call for each learning rate: those of runs of models, and those of
    parameters that take another one than the rest.
    The classes of ``torch.optim`` do the same, and import about two seconds of compiler
    machinery at their first step.

    Parameters
    ----------
    parameters : FlatParameters
        What to update.
    l2 : sequence of R floats
        For each model the factor of the squared norm of its penalised parameters, over
        two.
    """

    def __init__(self, parameters: FlatParameters, l2: Sequence[float]) -> None:
        values = parameters.values
        self.parameters = parameters
        self._factors = list(l2)
        self.l2 = parameters.l2(l2) if any(l2) else None
        self.mean = torch.zeros_like(values)
        self.mean_square = torch.zeros_like(values)
        self.n_steps = torch.zeros((), dtype=torch.float32, device=values.device)
        # Where in the row of models rates change, and what is between: the first model,
        # what its rate is multiplied by, and the buffers.
        self._changes: list[int] = []
        self._runs: list[_Run] = []

    def select(self, chosen: Sequence[int], parameters: FlatParameters) -> "Adam":
        """The update of some of the models.

        Parameters
        ----------
        chosen : sequence of int
            Which models.
        parameters : FlatParameters
            Their parameters.

        Returns
        -------
        Adam
            One that goes on where this one stands.
        """
        adam = Adam(parameters, [self._factors[r] for r in chosen])
        index = torch.tensor(list(chosen), device=self.mean.device)
        for new, old in ((adam.mean, self.mean), (adam.mean_square, self.mean_square)):
            parts = zip(parameters.views(new), self.parameters.views(old), strict=True)
            for part, before in parts:
                part.copy_(before[index])
        adam.n_steps = self.n_steps
        return adam

    def step(self, learning_rates: Sequence[float]) -> None:
        """Update the parameters by their gradients.

        Parameters
        ----------
        learning_rates : sequence of R floats
            Size of the update of each model.
        """
        if self.l2 is not None:
            self.parameters.grads.addcmul_(self.l2, self.parameters.values)
        self.n_steps += 1
        changes = [i for i, (a, b) in enumerate(pairwise(learning_rates), 1) if a != b]
        if not self._runs or changes != self._changes:
            # All rates fall by the same law, so this is rare.
            self._changes, self._runs = changes, self._runs_between(changes)
        for first, step_size, (values, grads, means, squares) in self._runs:
            rate = learning_rates[first] * step_size
            if rate == 0:
                continue
            torch._fused_adam_(
                values,
                grads,
                means,
                squares,
                [],
                len(values) * [self.n_steps],
                lr=rate,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )

    def _runs_between(self, changes: list[int]) -> list[_Run]:
        p = self.parameters
        buffers = p.values, p.grads, self.mean, self.mean_square
        return [
            (first, size, [p.of_models(b, first, last, size) for b in buffers])
            for first, last in pairwise([0, *changes, len(self._factors)])
            for size in p.learning_rate_multipliers
        ]
