"""Warnings that point at the user's line of code."""

import sys
import threading
import warnings
from pathlib import Path

import joblib
import sklearn

# Code between the user's line and the warning, which the warning must not point at.
_NOT_THE_USERS = (
    f"{Path(__file__).parents[1]}/",
    f"{Path(sklearn.__file__).parent}/",
    f"{Path(joblib.__file__).parent}/",
    threading.__file__,
)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost frame that is outside of skae, scikit-learn and joblib."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
