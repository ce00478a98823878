"""The update of the parameters in one flat buffer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from skae._optim.flat_parameters import FlatParameters

# Largest norm of a gradient, over the running mean of the norms. A rare row of a narrow
# density has a gradient that is thousands of times larger. It would move all weights, and
# then stop Adam for about a thousand steps, because it stays in the mean squares.
_LARGEST_RATIO = 3.0
# Steps over which the norms are averaged. Before that nothing is clipped: at a start in
# closed form the first gradients may be rounding errors.
_NORM_STEPS = 50

# Parameters that are updated with one rate: their first model, the multiplier of its
# learning rate, and views of values, gradients, means and mean squares.
_UpdateGroup = tuple[int, float, list[list[Tensor]]]


class Adam:
    """Adam over one flat buffer (Kingma and Ba 2015), with clipped gradients.

    A step is one fused call for each group of adjacent models of equal learning rate, and
    for each multiplier of the rate. The classes of ``torch.optim`` compute the same, but
    their first step imports compilers, which takes about two seconds.

    The gradient of a model is scaled down if the norm of its watched part is above three
    times the running mean of that norm.

    Parameters
    ----------
    parameters : FlatParameters
        The parameters to update.
    l2 : sequence of R floats
        For each model the factor of half the squared norm of its penalised parameters.
    """

    def __init__(self, parameters: FlatParameters, l2: Sequence[float]) -> None:
        values = parameters.values
        self.parameters = parameters
        self._l2_of_models = list(l2)
        self.l2 = parameters.l2_factors(l2) if any(l2) else None
        self.mean = torch.zeros_like(values)
        self.mean_square = torch.zeros_like(values)
        self.n_steps = torch.zeros((), dtype=torch.float32, device=values.device)
        # The running norm of each model's watched gradient, and the number of its norms.
        # On a CPU they are floats.
        self.norms: Any = values.new_zeros(len(l2))
        if values.device.type == "cpu":
            self.norms = self.norms.tolist()
        self._n_norms = 0
        # Positions of the models at which the rate changes, and the groups between them.
        self._changes: list[int] = []
        self._groups: list[_UpdateGroup] = []

    def select(self, chosen: Sequence[int]) -> "Adam":
        """Return the optimiser of some models, with its present state.

        Their parameters move, see `FlatParameters.select`.
        """
        parameters = self.parameters.select(chosen)
        adam = Adam(parameters, [self._l2_of_models[r] for r in chosen])
        index = torch.tensor(list(chosen), device=self.mean.device)
        for new, old in ((adam.mean, self.mean), (adam.mean_square, self.mean_square)):
            parts = zip(parameters.views(new), self.parameters.views(old), strict=True)
            for part, before in parts:
                part.copy_(before[index])
        is_list = isinstance(self.norms, list)
        adam.norms = [self.norms[r] for r in chosen] if is_list else self.norms[index]
        adam.n_steps = self.n_steps
        adam._n_norms = self._n_norms
        return adam

    def snapshot(self) -> "OptimizerSnapshot":
        """Copy the present state of all models."""
        norms = self.norms
        return OptimizerSnapshot(
            self.parameters,
            self.parameters.values.clone(),
            self.mean.clone(),
            self.mean_square.clone(),
            list(norms) if isinstance(norms, list) else norms.clone(),
        )

    def restore(self, model: int, state: "ModelState") -> None:
        """Go back to a state of one model; the count of the steps goes on.

        The state may be older than a :meth:`select`.
        """
        put = self.parameters.put
        put(model, state.values)
        put(model, state.mean, self.mean)
        put(model, state.mean_square, self.mean_square)
        self.norms[model] = state.norm

    def resume(self, n_steps: int) -> None:
        """Set the number of the steps that all models have done."""
        self.n_steps.fill_(n_steps)
        self._n_norms = min(n_steps, _NORM_STEPS)

    def step(self, learning_rates: Sequence[float]) -> None:
        """Update the parameters of R models by their gradients and R learning rates."""
        if self.l2 is not None:
            self.parameters.grads.addcmul_(self.l2, self.parameters.values)
        if self.parameters.watched_grads is not None:
            self._clip(self.parameters.watched_grads)
        self.n_steps += 1
        changes = [i for i, (a, b) in enumerate(pairwise(learning_rates), 1) if a != b]
        if not self._groups or changes != self._changes:
            # All rates follow the same schedule, so changes are rare.
            self._changes, self._groups = changes, self._make_groups(changes)
        for first, multiplier, (values, grads, means, squares) in self._groups:
            rate = learning_rates[first] * multiplier
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

    def _clip(self, watched_grads: Tensor) -> None:
        """Scale down gradients that are far above their running norm; see the class."""
        norms = torch.linalg.vector_norm(watched_grads, dim=(1, 2))  # (R,)
        self._n_norms = min(self._n_norms + 1, _NORM_STEPS)
        if norms.device.type == "cpu":
            # On few numbers, Python's operations take a fraction of the time of torch's.
            updates = [
                update_norm(running, norm, self._n_norms)
                for running, norm in zip(self.norms, norms.tolist(), strict=True)
            ]
            self.norms = [running for running, _ in updates]
            if all(factor == 1 for _, factor in updates):
                return
            factors = norms.new_tensor([factor for _, factor in updates])
        else:
            # A look at the norms would wait for the step.
            self.norms, factors = update_norms(self.norms, norms, self._n_norms)
        self.parameters.multiply(self.parameters.grads, factors)

    def _make_groups(self, changes: list[int]) -> list[_UpdateGroup]:
        """Split the models where the learning rate changes; see :data:`_UpdateGroup`."""
        p = self.parameters
        buffers = p.values, p.grads, self.mean, self.mean_square
        return [
            (first, multiplier, [p.of_models(b, first, last, multiplier) for b in buffers])
            for first, last in pairwise([0, *changes, len(self._l2_of_models)])
            for multiplier in p.learning_rate_multipliers
        ]


@dataclass(frozen=True)
class ModelState:
    """What the optimiser has of one model.

    Attributes
    ----------
    values, mean, mean_square : Tensor of shape (n_parameters,)
        Parameters and moments, see `FlatParameters.get`.
    norm : float or Tensor of shape ()
        Running norm of the watched gradient.
    """

    values: Tensor
    mean: Tensor
    mean_square: Tensor
    norm: Any

    def state(self) -> "ModelState":
        """Return itself, as `ModelSnapshot.state` does."""
        return self


@dataclass(frozen=True)
class OptimizerSnapshot:
    """A copy of the state of R models: one operation for all, and one check.

    Attributes
    ----------
    parameters : FlatParameters
        The layout of the buffers.
    values, mean, mean_square : Tensor
        Copies of the buffers.
    norms : list of R floats, or Tensor of shape (R,)
        Copies of the running norms.
    """

    parameters: FlatParameters
    values: Tensor
    mean: Tensor
    mean_square: Tensor
    norms: Any

    def finite_sums(self) -> Tensor:
        """Return whether the sum of parameters and mean squares is finite, ``(R,)``."""
        sums = self.parameters.sums(self.values) + self.parameters.sums(self.mean_square)
        return sums.isfinite()

    def by_model(self, finite: Sequence[bool]) -> "list[ModelSnapshot]":
        """Return the parts of R models, given :meth:`finite_sums`, without copying them."""
        return [ModelSnapshot(self, r, is_finite) for r, is_finite in enumerate(finite)]


@dataclass(frozen=True)
class ModelSnapshot:
    """One model in a snapshot; its numbers are copied when they are asked for.

    Attributes
    ----------
    shared : OptimizerSnapshot
        The snapshot.
    model : int
        The model's position in it.
    has_finite_sum : bool
        Whether the sum of parameters and mean squares is finite.
    """

    shared: OptimizerSnapshot
    model: int
    has_finite_sum: bool

    def values(self) -> Tensor:
        """Copy the parameters, ``(n_parameters,)``."""
        return self.shared.parameters.get(self.model, self.shared.values)

    def state(self) -> ModelState:
        """Copy parameters and moments."""
        shared, get = self.shared, self.shared.parameters.get
        return ModelState(
            self.values(),
            get(self.model, shared.mean),
            get(self.model, shared.mean_square),
            shared.norms[self.model],
        )

    def is_finite(self) -> bool:
        """Whether parameters and mean squares are finite."""
        # The sum is faster, but that of finite numbers may overflow.
        if self.has_finite_sum:
            return True
        state = self.state()
        return bool(state.values.isfinite().all() and state.mean_square.isfinite().all())


def update_norm(running: float, norm: float, n_norms: int) -> tuple[float, float]:
    """Return a running norm of n norms with a new one, and the gradient's factor."""
    if n_norms < _NORM_STEPS:
        return running + (norm - running) / n_norms, 1.0
    # The gradients of a running norm of 0 are not changed.
    running = running if running > 0 else norm
    clipped = min(norm, _LARGEST_RATIO * running)
    factor = clipped / norm if clipped < norm else 1.0
    return running + (clipped - running) / _NORM_STEPS, factor


def update_norms(running: Tensor, norms: Tensor, n_norms: int) -> tuple[Tensor, Tensor]:
    """Do what `update_norm` does for R norms, without waiting for a GPU."""
    if n_norms < _NORM_STEPS:
        return running + (norms - running) / n_norms, torch.ones_like(norms)
    running = torch.where(running > 0, running, norms)
    clipped = torch.minimum(norms, _LARGEST_RATIO * running)
    factors = torch.where(clipped < norms, clipped / norms, 1.0)
    return running + (clipped - running) / _NORM_STEPS, factors
