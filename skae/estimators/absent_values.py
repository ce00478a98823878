"""What values add to a score that no row of a fit has, or no training row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data.columns import Columns

Scores = NDArray[np.float64]


def parts_of(estimator: Any, rows: Any) -> Scores:
    """Return the part of each column in the score of each row, ``(n, d)``."""
    return np.asarray(estimator.score_features(rows))


def encoded_columns(estimator: Any) -> Columns | None:
    """Return the columns of a fitted estimator that are no plain numbers, or None."""
    table = getattr(estimator, "_table", None)
    return None if table is None else table.columns


def log_shares_of_absent(
    estimator: Any, rows: Any, support: NDArray[np.bool_]
) -> list[Scores]:
    """Return the log of the share of each value of each column that the support lacks.

    Each array is ``(n_values + 1,)``, with NaN for all other values and for the code -1.
    Each value counts half a row more, as at the start of a fit.
    """
    columns = encoded_columns(estimator)
    if columns is None:
        return []
    found = []
    for column, code in zip(columns.columns, columns.codes(rows).T, strict=True):
        n_values = 2 if column.kind == "one_hot" else len(column.categories)
        count = np.bincount(code[code >= 0], minlength=n_values)
        used = np.bincount(code[support & (code >= 0)], minlength=n_values)
        share = np.log((count + 0.5) / (count.sum() + 0.5 * max(n_values, 1)))
        is_absent = used == 0
        if column.kind == "one_hot":
            is_absent[0] = False  # a 0 has no part in the score
        found.append(np.append(np.where(is_absent, share, np.nan), np.nan))
    return found


def parts_of_absent(
    estimator: Any, rows: Any, log_shares: Sequence[Scores]
) -> Scores | None:
    """Return what entries add whose category no row of a fit has, ``(n, d)``, or None.

    The fit has pushed their probability towards 0 without limit. The share of the category
    in all rows takes its place; ``log_shares`` are those of :func:`log_shares_of_absent`.
    """
    columns = encoded_columns(estimator)
    if columns is None or all(np.isnan(shares).all() for shares in log_shares):
        return None
    codes = columns.codes(rows)
    pairs = zip(log_shares, codes.T, strict=True)
    shares = np.column_stack([shares[code] for shares, code in pairs])
    is_absent = ~np.isnan(shares)
    if not is_absent.any():
        return None
    return np.where(is_absent, shares - parts_of(estimator, rows), 0.0)


def log_share_of_unknown(estimator: Any, missing: NDArray[np.bool_]) -> Scores:
    """Return the log of the share of half a row of one more value of each column, ``(d,)``.

    It is infinite for an estimator without categories.
    """
    columns = encoded_columns(estimator)
    if columns is None:
        return np.full(missing.shape[1], np.inf)
    n_values = np.array([len(column.categories) for column in columns.columns])
    share: Scores = np.log(0.5 / ((~missing).sum(axis=0) + 0.5 * (n_values + 1)))
    return share
