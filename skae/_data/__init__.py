"""The rows of the user's array: which ones, their units, and their minibatches."""

from skae._data.batches import Batches, batch_shape
from skae._data.rows import (
    BLOCK_NUMBERS,
    Rows,
    has_nan,
    select_rows,
    split_validation,
    take_rows,
)
from skae._data.standardization import Links, Standardization, measure
from skae._data.tensor_statistics import TensorStatistics

__all__ = [
    "BLOCK_NUMBERS",
    "Batches",
    "Links",
    "Rows",
    "Standardization",
    "TensorStatistics",
    "batch_shape",
    "has_nan",
    "measure",
    "select_rows",
    "split_validation",
    "take_rows",
]
