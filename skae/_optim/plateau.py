"""The stopping rule: no improvement for some epochs."""

import math


class Plateau:
    """A detector of the end of the descent of a noisy value.

    Noise alone must not end a training that still improves. So the values are smoothed by
    an exponential mean with a span of ``patience`` values.

    Parameters
    ----------
    tol : float
        Smallest decrease of the best mean that counts as an improvement.
    patience : int
        Number of consecutive means without improvement that make a plateau.
    """

    def __init__(self, tol: float, patience: int) -> None:
        self.tol = tol
        self.patience = patience
        self.best = math.inf
        self.n_stale = 0
        self._mean: float | None = None
        self._best_mean = math.inf

    def update(self, value: float) -> bool:
        """Add a value, and return whether it is the smallest so far."""
        weight = 2 / (self.patience + 1)
        self._mean = (
            value if self._mean is None else self._mean + weight * (value - self._mean)
        )
        self.n_stale = 0 if self._mean < self._best_mean - self.tol else self.n_stale + 1
        self._best_mean = min(self._best_mean, self._mean)
        if value < self.best:
            self.best = value
            return True
        return False

    @property
    def reached(self) -> bool:
        """Whether the last ``patience`` values brought no improvement."""
        return self.n_stale >= self.patience
