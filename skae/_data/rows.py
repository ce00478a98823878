"""The rows to train on and the rows to validate with."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.sparse import issparse
from torch import Tensor

from skae._data.blocks import ColumnReader, dense, parts_of
from skae._utils.cached import cached
from skae._utils.peers import ALONE, Peers

# Rows of an epoch from which on repetitions add no more of them: enough steps for a fit.
# Without a limit, weights of 10,000 each would make an epoch 10,000 times as long.
_EPOCH_ROWS = 100_000
# Relative rounding error of a sum of weights, which must not count as a further row.
_ROUNDING = 1e-9
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


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of an array, with their weights.

    Attributes
    ----------
    X : ndarray or CSR array of shape (n_samples, n_features)
        The array, float32 or float64; never written to, never copied whole, and never
        dense as a whole if it is sparse. NaN stands for what is missing.
    index : ndarray of shape (n,)
        Which rows of X.
    weight : ndarray of shape (n,)
        Their weights, of mean 1.
    mean_weight : float, default=1.0
        Mean of the weights as the user gave them; equal rows have their total weight.
    """

    X: Any
    index: np.ndarray
    weight: np.ndarray
    mean_weight: float = 1.0

    def __len__(self) -> int:
        return len(self.index)

    @property
    def peers(self) -> Peers:
        """The processes that have the rows, see `skae._data.shards.Shard`."""
        return ALONE

    @property
    def first(self) -> int:
        """Position of the first row among those of all processes."""
        return 0

    @property
    def total(self) -> int:
        """Number of rows, those of other processes included."""
        return len(self)

    @property
    def n_samples(self) -> float:
        """Sample size: the sum of the user's weights."""
        return self.total * self.mean_weight

    @cached
    def has_missing(self) -> bool:
        """Whether an entry of these rows is missing."""
        return has_nan(self.X) and any(np.isnan(block).any() for block in self.blocks())

    @cached
    def repeats(self) -> np.ndarray:
        """How many times an epoch takes each row, ``(n,)``: its weight, rounded up.

        Each time has an equal part of the weight of the row. If weights exceed the limit
        of an epoch, all of them are reduced by one factor.
        """
        n_samples = min(self.n_samples, float(max(self.total, _EPOCH_ROWS)))
        expected = self.weight * (n_samples / self.total)
        return np.maximum(np.ceil(expected * (1 - _ROUNDING)), 1).astype(np.int64)

    @cached
    def own_size(self) -> int:
        """Number of rows of an epoch, with repetitions, without those of others."""
        return int(self.repeats.sum())

    @property
    def epoch_size(self) -> int:
        """Number of rows of an epoch, with repetitions."""
        return self.own_size

    @property
    def most_batches(self) -> int:
        """Number of batches into which an epoch can be divided."""
        return self.epoch_size

    def batch_bounds(self, n_batches: int) -> tuple[np.ndarray, np.ndarray]:
        """Divide an epoch into batches whose sizes differ by one at most.

        Returns the bounds of the batches among the rows of this process,
        ``(n_batches + 1,)``, and the number of rows of each in all processes.
        """
        bounds = np.linspace(0, self.epoch_size, n_batches + 1).astype(int)
        return bounds, np.diff(bounds)

    def block(self, part: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return a copy of some rows, ``(m, n_features)``, in the dtype of X."""
        return dense(self.X, self.index[part])

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield copies of all rows in blocks, ``(m, n_features)``."""
        yield from map(self.block, self.parts())

    def parts(self) -> list[slice]:
        """Return the positions of the rows that :meth:`blocks` yields together."""
        return parts_of(self.X, len(self))

    def observed_share(self) -> np.ndarray:
        """Return the weighted share of the rows that have a feature, ``(n_features,)``."""
        share = sum(self.weight[p] @ ~np.isnan(self.block(p)) for p in self.parts())
        return np.asarray(self.peers.sum(np.asarray(share)) / self.total)

    def take(self, chosen: np.ndarray) -> "Rows":
        """Return the rows at some positions, ``(m,)``, their weights scaled to mean 1."""
        weight = self.weight[chosen]
        mean = weight.mean()
        mean_weight = float(mean) * self.mean_weight
        return Rows(self.X, self.index[chosen], weight / mean, mean_weight)

    def take_repeats(self, chosen: np.ndarray) -> "Rows":
        """Return some of the rows of an epoch, ``(m,)`` positions among `epoch_size`."""
        row = np.repeat(np.arange(len(self)), self.repeats)[chosen]
        counts = np.bincount(row, minlength=len(self))
        part = replace(self, weight=self.weight * (counts / self.repeats))
        return part.take(np.flatnonzero(counts))

    def in_proportion(self, n: int) -> tuple[Any, np.ndarray, np.ndarray]:
        """Choose n rows in proportion to their weights, evenly spaced.

        Returns an array ``(n_samples, n_features)``, dense or sparse, which of its rows are
        the different ones ``(m,)``, and how often each is chosen.
        """
        cumulative = np.cumsum(self.weight)
        positions = (np.arange(n) + 0.5) / n * cumulative[-1]
        chosen = np.searchsorted(cumulative, positions)
        chosen, counts = np.unique(chosen, return_counts=True)
        return self.X, self.index[chosen], counts

    def values_at(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows at some positions among all, ``(m, n_features)``."""
        return self.block(positions)

    def subsample(self, n: int) -> "Rows":
        """Return at most n of the rows, evenly spaced."""
        if len(self) <= n:
            return self
        return self.take(np.linspace(0, len(self) - 1, n).astype(int))


def select_rows(X: Any, weight: np.ndarray, shuffle: bool) -> Rows:
    """Select the rows of positive weight; merge equal ones if they will be shuffled.

    Rows without any observed entry are left out, because they say nothing of the model. X
    is ``(n_samples, n_features)``, weight ``(n_samples,)`` and not all zero.
    """
    # A power of 2, so that no digit is lost; a sum of larger weights could overflow.
    _, exponent = math.frexp(weight.max())
    weight = np.ldexp(weight, -exponent)
    index = np.flatnonzero(weight > 0)
    if has_nan(X):
        is_empty = are_empty(X, index)
        # Without any observed entry, an error says so later.
        index = index[~is_empty | is_empty.all()]
    if shuffle:
        index, weight = distinct_rows(X, weight, index)
    else:
        weight = weight[index]
    mean = weight.mean()
    # The weight of merged rows may be infinite: then a penalty has no influence.
    with np.errstate(over="ignore"):
        mean_weight = float(np.ldexp(mean, exponent))
    return Rows(X, index, weight / mean, mean_weight)


def are_empty(X: Any, index: np.ndarray) -> np.ndarray:
    """Whether rows ``(m,)`` of X have no observed entry, ``(m,)``."""
    blocks = (dense(X, index[part]) for part in parts_of(X, len(index)))
    return np.concatenate([np.isnan(block).all(axis=1) for block in blocks])


def split_validation(
    rows: Rows, fraction: float, random_state: RandomState
) -> tuple[Rows, Rows]:
    """Split rows at random into training and validation rows, for early stopping.

    The rows of an epoch are split, so that weights equal repetitions: a row of weight 10
    may be in both parts. Raises ValueError if nothing would be left to train on.
    """
    n = rows.epoch_size
    n_validation = math.ceil(fraction * n)
    if n_validation >= n:
        raise ValueError(
            f"early_stopping=True with validation_fraction={fraction} leaves nothing to "
            f"train on: there are n_samples={n} samples with a positive weight. Use a "
            "smaller validation_fraction, pass X_val, or set early_stopping=False."
        )
    order = random_state.permutation(n)
    return (
        rows.take_repeats(order[n_validation:]),
        rows.take_repeats(order[:n_validation]),
    )


def take_rows(X: Any, chosen: Tensor) -> Any:
    """Return the rows of an array, dense or sparse, or a tensor, that a mask chooses."""
    return X[chosen] if isinstance(X, Tensor) else X[chosen.numpy()]


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
