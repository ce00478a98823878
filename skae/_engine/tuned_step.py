"""The analytic step on a CPU, with as many threads as are fastest at the moment."""

from collections.abc import Sequence

from torch import Tensor

from skae._engine.analytic_step import AnalyticStep
from skae._utils.tuning import TunedCall


class TunedStep:
    """An analytic step whose number of threads follows the load of the machine.

    Parameters
    ----------
    step : AnalyticStep
        The step.
    most : int
        Largest number of threads. The first number is the one that is set.
    """

    def __init__(self, step: AnalyticStep, most: int) -> None:
        self.step = step
        # A step changes the running mean of a closed-form scale.
        self._run = TunedCall(step.run, most, state=list(step.scale.buffers()))

    def __call__(
        self, y: Tensor, row_weight: Tensor, noise: Tensor, progress: Sequence[float]
    ) -> Tensor:
        """Compute the gradients and return the metrics; see `skae._optim.Step`."""
        self.step.set_progress(progress)
        return self._run(y, row_weight, noise)
