"""The rows of the user's array: which ones, their units, and their minibatches."""

from skae._data.batches import Batches, batch_shape
from skae._data.blocks import BLOCK_NUMBERS, dense, has_nan, parts_of
from skae._data.feature_moments import (
    LARGEST_WEIGHT,
    FeatureMoments,
    measure,
    measure_moments,
)
from skae._data.rows import (
    Rows,
    are_empty,
    select_rows,
    split_validation,
    take_rows,
)
from skae._data.shards import Shard, ShardBatches, make_shard, share_out
from skae._data.standardization import Links, Standardization
from skae._data.tensor_statistics import TensorStatistics

__all__ = [
    "BLOCK_NUMBERS",
    "LARGEST_WEIGHT",
    "Batches",
    "FeatureMoments",
    "Links",
    "Rows",
    "Shard",
    "ShardBatches",
    "Standardization",
    "TensorStatistics",
    "are_empty",
    "batch_shape",
    "dense",
    "has_nan",
    "make_shard",
    "measure",
    "measure_moments",
    "parts_of",
    "select_rows",
    "share_out",
    "split_validation",
    "take_rows",
]
