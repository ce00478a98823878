"""The rows to train on: their order, their weights and their batches."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def distinct_rows(
    X: np.ndarray, weight: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in lexicographic order, equal ones merged into one of their total weight.

    Training on the result does not depend on the order of the samples, and repeating a
    sample is the same, to the bit, as giving it a weight. The order does not change when
    the data are shifted or multiplied by a positive number.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Data, without NaN.
    weight : ndarray of shape (n_samples,)
        Sample weights.
    rows : ndarray of int
        Which rows of X to look at.

    Returns
    -------
    rows : ndarray of shape (n_distinct,)
        Index into X of each distinct row.
    weight : ndarray of shape (n_distinct,)
        Total weight of each.
    """
    order = rows[np.argsort(X[rows, 0], kind="stable")]
    first = X[order, 0]
    is_new = np.ones(len(order), dtype=bool)  # differs from the row before
    is_new[1:] = first[1:] != first[:-1]
    for column in range(1, X.shape[1]):
        # Only rows that are still tied need another look.
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
        # The first of the tied is always new, so what stands before it is not asked for.
        is_new[tied[1:]] |= values[1:] != values[:-1]
    start = np.flatnonzero(is_new)
    return order[start], np.add.reduceat(weight[order], start)


class Batches:
    """Standardised batches, written into the same memory again and again.

    The rows are split into batches whose sizes differ by one at most, so that no epoch
    ends with a batch of a single row.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Data, float32 or float64; never written to, never copied whole.
    rows : ndarray of shape (n,)
        Rows of X to train on.
    weight : ndarray of shape (n,)
        Their weights, of mean 1.
    mean, std : ndarray of shape (n_features,)
        What standardises a feature.
    batch_size : int
        Largest size of a batch.
    shuffle : bool
        Whether each epoch takes the rows in a new random order.
    dtype : torch.dtype
        Precision of the batches.
    device : torch.device
        Where the batches are wanted.
    """

    def __init__(
        self,
        X: np.ndarray,
        rows: np.ndarray,
        weight: np.ndarray,
        mean: np.ndarray,
        std: np.ndarray,
        *,
        batch_size: int,
        shuffle: bool,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.X = X
        self.rows = rows
        self.weight = torch.tensor(weight, dtype=dtype).reshape(-1, 1)
        self.shuffle = shuffle
        self.device = device
        self._mean = torch.tensor(mean)
        self._factor = torch.tensor(1 / std)
        self.n_batches = -(-len(rows) // batch_size)
        self._bounds = np.linspace(0, len(rows), self.n_batches + 1).astype(int)
        size = int(np.diff(self._bounds).max())
        self._raw = np.empty((size, X.shape[1]), dtype=X.dtype)
        self._centered = torch.empty(size, X.shape[1], dtype=torch.float64)
        self._y = torch.empty(size, X.shape[1], dtype=dtype)
        self._w = torch.empty(size, 1, dtype=dtype)

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the rows.

        Parameters
        ----------
        generator : torch.Generator
            Source of the random order, on the CPU.

        Yields
        ------
        y : Tensor of shape (n_batch, n_features)
            Standardised rows; overwritten by the next batch.
        weight : Tensor of shape (n_batch, 1)
            Their weights; overwritten by the next batch.
        """
        n = len(self.rows)
        order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
        for start, stop in zip(self._bounds[:-1], self._bounds[1:], strict=True):
            picked = order[start:stop]
            size = stop - start
            rows = self.rows[picked.numpy()]
            np.take(self.X, rows, axis=0, out=self._raw[:size], mode="clip")
            centered, y, w = self._centered[:size], self._y[:size], self._w[:size]
            torch.sub(torch.from_numpy(self._raw[:size]), self._mean, out=centered)
            torch.mul(centered, self._factor, out=y)
            torch.index_select(self.weight, 0, picked, out=w)
            yield y.to(self.device), w.to(self.device)
