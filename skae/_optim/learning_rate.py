"""The learning rate: how it falls, and which weights take a fraction of it."""

import math

from torch import Tensor, nn

# Inputs up to which the weights between hidden layers take the whole learning rate;
# docs/results/step_sizes.rst has the measurements.
_FEW_INPUTS = 8
# Fraction of the learning rate for networks with convolutions. With the whole default rate
# most feature maps die: on 3,500 images of MNIST the validation score is 332 nats after 15
# epochs, with this fraction 436.
_WITH_CONVOLUTIONS = 0.3


class CosineSchedule:
    """A learning rate that falls to 0 along half a cosine over the whole training.

    The noise of the gradients keeps the parameters at a distance from the optimum that
    grows with the learning rate. So a training that ends early has to bring the rate to
    0 too: :meth:`start_cooldown` does that within a few epochs.

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
    """

    def __init__(self, learning_rate: float, n_epochs: int) -> None:
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.max_epochs = n_epochs
        self._cooldown: tuple[float, float] | None = None

    @property
    def is_cooling(self) -> bool:
        """Whether the cooldown has begun."""
        return self._cooldown is not None

    def rate(self, epoch: float) -> float:
        """Return the rate after a number of epochs, whole and in part."""
        if self._cooldown is None:
            return (
                self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.max_epochs))
            )
        start, rate = self._cooldown
        return rate * (self.n_epochs - epoch) / (self.n_epochs - start)

    def start_cooldown(self, epoch: int, length: int) -> None:
        """Let the rate fall in a straight line from an epoch on, and end the training.

        The training ends after ``length`` more epochs, or at its planned end if that is
        earlier.
        """
        self._cooldown = (epoch, self.rate(epoch))
        self.n_epochs = min(self.n_epochs, epoch + length)


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
