"""A model over the rows of an array: functions of them, means, scales and scores."""

from skae._evaluation.balance_data import choose_balance_data
from skae._evaluation.blocks import over_rows, rows_per_chunk
from skae._evaluation.means import mean_of_residuals, mean_over_rows
from skae._evaluation.scale import (
    SCALE_ROWS,
    finalize_scale,
    shared_scale,
    training_objective,
    update_scale,
)
from skae._evaluation.validation import Validated, validation_scores

__all__ = [
    "SCALE_ROWS",
    "Validated",
    "choose_balance_data",
    "finalize_scale",
    "mean_of_residuals",
    "mean_over_rows",
    "over_rows",
    "rows_per_chunk",
    "shared_scale",
    "training_objective",
    "update_scale",
    "validation_scores",
]
