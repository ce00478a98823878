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
    names, prefix = [], ""
    while isinstance(estimator, Pipeline):
        names += [f"{prefix}{name}" for name, _ in estimator.steps[:-1]]
        name, estimator = estimator.steps[-1]
        prefix = f"{prefix}{name}__"
    if not isinstance(estimator, BaseAutoencoder):
        return
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


def grids_of(grid: Any) -> list[Mapping[str, Any]]:
    """Return the grids of a search, one or several.

    There are none if one of them is no mapping: scikit-learn raises a TypeError for that.
    """
    grids = [grid] if isinstance(grid, Mapping) else list(grid)
    return grids if all(isinstance(one, Mapping) for one in grids) else []


def _varied(grid: Any) -> list[str]:
    """Return the parameters that have more than one value."""
    grids = grids_of(grid)
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
