"""The warnings of the fits of a search, one of each kind, with the candidates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from skae._fitting.lockstep import task_position
from skae._utils.messages import warn_user

# What differs between warnings of one kind: names in quotes, and numbers.
_VARIABLE = re.compile(r"'[^']*'|\d[\w.,+-]*")
# Words at the begin of a message that tell its kind.
_WORDS = 6
# Candidates that a message lists before it is cut off.
_MOST_CANDIDATES = 5


class FitWarnings:
    """Warnings of the fits of a search, which are raised when the search is over."""

    def __init__(self) -> None:
        # By category and kind, the number of each fit, from 0, and its message.
        self._found: dict[tuple[type[Warning], str], dict[int, str]] = {}
        # A search may be a fit of another one. Each task has a position object of its own.
        self._outside = task_position()

    def collect(self, message: str, category: type[Warning]) -> bool:
        """Keep a warning; return whether it is one of a fit of the search."""
        position = task_position()
        if position is None or position is self._outside:
            return False
        kind = " ".join(_VARIABLE.sub("#", message).split()[:_WORDS])
        self._found.setdefault((category, kind), {}).setdefault(position[0] - 1, message)
        return True

    @contextmanager
    def of_failed_search(self) -> Iterator[None]:
        """Raise one warning of each kind if the search ends by an error."""
        try:
            yield
        except BaseException:
            for (category, _), messages in self._found.items():
                first = min(messages)
                count = f" {len(messages)} fits have such a warning." * (len(messages) > 1)
                where = f"fit {first + 1} of a search that did not end"
                # A filter may make an error of it, but the one of the search is the reason.
                with suppress(Warning):
                    warn_user(f"{messages[first]} (This is {where}.{count})", category)
            raise

    def warn(self, candidates: Sequence[dict[str, Any]], n_splits: int) -> None:
        """Raise one warning of each kind, which lists the candidates that have it."""
        n_fits = len(candidates) * n_splits
        # Why fits have no score comes last, where a user looks first.
        kinds = sorted(self._found, key=lambda k: not issubclass(k[0], ConvergenceWarning))
        for category, kind in kinds:
            messages = self._found[category, kind]
            first = min(messages)
            candidate, fold = divmod(first, n_splits)
            where = f"{_in_words(candidates[candidate])}, fold {fold + 1} of {n_splits}"
            text = f"{messages[first]} (This is the fit of {where}."
            if len(messages) > 1:
                counts = [0] * len(candidates)
                for fit in messages:
                    counts[fit // n_splits] += 1
                listed = [
                    f"{_in_words(given)} in {_folds(n, n_splits)}"
                    for given, n in zip(candidates, counts, strict=True)
                    if n
                ]
                shown = "; ".join(listed[:_MOST_CANDIDATES])
                if len(listed) > _MOST_CANDIDATES:
                    shown += f"; and {len(listed) - _MOST_CANDIDATES} more candidates"
                text += f" {len(messages)} of {n_fits} fits have such a warning: {shown}."
            warn_user(f"{text})", category)


def _in_words(candidate: dict[str, Any]) -> str:
    """Return the parameters of a candidate as text."""
    # Numbers of NumPy are numbers.
    texts = {k: repr(v) if isinstance(v, str) else str(v) for k, v in candidate.items()}
    return ", ".join(f"{k}={v}" for k, v in texts.items()) or "the only candidate"


def _folds(n: int, n_splits: int) -> str:
    """Return how many folds a candidate has a warning in."""
    if n == n_splits:
        return "all folds"
    return "1 fold" if n == 1 else f"{n} folds"
