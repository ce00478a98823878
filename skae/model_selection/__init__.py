"""Searches whose models are trained side by side.

The joblib backend ``"skae"`` trains the fits of scikit-learn's own searches side by side.
The two searches here activate the backend themselves.
"""

from skae.model_selection.searches import BatchedGridSearchCV, BatchedRandomizedSearchCV

__all__ = ["BatchedGridSearchCV", "BatchedRandomizedSearchCV"]
