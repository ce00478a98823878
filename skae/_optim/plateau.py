"""The stopping rule: no improvement for some epochs."""

import math
import sys
from collections import deque
from statistics import median
from typing import Any


class Plateau:
    """A detector of the end of the descent of a noisy value.

    Noise alone must not end a training that still improves, and neither must a single value
    that is many times too large. So the values are smoothed by the median of the last
    ``patience`` values.

    Parameters
    ----------
    tol : float
        Smallest decrease of the best median that counts as an improvement.
    patience : int
        Number of consecutive medians without improvement that make a plateau.
    """

    def __init__(self, tol: float, patience: int) -> None:
        self.tol = tol
        self.patience = patience
        self.best = math.inf
        self.n_stale = 0
        self._last: deque[float] = deque(maxlen=min(int(patience), sys.maxsize))
        self._best_median = math.inf

    def update(self, value: float) -> bool:
        """Add a value, and return whether it is the smallest so far."""
        self._last.append(value)
        smooth = median(self._last)
        self.n_stale = 0 if smooth < self._best_median - self.tol else self.n_stale + 1
        self._best_median = min(self._best_median, smooth)
        if value < self.best:
            self.best = value
            return True
        return False

    def state(self) -> dict[str, Any]:
        """Return what changes with the values, as plain numbers."""
        return {
            "best": self.best,
            "n_stale": self.n_stale,
            "last": list(self._last),
            "best_median": self._best_median,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state of :meth:`state`."""
        self.best = float(state["best"])
        self.n_stale = int(state["n_stale"])
        self._last.extend(map(float, state["last"]))
        self._best_median = float(state["best_median"])

    @property
    def reached(self) -> bool:
        """Whether the last ``patience`` values brought no improvement."""
        return self.n_stale >= self.patience
