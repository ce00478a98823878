"""Values so far from the others of their column that they may be no measurements."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from skae._data.rows import Rows

# Deviation of a column, in units of that of the middle half of its values, from which on a
# few values decide it. It is at most 60 in 1,000 samples of a log-normal density whose
# logarithm has the deviation 2, 5 in the tables of scikit-learn, and about 1,000 in samples
# of a Cauchy density. One code -99999 for missing in ten values of deviation 10 has 2,600.
_FAR = 2000.0
# The same for a single value, in these units, from the median.
_FAR_VALUE = 1000.0
# Both for at most so many rows with far values beside others that are all near, which is
# rare in heavy tails: they are in 0 to 2 of 400 samples of 100, 500 and 5,000 rows of a
# Cauchy density, a t (1.5), a Pareto (1.5) and a log-normal one (2).
_FAR_OF_FEW, _FAR_VALUE_OF_FEW, _NEAR, _FEW = 8.0, 300.0, 10.0, 5
# Most rows with errors that differ, and with one code for what is missing, as shares.
_MOST_ERRORS, _MOST_WITH_CODE = 0.01, 0.5
# Rows that are enough to measure the middle half.
_ROWS = 256
# Interquartile range of a normal density in standard deviations.
_NORMAL_RANGE = 1.349
# Fewest values of a column, most of whose values are equal, beside these.
_FEWEST = 16
# Different values from which on the others of a column are numbers that are measured, and
# least share of the rows that have a code.
_FEWEST_DIFFERENT, _LEAST_WITH_CODE = 8, 0.01
# Least gap between a code and the others, in deviations of the middle half of these. A 0
# may be no amount, and what is below 0 beside others below 0 may be the lowest group.
_GAP_OF_NINES, _GAP_OF_ZERO, _GAP_BELOW_OTHERS = 20.0, 5.0, 10.0


@dataclass(frozen=True)
class FarValue:
    """The value of a column that is farthest from its median.

    Attributes
    ----------
    column, row : int
        Where it is in X.
    value : float
        What it is.
    distance : float
        Distance from the median, in robust standard deviations.
    n_far : int
        Number of different rows with such a value.
    """

    column: int
    row: int
    value: float
    distance: float
    n_far: int


@dataclass(frozen=True)
class Code:
    """A number that many rows have in a column, and that lies beside all others.

    Attributes
    ----------
    column : int
        Where it is in X.
    value : float
        What it is.
    n_rows : int
        Number of rows of X that have it.
    low, high : float
        Smallest and largest of the other values.
    """

    column: int
    value: float
    n_rows: int
    low: float
    high: float


def find_far_values(rows: Rows, std: np.ndarray) -> tuple[list[FarValue], list[Code]]:
    """Return the farthest value of each column whose deviation ``(d,)`` few values decide.

    A column with a number that seems to be a code for what is missing has that code
    instead. Only columns that may have either are read as a whole. Sparse data, most of
    which are 0, have none.
    """
    if issparse(rows.X):
        return [], []
    some = rows.subsample(_ROWS)
    values = some.block().astype(np.float64)
    order = values.argsort(axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    codes = list(_find_codes(rows, ordered, some.weight[order] / len(some)))
    has_code = np.isin(np.arange(ordered.shape[1]), [code.column for code in codes])
    return _find_far(rows, np.where(has_code, 0.0, std), ordered), codes


def _find_far(rows: Rows, std: np.ndarray, ordered: np.ndarray) -> list[FarValue]:
    """Return far values, given some rows with each column in order ``(m, d)``."""
    (centres, spans), found = _middle_half(ordered), []
    for column in np.flatnonzero((spans > 0) & (spans < std / _FAR_OF_FEW)).tolist():
        values = rows.X[rows.index, column].astype(np.float64)
        distance = np.abs(values - centres[column]) / spans[column]
        is_far = distance > _FAR_VALUE_OF_FEW
        if is_far.sum() > _FEW or (distance[~is_far] > _NEAR).any():
            if spans[column] >= std[column] / _FAR:
                continue
            is_far = distance > _FAR_VALUE
        # Of several processes, another one may have the values.
        if not is_far.any():
            continue
        ties = np.flatnonzero(distance == np.nanmax(distance))
        # Many different values are no errors, and one that most rows have is no code.
        is_code = len(ties) == is_far.sum() and len(ties) <= _MOST_WITH_CODE * len(values)
        if not is_code and is_far.sum() > max(_MOST_ERRORS * len(values), 1):
            continue
        farthest = ties[rows.index[ties].argmin()]
        found.append(
            FarValue(
                column,
                int(rows.index[farthest]),
                float(values[farthest]),
                float(distance[farthest]),
                int(is_far.sum()),
            )
        )
    return found


def _find_codes(rows: Rows, ordered: np.ndarray, shares: np.ndarray) -> Iterator[Code]:
    """Yield the codes of columns.

    Given are some rows with each column in order, and their shares of the weight, both
    ``(m, d)``. Equal rows are one of a larger weight, also all rows with a code.
    """
    n_observed = (~np.isnan(ordered)).sum(axis=0)
    last = np.take_along_axis(ordered, np.maximum(n_observed - 1, 0)[None], axis=0)
    for ends in (ordered[:1], last):
        is_end = ordered == ends
        n_others = n_observed - is_end.sum(axis=0)
        may_be_code = is_end.sum(axis=0) > 1
        may_be_code |= (shares * is_end).sum(axis=0) >= _LEAST_WITH_CODE
        may_be_code &= (n_others >= _FEWEST_DIFFERENT) & _may_be_code(ends[0])
        for column in np.flatnonzero(may_be_code).tolist():
            code = ends[0, column]
            values = rows.X[rows.index, column].astype(np.float64)
            is_code = values == code
            n_rows = int((rows.X[:, column] == code).sum())
            is_other = ~is_code & ~np.isnan(values)
            # Of several processes, this one may have few or none of the others.
            if n_rows <= 1 or is_other.sum() < _FEWEST_DIFFERENT:
                continue
            share = rows.weight[is_code].sum() / rows.weight.sum()
            if share < _LEAST_WITH_CODE:
                continue
            others, span = values[is_other], _span(values[is_other], rows.weight[is_other])
            if _is_code(code, others, span, share):
                low, high = float(others.min()), float(others.max())
                yield Code(column, float(code), n_rows, low, high)


def _span(values: np.ndarray, weight: np.ndarray) -> float:
    """Return the robust deviation of values ``(m,)`` with weights ``(m,)``."""
    order = values.argsort()
    share = weight[order].cumsum()
    low, high = values[order[share.searchsorted([share[-1] / 4, share[-1] * 3 / 4])]]
    return float(high - low) / _NORMAL_RANGE


def _may_be_code(values: Any) -> Any:
    """Whether numbers are 0 or below, or only nines."""
    return (values <= 0) | has_only_nines(values)


def _is_code(value: float, others: np.ndarray, span: float, share: float) -> bool:
    """Whether a number is none of the kind of the others ``(m,)``, but far beside them.

    Given are the robust deviation of the others, and the share of the rows with the number.
    """
    if len(np.unique(others)) < _FEWEST_DIFFERENT:
        return False
    low, high = others.min(), others.max()
    gap = max(low - value, value - high)
    is_beside = bool(gap >= high - low)
    if has_only_nines(value):
        is_written = value <= -99 and low >= 0
        return bool(is_written or is_beside or (span > 0 and gap >= _GAP_OF_NINES * span))
    if value == 0:
        # Counts around 80, of many rows, have a smaller gap, as blood pressures have.
        return bool(
            is_beside
            and low > 0
            and gap >= _GAP_OF_ZERO * span
            and share <= _MOST_WITH_CODE
        )
    if value != np.round(value):
        # What 0 becomes in a scaled column has a fraction, too.
        return is_beside and bool(gap >= _FAR_VALUE * span)
    if low >= 0:
        return is_beside
    is_whole = (others == np.round(others)).any()
    return bool(is_beside and not is_whole and gap >= _GAP_BELOW_OTHERS * span)


def has_only_nines(values: Any) -> Any:
    """Whether numbers, or those without sign and point, are 9, 99, 999 and so on."""
    size = np.abs(values)
    has_only = np.zeros(np.shape(values), dtype=bool)
    with np.errstate(all="ignore"):
        for factor in (1, 10, 100):  # up to two digits after the point, also of float32
            digits = np.round(factor * size)
            is_exact = np.abs(factor * size - digits) <= 1e-7 * digits
            has_only |= is_exact & (digits + 1 == 10 ** np.round(np.log10(digits + 1)))
    return has_only & (size >= 9) & (size < 1e9)


def _middle_half(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return median and robust deviation of each column in order ``(m, d)``, ``(d,)`` each.

    NaN is at the end. A value that a quarter of the rows or more have, such as 0 for no
    amount, is left out. The deviation is 0 if there are too few others.
    """
    n_observed = (~np.isnan(ordered)).sum(axis=0)
    columns = np.arange(ordered.shape[1])
    low, middle, high = (
        ordered[np.clip(share * n_observed // 4, 0, len(ordered) - 1), columns]
        for share in (1, 2, 3)
    )
    spans = np.nan_to_num(high - low)
    for column in np.flatnonzero((low == middle) | (middle == high)).tolist():
        others = ordered[: n_observed[column], column]
        others = others[others != middle[column]]
        spans[column] = 0.0
        if len(others) >= _FEWEST:
            middle[column] = np.median(others)
            spans[column] = np.subtract(*np.quantile(others, [0.75, 0.25]))
    return middle, spans / _NORMAL_RANGE
