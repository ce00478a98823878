"""The minimisation of a loss; independent of models and likelihoods."""

from skae._optim.adam import Adam, ModelSnapshot, ModelState
from skae._optim.averaging import AveragedAdam, OpenEndedSchedule
from skae._optim.flat_parameters import FlatParameters
from skae._optim.learning_rate import (
    SCHEDULES,
    CosineSchedule,
    Schedule,
    learning_rate_multipliers,
)
from skae._optim.loop import EpochHooks, Reader, Step, minimize
from skae._optim.plateau import Plateau

__all__ = [
    "SCHEDULES",
    "Adam",
    "AveragedAdam",
    "CosineSchedule",
    "EpochHooks",
    "FlatParameters",
    "ModelSnapshot",
    "ModelState",
    "OpenEndedSchedule",
    "Plateau",
    "Reader",
    "Schedule",
    "Step",
    "learning_rate_multipliers",
    "minimize",
]
