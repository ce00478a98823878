"""All parameters of R models in one flat buffer, and the update of it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatParameters:
    """Parameters and gradients of R models, each as views into one flat tensor.

    An update, a snapshot or a check then is one operation, whatever the number of layers
    and models.

    Parameters
    ----------
    models : sequence of R sequences of Parameter
        The parameters of each model, of the same shapes in the same order; their memory
        moves into the flat buffer.
    penalized : sequence of Parameter
        Those of the first model that the L2 penalty is for, and so their likes.

    Attributes
    ----------
    values, grads : Tensor of shape (R, n_parameters)
        The buffers.
    penalized : Tensor of shape (n_parameters,)
        1 where the penalty is for, 0 elsewhere.
    """

    def __init__(
        self,
        models: Sequence[Sequence[nn.Parameter]],
        penalized: Sequence[nn.Parameter] = (),
    ) -> None:
        self._models = models
        self._penalized = penalized
        chosen = {id(p) for p in penalized}
        self.values = torch.stack(
            [torch.cat([p.detach().reshape(-1) for p in model]) for model in models]
        )
        self.grads = torch.zeros_like(self.values)
        self.penalized = torch.cat(
            [p.new_full((p.numel(),), float(id(p) in chosen)) for p in models[0]]
        )
        self._stacked = {}
        start = 0
        for likes in zip(*models, strict=True):
            first = likes[0]
            part = slice(start, start + first.numel())
            shape = (len(models), *first.shape)
            stacked = nn.Parameter(self.values[:, part].view(shape), requires_grad=False)
            stacked.grad = self.grads[:, part].view(shape)
            self._stacked[id(first)] = stacked
            for p, value, grad in zip(likes, stacked.data, stacked.grad, strict=True):
                p.data, p.grad = value, grad
            start = part.stop

    def stacked(self, parameter: Tensor) -> nn.Parameter:
        """A parameter of the first model together with its likes in the others.

        Parameters
        ----------
        parameter : Parameter
            One of the first model's.

        Returns
        -------
        Parameter
            A view of shape ``(R, *parameter.shape)``, its gradient too.
        """
        return self._stacked[id(parameter)]

    def select(self, chosen: Sequence[int]) -> "FlatParameters":
        """Some of the models, in a buffer of their own.

        Parameters
        ----------
        chosen : sequence of int
            Which models.

        Returns
        -------
        FlatParameters
            Their parameters, which move; those of the others stay where they are.
        """
        at = [id(p) for p in self._models[0]]
        places = [at.index(id(p)) for p in self._penalized]
        models = [self._models[r] for r in chosen]
        return FlatParameters(models, [models[0][i] for i in places])


class Adam:
    """Adam over one flat buffer (Kingma and Ba 2015), one fused call a step.

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
        self._l2 = list(l2)
        self.l2 = parameters.penalized * values.new_tensor(list(l2))[:, None]
        self.has_l2 = any(l2)
        self.mean = torch.zeros_like(values)
        self.mean_square = torch.zeros_like(values)
        self.n_steps = torch.zeros((), device=values.device)

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
        adam = Adam(parameters, [self._l2[r] for r in chosen])
        index = torch.tensor(list(chosen), device=self.mean.device)
        adam.mean, adam.mean_square = self.mean[index], self.mean_square[index]
        adam.n_steps = self.n_steps
        return adam

    def step(self, learning_rates: Sequence[float]) -> None:
        """Update the parameters by their gradients.

        Parameters
        ----------
        learning_rates : sequence of R floats
            Size of the update of each model.
        """
        values, grads = self.parameters.values, self.parameters.grads
        if self.has_l2:
            grads.addcmul_(self.l2, values)
        first = learning_rates[0]
        if all(rate == first for rate in learning_rates):
            self._update(values, grads, first)
            return
        # Where they differ, a step of rate 1 from 0 is the direction for all.
        direction = torch.zeros_like(values)
        self._update(direction, grads, 1.0)
        values.addcmul_(direction, values.new_tensor(list(learning_rates))[:, None])

    def _update(self, values: Tensor, grads: Tensor, learning_rate: float) -> None:
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
