"""Searches whose models are trained side by side, and scorers for any search.

The joblib backend ``"skae"`` trains the fits of scikit-learn's own searches side by side.
The two searches here activate the backend themselves.
"""

from skae.model_selection.log_marginal import log_marginal_scorer, make_log_marginal_scorer
from skae.model_selection.reconstruction_error import (
    make_reconstruction_error_scorer,
    reconstruction_error_scorer,
)
from skae.model_selection.searches import BatchedGridSearchCV, BatchedRandomizedSearchCV

__all__ = [
    "BatchedGridSearchCV",
    "BatchedRandomizedSearchCV",
    "log_marginal_scorer",
    "make_log_marginal_scorer",
    "make_reconstruction_error_scorer",
    "reconstruction_error_scorer",
]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
