"""Choices of a parameter: in the order of their registry, with near misses."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import Any

from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_parameter_constraints,
)

from skae._utils.numbers import is_integer
from skae._utils.synonyms import CHOICES

# Similarity, of 0 to 1, from which on a name counts as a near miss. At difflib's own 0.6
# short names of different meaning would be near each other.
_CUTOFF = 0.65


def choices(*names: str) -> StrOptions:
    """Return the constraint of a parameter to some names, listed in this order."""
    # The keys of a dict: a set has another order in each process.
    return StrOptions(dict.fromkeys(names).keys())


class Integers(Interval):
    """Constraint of a parameter to integers of a range; a bool is none."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether a value is such an integer."""
        return is_integer(val) and super().is_satisfied_by(val)


def positive_integer() -> Interval:
    """Return the constraint of a parameter to integers above 0; a bool is none."""
    return Integers(Integral, 1, None, closed="left")


def did_you_mean(value: Any, names: Iterable[str]) -> str:
    """Return " Did you mean 'laplace'?" if a string is close to a name, else "".

    A name that other libraries have for one of these is close to it, whatever its letters.
    """
    if not isinstance(value, str):
        return ""
    by_lower = {name.lower(): name for name in names}
    meant = CHOICES.get(value.lower())
    if meant in by_lower:
        return f" Did you mean {by_lower[meant]!r}?"
    close = difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=_CUTOFF)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def suggest_column(selected: Any, columns: Iterable[Any]) -> str:
    """Return a hint at the column of a frame that the first unknown name is close to."""
    names = [selected] if isinstance(selected, str) else selected
    known = [name for name in columns if isinstance(name, str)]
    if not isinstance(names, (list, tuple)):
        return ""
    return next((did_you_mean(name, known) for name in names if name not in known), "")


def validate_parameters(
    constraints: Mapping[str, Any],
    parameters: Mapping[str, Any],
    caller_name: str,
    advice: Callable[[str, Any], str] = lambda name, value: "",
) -> None:
    """Raise InvalidParameterError for a bad parameter, with advice or a near miss.

    Constraints and arguments are those of scikit-learn's function. The advice is that on a
    bad value, by the parameter's name; "" is none.
    """
    for name, value in parameters.items():
        try:
            validate_parameter_constraints(constraints, {name: value}, caller_name)
        except InvalidParameterError as error:
            options = (c.options for c in constraints[name] if isinstance(c, Options))
            hint = did_you_mean(value, (o for known in options for o in known))
            if own := advice(name, value):
                hint = f" {own}"
            if not hint:
                raise
            raise InvalidParameterError(f"{error}{hint}") from None
