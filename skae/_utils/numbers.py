"""What counts as a number of a user."""

from numbers import Integral
from typing import Any

import numpy as np


def is_positive_integer(value: Any) -> bool:
    """Whether a value is an integer above 0; a bool is none."""
    return (
        isinstance(value, Integral)
        and not isinstance(value, (bool, np.bool_))
        and int(value) > 0
    )
