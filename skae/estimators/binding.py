"""The likelihood of each column of a user's table, found out by a fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing
from sklearn.utils._indexing import _get_column_indices
from sklearn.utils.validation import _num_features

from skae._data.columns import (
    Column,
    Columns,
    categories_of,
    column_of,
    is_missing,
    name_of,
    numbers_of,
    package_of,
    read_column,
)
from skae._utils.choices import did_you_mean, suggest_column
from skae._utils.compat import check_sample_weight
from skae._utils.numbers import check_table
from skae.estimators.column_faults import ColumnFaults
from skae.estimators.frames import dtypes_of
from skae.estimators.suspects import Suspects, check_categories
from skae.estimators.table import Table, validated, validated_table
from skae.estimators.text_dates import dates_in_text
from skae.estimators.text_numbers import FEW_CATEGORIES, numbers_in_text
from skae.likelihoods import (
    LIKELIHOODS,
    CategoricalLikelihood,
    Likelihood,
    Mixed,
    make_likelihood,
)


def bind_table(
    estimator: Any, X: ArrayLike, likelihood: Likelihood, sample_weight: Any = None
) -> Table:
    """Find out how the columns of a table are modelled; the names of columns are kept.

    Rows of weight 0 say nothing. Raises ValueError if columns are missing, are named twice,
    or do not fit the likelihood.
    """
    check_table(X)
    if not isinstance(likelihood, (CategoricalLikelihood, Mixed)):
        return Table(likelihood, dtypes=dtypes_of(X))
    if isinstance(likelihood, CategoricalLikelihood) and likelihood.one_hot:
        width = validated(estimator, X, reset=True).shape[1]
        return Table(likelihood.with_sizes((width,)), given=repr(likelihood))
    X = validated_table(estimator, X, reset=True)
    given = _in_words(X, likelihood)
    weight = check_sample_weight(sample_weight, X, dtype=np.float64)
    if (weight <= 0).any() and (weight > 0).any():
        X, weight = _safe_indexing(X, np.flatnonzero(weight > 0)), weight[weight > 0]
    if isinstance(likelihood, Mixed):
        return _bind_mixed(X, likelihood, weight, given)
    indices = list(range(_num_features(X)))
    faults = ColumnFaults(X)
    columns, family = _bind_part(X, indices, likelihood, 0, likelihood, faults)
    faults.raise_errors()
    faults.warn()
    found = dict(zip(indices, columns, strict=True))
    return Table(family, _columns(X, found), given)


def _bind_mixed(X: Any, likelihood: Mixed, weight: np.ndarray, given: str) -> Table:
    """Choose the likelihood of each column. See `bind_table`."""
    n_columns = _num_features(X)
    faults, suspects = ColumnFaults(X), Suspects(X, likelihood)
    chosen = _families(X, n_columns, likelihood, weight, faults, suspects)
    found: dict[int, Column] = {}
    spec, parts, first = [], [], 0
    names = _names(X)
    for family, indices in chosen:
        columns, bound = _bind_part(X, indices, family, first, likelihood, faults, suspects)
        if faults.has_errors:
            continue  # the columns of other parts may have more
        found.update(zip(indices, columns, strict=True))
        width = sum(column.width for column in columns)
        parts.append((slice(first, first + width), bound))
        shown = [names[i] for i in indices] if names is not None else indices
        spec.append((shown, family))
        first += width
    faults.raise_errors()
    suspects.warn()
    faults.warn()
    bound_all = likelihood.bind(spec, parts)
    return Table(bound_all, _columns(X, found), given)


def _families(
    X: Any,
    n_columns: int,
    likelihood: Mixed,
    weight: np.ndarray,
    faults: ColumnFaults,
    suspects: Suspects,
) -> list[tuple[str | Likelihood, list[int]]]:
    """Return the family and the columns of each part, with names in place of "auto".

    Columns of one family, by name or with equal parameters, are one part. Columns of
    "auto" with a fault are in none.
    """
    _check_family(likelihood.real)
    given = likelihood.columns
    pairs = [(slice(None), "auto")] if isinstance(given, str) else given
    chosen: list[tuple[str | Likelihood, list[int]]] = []
    taken: dict[int, Any] = {}
    for key, family in pairs:
        indices = _indices(X, key)
        twice = [i for i in indices if i in taken or indices.count(i) > 1]
        if twice:
            raise ValueError(
                f"Column {_name(X, twice[0])} is twice in Mixed; each column needs one "
                "likelihood."
            )
        taken.update(dict.fromkeys(indices, family))
        if not (isinstance(family, str) and family == "auto"):
            _check_family(family)
            if indices:
                chosen.append((family, indices))
            continue
        by_family: dict[Any, list[int]] = {}
        for i in indices:
            with faults.collected(i):
                values = read_column(X, i)
                own = _choose(X, i, values, likelihood.real, weight)
                suspects.add(i, values, own)
                by_family.setdefault(own, []).append(i)
        chosen += list(by_family.items())
    left = [i for i in range(n_columns) if i not in taken]
    if left:
        listed = ", ".join(_name(X, i) for i in left[:5]) + (" ..." if left[5:] else "")
        raise ValueError(
            f"Mixed has no likelihood for {len(left)} columns: {listed}. Add them to "
            "columns, for example as a tuple with the likelihood 'auto'."
        )
    merged: dict[Any, tuple[str | Likelihood, list[int]]] = {}
    for family, indices in chosen:
        # Few parts are faster, and a group of one-hot columns is a part of its own.
        is_own = isinstance(family, CategoricalLikelihood) and family.one_hot
        group: Any = family
        if not isinstance(family, str):
            group = type(family), repr(family), family.batch_key
            is_own = is_own or family.batch_key is None
        _, together = merged.setdefault(id(indices) if is_own else group, (family, []))
        together.extend(indices)
    return list(merged.values())


def _in_words(X: Any, likelihood: Likelihood) -> str:
    """Return a likelihood as text in which the columns are numbers, to compare two."""
    if not isinstance(likelihood, Mixed) or isinstance(likelihood.columns, str):
        return repr(likelihood)
    parts = [(_indices(X, key), family) for key, family in likelihood.columns]
    return repr((parts, likelihood.real, likelihood.handle_unknown))


def _indices(X: Any, key: Any) -> list[int]:
    """Return the columns that are selected as in scikit-learn's ColumnTransformer."""
    selected = key(X) if callable(key) else key
    if isinstance(selected, slice) and not any(
        isinstance(end, str) for end in (selected.start, selected.stop)
    ):
        return list(range(_num_features(X))[selected])
    try:
        return list(map(int, _get_column_indices(X, selected)))
    except ValueError as error:
        hint = suggest_column(selected, getattr(X, "columns", []))
        raise ValueError(f"{error}{hint}") from None


def _check_family(family: str | Likelihood) -> None:
    """Raise ValueError if a family is not known, or is itself mixed."""
    if isinstance(family, Mixed) or family == "mixed":
        raise ValueError("A part of Mixed cannot be mixed itself.")
    if not isinstance(family, Likelihood) and family not in LIKELIHOODS:
        names = sorted(set(LIKELIHOODS) - {"mixed"})
        raise ValueError(
            f"A likelihood of Mixed must be one of {names}, or an instance, got "
            f"{family!r}.{did_you_mean(family, names)}"
        )


def _choose(
    X: Any, i: int, values: np.ndarray, real: str | Likelihood, weight: np.ndarray
) -> str | Likelihood:
    """Choose the family of a column by its dtype and values ``(n,)``. See `Mixed`."""
    column = column_of(X, i)
    is_declared = getattr(getattr(column, "dtype", None), "categories", None) is not None
    if values.dtype.kind == "O" or is_declared:
        known = [v for v in values.tolist() if v is not None]
        if known and all(isinstance(v, (bool, np.bool_)) for v in known):
            return "bernoulli"
        return "categorical"
    if values.dtype.kind == "b":
        return "bernoulli"
    is_observed = ~np.isnan(values.astype(np.float64))
    observed = values[is_observed].astype(np.float64)
    different = np.unique(observed)
    if len(different) < 2 or (different != np.rint(different)).any():
        return real
    if np.array_equal(different, [0.0, 1.0]):
        return "bernoulli"
    if package_of(X) is not None and values.dtype.kind == "f" and is_observed.all():
        # A frame has a dtype for integers. Pandas leaves it where values are missing.
        return real
    if len(different) <= FEW_CATEGORIES:
        return "categorical"
    # A negative binomial distribution cannot vary less than Poisson's.
    mean = np.average(observed, weights=weight[is_observed])
    with np.errstate(over="ignore"):
        squared = np.square(observed - mean)
    variance = np.average(squared, weights=weight[is_observed])
    if different[0] >= 0 and variance >= mean:
        return "negative_binomial"
    return real


def _bind_part(
    X: Any,
    indices: list[int],
    family: str | Likelihood,
    first: int,
    given: CategoricalLikelihood | Mixed,
    faults: ColumnFaults,
    suspects: Suspects | None = None,
) -> tuple[list[Column], Likelihood]:
    """Return the columns of a part, whose features begin at ``first``, and its density.

    ``given`` is the likelihood that the user passed, of all parts. The result has no use if
    there are faults.
    """
    likelihood = make_likelihood(family)
    is_own = isinstance(likelihood, CategoricalLikelihood) and not isinstance(family, str)
    decisive = likelihood if is_own else given
    takes_unknown = getattr(decisive, "handle_unknown", "error") == "ignore"
    remedy = _remedy(given, is_own=is_own)
    is_one_hot = isinstance(likelihood, CategoricalLikelihood) and likelihood.one_hot
    columns: list[Column] = []
    position, whole = first, slice(first, first + len(indices))
    for i in indices:
        with faults.collected(i):
            values = read_column(X, i)
            column = _bind_column(X, i, values, likelihood, position)
            # Of numbers as strings, another warning says more.
            is_named = suspects is not None and suspects.is_named(i)
            if column.kind == "category":
                check_categories(X, i, values, column.width, faults, is_named=is_named)
            elif all(map(is_missing, values)):
                faults.note(i, _unobserved(X, i))
            columns.append(
                replace(
                    column,
                    features=whole if is_one_hot else column.features,
                    takes_unknown=takes_unknown,
                    remedy=remedy,
                )
            )
            position += column.width
    if isinstance(likelihood, CategoricalLikelihood) and not faults.has_errors:
        sizes = (len(indices),) if is_one_hot else tuple(len(c.categories) for c in columns)
        likelihood = likelihood.with_sizes(sizes)
    return columns, likelihood


def _bind_column(
    X: Any, i: int, values: np.ndarray, likelihood: Likelihood, position: int
) -> Column:
    """Return a column of values ``(n,)`` whose features begin at a position."""
    raw = column_of(X, i)
    dtype = str(getattr(raw, "dtype", values.dtype))
    is_integer = dtype.lower().startswith(("int", "uint"))
    categories: tuple[Any, ...] = ()
    is_ordered, kind = False, "number"
    if isinstance(likelihood, CategoricalLikelihood):
        kind = "one_hot"
        if not likelihood.one_hot:
            kind = "category"
            categories, is_ordered = categories_of(values, raw)
            if not categories:
                raise ValueError(_unobserved(X, i))
    elif likelihood.support == "boolean":
        kind = "flag"
        categories, is_ordered = _flag_values(X, i, values, raw)
    else:
        _check_numbers(X, i, values)
    width = len(categories) if kind == "category" else 1
    return Column(
        kind=kind,
        features=slice(position, position + width),
        position=position,
        is_integer=is_integer or likelihood.support == "nonnegative_integer",
        dtype=dtype,
        categories=categories,
        is_ordered=is_ordered,
    )


def _check_numbers(X: Any, i: int, values: np.ndarray) -> None:
    """Raise ValueError if values ``(n,)`` are no numbers, or as strings mean others."""
    text = values if values.dtype.kind == "O" else np.array([], object)
    numbers, dates = numbers_in_text(text), dates_in_text(text)
    try:
        numbers_of(values, f"column {_name(X, i)}")
    except ValueError as error:
        if dates is not None:
            raise ValueError(dates.message(X, i)) from None
        if numbers is None:
            raise error from None
    else:
        # A dot that separates thousands is the decimal point of `float`.
        if numbers is None or (".", "") not in numbers.changes:
            return
    are = "numbers as strings"
    if numbers.strays:
        are = f"numbers but for {', '.join(map(repr, numbers.strays))}"
    raise ValueError(
        f"Column {_name(X, i)} has {are}, such as {numbers.example!r}. Convert them: "
        f"{numbers.conversion(X, i)}."
    )


def _unobserved(X: Any, i: int) -> str:
    """Return what to say of a column without an observed value."""
    return f"There is no observed value of {_name(X, i)} to train on: drop such columns."


def _remedy(given: CategoricalLikelihood | Mixed, *, is_own: bool) -> str:
    """Return how to take unknown values as missing; their likelihood may be an instance."""
    if isinstance(given, Mixed) and is_own:
        return "give the column CategoricalLikelihood(handle_unknown='ignore')"
    name, arguments = type(given).__name__, ["handle_unknown='ignore'"]
    if isinstance(given, Mixed):
        if given.real != "gaussian":
            arguments.insert(0, f"real={given.real!r}")
        if not isinstance(given.columns, str):
            arguments.insert(0, "[...]")
    home = "skae.likelihoods" if type(given) in (CategoricalLikelihood, Mixed) else ""
    source = f" (from {home} import {name})" if home else ""
    return f"pass likelihood={name}({', '.join(arguments)}){source}"


def _flag_values(
    X: Any, i: int, values: np.ndarray, raw: Any
) -> tuple[tuple[Any, ...], bool]:
    """Return the two values of a flag: False and True, 0 and 1, or two others."""
    categories, is_ordered = categories_of(values, raw)
    for pair in ((False, True), (0, 1)):
        if set(categories) <= set(pair) and (categories or pair == (0, 1)):
            is_bool = all(isinstance(c, (bool, np.bool_)) for c in categories)
            if is_bool == (pair == (False, True)):
                number = type(categories[0]) if categories else float
                return (number(0), number(1)), is_ordered
    if len(categories) == 2:
        return categories, is_ordered
    raise ValueError(
        f"BernoulliLikelihood is for flags, but column {_name(X, i)} has "
        f"{len(categories)} different values. Give it the likelihood 'categorical'."
    )


def _columns(X: Any, found: dict[int, Column]) -> Columns:
    """Join the columns of all parts, in the order of the table."""
    columns = tuple(found[i] for i in sorted(found))
    n_features = max(c.position + c.width for c in columns)
    return Columns(columns, n_features, _names(X), package_of(X))


def _names(X: Any) -> tuple[Any, ...] | None:
    """Return the names of the columns of a frame."""
    return None if package_of(X) is None else tuple(X.columns)


def _name(X: Any, i: int) -> str:
    """Return the name or the number of a column for a message."""
    return repr(name_of(X, i))


def check_same_likelihood(
    estimator: Any, X: Any, likelihood: Likelihood, words: tuple[str, str]
) -> None:
    """Raise ValueError if the last fit, which goes on, had another likelihood.

    The words say what goes on, and how to begin anew. The parameters of classes other than
    these two are compared later.
    """
    is_same = type(estimator._table.likelihood) is type(likelihood)
    if is_same and isinstance(likelihood, (CategoricalLikelihood, Mixed)):
        X = validated_table(estimator, X, reset=False, warns_of_names=False)
        is_same = _in_words(X, likelihood) == estimator._table.given
    if not is_same:
        continues, remedy = words
        raise ValueError(f"{continues}, which had another likelihood. {remedy}")
