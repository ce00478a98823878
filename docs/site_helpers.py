"""Helpers of ``conf.py`` that Sphinx imports by name."""

import inspect
from pathlib import Path
from typing import Any

from skae._utils.names import MissingMethod

# The examples of the gallery, in the order in which to read them.
EXAMPLES = [
    # Tasks.
    "latent_grid",
    "missing",
    "mixed_table",
    "samples",
    "prior",
    "grid_search",
    "batched_search",
    "mnist",
    # Choices.
    "which_likelihood",
    "outliers",
    "variance_modes",
    "beta",
    "early_stopping",
    # Background.
    "linear_models",
    "importance_weights",
    "gradient_balance",
    "likelihood_of_sigma",
    "gradients",
    "derivatives",
]

# Pages of the guide that need the width of the right sidebar.
WIDE_PAGES = ["how_to", "when", "from_pca", "from_pytorch", "from_pyod", "from_pythae"]


def example_order(filename: str) -> int:
    """Return the position of an example in the gallery."""
    return EXAMPLES.index(Path(filename).stem.removeprefix("plot_"))


def skip_other_members(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Return True for a member of another package, or one that a class does not have.

    The documentation of that package has the former. None leaves the decision to Sphinx.
    """
    if isinstance(obj, MissingMethod):
        return True
    function = obj.fget if isinstance(obj, property) else inspect.unwrap(obj)
    # The classes have copies of inherited methods, which bear their name. Their code and
    # their global names are those of the module that defines them.
    own = getattr(function, "__globals__", {}).get("__name__")
    home = own or getattr(function, "__module__", None) or "skae"
    return None if home.startswith("skae") else True
