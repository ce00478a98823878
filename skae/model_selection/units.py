"""Searches by a score that cannot compare their candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sklearn.pipeline import Pipeline

from skae._utils.messages import warn_user
from skae.estimators.base import BaseAutoencoder
from skae.estimators.variational import VariationalAutoencoder
from skae.likelihoods import LIKELIHOODS, Likelihood, Mixed

# Sets of values of which a likelihood has probabilities; of others it has a density.
_DISCRETE = "boolean", "nonnegative_integer", "category"


def is_log_likelihood(scoring: Any) -> bool:
    """Whether a search is by the score of the model, or by its tighter bound."""
    return scoring is None or bool(getattr(scoring, "_is_log_likelihood", False))


def warn_of_changed_data(estimator: Any, grid: Any) -> None:
    """Warn if candidates of a search by log-likelihood have other steps before the model.

    ``grid`` is a dict from parameters to values or distributions, or a list of such.
    """
    estimator, _, names = _last_step(estimator)
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


def warn_of_components(estimator: Any, grid: Any) -> None:
    """Warn if a search by log-likelihood compares numbers of deterministic components.

    ``grid`` is as in :func:`warn_of_changed_data`.
    """
    model, prefix, _ = _last_step(estimator)
    if not isinstance(model, BaseAutoencoder) or isinstance(model, VariationalAutoencoder):
        return
    key = f"{prefix}n_components"
    # A candidate may be another model.
    is_replaced = prefix and any(prefix.removesuffix("__") in one for one in grids_of(grid))
    if not is_replaced and key in _varied(grid):
        warn_user(
            f"Candidates differ in {key!r}, and the score of {type(model).__name__} grows "
            "with each component, so that the search prefers the largest number. Set "
            "scoring to the score of a task, use VariationalAutoencoder, or apply the rule "
            "of the reconstruction error; see 'How many components?' in the guide.",
            UserWarning,
        )


def warn_of_likelihoods(estimator: Any, grid: Any) -> None:
    """Warn if a search by log-likelihood compares densities with probabilities.

    ``grid`` is as in :func:`warn_of_changed_data`. A mixed likelihood, whose kinds depend
    on the table, is compared with nothing.
    """
    model, prefix, _ = _last_step(estimator)
    found: dict[bool, set[str]] = {False: set(), True: set()}
    for one in grids_of(grid):
        models = one.get(prefix.removesuffix("__"), [model]) if prefix else [model]
        for candidate in models if isinstance(models, Iterable) else []:
            if not isinstance(candidate, BaseAutoencoder):
                continue
            # A deterministic autoencoder has a density, and no such parameter.
            own = getattr(candidate, "likelihood", "gaussian")
            values = one.get(f"{prefix}likelihood", [own])
            for value in values if isinstance(values, Iterable) else []:
                kind = LIKELIHOODS.get(value) if isinstance(value, str) else type(value)
                if kind is None or not issubclass(kind, Likelihood) or kind is Mixed:
                    continue
                found[kind.support in _DISCRETE].add(repr(value))
    if found[False] and found[True]:
        densities, others = (", ".join(sorted(found[kind])) for kind in (False, True))
        warn_user(
            f"Candidates differ in the likelihood, of which {densities} has a density and "
            f"{others} has a probability. Their scores cannot be compared: a density may "
            "be above 1, and is the higher, the finer the unit. Search over likelihoods of "
            "one kind; see 'Which scores may be compared' in the guide to likelihoods.",
            UserWarning,
        )


def _last_step(estimator: Any) -> tuple[Any, str, list[str]]:
    """Return the model in a pipeline, the prefix of its parameters, and the other steps."""
    names, prefix = [], ""
    while isinstance(estimator, Pipeline):
        names += [f"{prefix}{name}" for name, _ in estimator.steps[:-1]]
        name, estimator = estimator.steps[-1]
        prefix = f"{prefix}{name}__"
    return estimator, prefix, names


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
