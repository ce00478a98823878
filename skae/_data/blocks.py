"""Arrays of which only a block of rows, or a column, is in memory, or dense, at a time."""

from typing import Any

import numpy as np
from scipy.sparse import issparse

# Numbers that are gathered and standardised together: 2 MB of float64, which stay in the
# cache of a core.
BLOCK_NUMBERS = 2**18


def dense(X: Any, rows: Any = slice(None)) -> Any:
    """Return rows of an array ``(n, n_features)``, dense or sparse, as a dense array.

    Rows of a tensor are a tensor.
    """
    return X[rows].toarray() if issparse(X) else X[rows]


def parts_of(X: Any, n: int | None = None) -> list[slice]:
    """Divide n rows into blocks; all rows of X by default.

    Blocks of dense rows fit the cache of a core, and the array may be a file that is larger
    than the memory.
    """
    n = X.shape[0] if n is None else n
    size = max(1, BLOCK_NUMBERS // max(X.shape[1], 1))
    return [slice(start, start + size) for start in range(0, n, size)]


def is_sparse_or_mapped(X: Any) -> bool:
    """Whether an array takes less memory than its numbers: it is sparse, or in a file."""
    while not issparse(X) and not isinstance(X, np.memmap):
        # An array that shares the memory of another one has that one as its base.
        X = getattr(X, "base", None)
        if X is None:
            return False
    return True


def has_nan(X: Any) -> bool:
    """Whether an array has NaN; of a sparse one, its entries are looked at."""
    if not isinstance(X, np.ndarray):
        X = X.data
    # A finite sum is enough, and needs no memory; a sum may overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return False
    # The array may be a file that is larger than the memory.
    X = X.reshape(len(X), -1)
    return any(bool(np.isnan(X[part]).any()) for part in parts_of(X))


class ColumnReader:
    """Columns of a sparse array by position, as of a dense one: ``X[rows, column]``.

    Parameters
    ----------
    X : sparse array of shape (n, n_features)
        The array, without duplicate entries.
    """

    def __init__(self, X: Any) -> None:
        self.shape = X.shape
        self.data = X.data
        self._columns = X.tocsc()
        self._values = np.zeros(X.shape[0], dtype=X.dtype)

    def __getitem__(self, position: tuple[np.ndarray, int]) -> np.ndarray:
        """Return some rows ``(m,)`` of a column, ``(m,)``."""
        rows, column = position
        own = slice(*self._columns.indptr[column : column + 2])
        index = self._columns.indices[own]
        self._values[index] = self._columns.data[own]
        chosen = self._values[rows]
        self._values[index] = 0.0
        return chosen
