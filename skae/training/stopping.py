"""When to stop: no improvement for a while."""

import math


class Plateau:
    """Notices that a value has stopped falling.

    Parameters
    ----------
    tol : float
        A value counts as better if it is below the best by more than this.
    patience : int
        Number of values in a row without improvement that make a plateau.
    """

    def __init__(self, tol: float, patience: int) -> None:
        self.tol = tol
        self.patience = patience
        self.best = math.inf
        self.n_stale = 0

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
        self.n_stale = 0 if value < self.best - self.tol else self.n_stale + 1
        if value < self.best:
            self.best = value
            return True
        return False

    @property
    def reached(self) -> bool:
        """Whether the last ``patience`` values brought no improvement."""
        return self.n_stale >= self.patience
