"""The warnings of the fits of a search, one of each kind, with the candidates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skae._fitting.lockstep import task_position
from skae._utils.messages import warn_user, warnings_collected

T = TypeVar("T")
# Number of a fit in its search, from 0, message and category of its warning.
Record = tuple[int, str, type[Warning]]

# What differs between warnings of one kind: names in quotes, and numbers.
_VARIABLE = re.compile(r"'[^']*'|\d[\w.,+-]*")
# Words at the begin of a message that tell its kind.
_WORDS = 6
# Attribute of an error with the warnings of the fits before it.
_RECORDS = "_skae_warnings_of_fits"
# Candidates that a message lists before it is cut off.
_MOST_CANDIDATES = 5


class FitWarnings:
    """Warnings of the fits of a search, which are raised when the search is over."""

    def __init__(self) -> None:
        # By category and kind, the number of each fit, from 0, and its message.
        self._found: dict[tuple[type[Warning], str], dict[int, str]] = {}
        # By category and kind, the message of the refit, if fits have it, too.
        self._refit: dict[tuple[type[Warning], str], str] = {}
        # A search may be a fit of another one. Each task has a position object of its own.
        self._outside = task_position()

    def collect(self, message: str, category: type[Warning]) -> bool:
        """Keep a warning; return whether it is one of a fit of the search, or known."""
        position = task_position()
        if position is None or position is self._outside:
            key = category, _kind(message)
            if key not in self._found or key in self._refit:
                return False
            self._refit[key] = message
            return True
        self.add(position[0] - 1, message, category)
        return True

    def add(self, fit: int, message: str, category: type[Warning]) -> None:
        """Keep a warning of a fit, by its number from 0."""
        self._found.setdefault((category, _kind(message)), {}).setdefault(fit, message)

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
            refit = self._refit.get((category, kind))
            first = min(messages)
            candidate, fold = divmod(first, n_splits)
            where = f"{_in_words(candidates[candidate])}, fold {fold + 1} of {n_splits}"
            text = f"{messages[first]} (This is the fit of {where}."
            if refit is not None:
                text = f"{refit} (This is the refit."
            if len(messages) > 1 or refit is not None:
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
                have = "have" if len(messages) > 1 else "has"
                text += f" {len(messages)} of {n_fits} fits {have} such a warning: {shown}."
            warn_user(f"{text})", category)


def record_warnings(run: Callable[[], T], fits: np.ndarray) -> tuple[T, list[Record]]:
    """Call what runs fits in lockstep; return its result and the warnings of the fits.

    Given are the numbers ``(m,)`` of the fits in their search. An error has the warnings
    with it, also when it comes from a process (see :func:`take_records`).
    """
    records: list[Record] = []

    def collect(message: str, category: type[Warning]) -> bool:
        position = task_position()
        if position is not None:
            records.append((int(fits[position[0] - 1]), message, category))
        return position is not None

    try:
        with warnings_collected(collect):
            return run(), records
    except BaseException as error:
        # A pickle of an error has its attributes.
        vars(error)[_RECORDS] = records
        raise


def take_records(error: BaseException) -> list[Record]:
    """Remove from an error the warnings of the fits before it, and return them."""
    records: list[Record] = vars(error).pop(_RECORDS, [])
    return records


def read_candidates(
    tasks: Sequence[dict[str, Any]],
) -> tuple[list[dict[str, Any]], int] | None:
    """Return the candidates and the number of folds of a search of scikit-learn.

    Given are the keyword arguments of its fits. None if they are those of other calls.
    """
    progress = tasks[0].get("split_progress")
    if not (isinstance(progress, tuple) and len(progress) == 2) or any(
        not isinstance(task.get("parameters"), dict) for task in tasks
    ):
        return None
    n_splits = int(progress[1])
    return [task["parameters"] for task in tasks[::n_splits]], n_splits


def _kind(message: str) -> str:
    """Return the first words of a message without what differs within a kind."""
    return " ".join(_VARIABLE.sub("#", message).split()[:_WORDS])


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
