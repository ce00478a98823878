"""When to stop: no improvement for a while."""

import math


class Plateau:
    """Notices that a value has stopped falling.

    Values are noisy, and noise alone must not end a training that still improves. So what
    is watched is their exponential mean with a span of ``patience`` values.

    Parameters
    ----------
    tol : float
        A mean counts as better if it is below the best by more than this.
    patience : int
        Number of means in a row without improvement that make a plateau.
    """

    def __init__(self, tol: float, patience: int) -> None:
        self.tol = tol
        self.patience = patience
        self.best = math.inf
        self.n_stale = 0
        self._mean: float | None = None
        self._best_mean = math.inf

    def update(self, value: float) -> bool:
        """Take the next value.

        Parameters
        ----------
        value : float
            The quantity that should fall.

        Returns
        -------
        bool
            Whether it is a new best, by any margin.
        """
        share = 2 / (self.patience + 1)
        self._mean = (
            value if self._mean is None else self._mean + share * (value - self._mean)
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
