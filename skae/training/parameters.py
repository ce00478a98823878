"""All parameters of a model in one flat buffer, and the update of it."""

from collections.abc import Iterable

import torch
from torch import nn


class FlatParameters:
    """A module's parameters and gradients, each as views into one flat tensor.

    An update, a snapshot or a check then is one operation, whatever the number of layers.

    Parameters
    ----------
    parameters : iterable of Parameter
        The parameters; their memory moves into the flat buffer.
    penalized : iterable of Parameter
        Those among them that the L2 penalty is for.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], penalized: Iterable[nn.Parameter]
    ) -> None:
        parameters = list(parameters)
        chosen = {id(p) for p in penalized}
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.grads = torch.zeros_like(self.values)
        self.penalized = torch.cat(
            [p.new_full((p.numel(),), float(id(p) in chosen)) for p in parameters]
        )
        start = 0
        for p in parameters:
            stop = start + p.numel()
            p.data = self.values[start:stop].view_as(p)
            p.grad = self.grads[start:stop].view_as(p)
            start = stop


class Adam:
    """Adam over one flat buffer (Kingma and Ba 2015), one fused call a step.

    The classes of ``torch.optim`` do the same, and import about two seconds of compiler
    machinery at their first step.

    Parameters
    ----------
    parameters : FlatParameters
        What to update.
    l2 : float
        Factor of the squared norm of the penalised parameters, over two.
    """

    def __init__(self, parameters: FlatParameters, l2: float = 0.0) -> None:
        self.parameters = parameters
        self.l2 = parameters.penalized * l2 if l2 > 0 else None
        self.mean = torch.zeros_like(parameters.values)
        self.mean_square = torch.zeros_like(parameters.values)
        self.n_steps = torch.zeros((), device=parameters.values.device)

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients.

        Parameters
        ----------
        learning_rate : float
            Size of the update.
        """
        values, grads = self.parameters.values, self.parameters.grads
        if self.l2 is not None:
            grads.addcmul_(self.l2, values)
        self.n_steps += 1
        torch._fused_adam_(
            [values],
            [grads],
            [self.mean],
            [self.mean_square],
            [],
            [self.n_steps],
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
