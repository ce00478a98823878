"""A transformer that fills missing entries by a fitted autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.impute._base import _BaseImputer
from sklearn.utils._mask import _get_mask
from sklearn.utils._missing import is_pandas_na
from sklearn.utils._param_validation import (
    HasMethods,
    MissingValues,
    StrOptions,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_array,
    check_is_fitted,
    validate_data,
)

from skae._data.columns import package_of
from skae._utils.choices import positive_integer, validate_parameters
from skae._utils.column_errors import infinities_named, list_columns
from skae._utils.compat import fit_context
from skae._utils.documentation import DocumentationLinkMixin
from skae._utils.messages import warn_user
from skae._utils.names import (
    ParametersMixin,
    own_method_names,
    without,
    without_missing,
)
from skae._utils.namespaces import by_numpy
from skae._utils.numbers import as_numbers, check_table
from skae._utils.random import with_random_state
from skae._utils.synonyms import OF_SAVED
from skae.estimators.frames import named_frame
from skae.persistence import PersistenceMixin
from skae.recipes import (
    advice_on_estimator,
    make_imputation_estimator,
    parameter_advice,
)

__all__ = ["AutoencoderImputer"]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)


_ADVICE_ON_STRINGS = (
    "AutoencoderImputer takes numbers; for strings use "
    "VariationalAutoencoder(likelihood='mixed').fit(X).impute(X)."
)


@contextmanager
def _nan_explained(missing_values: float) -> Iterator[None]:
    """Say what NaN is in the error about NaN where another number stands for missing."""
    try:
        yield
    except ValueError as error:
        if np.isnan(missing_values) or "contains NaN" not in str(error):
            raise
        raise ValueError(
            f"Input X contains NaN, but with missing_values={missing_values!r} only this "
            "number is missing. Replace one of the two by the other: NaN by this number, "
            "or this number by NaN, and leave missing_values at its default."
        ) from None


@own_method_names
@without(OF_SAVED)
class AutoencoderImputer(
    DocumentationLinkMixin, PersistenceMixin, ParametersMixin, _BaseImputer
):
    """Impute missing values from the distribution that an autoencoder learns.

    The estimator is fitted to the table with its missing values; its likelihood is that of
    the observed entries. A missing value is filled by its conditional mean or median given
    the observed entries of its row, or drawn from its conditional distribution. See
    :meth:`skae.VariationalAutoencoder.impute` for the formula.

    Imputed values are right on average if entries are missing at random: whether an entry
    is missing may depend on the observed entries, but not on its own value.

    Parameters
    ----------
    estimator : estimator, default=None
        What is fitted: an estimator of skae, or any other with the methods ``fit`` and
        ``impute``. None is :func:`skae.recipes.make_imputation_estimator`; to search over
        parameters such as ``estimator__beta``, pass the estimator.

    missing_values : int, float, np.nan or pandas.NA, default=np.nan
        What stands for a missing value. NaN, pandas' NA, polars' null and masked entries
        are missing with np.nan; no other number is guessed.

    statistic : {"mean", "median", "plug_in"}, default="mean"
        What fills a missing value, see :meth:`skae.VariationalAutoencoder.impute`.

    n_draws : int, default=256
        Draws of the code for each row.

    sample_posterior : bool, default=False
        Whether to draw each missing value from its conditional distribution, for multiple
        imputation. Then each call of `transform` gives other values, unless `random_state`
        is an int.

    clip : bool, default=True
        Whether to move each mean or median into the range of the observed values of its
        column in `fit`. A network may extrapolate far for the row of an outlier. Draws of
        `sample_posterior` stay as they are.

    add_indicator : bool, default=False
        Whether to add columns that say which values were missing, for the columns that have
        missing values in `fit`.

    keep_empty_features : bool, default=False
        Whether to keep columns without any value in `fit`, and fill them with 0. Otherwise
        they are left out of the result.

    random_state : int, RandomState instance or None, default=None
        Source of the draws, and of the estimator's training if its own `random_state` is
        None. The draws of a mean are the same in each call if it is None.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.

    indicator_ : MissingIndicator or None
        The indicator of `add_indicator`.

    n_features_in_ : int
        Number of columns.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, if they are all strings.

    See Also
    --------
    sklearn.impute.IterativeImputer : Regressions of each column on the others.
    sklearn.impute.KNNImputer : Means over the nearest rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skae.impute import AutoencoderImputer
    >>> X = load_iris().data
    >>> X[::3, 2] = np.nan
    >>> imputer = AutoencoderImputer(random_state=0).fit(X)
    >>> filled = imputer.transform(X)
    >>> error = np.abs(filled - load_iris().data)[::3, 2].mean()
    >>> bool(error < 0.5)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_BaseImputer._parameter_constraints,
        "missing_values": [MissingValues(numeric_only=True)],
        "estimator": [None, HasMethods(["fit", "impute"])],
        "statistic": [StrOptions({"mean", "median", "plug_in"})],
        "n_draws": [positive_integer()],
        "sample_posterior": ["boolean"],
        "clip": ["boolean"],
        "random_state": ["random_state"],
    }

    _parameter_advice: ClassVar[dict[str, str]] = parameter_advice(
        "make_imputation_estimator"
    )

    def __init__(
        self,
        estimator: Any = None,
        *,
        missing_values: float = np.nan,
        statistic: str = "mean",
        n_draws: int = 256,
        sample_posterior: bool = False,
        clip: bool = True,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            missing_values=missing_values,
            add_indicator=add_indicator,
            keep_empty_features=keep_empty_features,
        )
        self.estimator = estimator
        self.statistic = statistic
        self.n_draws = n_draws
        self.sample_posterior = sample_posterior
        self.clip = clip
        self.random_state = random_state

    def _validate_params(self) -> None:
        def advice(name: str, value: Any) -> str:
            is_it = name == "estimator"
            return advice_on_estimator("make_imputation_estimator", value) if is_it else ""

        parameters, name = self.get_params(deep=False), type(self).__name__
        validate_parameters(self._parameter_constraints, parameters, name, advice)

    @fit_context(prefer_skip_nested_validation=False)
    @by_numpy
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Fit the estimator to a table with missing values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Table.

        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        AutoencoderImputer
            The fitted imputer.

        Raises
        ------
        ValueError
            If a parameter is out of range, or if X has infinities, strings or no values.
        """
        rows, mask = self._validated(X, reset=True)
        is_observed = ~mask.all(axis=0)
        if not is_observed.any():
            raise ValueError("X has no values that are not missing.")
        if not (self.keep_empty_features or is_observed.all()):
            empty = np.flatnonzero(~is_observed).tolist()
            columns = list_columns(empty, getattr(self, "feature_names_in_", None))
            warn_user(
                f"Columns without any observed value are left out: {columns}. Set "
                "keep_empty_features=True to fill them with 0.",
                UserWarning,
            )
        given = self.estimator
        if given is None:
            given = make_imputation_estimator()
        self._is_observed = is_observed
        observed = rows[:, is_observed]
        self._range = np.nanmin(observed, axis=0), np.nanmax(observed, axis=0)
        # For messages, the estimator is to know the names of the columns.
        has_names = hasattr(self, "feature_names_in_")
        self._package = package_of(X) if has_names else None
        seeded = with_random_state(given, self.random_state)
        # Another copy, so that a generator of the user is not moved.
        self.estimator_ = clone(seeded).fit(self._observed_columns(rows))
        self._fit_indicator(mask)
        return self

    @by_numpy
    def transform(self, X: ArrayLike) -> NDArray[np.floating]:
        """Fill the missing values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Table.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            The table without missing values, and the columns of the indicator.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the imputer is not fitted.
        """
        check_is_fitted(self)
        rows, mask = self._validated(X, reset=False)
        options: dict[str, Any] = {"n_draws": self.n_draws}
        if self.sample_posterior:
            options |= {"n_samples": 1, "random_state": self.random_state}
        else:
            seed = 0 if self.random_state is None else self.random_state
            options |= {"statistic": self.statistic, "random_state": seed}
        filled = np.asarray(self.estimator_.impute(self._observed_columns(rows), **options))
        if self.sample_posterior:
            filled = filled[0]
        if self.clip and not self.sample_posterior:
            own = mask[:, self._is_observed]
            filled = np.where(own, np.clip(filled, *self._range), filled)
        if self.keep_empty_features:
            columns = np.where(mask, 0.0, rows).astype(filled.dtype)
            columns[:, self._is_observed] = filled
            filled = columns
        indicator = self._transform_indicator(mask)
        result: NDArray[np.floating] = self._concatenate_indicator(filled, indicator)
        return result

    @available_if(attrgetter("add_indicator"))
    @by_numpy
    def inverse_transform(self, X: ArrayLike) -> NDArray[np.floating]:
        """Put the missing values back where the indicator says so.

        The method exists with ``add_indicator=True`` only.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            Result of `transform`.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The table with its missing values. A column that had none in `fit` has no
            indicator, and stays filled.

        Raises
        ------
        ValueError
            If X has another number of columns than the result of `transform`.
        """
        check_is_fitted(self)
        columns = self.indicator_.features_
        kept = np.arange(self.n_features_in_)
        if not self.keep_empty_features:
            kept = kept[self._is_observed]
        rows = check_array(X, dtype=(np.float64, np.float32))
        if rows.shape[1] != len(kept) + len(columns):
            raise ValueError(
                f"X has {rows.shape[1]} columns, but transform returns "
                f"{len(kept) + len(columns)}."
            )
        original = np.full(
            (len(rows), self.n_features_in_), self._missing_value(), dtype=rows.dtype
        )
        original[:, kept] = rows[:, : len(kept)]
        mask = np.zeros(original.shape, dtype=bool)
        mask[:, columns] = rows[:, len(kept) :].astype(bool)
        original[mask] = self._missing_value()
        return original

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> Any:
        """Return the names of the columns of the result.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns; by default those of `fit`, or "x0", "x1", and so on.

        Returns
        -------
        ndarray of str
            Names, those of the indicator last.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        kept = names if self.keep_empty_features else names[self._is_observed]
        return self._concatenate_indicator_feature_names_out(kept, names)

    def __dir__(self) -> list[str]:
        return without_missing(self, super().__dir__())

    def _validated(
        self, X: ArrayLike, *, reset: bool
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """Return the table, with NaN for what is missing, and the mask, ``(n, d)`` each."""
        missing = self._missing_value()
        check_table(X)
        numbers = as_numbers(X, advice=_ADVICE_ON_STRINGS)
        with infinities_named(numbers), _nan_explained(missing):
            rows = validate_data(
                self,
                numbers,
                dtype=(np.float64, np.float32),
                ensure_all_finite="allow-nan" if np.isnan(missing) else True,
                reset=reset,
            )
        mask: NDArray[np.bool_] = _get_mask(rows, missing)
        return np.where(mask, np.nan, rows).astype(rows.dtype, copy=False), mask

    def _missing_value(self) -> float:
        """Return what stands for a missing value; NaN for pandas' NA."""
        return np.nan if is_pandas_na(self.missing_values) else self.missing_values

    def _observed_columns(self, rows: NDArray[np.floating]) -> Any:
        """Return the columns that had values in `fit`, as the table that `fit` took."""
        columns = rows[:, self._is_observed]
        if self._package is None:
            return columns
        names = self.feature_names_in_[self._is_observed].tolist()
        return named_frame(columns, names, self._package)
