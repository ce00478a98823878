"""Values that no row of a fit has, or no training row: what they add to a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._data.columns import Column, Columns, is_missing, read_column
from skae._utils.messages import no_warnings, warn_user

Scores = NDArray[np.float64]

# Observed values of which a half that is unknown means another dtype or spelling. Fewer
# rows may all have a new category.
_FEWEST_ROWS, _MOST_UNKNOWN = 10, 0.5
# Columns, and values of each, that a warning shows.
_MOST_SHOWN = 3


def parts_of(estimator: Any, rows: Any) -> Scores:
    """Return the part of each column in the score of each row, ``(n, d)``.

    The scores of the same rows have given their warnings.
    """
    with no_warnings("fit", "data"):
        return np.asarray(estimator.score_features(rows))


def warn_of_unknown(columns: Columns, X: Any, features: np.ndarray) -> None:
    """Warn of columns of X with hardly a known value, given its features ``(n, d)``."""
    parts = []
    for i, column in enumerate(columns.columns):
        # Only a column without a value in half of the rows is read once more.
        is_open = bool(column.categories) and column.takes_unknown
        if is_open and np.isnan(features[:, column.position]).mean() >= _MOST_UNKNOWN:
            text = _unknown_in(column, read_column(X, i).tolist())
            parts += [f"{columns.name(i)} ({text})"] if text else []
    if not parts:
        return
    n_more = len(parts) - _MOST_SHOWN
    more = [f"and {n_more} more column" + "s" * (n_more > 1)] if n_more > 0 else []
    warn_user(
        "X has columns with mostly values that the training data do not have: "
        f"{', '.join(parts[:_MOST_SHOWN] + more)}. If the dtype or the spelling of a "
        "column has changed, such as True to 'True', convert it to that of the training "
        "data. If the values are new, fit again with rows that have them."
    )


def _unknown_in(column: Column, values: Sequence[Any]) -> str:
    """Return which values ``(n,)`` are unknown, if these are too many; else ""."""
    observed = [value for value in values if not is_missing(value)]
    known = set(column.categories)
    unknown = [value for value in observed if value not in known]
    if not unknown or len(unknown) < _MOST_UNKNOWN * len(observed):
        return ""
    different = list(dict.fromkeys(unknown))
    spellings = {_plain(value) for value in known}
    is_respelled = all(_plain(value) in spellings for value in different)
    if len(observed) < _FEWEST_ROWS and not is_respelled:
        return ""
    return (
        f"{len(unknown):,} of {len(observed):,} values, such as {_some(different)}; the "
        f"training data have {_some(column.categories)}"
    )


def _plain(value: Any) -> str:
    """Return a value as a string without case, and without blanks at its ends."""
    return str(value).strip().casefold()


def _some(values: Sequence[Any]) -> str:
    """Return the first values as text."""
    listed = ", ".join(map(repr, values[:_MOST_SHOWN]))
    n_more = len(values) - _MOST_SHOWN
    return f"{listed} and {n_more:,} more" if n_more > 0 else listed


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

    The fit knows only that its own rows lack it. The share of the category in all rows
    takes the place of its probability; ``log_shares`` are those of
    :func:`log_shares_of_absent`.
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
