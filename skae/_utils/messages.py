"""Warnings that point at the user's line of code."""

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

import joblib
import sklearn
import torch.utils._contextlib

_SKAE = f"{Path(__file__).parents[1]}{os.sep}"
# Code between the user's line and the warning, which the warning must not point at.
_LIBRARIES = (
    _SKAE,
    f"{Path(sklearn.__file__).parent}{os.sep}",
    f"{Path(joblib.__file__).parent}{os.sep}",
    # It is imported where it is used, and installed beside the others.
    f"{Path(joblib.__file__).parents[1] / 'skops'}{os.sep}",
    threading.__file__,
    # Decorators.
    contextlib.__file__,
    torch.utils._contextlib.__file__,
)

# Takes message and category of a warning, and returns whether it keeps them for later.
Collector = Callable[[str, type[Warning]], bool]

# What warnings that are omitted tell of: "data" of a fit, or "fit" for all the rest.
_omitted: ContextVar[frozenset[str]] = ContextVar("_omitted", default=frozenset())
_collector: ContextVar[Collector | None] = ContextVar("_collector", default=None)
_deferred: ContextVar[list[tuple[str | Warning, type[Warning], str]] | None] = ContextVar(
    "_deferred", default=None
)


@contextmanager
def no_warnings(*subjects: str) -> Iterator[None]:
    """Omit the warnings of fits that tell of these subjects, "fit" or "data".

    A model that the user does not get may be the one that has seen all rows. The warning
    filters, which belong to the process, stay as they are.
    """
    token = _omitted.set(_omitted.get() | set(subjects))
    try:
        yield
    finally:
        _omitted.reset(token)


@contextmanager
def warnings_deferred() -> Iterator[None]:
    """Keep warnings until :func:`raise_deferred`, or until an error.

    They come before the error, if it is not raised in :func:`without_deferred`.
    """
    token = _deferred.set([])
    try:
        yield
    finally:
        kept = _deferred.get()
        _deferred.reset(token)
        for message, category, subject in kept or ():
            warn_user(message, category, subject)


@contextmanager
def without_deferred() -> Iterator[None]:
    """Drop the warnings that were kept if a parameter is found to be wrong within."""
    try:
        yield
    except (TypeError, ValueError):
        if kept := _deferred.get():
            kept.clear()
        raise


def raise_deferred() -> None:
    """Raise the warnings that were kept; later ones are raised at once."""
    kept = _deferred.get()
    _deferred.set(None)
    for message, category, subject in kept or ():
        warn_user(message, category, subject)


@contextmanager
def warnings_collected(collector: Collector) -> Iterator[None]:
    """Pass warnings to a function first, but for those that a filter makes errors.

    What it does not keep goes to the function of the search around this one, if any.
    """
    outer = _collector.get()

    def collect(message: str, category: type[Warning]) -> bool:
        is_kept = collector(message, category)
        return is_kept or (outer is not None and outer(message, category))

    token = _collector.set(collect)
    try:
        yield
    finally:
        _collector.reset(token)


def tell_search(message: str) -> None:
    """Let the search around a fit or score, if there is one, warn of its error at its end.

    scikit-learn takes the error for a missing score, and prints a traceback.
    """
    collector = _collector.get()
    if collector is not None and "fit" not in _omitted.get():
        collector(message, UserWarning)


def _action(message: str, category: type[Warning]) -> str:
    """Return what the filters of this moment do with a warning, wherever it comes from.

    Filters of a module are left out, because they may be for warnings of other packages.
    """
    for action, pattern, kind, module, line in warnings.filters:
        is_anywhere = module is None and not line
        is_meant = pattern is None or pattern.match(message)
        if is_anywhere and is_meant and issubclass(category, kind):
            return action
    return "default"


def warn_user(
    message: str | Warning, category: type[Warning] = UserWarning, subject: str = "fit"
) -> None:
    """Warn at the innermost frame that is outside of skae, scikit-learn and joblib.

    A message that is a warning has its own category. The subject "data" is that of what a
    fit finds in the values of X.

    In a thread of a search there is no such frame; then at the innermost one outside skae.
    """
    if subject in _omitted.get():
        return
    deferred = _deferred.get()
    if deferred is not None:
        deferred.append((message, category, subject))
        return
    collector = _collector.get()
    if collector is not None and isinstance(message, str):
        action = _action(message, category)
        if action == "ignore" or (action != "error" and collector(message, category)):
            return
    frame: FrameType | None = sys._getframe(1)
    level, outside_skae = 2, 0
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        if not outside_skae and not frame.f_code.co_filename.startswith(_SKAE):
            outside_skae = level
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level if frame else outside_skae or 2)
