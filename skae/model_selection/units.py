"""Searches whose candidates score other data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sklearn.pipeline import Pipeline

from skae._utils.messages import warn_user
from skae.estimators.base import BaseAutoencoder


def warn_of_changed_data(estimator: Any, grid: Any) -> None:
    """Warn if candidates of a search by log-likelihood have other steps before the model.

    ``grid`` is a dict from parameters to values or distributions, or a list of such.
    """
    if not isinstance(estimator, Pipeline):
        return
    if not isinstance(estimator.steps[-1][1], BaseAutoencoder):
        return
    names = [name for name, _ in estimator.steps[:-1]]
    changed = [
        key
        for key in _varied(grid)
        if any(key == n or key.startswith(f"{n}__") for n in names)
    ]
    if changed:
        listed = ", ".join(map(repr, changed))
        warn_user(
            f"Candidates differ in {listed}, so their models are fitted to different data. "
            "The log-likelihood is in the units of these data: a candidate may be ahead "
            "because its numbers are smaller. Compare such candidates by another scoring, "
            "such as the score of a task; see 'Other steps in a search' in the guide to "
            "scores.",
            UserWarning,
        )


def _varied(grid: Any) -> list[str]:
    """Return the parameters that have more than one value."""
    grids = [grid] if isinstance(grid, Mapping) else list(grid)
    found: dict[str, set[str]] = {}
    for one in grids:
        for key, values in one.items():
            of_key = found.setdefault(key, set())
            # A distribution has no list of its values.
            is_listed = isinstance(values, Iterable)
            of_key.update(map(repr, values) if is_listed else ["", repr(values)])
    missing = [key for key in found if any(key not in one for one in grids)]
    for key in missing:
        found[key].add("not set")
    return [key for key, values in found.items() if len(values) > 1]
