"""Rows of a model as the frames that `set_output` asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils._set_output import _get_output_config

from skae._data.columns import Column, Columns, package_of
from skae.likelihoods import Likelihood

_Method = TypeVar("_Method", bound=Callable[..., Any])

# Dtypes of numbers in lower case, as pandas has them, and their names in polars.
_IN_POLARS = {
    "float32": "Float32",
    "float64": "Float64",
    "bool": "Boolean",
    **{f"int{bits}": f"Int{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UInt{bits}" for bits in (8, 16, 32, 64)},
}


def configured_package(estimator: Any) -> str:
    """Return what `set_output` says, or the configuration of scikit-learn.

    It is "default", "pandas" or "polars".
    """
    package: str = _get_output_config("transform", estimator)["dense"]
    return package


def dtypes_of(X: Any) -> tuple[str, ...] | None:
    """Return the dtypes of the columns of a frame; None for what is no frame."""
    return None if package_of(X) is None else tuple(map(str, X.dtypes))


def in_output(content: str) -> Callable[[_Method], _Method]:
    """Let a method of a model of named columns return the frames of `set_output`.

    The method has rows as its first argument, and returns an array ``(n, n_columns)``, or a
    table. ``content`` says of what: "means" have the dtypes of the training data, "filled"
    rows those of the first argument, and "scores" are float64. Several filled tables
    ``(m, n, n_columns)`` become a list. Of several results, the first is such an array.
    Tensors stay tensors.
    """

    def decorator(method: _Method) -> _Method:
        @wraps(method)
        def wrapped(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
            result = method(self, X, *args, **kwargs)
            package = configured_package(self)
            if package == "default" or getattr(self, "feature_names_in_", None) is None:
                return result
            if isinstance(result, tuple):
                return _framed(self, X, result[0], package, content), *result[1:]
            if isinstance(result, list) or np.ndim(result) == 3:
                if not isinstance(result, (list, np.ndarray)):
                    return result
                return [
                    _framed(self, X, table, package, content, is_whole=True)
                    for table in result
                ]
            return _framed(self, X, result, package, content)

        return cast(_Method, wrapped)

    return decorator


def _framed(
    model: Any, X: Any, table: Any, package: str, content: str, *, is_whole: bool = False
) -> Any:
    """Return rows of a model as a frame, with the index of X if both are of pandas.

    See `in_output`; a tensor is returned as it is.
    """
    if not (isinstance(table, np.ndarray) or package_of(table)):
        return table
    dtypes = None
    if content == "means":
        dtypes = model._table.dtypes
    elif content == "filled":
        dtypes = dtypes_of(X)
        if dtypes is None and isinstance(table, np.ndarray):
            dtypes = (str(table.dtype),) * table.shape[1]
    names, likelihood = model.feature_names_in_, model._table.likelihood
    frame = as_frame(table, package, names, dtypes, likelihood, is_whole=is_whole)
    if package == "pandas" and package_of(X) == "pandas":
        frame.index = X.index
    return frame


def as_frame(
    drawn: Any,
    package: str,
    names: Sequence[str] | None,
    dtypes: Sequence[str] | None,
    likelihood: Likelihood,
    *,
    is_whole: bool,
) -> Any:
    """Return rows ``(n, d)`` of a model as a frame of "pandas" or "polars".

    ``names`` are those of the columns, by default x0, x1, ... ``dtypes`` are those of the
    frame of the fit, if there was one. Integers and flags are such only if the likelihood
    draws such, and the rows are draws, not means (``is_whole``). Raises ImportError if the
    package is not installed.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise ImportError(
            f"set_output(transform={package!r}) needs {package}: install it with: "
            f"pip install 'skae[{package}]'"
        ) from error
    if package_of(drawn) == package:
        return drawn
    if package_of(drawn) is not None:
        columns = {str(name): drawn[name].to_list() for name in drawn.columns}
        return _new_frame(columns, package)
    d = drawn.shape[1]
    names = [f"x{j}" for j in range(d)] if names is None else [str(name) for name in names]
    if drawn.dtype.kind != "f":
        # A table of several kinds of columns, or of categories, that was no frame.
        return _new_frame(dict(zip(names, drawn.T.tolist(), strict=True)), package)
    dtypes = ["float64"] * d if dtypes is None else dtypes
    is_whole = is_whole and likelihood.support in ("nonnegative_integer", "boolean")
    columns_of_numbers = tuple(
        _column(j, dtype, package, is_whole=is_whole) for j, dtype in enumerate(dtypes)
    )
    return Columns(columns_of_numbers, d, tuple(names), package).decode(drawn)


def scores_as_table(scores: np.ndarray, columns: Columns, like: Any) -> Any:
    """Return scores of columns ``(n, n_columns)`` as a table like that of the fit.

    It is a frame if the fit had one, with its names and the index of ``like``, a pandas
    frame.
    """
    package = columns.package or ""
    numbers = tuple(
        _column(j, "float64", package, is_whole=False) for j in range(scores.shape[1])
    )
    return replace(columns, columns=numbers, n_features=len(numbers)).decode(scores, like)


def with_numbers(table: Any, numbers: np.ndarray) -> Any:
    """Return numbers ``(n, d)`` with the names and index of a frame; else as they are."""
    package = package_of(table)
    if package == "pandas":
        return type(table)(numbers, index=table.index, columns=table.columns)
    return type(table)(numbers, schema=table.columns) if package else numbers


def named_frame(rows: Any, names: Sequence[str], package: str | None) -> Any:
    """Return rows ``(n, d)`` as a frame of a package, whose frame was passed to a fit.

    They stay as they are without a package.
    """
    if package is None:
        return rows
    values, library = np.asarray(rows), import_module(package)
    if package == "pandas":
        return library.DataFrame(values, columns=names)
    if values.dtype.kind != "O":
        return library.DataFrame(values, schema=names)
    # A column of polars has one type: numbers and strings together are objects.
    columns = zip(names, values.T.tolist(), strict=True)
    return library.DataFrame([library.Series(*c, dtype=library.Object) for c in columns])


def _column(j: int, dtype: str, package: str, *, is_whole: bool) -> Column:
    """Return how feature j becomes a column with the dtype of the fit, where it can."""
    plain = dtype.lower().replace("boolean", "bool")
    is_flag, is_integer = plain == "bool", plain.startswith(("int", "uint"))
    if plain not in _IN_POLARS or ((is_flag or is_integer) and not is_whole):
        plain = dtype = "float64"
        is_flag = is_integer = False
    is_of_pandas = dtype in _IN_POLARS or dtype == "boolean"
    if package == "polars":
        dtype = _IN_POLARS[plain]
    elif not is_of_pandas:
        # Int64 may be a dtype of polars, or the one of pandas that has missing values, of
        # which draws have none.
        dtype = plain
    return Column(
        kind="flag" if is_flag else "number",
        features=slice(j, j + 1),
        position=j,
        is_integer=is_integer,
        dtype=dtype,
        categories=(False, True) if is_flag else (),
    )


def _new_frame(columns: dict[str, list[Any]], package: str) -> Any:
    """Return a frame of columns of values, whose dtypes its package finds out."""
    if package == "pandas":
        import pandas as pd  # set_output named it

        return pd.DataFrame(columns)
    import polars as pl  # set_output named it

    return pl.DataFrame(columns)
