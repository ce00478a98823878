"""Encode a table with columns of several kinds as numbers, and decode rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from kinds.tables import MixedTable


class OneHot:
    """Numbers and counts as they are; a column for each level of flags and categories.

    The columns of the result are in the order numbers, counts, flags, categories.
    """

    def __init__(self, table: MixedTable, frame: pd.DataFrame) -> None:
        self.names = (*table.numbers, *table.counts, *table.flags, *table.categories)
        self.numbers = slice(0, len(table.numbers))
        self.counts = slice(self.numbers.stop, self.numbers.stop + len(table.counts))
        self.dtypes = frame.dtypes
        self.levels: dict[str, np.ndarray] = {}
        self.groups: dict[str, slice] = {}
        start = self.counts.stop
        for name in (*table.flags, *table.categories):
            levels = (
                np.array([0, 1])
                if name in table.flags
                else frame[name].cat.categories.to_numpy()
            )
            self.levels[name] = levels
            self.groups[name] = slice(start, start + len(levels))
            start += len(levels)
        self.n_columns = start

    def encode(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the rows as numbers, (n, n_columns)."""
        discrete = [
            frame[name].to_numpy()[:, None] == levels
            for name, levels in self.levels.items()
        ]
        plain = frame[list(self.names[: self.counts.stop])].to_numpy(float)
        return np.hstack([plain, *discrete]).astype(float)

    def decode(self, X: np.ndarray) -> pd.DataFrame:
        """Return the table that rows of numbers stand for.

        Counts are rounded, and at least 0. The largest column of a group decides.
        """
        columns: dict[str, Sequence[object]] = {}
        for i, name in enumerate(self.names[: self.counts.stop]):
            is_count = i >= self.counts.start
            columns[name] = np.maximum(np.rint(X[:, i]), 0) if is_count else X[:, i]
        for name, levels in self.levels.items():
            columns[name] = levels[X[:, self.groups[name]].argmax(axis=1)]
        return pd.DataFrame(columns).astype(self.dtypes)

    def is_valid(self, X: np.ndarray) -> np.ndarray:
        """Return which rows need no decoding but rounding, (n,).

        No count is negative, and in each group one column is 1 and all others are 0.
        """
        rounded = np.rint(X)
        valid = (rounded[:, self.counts] >= 0).all(axis=1)
        for group in self.groups.values():
            ordered = np.sort(rounded[:, group], axis=1)
            valid &= (ordered[:, -1] == 1) & (ordered[:, :-1] == 0).all(axis=1)
        return valid

    def noise(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw uniform noise for all but the numbers, (n, n_columns)."""
        noise = rng.uniform(size=(n, self.n_columns))
        noise[:, self.numbers] = 0.0
        return noise
