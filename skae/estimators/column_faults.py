"""Faults of the columns of a table, collected for one error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skae._data.columns import name_of
from skae._utils.column_errors import shortened
from skae._utils.messages import warn_user

# Faults that an error lists before it is cut off.
_MOST_SHOWN = 5


class ColumnFaults:
    """Errors and warnings about columns of a table, which wait until all are known.

    Parameters
    ----------
    X : array or frame of shape (n_samples, n_columns)
        The table.
    """

    def __init__(self, X: Any) -> None:
        self._X = X
        self._errors: dict[int, str] = {}
        self._notes: dict[int, str] = {}
        self._warnings: list[str] = []

    @property
    def has_errors(self) -> bool:
        """Whether there is an error to raise."""
        return bool(self._errors)

    @contextmanager
    def collected(self, i: int) -> Iterator[None]:
        """Keep a ValueError about column i for later."""
        try:
            yield
        except ValueError as error:
            self._errors.setdefault(i, str(error))

    def note(self, i: int, message: str) -> None:
        """Keep an error about column i that a later check raises if there are no others."""
        self._notes[i] = message

    def add_warning(self, message: str) -> None:
        """Keep a warning for later."""
        self._warnings.append(message)

    def raise_errors(self) -> None:
        """Raise one ValueError of all columns; equal faults are written once."""
        if not self._errors:
            return
        found = self._notes | self._errors
        by_fault: dict[str, list[int]] = {}
        for i, message in sorted(found.items()):
            pattern = rf"(?<!\w){re.escape(self._name(i))}(?!\w)"
            by_fault.setdefault(re.sub(pattern, "{}", message), []).append(i)
        texts = []
        for first, *others in by_fault.values():
            text = found[first]
            if others:
                text += f" The same holds for {shortened(list(map(self._name, others)))}."
            texts.append(text)
        if len(texts) == 1:
            raise ValueError(texts[0])
        n_more = len(texts) - _MOST_SHOWN
        listed = "".join(f"\n- {text}" for text in texts[:_MOST_SHOWN])
        if n_more > 0:
            listed += f"\n- and {n_more} more."
        raise ValueError(f"{len(found)} columns cannot be used:{listed}")

    def warn(self) -> None:
        """Raise the warnings."""
        for message in self._warnings:
            warn_user(message)

    def _name(self, i: int) -> str:
        """Return a column as messages name it."""
        return repr(name_of(self._X, i))
