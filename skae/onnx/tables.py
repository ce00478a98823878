"""Operators between the columns of a table and the features of a model, in float64."""

import numpy as np

from skae._data.columns import Columns
from skae.onnx.graph import BOOL, DOUBLE, FLOAT, Graph


def add_features(graph: Graph, columns: Columns | None, x: str) -> str:
    """Add the features ``(n, d)`` of a table ``(n, n_columns)``; return their name.

    Raises ValueError for a column whose values are no numbers.
    """
    if columns is None:
        return x
    parts = []
    for i, column in sorted(enumerate(columns.columns), key=lambda c: c[1].position):
        own = graph.columns(x, i, i + 1)
        if column.categories:
            own = _one_hot(graph, _inputs(columns, i), own)
        parts.append(graph.columns(own, 1, 2) if column.kind == "flag" else own)
    return graph.join(parts)


def add_table(graph: Graph, columns: Columns | None, features: str) -> str:
    """Add the table that belongs to features ``(n, d)``; return its name.

    Raises ValueError for a column whose values are no numbers.
    """
    if columns is None:
        return features
    return graph.join(
        [_column(graph, columns, i, features) for i in range(len(columns.columns))]
    )


def _values(columns: Columns, i: int) -> np.ndarray:
    """Return the values of a flag or a category, ``(n_values,)``."""
    values = np.array(columns.columns[i].categories)
    if values.dtype.kind not in "fiub":
        raise ValueError(
            f"{columns.name(i)} has values that are no numbers, such as "
            f"{columns.columns[i].categories[0]!r}. A table of a model in ONNX is one "
            "array of numbers: replace them by numbers before the fit, for example with "
            "OrdinalEncoder."
        )
    return values.astype(np.float64)


def _inputs(columns: Columns, i: int) -> np.ndarray:
    """Return the values of a flag or a category as float32; raise if two are equal."""
    values = _values(columns, i).astype(np.float32)
    if len(np.unique(values)) < len(values):
        raise ValueError(
            f"{columns.name(i)} has different values that are one number of float32. "
            "Replace them by small integers before the fit, for example with "
            "OrdinalEncoder."
        )
    return values


def _one_hot(graph: Graph, values: np.ndarray, own: str) -> str:
    """Compare a column ``(n, 1)`` with values; a row is NaN if it has none of them."""
    # In float32: X may be an array of it, whose 0.1 is another number than that of float64.
    found = graph.add("Equal", graph.cast(own, FLOAT), values[None])
    found = graph.cast(found, DOUBLE)
    is_known = graph.cast(graph.add("ReduceSum", found, np.array([1]), keepdims=1), BOOL)
    return graph.add("Where", is_known, found, np.array(np.nan))


def _column(graph: Graph, columns: Columns, i: int, features: str) -> str:
    """Add a column ``(n, 1)``; see `Column.decode`."""
    column = columns.columns[i]
    own = graph.columns(features, column.features.start, column.features.stop)
    if column.kind == "category":
        return graph.add("Gather", _values(columns, i), _largest(graph, own))
    if column.kind == "one_hot":
        position = np.array(column.position - column.features.start)
        is_largest = graph.add("Equal", _largest(graph, own), position)
        return graph.cast(is_largest, DOUBLE)
    if column.kind == "flag":
        low, high = _values(columns, i)
        return graph.add("Where", graph.add("Less", own, np.array(0.5)), low, high)
    # A count beyond the range of its integer type is not clipped: the result is a float.
    return graph.add("Round", own) if column.is_integer else own


def _largest(graph: Graph, values: str) -> str:
    """Add the position of the largest of values ``(n, k)``, ``(n, 1)``."""
    return graph.add("ArgMax", values, axis=1, keepdims=1)
