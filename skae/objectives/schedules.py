"""How the weight of the KL term changes during training (``kl_schedule``)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

from skae._utils.capabilities import ModelPart

# From the share of the steps that are done to the factor of beta.
Schedule = Callable[[float], float]
# Moments of a training at which a schedule is looked at.
_MOMENTS = 101


class KLSchedule(ModelPart, BaseEstimator, ABC):
    """What beta is multiplied by in the course of a training.

    A schedule is told the share of the steps that are done and not their number, so that
    it can never outlast the training. It is a :class:`sklearn.base.BaseEstimator`: its
    parameters can be searched as ``kl_schedule__...``. Any function from the share to the
    factor may take its place.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """Factor of beta at a time.

        Parameters
        ----------
        progress : float
            Share of the steps that are done, this one included; 1 at the last step.

        Returns
        -------
        float
            The factor; 1 at the end.
        """


class ConstantSchedule(KLSchedule):
    """The full weight from the first step on."""

    is_thread_safe = True

    def __call__(self, progress: float) -> float:
        return 1.0


class LinearSchedule(KLSchedule):
    r"""A straight line to the full weight: KL warm-up (Bowman et al. 2016).

    .. math:: f(t) = a + (1 - a) \min(t / w, 1)

    Parameters
    ----------
    share : float, default=0.25
        Share of the training until the full weight, w, above 0 and at most 1.

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
    """Several warm-ups in a row (Fu et al. 2019, eq. 6 and 7).

    In each cycle the factor rises from 0 to 1 in a straight line and stays there for the
    rest of the cycle. So the training ends at the full weight.

    Parameters
    ----------
    n_cycles : int, default=4
        Number of cycles.

    rise : float, default=0.5
        Share of a cycle in which the factor rises, above 0 and at most 1. With 1 it is
        at its end at the last step of a cycle only.

    References
    ----------
    H. Fu et al. (2019). "Cyclical annealing schedule: a simple approach to mitigating KL
    vanishing". NAACL.
    """

    is_thread_safe = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_cycles": [Interval(Integral, 1, None, closed="left")],
        "rise": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, n_cycles: int = 4, rise: float = 0.5) -> None:
        self.n_cycles = n_cycles
        self.rise = rise

    def __call__(self, progress: float) -> float:
        # The last step of a cycle is its end, and not the beginning of the next: whatever
        # way the share was rounded.
        cycles = round(progress * self.n_cycles, 9)
        return min((cycles - max(math.ceil(cycles) - 1, 0)) / self.rise, 1.0)


class DecreasingSchedule(KLSchedule):
    r"""A fall from a larger weight to beta: annealing to a smaller value (Beckham 2021).

    .. math:: f(t) = a^{\,1 - \min(t / w, 1)}

    Parameters
    ----------
    start : float, default=10.0
        Factor at the beginning, a: how many times beta the weight is there.

    share : float, default=0.5
        Share of the training until the weight is beta, w, above 0 and at most 1.
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
    """The schedule of this name, or the function itself.

    Parameters
    ----------
    schedule : str or callable
        A key of ``KL_SCHEDULES``, or a function from the share of the training that is
        done to the factor of beta.

    Returns
    -------
    callable
        The schedule.
    """
    return KL_SCHEDULES[schedule]() if isinstance(schedule, str) else schedule


def check_schedule(schedule: str | Schedule) -> None:
    """Refuse a schedule that gives no weights, before any training.

    Parameters
    ----------
    schedule : str or callable
        See :func:`make_schedule`.

    Raises
    ------
    ValueError
        If a parameter of the schedule is out of range, or if its values are not finite
        numbers of at least 0.
    """
    schedule = make_schedule(schedule)
    if isinstance(schedule, KLSchedule):
        schedule._validate_params()
    for progress in np.linspace(0, 1, _MOMENTS).tolist():
        factor = schedule(progress)
        if not (isinstance(factor, Real) and math.isfinite(factor) and factor >= 0):
            raise ValueError(
                f"kl_schedule={schedule!r} must give a finite number of at least 0 for "
                f"each share of the training, and gives {factor!r} at {progress:.2f}."
            )
