"""Axis 4: what training minimises, and what a score means."""

from skae.objectives.base import Objective
from skae.objectives.draws import row_shift, shifted_normal, sobol_normal
from skae.objectives.elbo import DRAWS_AT_ONCE, ELBO
from skae.objectives.nll import NegativeLogLikelihood
from skae.objectives.schedules import KL_SCHEDULES

__all__ = [
    "DRAWS_AT_ONCE",
    "ELBO",
    "KL_SCHEDULES",
    "NegativeLogLikelihood",
    "Objective",
    "row_shift",
    "shifted_normal",
    "sobol_normal",
]
