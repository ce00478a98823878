"""The training loop. It knows no model: a step, parameters and batches are all it sees."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from skae._optim.adam import Adam
from skae._optim.learning_rate import CosineSchedule


class Step(Protocol):
    """What computes the gradients of R models."""

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """Leave the gradients of a batch in the parameters' buffer.

        Parameters
        ----------
        y : Tensor of shape (R, n, n_features)
            Standardised rows.
        share : Tensor of shape (R, n, 1)
            What each row counts; a sum of shares times values is a mean over the batch.
        noise : Tensor of shape (R, n_draws, n, width)
            Standard normal numbers.
        progress : sequence of R floats
            Share of each model's training that is done, this step included.

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


class EpochHooks(Protocol):
    """What wants to know of the epochs of a model."""

    def on_epoch_begin(self) -> None:
        """Called before each epoch."""

    def on_epoch_end(self, metrics: np.ndarray, progress: float) -> bool:
        """Called after each epoch.

        Parameters
        ----------
        metrics : ndarray
            Means over the batches of the step's metrics.
        progress : float
            Share of the training that is done.

        Returns
        -------
        bool
            Whether to stop.
        """


def minimize(
    step: Step,
    batches: Batches,
    optimizer: Adam,
    schedules: Sequence[CosineSchedule],
    hooks: Sequence[EpochHooks],
    epoch: int = 0,
) -> tuple[int, list[int]]:
    """Minimise the losses of R models side by side, until a quarter of them is done.

    Nothing is read back from the device within an epoch. Models that are done first wait
    for the others without changing; when they are many, it pays to go on without them.

    Parameters
    ----------
    step : Step
        Computes the gradients.
    batches : Batches
        The data.
    optimizer : Adam
        The parameters, and their update.
    schedules : sequence of R CosineSchedule
        The learning rate of each model, and its number of epochs.
    hooks : sequence of R EpochHooks
        Told of the beginning and the end of each epoch of a model; may stop its training.
    epoch : int, default=0
        Epochs that are done.

    Returns
    -------
    epoch : int
        Epochs that are done now.
    running : list of int
        Models that are not done.
    """
    n_models, n_batches = len(hooks), batches.n_batches
    running = list(range(n_models))
    done: set[int] = set()
    while running and 4 * len(running) > 3 * n_models:
        for r in running:
            hooks[r].on_epoch_begin()
        totals: Tensor | None = None
        for b, (y, row_weight, noise) in enumerate(batches.epoch()):
            time, after = epoch + b / n_batches, epoch + (b + 1) / n_batches
            progress = [min(after / a.max_epochs, 1.0) for a in schedules]
            metrics = step(y, row_weight, noise, progress)
            totals = metrics.clone() if totals is None else totals.add_(metrics)
            optimizer.step(
                [0.0 if r in done else schedules[r].rate(time) for r in range(n_models)]
            )
        epoch += 1
        assert totals is not None
        means = totals.double().cpu().numpy() / n_batches
        for r in list(running):
            stop = hooks[r].on_epoch_end(means[r], epoch / schedules[r].max_epochs)
            if stop or epoch >= schedules[r].n_epochs:
                running.remove(r)
                done.add(r)
    return epoch, running
