"""Rows in an order that the samples' order does not change, equal ones merged.

Adjacent columns of few values are packed into one integer key, which is sorted in a time
that is linear in the rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import issparse

from skae._data.blocks import ColumnReader, has_nan

# Distinct values up to which a column is sorted by their ranks, together with its
# neighbours. A table of this size is in the cache of a core.
_FEW_VALUES = 256
# Distinct values up to which comparisons with each are faster than a binary search.
_FEWEST_VALUES = 16
# Values of a column from which its distinct ones are guessed.
_SAMPLE = 4096
# Possible keys for each row from which on few rows have equal ones, unless the rows are
# equal or their columns depend on each other.
_VALUES_PER_ROW = 16

# Whether numbers ``(n,)`` differ.
Differ = Callable[[np.ndarray, np.ndarray], np.ndarray]


def distinct_rows(
    X: Any, weight: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows lexicographically and merge equal rows into one of their total weight.

    Training on the result does not depend on the order of the samples, and repeating a
    sample equals giving it a weight, to the bit. The order does not change if the data
    are shifted or multiplied by a positive number.

    X is ``(n_samples, n_features)``, in which NaN equals NaN, weight ``(n_samples,)``, rows
    the index ``(m,)`` of the rows to look at. Returns the index and the weight of each
    distinct row, ``(n_distinct,)``.
    """
    if issparse(X):
        X = ColumnReader(X)
    # Equal rows are added up in the order of their weights, whatever the order of X.
    order = rows[np.argsort(weight[rows], kind="stable")]
    differ = _differ_with_nan if has_nan(X) else np.not_equal
    is_new = np.zeros(len(order), dtype=bool)  # differs from the row before
    is_new[0] = True
    column = 0
    while column < X.shape[1]:
        # Only rows that are still tied have to be compared further.
        tied = np.flatnonzero(~is_new | ~np.append(is_new[1:], True))
        if len(tied) == 0:
            break
        group = np.cumsum(is_new[tied]) - 1
        key, column = _next_key(X, order[tied], column, differ, int(group[-1]) + 1)
        # Many ties are rows that are equal, which need no sorting.
        is_other = differ(key[1:], key[:-1]) & (group[1:] == group[:-1])
        has_other = np.zeros(int(group[-1]) + 1, dtype=bool)
        has_other[group[1:][is_other]] = True
        if not has_other.all():
            some = has_other[group]
            tied, group, key = tied[some], group[some], key[some]
        permutation = _lexicographic(group, key)
        order[tied] = order[tied][permutation]
        key = key[permutation]
        # The first of the tied rows is always new, so its predecessor does not matter.
        is_new[tied[1:]] |= differ(key[1:], key[:-1])
    start = np.flatnonzero(is_new)
    return order[start], np.add.reduceat(weight[order], start)


def _next_key(
    X: np.ndarray, rows: np.ndarray, column: int, differ: Differ, n_groups: int
) -> tuple[np.ndarray, int]:
    """Return numbers ``(m,)`` that order rows as their next columns do.

    Adjacent columns of few values become one integer, so that they are sorted together,
    until few rows are expected to be tied. Any other column is its own key. The second
    result is the column to go on with.
    """
    key, n_keys = np.zeros(len(rows), dtype=np.int64), 1
    first = column
    while column < X.shape[1] and n_keys * n_groups < _VALUES_PER_ROW * len(rows):
        values = X[rows, column]
        found = _ranks_of_few(values, differ)
        if found is None:
            return (values, column + 1) if column == first else (key, column)
        ranks, n_values = found
        key *= n_values
        key += ranks
        n_keys *= n_values
        column += 1
    return key, column


def _ranks_of_few(values: np.ndarray, differ: Differ) -> tuple[np.ndarray, int] | None:
    """Return the ranks of values ``(m,)`` among the distinct ones, and their number.

    The result is None if there are too many of them, which a sample shows in a short time.
    """
    table = values[:: -(-len(values) // _SAMPLE)]
    while True:
        table = np.unique(table)
        if len(table) > _FEW_VALUES:
            return None
        ranks = _ranks(table, values)
        is_unknown = differ(table[ranks], values)
        if not is_unknown.any():
            return ranks, len(table)
        table = np.concatenate([table, values[is_unknown]])


def _ranks(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the positions of values ``(m,)`` in a sorted table that has them."""
    if len(table) > _FEWEST_VALUES:
        return np.minimum(np.searchsorted(table, values), len(table) - 1)
    ranks = np.zeros(len(values), dtype=np.uint8)
    for value in table[:-1]:
        ranks += ~(values <= value)  # so that NaN is the largest
    return ranks


def _lexicographic(group: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Sort stably by group and then by key ``(m,)``; groups are integers."""
    if key.dtype == np.int64:
        return _radix_order(group * (int(key.max(initial=0)) + 1) + key)
    order = np.argsort(key, kind="stable")
    return order[_radix_order(group[order])]


def _radix_order(key: np.ndarray) -> np.ndarray:
    """Sort integers ``(m,)`` from 0 on stably, in a time that is linear in m."""
    largest = int(key.max(initial=0))
    order = np.argsort(key.astype(np.uint16), kind="stable")  # by the lowest 16 bits
    for shift in range(16, largest.bit_length(), 16):
        digit = (key >> shift).astype(np.uint16)[order]
        order = order[np.argsort(digit, kind="stable")]
    return order


def _differ_with_nan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether numbers ``(n,)`` differ, where NaN equals NaN."""
    return (a != b) & ~(np.isnan(a) & np.isnan(b))
