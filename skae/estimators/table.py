"""A table of a user as the features of a model, and features as a table again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse, vstack
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import (
    _check_n_features,
    _num_features,
    _num_samples,
    validate_data,
)
from torch import Tensor

from skae._data import dense, parts_of
from skae._data.columns import (
    Columns,
    package_of,
)
from skae._utils.column_errors import infinities_named
from skae._utils.namespaces import home_of, on_host, to_numpy
from skae._utils.numbers import as_numbers, check_table
from skae.estimators.absent_values import warn_of_unknown
from skae.likelihoods import (
    CategoricalLikelihood,
    Likelihood,
    Mixed,
)
from skae.likelihoods.support import SUPPORTS
from skae.networks.conv import is_channels_last

# Dtypes that are not converted.
FLOATS = (np.float64, np.float32)


@dataclass(frozen=True)
class Table:
    """What a fit has found out about the columns of its table.

    Attributes
    ----------
    likelihood : Likelihood
        The density of the features.
    columns : Columns or None
        How columns become features; None if each column of numbers is a feature.
    given : str
        The likelihood that the user gave, in words.
    dtypes : tuple of str or None
        Dtypes of the columns of a frame of numbers; None if ``columns`` has them, or if
        there was no frame.
    """

    likelihood: Likelihood
    columns: Columns | None = None
    given: str = ""
    dtypes: tuple[str, ...] | None = None

    def encode(
        self,
        estimator: Any,
        X: ArrayLike,
        *,
        reset: bool = False,
        takes_unknown: bool = False,
        takes_sparse: bool = True,
    ) -> Any:
        """Validate a table, and return its features ``(n, n_features)``; NaN is missing.

        They are an array, dense or sparse (if ``takes_sparse``), or a tensor if X is an
        array of a library other than numpy.

        With ``takes_unknown``, what is not known is missing, for rows of weight 0 in a fit.
        Raises ValueError for what is no such table, and for values that the likelihood has
        no density for.
        """
        if self.columns is None:
            features = validated(estimator, X, reset=reset, takes_sparse=takes_sparse)
        else:
            table = validated_table(estimator, on_host(X), reset=reset)
            features = self.columns.encode(table, takes_unknown=takes_unknown)
            if not takes_unknown:
                warn_of_unknown(self.columns, table, features)
        names = getattr(estimator, "feature_names_in_", None)
        check_support(features, self.likelihood, self.columns, names)
        return features

    def taking_unknown(self) -> Table:
        """Return this table, for which values that are not known are missing."""
        if self.columns is None:
            return self
        parts = tuple(replace(c, takes_unknown=True) for c in self.columns.columns)
        return replace(self, columns=replace(self.columns, columns=parts))

    def unknown(self, X: Any) -> np.ndarray:
        """Whether entries of a table are missing or not known, ``(n, n_columns)``."""
        if self.columns is None:
            return np.zeros((_num_samples(X), _num_features(X)), dtype=bool)
        features = self.columns.encode(X, takes_unknown=True)
        return np.isnan(self.per_column(features.T).T)

    def to_input(self, features: Any) -> Any:
        """Return what the encoder sees of features ``(n, d)``, before standardisation."""
        parts = self.likelihood.parts(features.shape[1])
        if isinstance(features, Tensor):
            # A likelihood may compute by numpy, most of them leave the data as they are.
            one = np.ones((1, features.shape[1]))
            if len(parts) == 1 and parts[0][1].to_input(one) is one:
                return features
            seen = self.to_input(features.cpu().numpy())
            return torch.from_numpy(seen).to(features.device)
        if issparse(features):
            return _sparse_input(features, parts)
        if len(parts) == 1:
            return parts[0][1].to_input(features)
        seen = [family.to_input(features[:, part]) for part, family in parts]
        return np.concatenate(seen, axis=1)

    def decode(self, features: np.ndarray, like: Any = None) -> Any:
        """Return features ``(n, n_features)`` as a table like that of the fit."""
        return features if self.columns is None else self.columns.decode(features, like)

    def fill(self, X: Any, features: np.ndarray) -> Any:
        """Return a table whose missing entries are filled from features of its rows."""
        return features if self.columns is None else self.columns.fill(X, features)

    def per_feature(self, values: np.ndarray) -> np.ndarray:
        """Repeat values of columns ``(n_columns,)`` for each feature ``(n_features,)``."""
        if self.columns is None:
            return values
        result = np.empty(self.columns.n_features)
        for column, value in zip(self.columns.columns, values, strict=True):
            result[column.position : column.position + column.width] = value
        return result

    def per_column(self, values: np.ndarray) -> np.ndarray:
        """Return the value of the first feature of each column, ``(n_columns,)``."""
        if self.columns is None:
            return values
        return values[[column.position for column in self.columns.columns]]

    def sum_features(self, values: np.ndarray) -> np.ndarray:
        """Sum values ``(n, n_features)`` over the features of each column."""
        return values if self.columns is None else self.columns.sum_features(values)

    def covariance_type(self, given: str) -> str:
        """Return the covariance type: columns of a mixed table have units of their own."""
        return "diag" if isinstance(self.likelihood, Mixed) else given

    def feature_names(self, names: Sequence[str] | None) -> Sequence[str] | None:
        """Return a name for each feature, for messages; None if there are none."""
        return names if self.columns is None else self.columns.feature_names()


def validated(
    estimator: Any, X: ArrayLike, *, reset: bool, takes_sparse: bool = False
) -> Any:
    """Validate data of a user. See `sklearn.utils.validation.validate_data`.

    An array of a library other than numpy, of which a fitted model computes something,
    becomes a tensor.
    """
    check_table(X)
    home = home_of(X)
    numbers = as_numbers(X, advice=estimator._advice_on_strings)
    try:
        with infinities_named(numbers):
            checked = validate_data(
                estimator,
                numbers,
                dtype=FLOATS if home is None else home.floats,
                ensure_all_finite="allow-nan",
                accept_sparse="csr" if takes_sparse else False,
                ensure_min_samples=estimator._fewest_samples,
                reset=reset,
            )
    except ValueError as error:
        advice = _advice_on_images(getattr(numbers, "shape", ()), in_fit=reset)
        if not advice:
            raise
        raise ValueError(f"{error} {advice}") from None
    if issparse(checked) and not checked.has_canonical_format:
        # Duplicate entries add up. The array may be the user's.
        checked = checked.copy()
        checked.sum_duplicates()
        assert_all_finite(checked.data, allow_nan=True, input_name="X")
    return checked if home is None else home.to_tensor(checked, estimator.module_.device)


def _advice_on_images(shape: tuple[int, ...], *, in_fit: bool) -> str:
    """Return how to pass images, if an array of this shape may be images, or ""."""
    if len(shape) not in (3, 4):
        return ""
    first, *size = shape[-3:]
    image, order = (first, *size), ""
    if len(shape) == 3:
        image = (1, *size)
    elif is_channels_last(image):
        image, order = (image[2], *image[:2]), ".transpose(0, 3, 1, 2)"
    advice = f"If X are images, pass X{order}.reshape(len(X), -1)"
    if in_fit:
        advice += f", and network=Conv({image}) of skae.networks"
    return f"{advice}."


def validated_table(
    estimator: Any, X: Any, *, reset: bool, warns_of_names: bool = True
) -> Any:
    """Validate a table whose columns may be no numbers: a frame, or an array.

    Without ``warns_of_names``, another validation warns of names that only the fit had.
    """
    check_table(X)
    if package_of(X) is None:
        array = X if isinstance(X, np.ndarray) else as_table(X)
        check = {"dtype": None, "ensure_all_finite": array.dtype.kind != "f"}
        if array.dtype.kind == "f":
            check["ensure_all_finite"] = "allow-nan"
        elif array.dtype.kind not in "iub":
            check["ensure_all_finite"] = False
        with infinities_named(array):
            X = check_array(array, estimator=estimator, input_name="X", **check)
        if not warns_of_names:
            _check_n_features(estimator, X, reset=reset)
            return X
    elif min(X.shape) == 0:
        check_array(np.zeros(X.shape), estimator=estimator)
    return validate_data(estimator, X, reset=reset, skip_check_array=True)


def _sparse_input(X: Any, parts: list[tuple[slice, Likelihood]]) -> Any:
    """Return what the encoder sees of a sparse array, block by block; sparse again.

    Raises ValueError if it is not sparse.
    """
    likelihood = parts[0][1]
    one = np.ones((1, X.shape[1]))
    if likelihood.to_input(one) is one:
        return X
    if likelihood.to_input(0 * one).any():
        raise ValueError(
            f"Sparse data cannot be used with {type(likelihood).__name__}, whose input is "
            "not sparse. Use '.toarray()' to convert to a dense numpy array."
        )
    seen = [likelihood.to_input(dense(X, part)) for part in parts_of(X)]
    return vstack([csr_array(block) for block in seen], format="csr")


def as_table(X: Any) -> Any:
    """Return what is no array as one: of objects, if it has strings beside numbers."""
    if hasattr(X, "__array__") or hasattr(X, "toarray"):
        return X if hasattr(X, "toarray") else np.asarray(X)
    array = np.asarray(X)
    return np.array(X, dtype=object) if array.dtype.kind in "US" else array


def check_support(
    features: Any,
    likelihood: Likelihood,
    columns: Columns | None,
    names: Sequence[str] | None,
) -> None:
    """Raise ValueError if features ``(n, d)`` have values without a density."""
    d = features.shape[1]
    if issparse(features):
        if likelihood.support != "real":
            for rows in parts_of(features):
                check_support(dense(features, rows), likelihood, columns, names)
        return
    for part, family in likelihood.parts(d):
        if isinstance(family, CategoricalLikelihood) and family.one_hot:
            _check_one_hot(features[:, part])
        support = SUPPORTS.get(family.support)
        if support is None or (family.support == "real" and columns is None):
            continue
        own = features[:, part]
        wrong = ~(support.contains(own) | (own != own))
        if wrong.any():
            own, wrong = to_numpy((own, wrong))
            is_negative = wrong & (own < 0)
            row, column = np.argwhere(is_negative if is_negative.any() else wrong)[0]
            j = part.start + int(column)
            feature_names = columns.feature_names() if columns is not None else names
            name = repr(str(feature_names[j])) if feature_names is not None else str(j)
            advice = support.advice(own[:, column])
            if np.isinf(own[row, column]):
                advice = "Correct it, or set it to NaN, which is missing."
            elif isinstance(likelihood, Mixed):
                advice = f"Give this column another part of Mixed. {advice}"
            elif d > 1:
                advice += " For columns of several kinds, pass likelihood='mixed'."
            # The words of scikit-learn, by which its checks know this error.
            negative = "Negative values in data passed to the estimator: "
            raise ValueError(
                (negative if -np.inf < own[row, column] < 0 else "")
                + f"{type(family).__name__} is for {support.description}, but column "
                f"{name} has {own[row, column]:g}. {advice}".rstrip()
            )


def _check_one_hot(features: Any) -> None:
    """Raise ValueError if rows ``(n, d)`` are not one-hot vectors, or missing."""
    is_valid = ((features == 0) | (features == 1)).all(axis=1)
    is_valid &= features.sum(axis=1) == 1
    is_valid |= (features != features).all(axis=1)
    if not is_valid.all():
        raise ValueError(
            "CategoricalLikelihood(one_hot=True) is for one-hot columns: each row has a "
            "single 1 and else 0, or all of its columns are missing. For columns of codes, "
            "set one_hot=False."
        )
