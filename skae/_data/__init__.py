"""The rows of the user's array: which ones, their units, and their minibatches."""

from skae._data.batches import Batches, batch_shape
from skae._data.rows import (
    BLOCK_NUMBERS,
    Rows,
    are_empty,
    has_nan,
    select_rows,
    split_validation,
)
from skae._data.standardization import (
    FeatureMoments,
    Links,
    Standardization,
    measure,
    measure_moments,
)

__all__ = [
    "BLOCK_NUMBERS",
    "Batches",
    "FeatureMoments",
    "Links",
    "Rows",
    "Standardization",
    "are_empty",
    "batch_shape",
    "has_nan",
    "measure",
    "measure_moments",
    "select_rows",
    "split_validation",
]
