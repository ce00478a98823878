"""The rows of the user's array: which ones, their units, and their minibatches."""

from skae._data.batches import Batches, batch_shape
from skae._data.rows import BLOCK_NUMBERS, Rows, has_nan, select_rows, split_validation
from skae._data.shards import Shard, ShardBatches, make_shard, share_out
from skae._data.standardization import Links, Standardization, measure

__all__ = [
    "BLOCK_NUMBERS",
    "Batches",
    "Links",
    "Rows",
    "Shard",
    "ShardBatches",
    "Standardization",
    "batch_shape",
    "has_nan",
    "make_shard",
    "measure",
    "select_rows",
    "share_out",
    "split_validation",
]
