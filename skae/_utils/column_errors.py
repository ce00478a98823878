"""Columns of a user in messages: their names, and where a bad number is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.sparse import issparse

from skae._utils.namespaces import on_host

# Columns that a message lists before it is cut off.
_MOST_COLUMNS = 5


def list_columns(columns: Sequence[int], names: Sequence[str] | None) -> str:
    """Return columns as text: by name if they have names, at most five of them."""
    listed = shortened(
        [repr(str(names[i])) if names is not None else str(i) for i in columns]
    )
    if names is not None:
        return listed
    return f"column {listed}" if len(columns) == 1 else f"columns {listed}"


def shortened(columns: Sequence[str]) -> str:
    """Return the texts of columns as one text, at most five of them."""
    listed = ", ".join(columns[:_MOST_COLUMNS])
    n_more = len(columns) - _MOST_COLUMNS
    return f"{listed} and {n_more} more" if n_more > 0 else listed


class ColumnError(ValueError):
    """An error of some columns, raised where their names are not known.

    ``text`` has a pair of braces for the columns, which are positions.
    """

    def __init__(self, text: str, columns: Sequence[int]) -> None:
        super().__init__(text, columns)
        self.text, self.columns = text, columns

    def __str__(self) -> str:
        return self.named(None)

    def named(self, names: Sequence[str] | None) -> str:
        """Return the message with the names of the columns, if they have names."""
        return self.text.format(list_columns(self.columns, names))


@contextmanager
def columns_named(names: Sequence[str] | None) -> Iterator[None]:
    """Raise a ValueError with the names of the columns in place of a ColumnError."""
    try:
        yield
    except ColumnError as error:
        raise ValueError(error.named(names)) from None


@contextmanager
def infinities_named(X: Any) -> Iterator[None]:
    """Name the columns of X in the error of scikit-learn about infinities.

    It looks for them by a sum, whose warnings are left out.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except ValueError as error:
        columns = _infinite_columns(X) if "infinity" in str(error) else []
        if not columns:
            raise
        names = list(X.columns) if hasattr(X, "columns") else None
        verb = "has" if len(columns) == 1 else "have"
        listed = list_columns(columns, names)
        noun = "" if names is None else "column " if len(columns) == 1 else "columns "
        place = f"{noun}{listed} {verb} such values."
        raise ValueError(f"{error} {place[0].upper()}{place[1:]}") from None


def _infinite_columns(X: Any) -> list[int]:
    """Return the columns of a table ``(n, d)`` that have infinities, by position."""
    if issparse(X):
        entries = X.tocoo()
        return np.unique(entries.col[np.isinf(entries.data)]).tolist()
    try:
        values = np.asarray(on_host(X), dtype=np.float64)
    # A table with entries that are no numbers has an error of its own.
    except (TypeError, ValueError):
        return []
    return np.flatnonzero(np.isinf(values).any(axis=0)).tolist() if values.ndim == 2 else []
