"""The rows to train on and the rows to validate with."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import RandomState
from torch import Tensor

from skae._data.blocks import dense, has_nan, parts_of
from skae._data.distinct_rows import distinct_rows
from skae._utils.cached import cached
from skae._utils.peers import ALONE, Peers

# Rows of an epoch from which on repetitions add no more of them: enough steps for a fit.
# Without a limit, weights of 10,000 each would make an epoch 10,000 times as long.
_EPOCH_ROWS = 100_000
# Relative rounding error of a sum of weights, which must not count as a further row.
_ROUNDING = 1e-9


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
