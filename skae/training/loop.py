"""The training loop. It knows no model: a step, parameters and batches are all it sees."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from skae.training.annealing import Annealing
from skae.training.data import Batches
from skae.training.parameters import Adam, FlatParameters


class Step(Protocol):
    """What computes the gradients of R models."""

    def __call__(
        self, y: Tensor, share: Tensor, noise: Tensor, progress: Sequence[float]
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


def train(
    step: Step,
    parameters: FlatParameters,
    batches: Batches,
    optimizer: Adam,
    annealings: Sequence[Annealing],
    hooks: Sequence[EpochHooks],
) -> None:
    """Minimise the losses of R models side by side.

    Nothing is read back from the device within an epoch.

    Parameters
    ----------
    step : Step
        Computes the gradients.
    parameters : FlatParameters
        What the losses depend on.
    batches : Batches
        The data.
    optimizer : Adam
        The update.
    annealings : sequence of R Annealing
        The learning rate of each model, and its number of epochs.
    hooks : sequence of R EpochHooks
        Told of the beginning and the end of each epoch of a model; may stop its training.
    """
    n_epochs = [annealing.n_epochs for annealing in annealings]
    running = set(range(len(hooks)))
    finished: dict[int, Tensor] = {}
    epoch = 0
    while running:
        for r in running:
            hooks[r].on_epoch_begin()
        totals: Tensor | float = 0.0
        for b, (y, share, noise) in enumerate(batches.epoch()):
            time = epoch + b / batches.n_batches
            after = epoch + (b + 1) / batches.n_batches
            rates = [
                a.rate(time) if r in running else 0.0 for r, a in enumerate(annealings)
            ]
            totals = totals + step(y, share, noise, [after / n for n in n_epochs])
            optimizer.step(rates)
        epoch += 1
        means = torch.as_tensor(totals).double().cpu().numpy() / batches.n_batches
        for r in sorted(running):
            stop = hooks[r].on_epoch_end(means[r], epoch / n_epochs[r])
            if stop or epoch >= annealings[r].n_epochs:
                running.remove(r)
                finished[r] = parameters.values[r].clone()
    # What the others needed after a model's end must not show in it.
    for r, values in finished.items():
        parameters.values[r] = values
