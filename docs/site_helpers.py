"""Helpers for ``conf.py`` that Sphinx has to import by name."""

import inspect
from pathlib import Path
from typing import Any

# The gallery in the order of reading.
EXAMPLES = [
    "likelihood_of_sigma",
    "gradients",
    "derivatives",
    "linear_models",
    "which_likelihood",
    "variance_modes",
    "beta",
    "gradient_balance",
    "early_stopping",
    "outliers",
    "importance_weights",
    "samples",
    "latent_grid",
    "prior",
    "grid_search",
    "batched_search",
    "mnist",
]


def example_order(filename: str) -> int:
    """Place of an example in the gallery."""
    return EXAMPLES.index(Path(filename).stem.removeprefix("plot_"))


def skip_foreign_members(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what a class inherits from other packages, which document it."""
    function = obj.fget if isinstance(obj, property) else inspect.unwrap(obj)
    home = getattr(function, "__module__", None) or "skae"
    return None if home.startswith("skae") else True
