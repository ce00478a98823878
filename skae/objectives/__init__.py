"""Axis 4: the objective of the training, and the definition of a score."""

from skae.objectives.balance import gradient_balance
from skae.objectives.base import Objective
from skae.objectives.draws import row_shift, shifted_normal, sobol_normal
from skae.objectives.elbo import DRAWS_AT_ONCE, ELBO
from skae.objectives.nll import NegativeLogLikelihood
from skae.objectives.schedules import (
    KL_SCHEDULES,
    ConstantSchedule,
    CyclicalSchedule,
    DecreasingSchedule,
    KLSchedule,
    LinearSchedule,
    check_schedule,
    make_schedule,
)

__all__ = [
    "DRAWS_AT_ONCE",
    "ELBO",
    "KL_SCHEDULES",
    "ConstantSchedule",
    "CyclicalSchedule",
    "DecreasingSchedule",
    "KLSchedule",
    "LinearSchedule",
    "NegativeLogLikelihood",
    "Objective",
    "check_schedule",
    "gradient_balance",
    "make_schedule",
    "row_shift",
    "shifted_normal",
    "sobol_normal",
]
