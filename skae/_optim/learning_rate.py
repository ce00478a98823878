"""The learning rate: how it falls, and which weights take a fraction of it."""

import math
from typing import Any

from torch import Tensor, nn

# Inputs up to which the weights between hidden layers take the whole learning rate;
# docs/results/step_sizes.rst has the measurements.
_FEW_INPUTS = 2
# Fraction of the learning rate for networks with convolutions. With the whole default rate
# most feature maps die: on 3,500 images of MNIST the validation score is 332 nats after 15
# epochs, with this fraction 436.
_WITH_CONVOLUTIONS = 0.3


class Schedule:
    """A learning rate that stays constant until the training ends.

    Parameters
    ----------
    learning_rate : float
        Learning rate at the start.
    n_epochs : int
        Epochs of the training.

    Attributes
    ----------
    n_epochs : int
        Epochs until the end as it is planned now.
    max_epochs : int
        Epochs that were planned at the start.
    is_ending : bool
        Whether the end is nearer than planned at the start.
    """

    def __init__(self, learning_rate: float, n_epochs: int) -> None:
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.max_epochs = n_epochs
        self.is_ending = False

    def rate(self, epoch: float) -> float:
        """Return the rate after a number of epochs, whole and in part."""
        return self.learning_rate

    def end_soon(self, epoch: int, length: int) -> None:
        """End the training after an epoch, because its value no longer improves.

        A schedule may take up to ``length`` epochs more to bring the rate down.
        """
        self.is_ending = True
        self.n_epochs = epoch

    def halve(self) -> None:
        """Halve the rate of all later steps."""
        self.learning_rate /= 2

    def state(self) -> dict[str, Any]:
        """Return what changes during the training, as plain numbers."""
        return {
            "learning_rate": self.learning_rate,
            "n_epochs": self.n_epochs,
            "is_ending": self.is_ending,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state of :meth:`state`; a later planned end stays."""
        self.learning_rate = float(state["learning_rate"])
        self.is_ending = bool(state["is_ending"])
        if self.is_ending:
            self.n_epochs = int(state["n_epochs"])


class CosineSchedule(Schedule):
    """A learning rate that falls to 0 along half a cosine over the whole training.

    The noise of the gradients keeps the parameters at a distance from the optimum that
    grows with the learning rate. So a training that ends early has to bring the rate to
    0 too: :meth:`end_soon` does that within a few epochs. See `Schedule`.
    """

    def __init__(self, learning_rate: float, n_epochs: int) -> None:
        super().__init__(learning_rate, n_epochs)
        # Epoch at which the rate begins to fall in a straight line, and its fraction then.
        self._cooldown: tuple[float, float] | None = None

    def rate(self, epoch: float) -> float:
        if self._cooldown is None:
            return self.learning_rate * self._cosine(epoch)
        start, fraction = self._cooldown
        rate = self.learning_rate * fraction
        return rate * (self.n_epochs - epoch) / (self.n_epochs - start)

    def _cosine(self, epoch: float) -> float:
        """Return the fraction of the rate that is left after a number of epochs."""
        return 0.5 * (1 + math.cos(math.pi * epoch / self.max_epochs))

    def end_soon(self, epoch: int, length: int) -> None:
        """Let the rate fall in a straight line from an epoch on, and end the training.

        The training ends after ``length`` more epochs, or at its planned end if that is
        earlier.
        """
        self._cooldown = epoch, self._cosine(epoch)
        self.is_ending = True
        self.n_epochs = min(self.n_epochs, epoch + length)

    def state(self) -> dict[str, Any]:
        return super().state() | {"cooldown": self._cooldown}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        if state["cooldown"] is not None:
            start, fraction = state["cooldown"]
            self._cooldown = float(start), float(fraction)


# Schedules by the values of the parameter ``learning_rate``.
SCHEDULES: dict[str, type[Schedule]] = {
    "cosine": CosineSchedule,
    "constant": Schedule,
}


def learning_rate_multipliers(network: nn.Module) -> dict[Tensor, float]:
    """Return the factors of the learning rate for some weights of a network.

    Adam's steps have one size for all weights. The inputs of a layer after a hidden one do
    not vary around 0 (after a rectifier they are positive), so its steps add up. With many
    inputs, each step moves the input of a unit by more than its spread, and rectifiers
    die. The steps of such weights fall with the number of inputs (Yang et al. 2022, table
    3, for hidden weights; output weights keep the whole rate).

    A weight of a convolution is used at each place of an image, and its steps add up there.
    So all parameters of a network with convolutions take a fraction.

    Only chains of layers (``torch.nn.Sequential``) are looked at, with all layers inside
    of them; all factors are below 1.
    """
    if type(network) is not nn.Sequential:
        return {}
    if any(type(layer) is nn.Conv2d for layer in network.modules()):
        return dict.fromkeys(network.parameters(), _WITH_CONVOLUTIONS)
    between = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][1:-1]
    return {
        layer.weight: _FEW_INPUTS / layer.in_features
        for layer in between
        # The weight of a parametrized layer, which is of another type, is no parameter.
        if type(layer) is nn.Linear and layer.in_features > _FEW_INPUTS
    }
