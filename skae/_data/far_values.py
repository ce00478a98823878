"""Values so far from the others that they decide the deviation of their column."""

from dataclasses import dataclass

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
# Most rows with errors that differ, and with one code for what is missing, as shares.
_MOST_ERRORS, _MOST_WITH_CODE = 0.01, 0.5
# Rows that are enough to measure the middle half.
_ROWS = 256
# Interquartile range of a normal density in standard deviations.
_NORMAL_RANGE = 1.349
# Fewest values of a column, most of whose values are equal, beside these.
_FEWEST = 16


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


def find_far_values(rows: Rows, std: np.ndarray) -> list[FarValue]:
    """Return the farthest value of each column whose deviation ``(d,)`` few values decide.

    Only such columns are read as a whole. Sparse data, most of which are 0, have none.
    """
    if issparse(rows.X):
        return []
    some = rows.subsample(_ROWS).block().astype(np.float64)
    (centres, spans), found = _middle_half(some), []
    for column in np.flatnonzero((spans > 0) & (spans < std / _FAR)).tolist():
        values = rows.X[rows.index, column].astype(np.float64)
        distance = np.abs(values - centres[column]) / spans[column]
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


def _middle_half(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return median and robust deviation of each column of rows ``(m, d)``, ``(d,)`` each.

    A value that a quarter of the rows or more have, such as 0 for no amount, is left out.
    The deviation is 0 if there are too few others.
    """
    ordered = np.sort(some, axis=0)  # NaN is sorted to the end
    n_observed = (~np.isnan(ordered)).sum(axis=0)
    columns = np.arange(some.shape[1])
    low, middle, high = (
        ordered[np.clip(share * n_observed // 4, 0, len(some) - 1), columns]
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
