"""The rows to train on and the rows to validate with."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

# Numbers that are gathered and standardised together: 2 MB of float64, which stay in the
# cache of a core.
BLOCK_NUMBERS = 2**18


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of an array, with their weights.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        The array, float32 or float64; never written to, never copied whole.
    index : ndarray of shape (n,)
        Which rows of X.
    weight : ndarray of shape (n,)
        Their weights, of mean 1.
    """

    X: np.ndarray
    index: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def block(self, part: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return a copy of some rows, ``(m, n_features)``, in the dtype of X."""
        return self.X[self.index[part]]

    def take(self, chosen: np.ndarray) -> "Rows":
        """Return the rows at some positions, ``(m,)``, their weights scaled to mean 1."""
        weight = self.weight[chosen]
        return Rows(self.X, self.index[chosen], weight / weight.mean())

    def subsample(self, n: int) -> "Rows":
        """Return at most n of the rows, evenly spaced."""
        if len(self) <= n:
            return self
        return self.take(np.linspace(0, len(self) - 1, n).astype(int))


def select_rows(X: np.ndarray, weight: np.ndarray, shuffle: bool) -> Rows:
    """Select the rows of positive weight; merge equal ones if they will be shuffled.

    X is ``(n_samples, n_features)``, weight ``(n_samples,)`` and not all zero.
    """
    index = np.flatnonzero(weight > 0)
    if shuffle:
        index, weight = distinct_rows(X, weight, index)
    else:
        weight = weight[index]
    return Rows(X, index, weight / weight.mean())


def split_validation(
    rows: Rows, fraction: float, random_state: RandomState
) -> tuple[Rows, Rows]:
    """Split rows at random into training and validation rows, for early stopping.

    Raises ValueError if nothing would be left to train on.
    """
    n_validation = math.ceil(fraction * len(rows))
    if n_validation >= len(rows):
        raise ValueError(
            f"early_stopping=True with validation_fraction={fraction} leaves nothing to "
            f"train on: there are n_samples={len(rows)} different samples with a positive "
            "weight. Use a smaller validation_fraction, pass X_val, or set "
            "early_stopping=False."
        )
    order = random_state.permutation(len(rows))
    return (
        rows.take(np.sort(order[n_validation:])),
        rows.take(np.sort(order[:n_validation])),
    )


def distinct_rows(
    X: np.ndarray, weight: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows lexicographically and merge equal rows into one of their total weight.

    Training on the result does not depend on the order of the samples, and repeating a
    sample equals giving it a weight, to the bit. The order does not change if the data
    are shifted or multiplied by a positive number.

    X is ``(n_samples, n_features)`` without NaN, weight ``(n_samples,)``, rows the index
    ``(m,)`` of the rows to look at. Returns the index and the weight of each distinct row,
    ``(n_distinct,)``.
    """
    order = rows[np.argsort(X[rows, 0], kind="stable")]
    first = X[order, 0]
    is_new = np.ones(len(order), dtype=bool)  # differs from the row before
    is_new[1:] = first[1:] != first[:-1]
    for column in range(1, X.shape[1]):
        # Only rows that are still tied have to be compared further.
        tied = np.flatnonzero(~is_new | ~np.append(is_new[1:], True))
        if len(tied) == 0:
            break
        values = X[order[tied], column]
        if values.min() == values.max():
            continue
        group = np.cumsum(is_new[tied])
        permutation = np.lexsort((values, group))
        order[tied] = order[tied][permutation]
        values = values[permutation]
        # The first of the tied rows is always new, so its predecessor does not matter.
        is_new[tied[1:]] |= values[1:] != values[:-1]
    start = np.flatnonzero(is_new)
    return order[start], np.add.reduceat(weight[order], start)
