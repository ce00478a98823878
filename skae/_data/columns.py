"""The columns of a table as numbers, and back: flags, categories, integers, numbers."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Number
from typing import Any

import numpy as np

from skae._utils.column_errors import shortened
from skae._utils.messages import tell_search, warn_user

# Dtypes of integers whose range numpy knows.
_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
# Types of dates, times and durations.
_TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
# Values that a message about unknown ones shows.
_MOST_SHOWN = 5


@dataclass(frozen=True)
class Column:
    """How one column of a table becomes features of a model.

    Attributes
    ----------
    kind : {"number", "flag", "category", "one_hot"}
        A number is one feature. A flag, one of two values, is a feature 0 or 1. A category
        is a one-hot vector. Columns of the kind "one_hot" are such a vector together.
    features : slice
        Its features; of a column "one_hot", those of the whole vector.
    position : int
        The first of its own features.
    is_integer : bool
        Whether numbers are rounded on the way back.
    dtype : str
        Dtype of the column, as its package prints it.
    categories : tuple
        Values of a flag or a category, in order.
    is_ordered : bool
        Whether it is an ordered category of pandas.
    takes_unknown : bool
        Whether an unknown value is missing; else it is an error.
    remedy : str
        What to do in order that an unknown value is missing, for the message of the error.
    """

    kind: str
    features: slice
    position: int
    is_integer: bool
    dtype: str
    categories: tuple[Any, ...] = ()
    is_ordered: bool = False
    takes_unknown: bool = False
    remedy: str = "set handle_unknown='ignore' of its likelihood"

    @property
    def width(self) -> int:
        """Number of features of its own."""
        return len(self.categories) if self.kind == "category" else 1

    def encode(self, values: np.ndarray, name: str) -> np.ndarray:
        """Encode values ``(n,)`` of :func:`read_column` as features ``(n, width)``.

        Raises ValueError for a value that is not known, or no number.
        """
        if not self.categories:
            return numbers_of(values, name)[:, None]
        codes = {category: code for code, category in enumerate(self.categories)}
        found = [_code(codes, value) for value in values]
        unknown = {str(values[i]) for i, code in enumerate(found) if code == -2}
        if unknown and not self.takes_unknown:
            shown = ", ".join(map(repr, sorted(unknown)[:_MOST_SHOWN]))
            message = (
                f"Found unknown values in {name} that the training data do not have: "
                f"{shown}. To take them as missing, {self.remedy}."
            )
            if self.kind == "category":
                message += (
                    " If the categories are known beforehand, the dtype of a frame can "
                    "declare all of them to fit: astype(pandas.CategoricalDtype([...]))."
                )
            tell_search(f"{message} Without that, such a fold has no score.")
            raise ValueError(message)
        code = np.array(found)
        if self.kind == "flag":
            return np.where(code < 0, np.nan, code.astype(np.float64))[:, None]
        one_hot = (code[:, None] == np.arange(len(self.categories))).astype(np.float64)
        one_hot[code < 0] = np.nan
        return one_hot

    def decode(self, features: np.ndarray) -> np.ndarray:
        """Return the values ``(n,)`` that belong to all features ``(n, d)`` of a model.

        Of probabilities, the most probable value is returned.
        """
        own = features[:, self.features]
        if self.kind == "category":
            return _array_of(self.categories)[own.argmax(axis=1)]
        if self.kind == "one_hot":
            is_largest = own.argmax(axis=1) == self.position - self.features.start
            return is_largest.astype(np.float64)
        if self.kind == "flag":
            return _array_of(self.categories)[(own[:, 0] >= 0.5).astype(np.int64)]
        if not self.is_integer:
            limit = np.finfo(np.float32 if self.dtype.lower() == "float32" else float).max
            return own[:, 0].clip(-limit, limit)
        # Draws may be beyond the range of the dtype.
        return np.rint(own[:, 0]).clip(*self.limits)

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest number that a dtype of integers can hold."""
        kind = self.dtype.lower()
        if kind not in _INTEGERS:
            return -np.inf, np.inf
        smallest, largest = np.iinfo(kind).min, float(np.iinfo(kind).max)
        # The largest float64 that an integer of 64 bits can hold is below its maximum.
        return smallest, np.nextafter(largest, 0) if largest > 2**53 else largest


@dataclass(frozen=True)
class Columns:
    """The columns of a table, in its order.

    Attributes
    ----------
    columns : tuple of Column
        Each column.
    n_features : int
        Number of features of the model.
    names : tuple or None
        Names of the columns, if the table had names.
    package : {"pandas", "polars"} or None
        The package of the table; None for an array.
    """

    columns: tuple[Column, ...]
    n_features: int
    names: tuple[Any, ...] | None
    package: str | None

    def encode(self, X: Any, *, takes_unknown: bool = False) -> np.ndarray:
        """Encode a table as features ``(n, n_features)``; NaN is missing.

        They are float32 for an array of float32, else float64.
        """
        parts = []
        for i, column in enumerate(self.columns):
            if takes_unknown:
                column = replace(column, takes_unknown=True)
            parts.append(column.encode(read_column(X, i), self.name(i)))
        is_single = getattr(X, "dtype", None) == np.float32 or self._is_single
        dtype = np.float32 if is_single else np.float64
        result = np.empty((len(parts[0]), self.n_features), dtype=dtype)
        for column, values in zip(self.columns, parts, strict=True):
            result[:, column.position : column.position + column.width] = values
        return result

    @property
    def _is_single(self) -> bool:
        """Whether all columns of a frame that are no integers or categories are float32."""
        floats = {c.dtype.lower() for c in self.columns if c.dtype.lower()[:5] == "float"}
        return self.package is not None and floats == {"float32"}

    def name(self, i: int) -> str:
        """Return the name of a column for a message."""
        return f"column {i}" if self.names is None else f"column {self.names[i]!r}"

    def feature_names(self) -> list[str]:
        """Return a name for each feature, for messages: of a column, and its category."""
        names = [""] * self.n_features
        for i, column in enumerate(self.columns):
            name = str(i if self.names is None else self.names[i])
            for j in range(column.width):
                own = f"{name}_{column.categories[j]}" if column.width > 1 else name
                names[column.position + j] = own
        return names

    def sum_features(self, values: np.ndarray) -> np.ndarray:
        """Sum values ``(n, n_features)`` over the features of each column."""
        slices = [slice(c.position, c.position + c.width) for c in self.columns]
        return np.stack([values[:, s].sum(axis=1) for s in slices], axis=1)

    def codes(self, X: Any) -> np.ndarray:
        """Return the position of each entry among the values of its column, int.

        The result, ``(n, n_columns)``, is -1 for numbers, and for what is missing or not
        known. The values of a one-hot column are 0 and 1.
        """
        features = self.encode(X, takes_unknown=True)
        codes = np.full((len(features), len(self.columns)), -1)
        for i, column in enumerate(self.columns):
            if column.kind == "number":
                continue
            own = features[:, column.position : column.position + column.width]
            is_known = ~np.isnan(own[:, 0])
            found = own[is_known]
            is_category = column.kind == "category"
            codes[is_known, i] = found.argmax(axis=1) if is_category else found[:, 0]
        return codes

    def decode(self, features: np.ndarray, like: Any = None) -> Any:
        """Return the table that belongs to features ``(n, n_features)``.

        It has the type and the dtypes of the training data, and the index of ``like``, a
        pandas frame. Integers beyond the range of their dtype are clipped, with a warning.
        """
        self._warn_of_clipped(features)
        return self._assemble([c.decode(features) for c in self.columns], like)

    def _warn_of_clipped(self, features: np.ndarray) -> None:
        """Warn of integers among features ``(n, d)`` that their dtype cannot hold."""
        clipped = []
        for i, column in enumerate(self.columns):
            if column.is_integer:
                values, (low, high) = np.rint(features[:, column.position]), column.limits
                n_beyond = int(((values < low) | (values > high)).sum())
                text = f"{n_beyond:,} of {len(values):,} values of {self.name(i)}, from "
                text += f"{low:.6g} to {high:.6g}"
                clipped += [text] if n_beyond else []
        if clipped:
            warn_user(
                "The integer dtype of the training data cannot hold all values that the "
                "model returns, which are clipped to its range, so that its limits are too "
                f"frequent: {shortened(clipped)}. If the quantity itself has other limits, "
                "convert such columns to a wider dtype before the fit, such as int32."
            )

    def fill(self, X: Any, features: np.ndarray) -> Any:
        """Return a table whose missing entries are filled from features of its rows."""
        values = []
        for i, column in enumerate(self.columns):
            given, filled = read_column(X, i), column.decode(features)
            missing = np.isnan(column.encode(given, self.name(i))[:, 0])
            if given.dtype.kind != "O" and not missing.any():
                filled = given  # integers that float64 cannot hold, too
            elif given.dtype.kind == "f":
                filled = np.where(missing, filled, given)
            values.append(filled)
        return self._assemble(values, X)

    def _assemble(self, values: Sequence[np.ndarray], like: Any) -> Any:
        """Return the table of columns of values, each ``(n,)``; see :meth:`decode`."""
        if self.package == "pandas":
            return _pandas_frame(self, values, like)
        if self.package == "polars":
            return _polars_frame(self, values)
        if all(column.dtype.startswith(("int", "uint")) for column in self.columns):
            return np.column_stack(values).astype(self.columns[0].dtype)
        kinds = {value.dtype.kind for value in values}
        if kinds <= set("fiu"):
            return np.column_stack([value.astype(np.float64) for value in values])
        if kinds == {"b"}:
            return np.column_stack(values)
        return np.column_stack([value.astype(object) for value in values])


def read_column(X: Any, i: int) -> np.ndarray:
    """Return a column of a table as numbers, booleans or objects ``(n,)``.

    What is missing is NaN among numbers, and None among objects.
    """
    values = np.asarray(column_of(X, i))
    if values.dtype.kind in "fiub":
        return values
    name = repr(name_of(X, i))
    listed = [None if is_missing(v) else v for v in values]
    known = [v for v in listed if v is not None]
    if values.dtype.kind in "mM" or any(map(_is_time, known)):
        raise ValueError(
            f"Column {name} has dates or durations: convert them to numbers, for example "
            "dates to the days since a reference date, (dates - reference) / "
            "np.timedelta64(1, 'D'). Convert periods to dates first, by dt.to_timestamp(). "
            "Give whole days the likelihood 'gaussian', because \"auto\" may take them as "
            "counts."
        )
    if values.dtype.kind == "c" or any(isinstance(v, complex) for v in known):
        raise ValueError(f"Complex data not supported: column {name}.")
    if any(isinstance(v, (list, dict, set, np.ndarray)) for v in known):
        raise ValueError(f"Column {name} has lists or other containers as values.")
    values = np.array([*listed, None], dtype=object)[:-1]
    is_number = [
        isinstance(v, Number) and not isinstance(v, (bool, np.bool_)) for v in known
    ]
    if all(is_number):
        return np.array([np.nan if v is None else float(v) for v in values])
    return values


def missing_entries(X: Any) -> np.ndarray:
    """Return which entries of a table ``(n, d)`` are missing, also in refused columns."""
    missing = []
    for i in range(X.shape[1]):
        values = np.asarray(column_of(X, i))
        if values.dtype.kind == "f":
            missing.append(np.isnan(values))
        elif values.dtype.kind == "O":
            missing.append(np.array([is_missing(v) for v in values], bool))
        else:
            missing.append(np.zeros(len(values), bool))
    return np.column_stack(missing)


def numbers_of(values: np.ndarray, name: str) -> np.ndarray:
    """Return values ``(n,)`` of :func:`read_column` as float64, or raise ValueError."""
    if values.dtype.kind in "fiub":
        return values.astype(np.float64)
    try:
        return np.array([np.nan if v is None else float(v) for v in values])
    except (TypeError, ValueError):
        text = next(v for v in values if v is not None and not _is_numeric(v))
        raise ValueError(
            f"{name[0].upper()}{name[1:]} has values that are no numbers, such as "
            f"{text!r}. Give it the likelihood 'categorical', or convert it."
        ) from None


def _is_time(value: Any) -> bool:
    """Whether a value is a date, a time, a duration or a period of pandas."""
    return isinstance(value, _TIMES) or hasattr(value, "start_time")


def _is_numeric(value: Any) -> bool:
    """Whether a value can be converted to a float."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def categories_of(values: np.ndarray, column: Any) -> tuple[tuple[Any, ...], bool]:
    """Return the categories of a column in order, and whether pandas orders them.

    They are those of its dtype if it has some, else the sorted different values.
    """
    dtype = getattr(column, "dtype", None)
    declared = getattr(dtype, "categories", None)
    present = {v for v in values.tolist() if not is_missing(v)}
    # Those of polars' Categorical are of all columns of a process.
    if present and (hasattr(declared, "tolist") or hasattr(declared, "to_list")):
        # Also those without a row: other data may have them.
        return tuple(_plain(declared)), bool(getattr(dtype, "ordered", False))
    try:
        ordered = sorted(present)
    except TypeError:  # values of several types, such as strings and numbers
        ordered = sorted(present, key=lambda v: (type(v).__name__, v))
    return tuple(ordered), False


def package_of(X: Any) -> str | None:
    """Return the package of a table: "pandas", "polars" or None for an array."""
    root = type(X).__module__.partition(".")[0]
    return root if root in ("pandas", "polars") else None


def column_of(X: Any, i: int) -> Any:
    """Return column i of a table ``(n,)`` as it is."""
    package = package_of(X)
    if package == "polars":
        # scikit-learn's way lists the names of all columns.
        return X.to_series(i)
    return X.iloc[:, i] if package else X[:, i]


def name_of(X: Any, i: int) -> Any:
    """Return the name of column i of a frame, as Python's own value, or i of an array."""
    return i if package_of(X) is None else next(iter(X.columns[i : i + 1]))


def _plain(values: Any) -> list[Any]:
    """Return an index or a series as a list of Python's own values."""
    return list(values.tolist() if hasattr(values, "tolist") else values.to_list())


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or pandas' NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _code(codes: dict[Any, int], value: Any) -> int:
    """Return the code of a value, -1 if it is missing, or -2 if it is unknown."""
    return -1 if is_missing(value) else codes.get(value, -2)


def _array_of(categories: tuple[Any, ...]) -> np.ndarray:
    """Return categories as an array: of numbers or booleans if they are, else objects."""
    array = np.array(categories)
    if array.dtype.kind in "fiub" and len({type(c) for c in categories}) == 1:
        return array
    return np.array([*categories, None], dtype=object)[:-1]


def _pandas_frame(columns: Columns, values: Sequence[np.ndarray], like: Any) -> Any:
    """Return a frame of pandas with the dtypes of the training data."""
    import pandas as pd  # its frame was passed to fit

    series = []
    for column, value in zip(columns.columns, values, strict=True):
        if column.dtype == "category":
            dtype = pd.CategoricalDtype(list(column.categories), column.is_ordered)
            series.append(pd.Series(pd.Categorical(value, dtype=dtype)))
        else:
            # Python's decimals are objects, which a column of floats cannot become again.
            is_object = column.kind == "number" and column.dtype == "object"
            series.append(pd.Series(value).astype("float64" if is_object else column.dtype))
    frame = pd.concat(series, axis=1)
    names = range(len(series)) if columns.names is None else columns.names
    frame.columns = pd.Index(list(names))
    if package_of(like) == "pandas":
        frame.index = like.index
    return frame


def _polars_frame(columns: Columns, values: Sequence[np.ndarray]) -> Any:
    """Return a frame of polars with the dtypes of the training data."""
    import polars as pl  # its frame was passed to fit

    series = []
    for i, (column, value) in enumerate(zip(columns.columns, values, strict=True)):
        name = columns.names[i] if columns.names is not None else f"column_{i}"
        kind, _, _ = column.dtype.partition("(")
        dtype = getattr(pl, kind)
        if kind == "Enum":
            dtype = pl.Enum(list(column.categories))
        elif kind == "Decimal":
            dtype = pl.Float64
        series.append(pl.Series(name, value.tolist()).cast(dtype))
    return pl.DataFrame(series)
