"""Training whose end is not planned: a falling rate, and an average of the iterates."""

import math
from collections.abc import Sequence

from skae._optim.adam import Adam
from skae._optim.flat_parameters import FlatParameters
from skae._optim.learning_rate import Schedule

# docs/results/streams.rst has the measurements behind these three numbers.
# Steps over which the rate rises, while Adam's moments say little.
_RISE = 20
# Steps after which the rate is that of the start over the square root of 2.
_HALVING = 1000
# Order of the average: the newest 1/17 of the steps have about 2/3 of the weight.
_ORDER = 16


class OpenEndedSchedule(Schedule):
    r"""A learning rate for one block of a stream, whose end is not known.

    .. math:: r_t = r_0 \min(t' / 20, 1) / \sqrt{1 + t / 1000}

    at step t of the stream, and step t' of the optimiser, whose moments may be new. See
    `Schedule`.

    Parameters
    ----------
    learning_rate : float
        The rate r_0.
    n_steps : int
        Steps of the stream before this block.
    n_of_optimizer : int
        Those of them that the optimiser's moments are of.
    n_batches : int
        Steps of this block.
    """

    def __init__(
        self, learning_rate: float, n_steps: int, n_of_optimizer: int, n_batches: int
    ) -> None:
        super().__init__(learning_rate, n_epochs=1)
        self.n_steps = n_steps
        self.n_of_optimizer = n_of_optimizer
        self.n_batches = n_batches

    def rate(self, epoch: float) -> float:
        done = epoch * self.n_batches
        rise = min((self.n_of_optimizer + done + 1) / _RISE, 1.0)
        return self.learning_rate * rise / math.sqrt(1 + (self.n_steps + done) / _HALVING)


class AveragedAdam(Adam):
    r"""Adam that also averages its iterates, with weights that favour late ones.

    .. math:: \bar w_t = (1 - c_t) \bar w_{t-1} + c_t w_t, \quad c_t = 17 / (t + 16)

    This is the polynomial-decay average (Shamir and Zhang 2013, section 4), of order 16. It
    needs no planned end, and its memory is that of one model. See `Adam`.

    Parameters
    ----------
    parameters, l2 : FlatParameters, sequence of R floats
        See `Adam`.
    n_steps : int
        Steps before, which the average is of already.

    Attributes
    ----------
    average : Tensor
        The average, a buffer like ``parameters.values``.
    """

    def __init__(
        self, parameters: FlatParameters, l2: Sequence[float], n_steps: int
    ) -> None:
        super().__init__(parameters, l2)
        self.average = parameters.values.clone()
        self._n_averaged = n_steps

    def step(self, learning_rates: Sequence[float]) -> None:
        super().step(learning_rates)
        self._n_averaged += 1
        newest = (_ORDER + 1) / (self._n_averaged + _ORDER)
        self.average.lerp_(self.parameters.values, newest)
