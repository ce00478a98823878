"""The rows to fit, and the rows to validate with."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from skae.training import distinct_rows


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of an array, with their weights.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        The array.
    index : ndarray of shape (n,)
        The rows.
    weight : ndarray of shape (n,)
        Their weights, of mean 1.
    """

    X: np.ndarray
    index: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def take(self, chosen: np.ndarray) -> "Rows":
        """Some of these rows.

        Parameters
        ----------
        chosen : ndarray of int
            Positions among these rows.

        Returns
        -------
        Rows
            The chosen ones.
        """
        weight = self.weight[chosen]
        return Rows(self.X, self.index[chosen], weight / weight.mean())

    def thin(self, n: int) -> "Rows":
        """At most n of these rows, evenly spaced.

        Parameters
        ----------
        n : int
            How many.

        Returns
        -------
        Rows
            Those rows.
        """
        if len(self) <= n:
            return self
        return self.take(np.linspace(0, len(self) - 1, n).astype(int))


def select_rows(X: np.ndarray, weight: np.ndarray, shuffle: bool) -> Rows:
    """The rows that carry weight; merged and in canonical order if they get shuffled.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Data.
    weight : ndarray of shape (n_samples,)
        Sample weights, not all of them zero.
    shuffle : bool
        Whether the order of the samples is of no interest.

    Returns
    -------
    Rows
        What to train on.
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
    """Set rows aside for early stopping.

    Parameters
    ----------
    rows : Rows
        All rows.
    fraction : float
        Share to set aside.
    random_state : RandomState
        Source of the choice.

    Returns
    -------
    training, validation : Rows
        The two parts.

    Raises
    ------
    ValueError
        If either part would be empty.
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
