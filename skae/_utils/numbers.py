"""What counts as a number of a user, alone or in an array."""

import datetime
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar

from skae._utils.column_errors import shortened
from skae._utils.compat import check_sample_weight

# Arguments whose columns can be encoded or imputed.
_TABLES = ("X", "X_val")
# A table, or what becomes one, has one of them; a generator or a loader has none.
_OF_TABLES = ("shape", "__getitem__", "__array__", "__dlpack__", "__dataframe__")
_DATES = (datetime.date, np.datetime64)
_DURATIONS = (datetime.timedelta, np.timedelta64)
_ADVICE = {
    "strings": (
        "Encode categories as numbers, with OrdinalEncoder or OneHotEncoder (for some "
        "columns only: in a ColumnTransformer), and convert strings of numbers with "
        "astype(float), or while reading: pandas.read_csv(decimal=',', thousands='.'). "
        "Dates as strings: pandas.to_datetime, and then the days since a reference date."
    ),
    "durations": (
        "Convert durations to numbers, for example to days: durations / "
        "np.timedelta64(1, 'D')."
    ),
    "dates": (
        "Convert dates to numbers, for example to the days since a reference date: "
        "(dates - reference) / np.timedelta64(1, 'D'). Convert periods to dates first, by "
        "dt.to_timestamp()."
    ),
}


def is_integer(value: Any) -> bool:
    """Whether a value is an integer; a bool is none."""
    return isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))


def is_positive_integer(value: Any) -> bool:
    """Whether a value is an integer above 0; a bool is none."""
    return is_integer(value) and int(value) > 0


def check_count(value: Any, name: str) -> None:
    """Raise TypeError if an argument is no integer, and ValueError if it is below 1."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an instance of int, not bool.")
    check_scalar(value, name, Integral, min_val=1)


def check_table(X: Any, name: str = "X") -> None:
    """Raise TypeError or ValueError for what is no table at all.

    That is None, a frame that is not computed yet or has two columns of one name, a column
    of a frame, records, a table together with its target, a dict, and blocks of rows that
    come one after the other.
    """
    if X is None:
        raise ValueError(
            f"Expected 2D array, got None instead: {name} must be a table of shape "
            "(n_samples, n_features)."
        )
    _check_computed(X, name)
    if isinstance(X, dict) and not hasattr(X, "shape"):  # not one of SciPy
        raise TypeError(f"{name} is a dict, but must be a table: pass pandas.DataFrame(X).")
    if not any(hasattr(X, attribute) for attribute in _OF_TABLES) and hasattr(
        X, "__iter__"
    ):
        raise TypeError(
            f"{name} must be a table, but is an iterator or a collection of the type "
            f"{type(X).__name__}. Join its rows to one table. An autoencoder is also "
            "trained by one block of rows after the other: for block in X: "
            "model.partial_fit(block)."
        )
    if isinstance(X, (list, tuple)):
        _check_list(X, name)
    elif type(X).__module__.partition(".")[0] in ("pandas", "polars"):
        if not hasattr(X, "columns"):
            # The words of scikit-learn.
            raise ValueError(
                f"Expected a 2-dimensional container but got {type(X)} instead: {name} "
                "must be a table. Of one column, pass a DataFrame, such as "
                "X[['name']] of pandas; of one row, X.iloc[[0]]."
            )
        _check_names(list(X.columns), name)


def check_codes(Z: np.ndarray) -> None:
    """Raise ValueError if codes ``(n, k)`` have NaN or infinities."""
    is_bad = ~np.isfinite(Z)
    if is_bad.any():
        row, column = np.argwhere(is_bad)[0]
        kind = "NaN" if np.isnan(Z[row, column]) else "infinity"
        raise ValueError(
            f"Input X contains {kind}, in {is_bad.any(axis=1).sum()} of {len(Z)} rows, "
            f"first in row {row}, column {column}. inverse_transform needs finite codes, "
            "as transform returns them, also for rows with missing values."
        )


def _check_list(X: Sequence[Any], name: str) -> None:
    """Raise ValueError for a list of records, and for a table together with a target."""
    if len(X) and isinstance(X[0], dict):
        raise ValueError(
            f"{name} is a list of dicts, but must be a table: pass "
            f"pandas.DataFrame({name})."
        )
    dimensions = [getattr(part, "ndim", None) for part in X[:2]]
    if len(X) == 2 and dimensions[0] == 2 and (dimensions[1] != 2 or type(X) is tuple):
        raise ValueError(
            f"{name} is a pair, of which the first is a table: pass the table alone, "
            "without y."
        )


def _check_names(columns: list[Any], name: str) -> None:
    """Raise ValueError if two columns of a frame have one name."""
    if len(set(columns)) == len(columns):
        return
    counts = Counter(columns)
    twice = [f"{column!r} ({n} times)" for column, n in counts.items() if n > 1]
    raise ValueError(
        f"{name} has several columns of one name: {shortened(twice)}. Rename them, "
        "or keep the first of each: X.loc[:, ~X.columns.duplicated()]."
    )


def _check_computed(X: Any, name: str) -> None:
    """Raise TypeError for a frame that is not computed yet."""
    if type(X).__name__ == "LazyFrame" and hasattr(X, "collect"):
        raise TypeError(
            f"{name} is a LazyFrame of polars, whose values are not computed yet: call "
            "collect() first."
        )


def as_numbers(X: Any, name: str = "X", advice: str = "") -> Any:
    """Return data of a user as they are, or raise ValueError if they are no numbers.

    Refused are strings, also those of numbers, and dates. All other checks are
    scikit-learn's. A list becomes an array, and a masked array a plain one. Masked entries,
    and pandas' NA among objects, become NaN, which the caller has to allow; other arguments
    than tables must have none. The error about strings in a table begins with the advice.
    """
    if name in _TABLES:
        _check_computed(X, name)
    if isinstance(X, (list, tuple)):
        rows = X
        n_masked = sum(_n_masked(row) for row in X)
        X = np.ma.stack(X) if n_masked else np.asarray(X)
        if isinstance(X, np.ndarray) and X.dtype.kind in "US":
            # One string makes strings of all numbers beside it.
            X = np.asarray(rows, dtype=object)
    else:
        n_masked = _n_masked(X)
    if n_masked and name not in (*_TABLES, "given"):
        raise ValueError(
            f"{name} is a masked array with {n_masked} masked entries: the values under "
            "the mask would be used. Fill the entries."
        )
    if n_masked and X.dtype.kind in "biuf":
        dtype = np.float32 if X.dtype == np.float32 else np.float64
        X = X.astype(dtype).filled(np.nan)
    elif n_masked:
        X = X.astype(object).filled(np.nan)
    elif isinstance(X, np.ma.MaskedArray):
        X = X.data
    if isinstance(X, str):
        raise ValueError(f"{name} must hold numbers, but is the string {X!r}.")
    found: dict[str, list[tuple[str, Any]]] = {}
    for column, values in _doubtful_columns(X):
        kind, example = _kind_of(values)
        if kind:
            found.setdefault(kind, []).append((column, example))
    if found:
        raise ValueError(" ".join(_message(name, *item, advice) for item in found.items()))
    if _has_missing_objects(X):
        # NumPy does not convert pandas' NA.
        X = X.mask(X.isna(), np.nan)
    elif isinstance(X, np.ndarray) and X.dtype.kind == "O" and "pandas" in sys.modules:
        is_missing = sys.modules["pandas"].isna(X)
        if is_missing.any():
            X = np.where(is_missing, np.nan, X)
    return X


def _has_missing_objects(X: Any) -> bool:
    """Whether a column of objects of a pandas frame has NA or None."""
    if not (hasattr(X, "iloc") and hasattr(X, "columns")):
        return False
    return any(
        isinstance(dtype, np.dtype) and dtype.kind == "O" and X.iloc[:, i].isna().any()
        for i, dtype in enumerate(X.dtypes)
    )


def weighted_mean(scores: np.ndarray, sample_weight: ArrayLike | None) -> float:
    """Return the mean of scores ``(n,)`` in float64, with weights ``(n,)`` of a user.

    It is finite. Raises ValueError for weights that are no numbers, negative or all zero.
    """
    scores = scores.astype(np.float64)
    weight = checked_weight(sample_weight, scores)
    # Relative weights, because the sum of large ones overflows.
    _, exponent = np.frexp(weight.max())
    weight = np.ldexp(weight, -exponent)
    with np.errstate(over="ignore"):
        score = float(np.average(scores, weights=weight))
        if not np.isfinite(score):
            score = float(np.sum(scores * (weight / weight.sum())))
    return max(score, float(np.finfo(np.float64).min))


def checked_weight(sample_weight: ArrayLike | None, rows: np.ndarray) -> np.ndarray:
    """Return the weights ``(n,)`` that a user gave for some rows ``(n, ...)``.

    Raises ValueError for weights that are no numbers, negative or all zero.
    """
    return check_sample_weight(
        as_numbers(sample_weight, "sample_weight"),
        rows,
        ensure_non_negative=True,
        allow_all_zero_weights=False,
    )


def _n_masked(X: Any) -> int:
    """Return the number of masked entries of a masked array; 0 for anything else."""
    return int(np.ma.getmaskarray(X).sum()) if isinstance(X, np.ma.MaskedArray) else 0


def _doubtful_columns(X: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and values ``(n,)`` of each column that may be no numbers."""
    if hasattr(X, "iloc") and hasattr(X, "columns"):  # pandas
        for i, (name, dtype) in enumerate(zip(X.columns, X.dtypes, strict=True)):
            if getattr(dtype, "kind", "O") in "biufc":
                continue
            categories = getattr(dtype, "categories", None)
            if categories is None or _is_doubtful(np.asarray(categories)):
                yield repr(name), np.asarray(X.iloc[:, i], dtype=object)
    elif hasattr(X, "get_columns"):  # polars
        for series in X.get_columns():
            if not series.dtype.is_numeric() and str(series.dtype) != "Boolean":
                yield repr(series.name), np.array([*series.to_list()], dtype=object)
    elif isinstance(X, np.ndarray) and X.dtype.kind in "OUSMm":
        if X.ndim == 1:
            yield "", X
        elif X.ndim == 2:
            yield from ((str(i), X[:, i]) for i in range(X.shape[1]))


def _is_doubtful(values: np.ndarray) -> bool:
    """Whether one of some values ``(n,)`` has a type that `_kind_of` looks for."""
    if values.dtype.kind != "O":
        return values.dtype.kind in "USMm"
    doubtful = (str, bytes, *_DURATIONS, *_DATES)
    # Many values have few types.
    types = set(map(type, values.tolist()))
    return any(issubclass(t, doubtful) or hasattr(t, "start_time") for t in types)


def _kind_of(values: np.ndarray) -> tuple[str, Any]:
    """Return what values ``(n,)`` are, a key of ``_ADVICE`` or "", and an example."""
    if not _is_doubtful(values):
        return "", None
    strings = [v for v in values if isinstance(v, (str, bytes))]
    if strings:
        return "strings", next((s for s in strings if not _is_number(s)), strings[0])
    for value in values:
        if isinstance(value, _DURATIONS):
            return "durations", value
        # A period of pandas is no date, but has one.
        if isinstance(value, _DATES) or hasattr(value, "start_time"):
            return "dates", value
    return "", None


def _is_number(string: str | bytes) -> bool:
    """Whether a string is that of a number."""
    try:
        float(string)
    except ValueError:
        return False
    return True


def _message(name: str, kind: str, columns: list[tuple[str, Any]], advice: str) -> str:
    """Return the message about columns, of names and examples, that hold one kind."""
    example = columns[0][1]
    reason = f"such as {str(example)!r}"
    if kind == "strings":
        words = [e for _, e in columns if not _is_number(e)]
        if words:
            reason = f"could not convert string to float: {str(words[0])!r}"
    if name not in _TABLES:
        return f"{name} holds {kind} ({reason}), but must hold numbers."
    what_to_do = _ADVICE[kind]
    if kind == "strings" and advice:
        what_to_do = f"{advice} Otherwise, {what_to_do[0].lower()}{what_to_do[1:]}"
    if not columns[0][0]:
        return f"{name} holds {kind} ({reason}). {what_to_do}"
    listed = shortened([column for column, _ in columns])
    noun = "column" if len(columns) == 1 else "columns"
    return f"{name} holds {kind} in {noun} {listed} ({reason}). {what_to_do}"
