"""Schedules of the weight of the KL term during training (``kl_schedule``)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

from skae._utils.capabilities import ModelPart
from skae._utils.choices import positive_integer

# Maps the fraction of the steps that are done to the factor of beta.
Schedule = Callable[[float], float]
# Times in a training at which a schedule is checked: every percent.
_MOMENTS = 101


class KLSchedule(ModelPart, BaseEstimator, ABC):
    """Factor of beta as a function of the progress of a training.

    The argument is the fraction of the steps that are done and not their number, so that a
    schedule never outlasts the training. A schedule is a
    :class:`sklearn.base.BaseEstimator`, so its parameters can be searched as
    ``kl_schedule__...``. A function of the fraction can be used in place of a schedule.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """Return the factor of beta at a time.

        Parameters
        ----------
        progress : float
            Fraction of the steps that are done, this one included; 1 at the last step.

        Returns
        -------
        float
            The factor; 1 at the end.
        """


class ConstantSchedule(KLSchedule):
    """Constant schedule: the full weight from the first step on."""

    is_thread_safe = True

    def __call__(self, progress: float) -> float:
        return 1.0


class LinearSchedule(KLSchedule):
    r"""Linear increase to the full weight: KL warm-up (Bowman et al. 2016).

    .. math:: f(t) = a + (1 - a) \min(t / w, 1)

    Parameters
    ----------
    share : float, default=0.25
        Fraction of the training until the full weight, w; above 0 and at most 1.

    start : float, default=0.0
        Factor at the beginning, a.
    """

    is_thread_safe = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "share": [Interval(Real, 0, 1, closed="right")],
        "start": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, share: float = 0.25, start: float = 0.0) -> None:
        self.share = share
        self.start = start

    def __call__(self, progress: float) -> float:
        done = min(progress / self.share, 1.0)
        return 1.0 if done == 1 else self.start + (1 - self.start) * done


class CyclicalSchedule(KLSchedule):
    """Several warm-ups, one after the other (Fu et al. 2019, eq. 6 and 7).

    In each cycle the factor increases linearly from 0 to 1, and stays at 1 for the rest of
    the cycle. So the training ends at the full weight.

    Parameters
    ----------
    n_cycles : int, default=4
        Number of cycles.

    rise : float, default=0.5
        Fraction of a cycle in which the factor increases; above 0 and at most 1. With 1,
        the factor is 1 at the last step of a cycle only.

    References
    ----------
    H. Fu et al. (2019). "Cyclical annealing schedule: a simple approach to mitigating KL
    vanishing". NAACL.
    """

    is_thread_safe = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_cycles": [positive_integer()],
        "rise": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, n_cycles: int = 4, rise: float = 0.5) -> None:
        self.n_cycles = n_cycles
        self.rise = rise

    def __call__(self, progress: float) -> float:
        # The last step of a cycle is its end and not the start of the next cycle, even if
        # the fraction was rounded up.
        cycles = round(progress * self.n_cycles, 9)
        return min((cycles - max(math.ceil(cycles) - 1, 0)) / self.rise, 1.0)


class DecreasingSchedule(KLSchedule):
    r"""Decrease from a larger weight to beta (Beckham 2021).

    .. math:: f(t) = a^{\,1 - \min(t / w, 1)}

    Parameters
    ----------
    start : float, default=10.0
        Factor of beta at the beginning, a.

    share : float, default=0.5
        Fraction of the training until the weight is beta, w; above 0 and at most 1.
    """

    is_thread_safe = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "start": [Interval(Real, 0, None, closed="neither")],
        "share": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, start: float = 10.0, share: float = 0.5) -> None:
        self.start = start
        self.share = share

    def __call__(self, progress: float) -> float:
        return float(self.start ** (1 - min(progress / self.share, 1.0)))


KL_SCHEDULES: dict[str, type[KLSchedule]] = {
    "constant": ConstantSchedule,
    "linear": LinearSchedule,
    "cyclical": CyclicalSchedule,
    "decreasing": DecreasingSchedule,
}


def make_schedule(schedule: str | Schedule) -> Schedule:
    """Return the schedule of a name, or the function itself.

    Parameters
    ----------
    schedule : str or callable
        A key of ``KL_SCHEDULES``, or a function that maps the fraction of the training that
        is done to the factor of beta.

    Returns
    -------
    callable
        The schedule.
    """
    return KL_SCHEDULES[schedule]() if isinstance(schedule, str) else schedule


def check_schedule(schedule: str | Schedule, beta: float = 1.0) -> None:
    """Raise if a schedule does not give weights.

    Parameters
    ----------
    schedule : str or callable
        See :func:`make_schedule`.
    beta : float, default=1.0
        What its values are multiplied by.

    Raises
    ------
    ValueError
        If a parameter of the schedule is out of range, if its values are not finite
        numbers of at least 0, or if their product with beta overflows.
    """
    schedule = make_schedule(schedule)
    if isinstance(schedule, KLSchedule):
        schedule._validate_params()
    for progress in np.linspace(0, 1, _MOMENTS).tolist():
        factor = factor_at(schedule, progress)
        if not math.isfinite(float(beta) * factor):
            raise ValueError(
                f"The weight of the KL overflows: beta={beta!r} times {factor!r}, the "
                f"value of kl_schedule at {progress:.2f} of the training."
            )


def factor_at(schedule: Schedule, progress: float) -> float:
    """Return the factor of beta at a time, or raise.

    Parameters
    ----------
    schedule : callable
        The schedule.
    progress : float
        Fraction of the training that is done.

    Returns
    -------
    float
        The factor.

    Raises
    ------
    ValueError
        If it is not a finite number of at least 0.
    """
    factor: Any = schedule(progress)
    if not (isinstance(factor, Real) and math.isfinite(factor) and float(factor) >= 0):
        raise ValueError(
            f"kl_schedule={schedule!r} must give a finite number of at least 0 for "
            f"each fraction of the training, but gives {factor!r} at {progress:.2f}."
        )
    return float(factor)
