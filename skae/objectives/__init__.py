"""Axis 4: the objective of the training, and the definition of a score."""

from skae.objectives.balance import gradient_balance
from skae.objectives.base import Objective
from skae.objectives.elbo import ELBO
from skae.objectives.nll import NegativeLogLikelihood
from skae.objectives.schedules import (
    KL_SCHEDULES,
    ConstantSchedule,
    CyclicalSchedule,
    DecreasingSchedule,
    KLSchedule,
    LinearSchedule,
)

__all__ = [
    "ELBO",
    "KL_SCHEDULES",
    "ConstantSchedule",
    "CyclicalSchedule",
    "DecreasingSchedule",
    "KLSchedule",
    "LinearSchedule",
    "NegativeLogLikelihood",
    "Objective",
    "gradient_balance",
]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
