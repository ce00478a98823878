"""The training loop. It knows no model: a loss, parameters and batches are all it sees."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from skae.training.annealing import Annealing
from skae.training.data import Batches
from skae.training.parameters import Adam, FlatParameters

# (y, weight, progress) -> the loss, and a vector of metrics to be averaged.
Loss = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


class EpochHooks(Protocol):
    """What wants to know of the epochs."""

    def on_epoch_begin(self) -> None:
        """Called before each epoch."""

    def on_epoch_end(self, metrics: np.ndarray, progress: float) -> bool:
        """Called after each epoch.

        Parameters
        ----------
        metrics : ndarray
            Means of the loss's metrics.
        progress : float
            Share of the training that is done.

        Returns
        -------
        bool
            Whether to stop.
        """


def train(
    loss: Loss,
    parameters: FlatParameters,
    batches: Batches,
    optimizer: Adam,
    annealing: Annealing,
    hooks: EpochHooks,
    *,
    generator: torch.Generator,
) -> None:
    """Minimise a loss.

    Nothing is read back from the device within an epoch.

    Parameters
    ----------
    loss : callable
        Function of a batch, its weights and the share of the training that is done, which
        returns the loss and a vector of metrics.
    parameters : FlatParameters
        What the loss depends on.
    batches : Batches
        The data.
    optimizer : Adam
        The update.
    annealing : Annealing
        The learning rate, and the number of epochs.
    hooks : EpochHooks
        Told of the beginning and the end of each epoch; may stop the training.
    generator : torch.Generator
        Source of the order of the rows.
    """
    n_epochs = annealing.n_epochs
    step = 0
    while step < annealing.n_epochs * batches.n_batches:
        hooks.on_epoch_begin()
        totals: Tensor | float = 0.0
        for y, weight in batches.epoch(generator):
            rate = annealing.rate(step / batches.n_batches)
            step += 1
            progress = step / (n_epochs * batches.n_batches)
            parameters.grads.zero_()
            value, metrics = loss(y, weight, progress)
            value.backward()
            optimizer.step(rate)
            totals = totals + metrics * len(y)
        means = torch.as_tensor(totals).double().cpu().numpy() / len(batches.rows)
        if hooks.on_epoch_end(means, progress):
            break
