"""The training loop, which sees only a step, parameters and batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from skae._optim.adam import Adam
from skae._optim.learning_rate import Schedule
from skae._utils.threads import threads_put_back

# What the hooks of a model are told of it.
State = TypeVar("State")
StateIn = TypeVar("StateIn", contravariant=True)
# Sums of the metrics, (R, n_metrics) -> these as numbers, float64, and the state of each
# model. It may wait for the device.
Reader = Callable[[Tensor], tuple[np.ndarray, Sequence[State]]]


class Step(Protocol):
    """The computation of the gradients of R models."""

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """Leave the gradients of a batch in the buffer of the parameters.

        Parameters
        ----------
        y : Tensor of shape (R, n, n_features)
            Standardised rows.
        row_weight : Tensor of shape (R, n, 1)
            Weights of the rows, with which a sum of values is a mean over the batch.
        noise : Tensor of shape (R, n_draws, n, width)
            Standard normal numbers.
        progress : sequence of R floats
            Fraction of each model's training that is done, this step included.

        Returns
        -------
        Tensor of shape (R, n_metrics)
            Metrics of the batch.
        """


class Batches(Protocol):
    """The data of R models, in batches."""

    n_batches: int

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield standardised rows, row weights and noise of each batch; see `Step`."""


class EpochHooks(Protocol[StateIn]):
    """Functions that are called at the beginning and end of the epochs of a model."""

    def on_epoch_begin(self) -> None:
        """Prepare for the next epoch."""

    def on_epoch_end(self, metrics: np.ndarray, progress: float, state: StateIn) -> bool:
        """Return whether to stop the training.

        ``metrics``, ``(n_metrics,)``, are means over the batches. ``progress`` is the
        fraction of the training that is done. The state is that of the model.
        """


def minimize(
    step: Step,
    batches: Batches,
    optimizer: Adam,
    schedules: Sequence[Schedule],
    hooks: Sequence[EpochHooks[State]],
    read: Reader[State],
    epoch: int = 0,
) -> tuple[int, list[int]]:
    """Minimise the losses of R models side by side, until a quarter of them is done.

    Nothing is read back from the device within an epoch, and by ``read`` once for all
    models after it. Models that are done do not change while the others go on. If they are
    many, it is faster to go on without them.

    ``epoch`` counts the epochs that are done at the start. Returns the epochs that are done
    at the end, and the indices of the models that are not done. A step may set another
    number of torch's threads, which is put back before anything but steps is computed.
    """
    n_models, n_batches = len(hooks), batches.n_batches
    running = list(range(n_models))
    done: set[int] = set()
    while running and 4 * len(running) > 3 * n_models:
        for r in running:
            hooks[r].on_epoch_begin()
        totals: Tensor | None = None
        with threads_put_back():
            for b, (y, row_weight, noise) in enumerate(batches.epoch()):
                start, end = epoch + b / n_batches, epoch + (b + 1) / n_batches
                progress = [min(end / a.max_epochs, 1.0) for a in schedules]
                metrics = step(y, row_weight, noise, progress)
                totals = metrics.clone() if totals is None else totals.add_(metrics)
                optimizer.step(
                    [0.0 if r in done else s.rate(start) for r, s in enumerate(schedules)]
                )
        epoch += 1
        assert totals is not None
        sums, states = read(totals)
        for r in list(running):
            done_share = epoch / schedules[r].max_epochs
            stop = hooks[r].on_epoch_end(sums[r] / n_batches, done_share, states[r])
            if stop or epoch >= schedules[r].n_epochs:
                running.remove(r)
                done.add(r)
    return epoch, running
