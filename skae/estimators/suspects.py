"""Warnings of columns for which "auto" may have chosen another likelihood than is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr

from skae._data.columns import column_of, name_of, package_of
from skae._data.far_values import has_only_nines
from skae._utils.column_errors import shortened
from skae._utils.messages import warn_user
from skae.estimators.column_faults import ColumnFaults
from skae.estimators.text_dates import dates_in_text
from skae.estimators.text_numbers import FEW_CATEGORIES, TextNumbers, numbers_in_text
from skae.likelihoods import Likelihood, Mixed, make_likelihood

# Values above which as many as rows mean an identifier, and few of each a warning.
_MANY_VALUES = 50
# Rows of a category below which, on average, there is little to learn of many categories.
_FEW_ROWS = 5
# Observed values below which their distribution is not known.
_FEWEST_VALUES = 30
# Mean from which on whole numbers are rarely counts.
_LARGE_MEAN = 1000.0
# The same for floats with missing values, which without these would have a density. Ages,
# visits and children are below.
_LARGE_MEAN_OF_FLOATS = 50.0
# Range of few whole numbers, for each different one, from which on they are rather amounts
# than codes, which often follow each other.
_RANGE_OF_AMOUNTS = 4.0
# Expected share of negative draws of a normal density from which on they are warned of.
_NEGATIVE_SHARE = 0.05
# Nats per value by which a log-normal density of positive numbers has to be better.
_LEAST_GAIN = 0.1
# Share of zeros from which on they are a case of their own, and no end of a range.
_SHARE_OF_ZEROS = 0.05
# Least maximum of shares, which are from 0 to 1, and most of them that are 0 or 1.
_LEAST_MAXIMUM, _MOST_ENDS = 0.9, 0.5
# Further parameters of Mixed, with their defaults.
_DEFAULTS = {"real": "gaussian", "handle_unknown": "error"}


class Suspects:
    """Columns of a table that may be something else, and the warnings about them.

    Parameters
    ----------
    X : array or frame of shape (n_samples, n_columns)
        The table.
    likelihood : Mixed
        The likelihood of a user, not bound to the table.
    """

    def __init__(self, X: Any, likelihood: Mixed) -> None:
        self._X = X
        self._is_frame = package_of(X) is not None
        self._names = list(X.columns) if self._is_frame else list(range(X.shape[1]))
        # Mixed takes numbers for positions, also those that are names.
        has_strings = all(isinstance(name, str) for name in self._names)
        self._keys = self._names if has_strings else list(range(len(self._names)))
        self._likelihood = likelihood
        self._found: dict[Callable[[list[int]], str], list[int]] = {}
        self._strings: dict[int, TextNumbers] = {}
        self._numbers: dict[int, TextNumbers] = {}

    def add(self, i: int, values: np.ndarray, family: str | Likelihood) -> None:
        """Look at the values ``(n,)`` of a column and at the likelihood of "auto"."""
        if values.dtype.kind == "O":
            if family == "categorical":
                self._add_strings(i, values)
            return
        numbers = values.astype(np.float64)
        observed = numbers[np.isfinite(numbers)]
        if len(observed) < _FEWEST_VALUES:
            return
        # Sums and ratios of extreme numbers are beyond float64, and then say nothing.
        with np.errstate(all="ignore"):
            if family == "categorical":
                if self._is_float(i) and _are_amounts(observed):
                    self._found.setdefault(self._few_with_holes, []).append(i)
            elif family == "negative_binomial":
                if _all_differ(observed):
                    self._found.setdefault(self._identifiers, []).append(i)
                elif self._is_float(i) and observed.mean() >= _LARGE_MEAN_OF_FLOATS:
                    self._found.setdefault(self._with_holes, []).append(i)
                elif observed.mean() >= _LARGE_MEAN:
                    self._found.setdefault(self._large, []).append(i)
            elif make_likelihood(family).support == "real":
                self._add_amount(i, observed)

    def _add_strings(self, i: int, values: np.ndarray) -> None:
        """Look for a few strings among numbers, or strings of numbers."""
        numbers = numbers_in_text(values)
        if numbers is None:
            return
        if numbers.strays and not numbers.changes:
            self._strings[i] = numbers
        # A dtype of categories is a decision of the user.
        elif getattr(self._dtype(i), "categories", None) is None:
            self._numbers[i] = numbers

    def is_named(self, i: int) -> bool:
        """Whether a warning takes the categories of a column for numbers."""
        return i in self._strings or i in self._numbers

    def _add_amount(self, i: int, observed: np.ndarray) -> None:
        """Look for amounts of which a normal density would draw many negative ones."""
        if observed.min() < 0:
            return
        if _are_shares(observed):
            self._found.setdefault(self._shares, []).append(i)
            return
        observed = observed / max(observed.max(), np.finfo(float).tiny)
        spread = observed.std()
        if not spread or ndtr(-observed.mean() / spread) < _NEGATIVE_SHARE:
            return
        if (observed == 0).mean() >= _SHARE_OF_ZEROS:
            self._found.setdefault(self._with_zeros, []).append(i)
        elif observed.min() > 0 and _log_normal_gain(observed) > _LEAST_GAIN:
            self._found.setdefault(self._amounts, []).append(i)

    def warn(self) -> None:
        """Warn of what was found, once for each kind."""
        for i, numbers in self._strings.items():
            warn_user(self._stray(i, numbers))
        if self._numbers:
            warn_user(self._as_strings(list(self._numbers)))
        for message, columns in self._found.items():
            warn_user(message(columns))

    def _dtype(self, i: int) -> Any:
        """Return the dtype of a column."""
        return getattr(column_of(self._X, i), "dtype", None)

    def _is_float(self, i: int) -> bool:
        """Whether a column of a frame has floats, which missing values may have made."""
        return self._is_frame and str(self._dtype(i)).lower().startswith("float")

    def _stray(self, i: int, numbers: TextNumbers) -> str:
        """Return what to say of strings among numbers."""
        shown, n_strings = (
            ", ".join(map(repr, numbers.strays)),
            sum(numbers.strays.values()),
        )
        count = f"{n_strings} string" + ("s" if n_strings > 1 else "")
        return (
            f"Column {self._names[i]!r} has numbers and {count} ({shown}), so each "
            "different value is a category. To take the strings as missing: "
            f"{numbers.conversion(self._X, i)}. If the column is one of categories, say "
            f"so: {self._mixed([i], 'categorical')}."
        )

    def _as_strings(self, columns: list[int]) -> str:
        """Return what to say of numbers as strings."""
        first = columns[0]
        numbers = self._numbers[first]
        of = f" (of {self._names[first]!r}; change the others alike)" if columns[1:] else ""
        return (
            f"{self._list(columns)} numbers as strings, such as {numbers.example!r}, so "
            f"each different string is a category. Convert them{of}: "
            f"{numbers.conversion(self._X, first)}. If they are codes, say so: "
            f"{self._mixed(columns, 'categorical')}."
        )

    def _identifiers(self, columns: list[int]) -> str:
        """Return what to say of whole numbers that all differ."""
        return (
            f"{self._list(columns)} whole numbers that all differ, and "
            '"auto" takes them as counts (negative_binomial). Drop identifiers. Of other '
            f"numbers say what they are: {self._mixed(columns, 'gaussian')}."
        )

    def _large(self, columns: list[int]) -> str:
        """Return what to say of whole numbers that are large."""
        return (
            f"{self._list(columns)} whole numbers with a mean of {_LARGE_MEAN:,.0f} or "
            'more, and "auto" takes them as counts (negative_binomial). Drop codes, or '
            "give them 'categorical'. Of days, amounts and other numbers say what they "
            f"are: {self._mixed(columns, 'gaussian')}. 'negative_binomial' in its place "
            "takes them as counts without this warning."
        )

    def _with_holes(self, columns: list[int]) -> str:
        """Return what to say of floats that are whole numbers or missing."""
        remedy = self._mixed(columns, self._likelihood.real)
        return (
            f"{self._list(columns)} floats that are whole numbers or missing, with a mean "
            f'of {_LARGE_MEAN_OF_FLOATS:.0f} or more, and "auto" takes them as counts '
            "(negative_binomial), because missing values turn integers into floats. Of "
            f"amounts and measurements say so: {remedy}. 'negative_binomial' in its place "
            "takes them as counts without this warning."
        )

    def _few_with_holes(self, columns: list[int]) -> str:
        """Return what to say of floats that are few whole numbers or missing."""
        return (
            f"{self._list(columns)} floats that are whole numbers or missing, of at most "
            f"{FEW_CATEGORIES} different values, large or far apart. Because missing "
            'values turn integers into floats, "auto" takes them as categories. If they '
            f"are codes or groups, say so: {self._mixed(columns, 'categorical')}. If they "
            "are amounts or measurements, say so: "
            f"{self._mixed(columns, self._likelihood.real)}."
        )

    def _amounts(self, columns: list[int]) -> str:
        """Return what to say of positive amounts."""
        return (
            f'{self._list(columns)} positive numbers of a large spread, of which "auto" '
            "takes a density that is not 0 for negative ones: samples may be negative. Of "
            f"positive amounts say so: {self._either(columns, 'log_normal')}"
        )

    def _shares(self, columns: list[int]) -> str:
        """Return what to say of numbers from 0 to 1."""
        return (
            f'{self._list(columns)} numbers from 0 to 1, of which "auto" takes a density '
            "that is not 0 for others: samples may be below 0 or above 1. Of shares say "
            f"so: {self._either(columns, 'continuous_bernoulli')}"
        )

    def _either(self, columns: list[int], likelihood: str) -> str:
        """Return code with a likelihood for columns, and how to leave them as they are."""
        return (
            f"{self._mixed(columns, likelihood)}. {self._likelihood.real!r} in its place "
            "leaves them as they are without this warning."
        )

    def _with_zeros(self, columns: list[int]) -> str:
        """Return what to say of amounts that may be 0."""
        name = self._names[columns[0]]
        column = f"X[{name!r}]" if self._is_frame else f"X[:, {name}]"
        amount = f"np.where({column} > 0, {column}, np.nan)"
        return (
            f'{self._list(columns)} numbers from 0 on, many of them 0, of which "auto" '
            "takes a density that is not 0 for negative ones: samples may be negative. Add "
            f"a flag, {column} > 0, and take 0 as missing, {amount}, with the likelihood "
            "'log_normal'. To leave them as they are, without this warning: "
            f"{self._mixed(columns, self._likelihood.real)}."
        )

    def _list(self, columns: Sequence[int]) -> str:
        """Return columns as the beginning of a sentence, at most five of them."""
        shown = shortened([repr(self._names[i]) for i in columns])
        return f"Column {shown} has" if len(columns) == 1 else f"Columns {shown} have"

    def _mixed(self, columns: Sequence[int], family: str | Likelihood) -> str:
        """Return the likelihood with which columns have another family, as code."""
        own = repr([self._keys[i] for i in columns])
        if not isinstance(self._likelihood.columns, str):
            return f"({own}, {family!r}) in Mixed"
        others = f"[i for i in range(X.shape[1]) if i not in {own}]"
        if self._is_frame and self._keys is self._names:
            others = f"[c for c in X.columns if c not in {own}]"
        parts = f"({own}, {family!r})"
        if len(columns) < len(self._names):
            parts += f", ({others}, 'auto')"
        further = "".join(
            f", {name}={getattr(self._likelihood, name)!r}"
            for name, default in _DEFAULTS.items()
            if getattr(self._likelihood, name) != default
        )
        return f"likelihood=Mixed([{parts}]{further})"


def check_categories(
    X: Any,
    i: int,
    values: np.ndarray,
    n_categories: int,
    faults: ColumnFaults,
    *,
    is_named: bool,
) -> None:
    """Refuse a column of values ``(n,)`` that all differ; warn of many categories.

    Of numbers as strings, more different ones than half the rows are refused, too. There is
    no such warning of a column that is named in another one.
    """
    package = package_of(X)
    name, drop = repr(name_of(X, i)), f"np.delete(X, {i}, axis=1)"
    if package is not None:
        drop = f"X.drop({'columns=' if package == 'pandas' else ''}[{name}])"
    observed = [v for v in values.tolist() if v is not None and v == v]
    is_identifier = _all_differ(observed)
    has_many = n_categories > max(_MANY_VALUES, len(values) / _FEW_ROWS)
    # A dtype of categories is a decision of the user.
    is_declared = getattr(getattr(column_of(X, i), "dtype", None), "categories", None)
    has_most = has_many and n_categories > len(observed) / 2 and is_declared is None
    if is_identifier or (has_many and is_declared is None):
        dates = dates_in_text(values) if values.dtype.kind == "O" else None
        if dates is not None:
            raise ValueError(dates.message(X, i))
    if not (is_identifier or has_most) and (is_named or not has_many):
        return
    numbers = numbers_in_text(values) if values.dtype.kind == "O" else None
    is_number = numbers is not None and bool(numbers.is_certain or numbers.strays)
    number = "choose another likelihood"
    if numbers is not None:
        number = f"convert it: {numbers.conversion(X, i)}"
    # "auto" takes whole numbers for categories, and the user may.
    if is_identifier or (has_most and (is_number or (is_named and numbers is not None))):
        has = f"Column {name} has {n_categories} categories in {len(observed)} rows"
        has += ", another one in each" if is_identifier else ""
        if numbers is not None and is_number:
            are, convert = "numbers as strings", "Convert them"
            if numbers.strays:
                are = f"numbers but for {', '.join(map(repr, numbers.strays))}"
                convert = "To take these as missing"
            raise ValueError(
                f"{has}, which are {are}. {convert}: {numbers.conversion(X, i)}."
            )
        raise ValueError(
            f"{has}: it is an identifier or a free text, and there is nothing to learn. "
            f"Drop it: {drop}. If it is a number, {number}."
            + ("" if is_identifier else " If it is a code, give it 'categorical' in Mixed.")
        )
    if is_named:
        return
    faults.add_warning(
        f"Column {name} has {n_categories} categories in {len(values)} rows, each of "
        "which is a feature of the model. If it is an identifier or free text, drop "
        f"it: {drop}. If it is a number, {number}. Of other categories, join the rare ones "
        "to one."
    )


def _all_differ(values: Any) -> bool:
    """Whether each of many values is another one, as those of an identifier."""
    return len(values) > _MANY_VALUES and len(set(values)) == len(values)


def _are_amounts(x: np.ndarray) -> bool:
    """Whether few different whole numbers ``(n,)`` are large or far apart, unlike codes.

    Numbers of nines, which may stand for what is missing, are left out.
    """
    x = x[~has_only_nines(x)]
    if not len(x):
        return False
    is_wide = np.ptp(x) >= _RANGE_OF_AMOUNTS * len(np.unique(x))
    return bool(is_wide or x.mean() >= _LARGE_MEAN_OF_FLOATS)


def _are_shares(x: np.ndarray) -> bool:
    """Whether a normal density of numbers ``(n,)`` from 0 to 1 has much beside these."""
    if x.min() < 0 or not _LEAST_MAXIMUM < x.max() <= 1 or not x.std():
        return False
    beside = ndtr(-x.mean() / x.std()) + ndtr((x.mean() - 1) / x.std())
    is_end = (x == 0) | (x == 1)
    return bool(beside >= _NEGATIVE_SHARE and is_end.mean() < _MOST_ENDS)


def _log_normal_gain(x: np.ndarray) -> float:
    """Return by how much log-normal is better than normal, in nats per value.

    Both are densities of the same positive values ``(n,)``, at their best parameters.
    """
    log = np.log(x)
    if not log.std():
        return 0.0
    return float(np.log(x.std()) - np.log(log.std()) - log.mean())
