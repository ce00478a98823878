"""The values that a likelihood has a density for."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


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
    advice : callable
        Maps a column ``(n,)`` that has other numbers to what to do about it.
    """

    description: str
    contains: Callable[[Any], Any]
    advice: Callable[[np.ndarray], str]


def _is_count(x: Any) -> Any:
    """Whether numbers ``(n, d)`` are 0, 1, 2, ..."""
    return (x >= 0) & (x == x.round())


def _advice_on_flags(x: np.ndarray) -> str:
    """Return which likelihood, or which flags, a column ``(n,)`` needs."""
    known = x[np.isfinite(x)]
    low, high = known.min(), known.max()
    if low >= 0 and high <= 1:
        return (
            "Numbers from 0 to 1, such as grey levels and shares, need "
            "likelihood='continuous_bernoulli'."
        )
    if low < high and ((known == low) | (known == high)).all():
        return f"A column of two values becomes one of flags by X == {high:.15g}."
    return _advice_on_numbers(known)


def _advice_on_numbers(x: np.ndarray) -> str:
    """Return which likelihood a column ``(n,)`` of numbers needs; NaN may be among them."""
    known = x[np.isfinite(x)]
    if _is_count(known).all():
        return "Counts need likelihood='negative_binomial' or 'poisson'."
    if (known > 0).all():
        return "Positive numbers need likelihood='log_normal' or 'gaussian'."
    return "Real numbers need likelihood='gaussian' or 'laplace'."


def _advice_on_amounts(x: np.ndarray) -> str:
    """Return what to do about a column ``(n,)`` of numbers that are not all positive."""
    if np.nanmin(x) < 0:
        return _advice_on_numbers(x)
    return (
        "For amounts that may be 0, shift them first, for example by numpy.log1p and "
        "likelihood='gaussian'."
    )


SUPPORTS: dict[str, Support] = {
    "real": Support("real numbers", lambda x: abs(x) < math.inf, lambda x: ""),
    "positive": Support(
        "positive numbers",
        lambda x: x > 0,
        _advice_on_amounts,
    ),
    "unit_interval": Support(
        "numbers from 0 to 1",
        lambda x: (x >= 0) & (x <= 1),
        lambda x: "Scale them first, for example by MinMaxScaler(clip=True).",
    ),
    "boolean": Support("flags, 0 or 1", lambda x: (x == 0) | (x == 1), _advice_on_flags),
    "nonnegative_integer": Support("counts, 0, 1, 2, ...", _is_count, _advice_on_numbers),
}
