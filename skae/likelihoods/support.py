"""The values that a likelihood has a density for."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Support:
    """A set of numbers, named as in :mod:`torch.distributions.constraints`.

    Attributes
    ----------
    description : str
        What the numbers are, in the words of a user.
    contains : callable
        Maps numbers ``(n, d)``, an array or a tensor, to whether each is in the set; NaN
        may be either.
    advice : str
        What to do about other numbers.
    """

    description: str
    contains: Callable[[Any], Any]
    advice: str


def _is_count(x: Any) -> Any:
    """Whether numbers ``(n, d)`` are 0, 1, 2, ..."""
    return (x >= 0) & (x == x.round())


SUPPORTS: dict[str, Support] = {
    "real": Support("real numbers", lambda x: abs(x) < math.inf, ""),
    "positive": Support(
        "positive numbers",
        lambda x: x > 0,
        "For amounts that may be 0, shift them first, for example by numpy.log1p and "
        "likelihood='gaussian'.",
    ),
    "unit_interval": Support(
        "numbers from 0 to 1",
        lambda x: (x >= 0) & (x <= 1),
        "Scale them first, for example by MinMaxScaler(clip=True).",
    ),
    "boolean": Support(
        "flags, 0 or 1",
        lambda x: (x == 0) | (x == 1),
        "Columns with other values need another likelihood: likelihoods.Mixed takes one "
        "for each column.",
    ),
    "nonnegative_integer": Support(
        "counts, 0, 1, 2, ...",
        _is_count,
        "Columns with other values need another likelihood: likelihoods.Mixed takes one "
        "for each column.",
    ),
}
