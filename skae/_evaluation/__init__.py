"""A model over the rows of an array: functions of them, means, scales and scores."""

from skae._evaluation.blocks import Kept, over_rows, rows_per_chunk
from skae._evaluation.means import mean_of_residuals, mean_over_rows
from skae._evaluation.scale import (
    SCALE_ROWS,
    finalize_scale,
    shared_scale,
    training_objective,
    update_scale,
)
from skae._evaluation.validation import validation_score

__all__ = [
    "SCALE_ROWS",
    "Kept",
    "finalize_scale",
    "mean_of_residuals",
    "mean_over_rows",
    "over_rows",
    "rows_per_chunk",
    "shared_scale",
    "training_objective",
    "update_scale",
    "validation_score",
]
