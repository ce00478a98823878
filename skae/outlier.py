"""Outlier detection by a density."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import Tags, _safe_indexing, check_array, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_is_fitted, validate_data

from skae._data.columns import missing_entries, package_of
from skae._utils.choices import validate_parameters
from skae._utils.column_errors import infinities_named
from skae._utils.compat import fit_context
from skae._utils.documentation import DocumentationLinkMixin
from skae._utils.messages import no_warnings
from skae._utils.names import (
    ParametersMixin,
    own_method_names,
    without,
    without_missing,
)
from skae._utils.namespaces import by_numpy
from skae._utils.numbers import as_numbers, check_table
from skae._utils.random import with_random_state
from skae._utils.synonyms import OF_DETECTORS
from skae.estimators.absent_values import (
    encoded_columns,
    log_share_of_unknown,
    log_shares_of_absent,
    parts_of,
    parts_of_absent,
)
from skae.estimators.base import BaseAutoencoder
from skae.estimators.frames import named_frame, with_numbers
from skae.estimators.table import validated_table
from skae.persistence import PersistenceMixin
from skae.recipes import (
    advice_on_estimator,
    make_outlier_estimator,
    parameter_advice,
)

__all__ = ["LikelihoodOutlierDetector"]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)


Scores = NDArray[np.float64]

# Fits to the rows of the highest scores, after the fit to all rows.
_N_REFITS = 2
# Reach of the fence below the lower quartile, in interquartile ranges (Tukey 1977).
_FENCE = 1.5
_ADVICE_ON_STRINGS = (
    "A table with categories takes "
    "LikelihoodOutlierDetector(make_outlier_estimator(likelihood='mixed'))."
)


def _advice(name: str, value: Any) -> str:
    """Return advice on the value of a parameter that is out of range, or ""."""
    if name == "estimator":
        return advice_on_estimator("make_outlier_estimator", value)
    if name == "contamination" and isinstance(value, Real) and float(value) > 0.5:
        return (
            "It is the share of outliers, such as 0.02, and no number of rows or percent."
        )
    return ""


def _scores_features(detector: LikelihoodOutlierDetector) -> bool:
    """Whether the estimator of a detector, fitted or not, has the parts of columns."""
    given = getattr(detector, "estimator_", detector.estimator)
    return given is None or hasattr(given, "score_features")


@own_method_names
@without(OF_DETECTORS)
class LikelihoodOutlierDetector(
    DocumentationLinkMixin, PersistenceMixin, ParametersMixin, OutlierMixin, BaseEstimator
):
    """Detector of rows with a low density.

    The estimator is fitted to all rows. Then two fits use the rows of the highest scores
    only, so that outliers have little influence. Such steps towards the most likely rows
    are those of the minimum covariance determinant (Rousseeuw and Van Driessen 1999).

    Parameters
    ----------
    estimator : estimator, default=None
        Density estimator with ``fit`` and ``score_samples``, for example of skae or
        :class:`sklearn.mixture.GaussianMixture`. None is
        :func:`skae.recipes.make_outlier_estimator`, with two components. To set its
        parameters, pass it. The detector has no `score`: search over the estimator.
    contamination : float or "auto", default="auto"
        Share of outliers among the training rows, in (0, 0.5]: it determines which scores
        are those of outliers. "auto" is Tukey's fence: 1.5 interquartile ranges below the
        lower quartile of the scores. Of a table without outliers, it excludes about 1% of
        the rows if columns are normal, and 2 to 12% if they are skewed or have heavy tails.
    support_fraction : float, default=0.7
        Share of the rows that the last fits use, in (0, 1], and at least two rows. With 1,
        there is a single fit.
    random_state : int, RandomState instance or None, default=None
        Random state of the estimator, if its own `random_state` is None. A pipeline has
        none; there it is that of each step whose own is None.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    offset_ : float
        Smallest score of an inlier, in nats for an estimator of skae.
    support_ : ndarray of bool, shape (n_samples,)
        The rows of the last fit.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X has names that are strings.

    See Also
    --------
    skae.recipes.make_outlier_estimator : The default estimator.
    sklearn.ensemble.IsolationForest : A detector that isolates rows by random splits.

    References
    ----------
    P. J. Rousseeuw and K. Van Driessen (1999). "A fast algorithm for the minimum covariance
    determinant estimator". Technometrics 41, 212-223. Section 2, theorem 1.

    J. W. Tukey (1977). "Exploratory data analysis". Addison-Wesley. Section 2D.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from skae.outlier import LikelihoodOutlierDetector
    >>> X = np.vstack([load_wine().data, 3 * load_wine().data.max(axis=0)])
    >>> detector = LikelihoodOutlierDetector(random_state=0).fit(X)
    >>> int(detector.predict(X)[-1])
    -1
    """

    _parameter_constraints: ClassVar[dict[str, Sequence[Any]]] = {
        "estimator": [HasMethods(["fit", "score_samples"]), None],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "support_fraction": [Interval(Real, 0, 1, closed="right")],
        "random_state": ["random_state"],
    }

    _parameter_advice: ClassVar[dict[str, str]] = parameter_advice("make_outlier_estimator")

    # Detectors in files of former versions do not know which frame fit took.
    _package: str | None = None

    def __init__(
        self,
        estimator: Any = None,
        *,
        contamination: float | str = "auto",
        support_fraction: float = 0.7,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.contamination = contamination
        self.support_fraction = support_fraction
        self.random_state = random_state

    def _validate_params(self) -> None:
        parameters, name = self.get_params(deep=False), type(self).__name__
        validate_parameters(self._parameter_constraints, parameters, name, _advice)

    @fit_context(prefer_skip_nested_validation=False)
    @by_numpy
    def fit(self, X: ArrayLike, y: Any = None) -> LikelihoodOutlierDetector:
        """Fit the estimator, and the smallest score of an inlier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, with the outliers that they have.
        y : Ignored
            Not used.

        Returns
        -------
        LikelihoodOutlierDetector
            The fitted detector.

        Raises
        ------
        ValueError
            If a parameter is out of range, if X is not valid for the estimator, or if a
            score is NaN.
        """
        given = make_outlier_estimator() if self.estimator is None else self.estimator
        given = with_random_state(given, self.random_state)
        rows, missing = self._validated(X, given, reset=True)
        self._package = package_of(X)
        n = len(missing)
        # A product that is a whole number may be rounded up.
        n_support = max(int(np.ceil(self.support_fraction * n - 1e-9)), 2)
        support = np.ones(n, dtype=bool)
        n_refits = _N_REFITS if n_support < n else 0
        # The most likely rows may lack a category, or the other value of a flag. One that
        # no row has is no error later: `_of_unseen` is what it adds.
        is_own = isinstance(given, BaseAutoencoder)
        table = clone(given)._bind(rows).taking_unknown() if is_own else None
        for i in range(n_refits + 1):
            used = rows if support.all() else _safe_indexing(rows, np.flatnonzero(support))
            # Of the fits, only the last one is kept, and only the first one sees all rows.
            omitted = ["fit"] * (i < n_refits) + ["data"] * (i > 0)
            with no_warnings(*omitted):
                fitted = clone(given)
                if table is not None and table.columns is not None:
                    fitted._given_table = table
                fitted.fit(used)
            scores = _score(fitted, rows)
            self._log_shares = log_shares_of_absent(fitted, rows, support)
            absent = parts_of_absent(fitted, rows, self._log_shares)
            if absent is not None:
                scores = scores + absent.sum(axis=1)
            if missing.any() or i == n_refits:
                self._log_density = self._of_missing(fitted, rows, missing, absent)
                scores = scores + missing @ self._log_density
            if i < n_refits:
                support = np.zeros(n, dtype=bool)
                support[np.argsort(scores, kind="stable")[n - n_support :]] = True
        self._smallest_part = np.zeros(missing.shape[1])
        if _takes_tables(fitted):
            parts = parts_of(fitted, rows)
            parts = parts if absent is None else parts + absent
            smallest = np.where(missing, np.inf, parts).min(axis=0)
            share = log_share_of_unknown(fitted, missing)
            self._smallest_part = np.minimum(smallest, share)
        self.estimator_, self.support_ = fitted, support
        self.offset_ = self._smallest_inlier(scores)
        return self

    @by_numpy
    def score_samples(self, X: ArrayLike) -> NDArray[np.floating]:
        """Return the score of each row by the estimator; low is abnormal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            The scores of the estimator, in nats for an estimator of skae. A missing entry
            adds the mean log-density of a normal density with the variance of its column,
            since a density of fewer entries is on another scale. A category that no row of
            the last fit has adds the logarithm of its share among the training rows. One
            that no training row has counts as half a row, or as the strangest value of its
            column if that is lower.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the detector is not fitted.
        """
        check_is_fitted(self)
        rows, missing = self._validated(X, self.estimator_, reset=False)
        scores: NDArray[np.floating] = self.estimator_.score_samples(rows)
        unseen = self._of_unseen(rows, missing)
        return scores if unseen is None else scores + unseen.sum(axis=1)

    @available_if(_scores_features)
    @by_numpy
    def score_features(
        self, X: ArrayLike, *, return_kl: bool = False
    ) -> Any | tuple[Any, Scores]:
        """Return the part of each column in the score of each row; low is abnormal.

        The parts of a row add up to :meth:`score_samples`, plus the KL for a variational
        autoencoder. They say which columns make a row an outlier:
        :class:`skae.inspection.FeatureScoresDisplay` shows them. Only an estimator that has
        this method itself, such as those of skae, gives it to its detector.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        return_kl : bool, default=False
            Whether to return the KL too; it is 0 for a deterministic autoencoder.

        Returns
        -------
        log_likelihood : {ndarray, DataFrame} of shape (n_samples, n_features)
            Expected log-likelihood of each column, in nats, float64. A missing entry has
            what it adds to :meth:`score_samples`. A frame where the estimator returns one.

        kl : ndarray of shape (n_samples,)
            Only with `return_kl=True`: the sum of a row less its score, in nats.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the detector is not fitted.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_wine
        >>> from skae.outlier import LikelihoodOutlierDetector
        >>> X = load_wine().data
        >>> detector = LikelihoodOutlierDetector(random_state=0).fit(X)
        >>> changed = X[:1].copy()
        >>> changed[0, 4] *= 3  # the magnesium of the first wine
        >>> difference = detector.score_features(changed) - detector.score_features(X[:1])
        >>> load_wine().feature_names[int(np.argmin(difference))]
        'magnesium'
        """
        check_is_fitted(self)
        rows, missing = self._validated(X, self.estimator_, reset=False)
        unseen = self._of_unseen(rows, missing)
        added: Any = 0.0 if unseen is None else unseen
        if not return_kl:
            # An estimator of a user may have no KL.
            parts = self.estimator_.score_features(rows)
            return with_numbers(parts, np.asarray(parts) + added)
        parts, kl = self.estimator_.score_features(rows, return_kl=True)
        return with_numbers(parts, np.asarray(parts) + added), kl

    def _of_unseen(
        self, rows: Any, missing: NDArray[np.bool_]
    ) -> NDArray[np.float64] | None:
        """Return what entries add that the last fit has not seen, ``(n, d)``, or None.

        An unknown category counts as half a training row, or as the strangest value of its
        column if that adds less.
        """
        added = [parts_of_absent(self.estimator_, rows, self._log_shares)]
        if encoded_columns(self.estimator_) is not None:
            unknown = self.estimator_._table.unknown(rows) & ~missing
            if unknown.any():
                added.append(np.where(unknown, self._smallest_part, 0.0))
        if missing.any():
            added.append(np.where(missing, self._log_density, 0.0))
        given = [values for values in added if values is not None]
        return np.sum(given, axis=0) if given else None

    @by_numpy
    def decision_function(self, X: ArrayLike) -> NDArray[np.floating]:
        """Return the scores minus `offset_`; outliers are below 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of shape (n_samples,)
            The decision function.
        """
        return self.score_samples(X) - self.offset_

    @by_numpy
    def predict(self, X: ArrayLike) -> NDArray[np.integer]:
        """Return 1 for inliers and -1 for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        ndarray of int, shape (n_samples,)
            The class of each row.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def __dir__(self) -> list[str]:
        return without_missing(self, super().__dir__())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        given = make_outlier_estimator() if self.estimator is None else self.estimator
        tags.input_tags.allow_nan = _finite(given) == "allow-nan"
        tags.input_tags.string = tags.input_tags.categorical = _takes_tables(given)
        return tags

    def _validated(
        self, X: ArrayLike, estimator: Any, *, reset: bool
    ) -> tuple[Any, NDArray[np.bool_]]:
        """Return what the estimator takes, and what is missing of it, ``(n, d)``."""
        if _takes_tables(estimator):
            table = validated_table(self, X, reset=reset)
            if reset and _num_samples(table) < 2:
                raise ValueError(
                    f"Found array with {_num_samples(table)} sample(s) while a minimum of "
                    f"2 is required by {type(self).__name__}."
                )
            missing = missing_entries(table)
            return table if reset else self._named(table, X), missing
        check_table(X)
        numbers = as_numbers(X, advice=_ADVICE_ON_STRINGS)
        with infinities_named(numbers):
            checked = validate_data(
                self,
                numbers,
                reset=reset,
                ensure_min_samples=2 if reset else 1,
                ensure_all_finite=_finite(estimator),
            )
        # The estimator takes a frame, because it may name columns in messages.
        has_names = getattr(self, "feature_names_in_", None) is not None
        kept = numbers if has_names or not reset else checked
        return kept if reset else self._named(kept, X), np.isnan(checked)

    def _named(self, rows: Any, X: ArrayLike) -> Any:
        """Return rows of X with the names of `fit`, of whose lack one warning is enough."""
        names = getattr(self, "feature_names_in_", None)
        if names is None or package_of(X) is not None:
            return rows
        return named_frame(rows, names.tolist(), self._package)

    @staticmethod
    def _of_missing(
        estimator: Any, rows: Any, missing: NDArray[np.bool_], absent: Scores | None
    ) -> Any:
        """Return what a missing entry of each column adds to a score, ``(d,)``.

        It is the mean log-density of a normal density with the variance of the column, and
        for tables of several kinds of columns the mean part of the column in the scores.
        Rows of different holes can then be compared.
        """
        if _takes_tables(estimator):
            parts = parts_of(estimator, rows)
            parts = np.where(missing, 0.0, parts if absent is None else parts + absent)
            return parts.sum(axis=0) / np.maximum((~missing).sum(axis=0), 1)
        numbers = check_array(rows, dtype=np.float64, ensure_all_finite="allow-nan")
        variance = np.nanvar(numbers, axis=0)
        used = variance > 0
        log_density = np.zeros(len(variance))
        log_density[used] = -0.5 * (1 + np.log(2 * np.pi * variance[used]))
        return log_density

    def _smallest_inlier(self, scores: NDArray[np.float64]) -> float:
        """Return the offset for the scores of the training rows, ``(n,)``."""
        # A density of 0 has a score of minus infinity, with which no quantile is computed.
        finite = scores[np.isfinite(scores)]
        scores = np.maximum(scores, finite.min()) if len(finite) else np.zeros(1)
        if isinstance(self.contamination, str):
            low, high = np.quantile(scores, [0.25, 0.75])
            return float(low - _FENCE * (high - low))
        return float(np.quantile(scores, self.contamination))


def _finite(estimator: Any) -> bool | str:
    """Return what scikit-learn's validation is to do with NaN, as the estimator does."""
    has_tags = hasattr(estimator, "__sklearn_tags__")
    return "allow-nan" if has_tags and get_tags(estimator).input_tags.allow_nan else True


def _takes_tables(estimator: Any) -> bool:
    """Whether an estimator takes strings and categories, and scores each column."""
    has_tags = hasattr(estimator, "__sklearn_tags__")
    takes_strings = has_tags and get_tags(estimator).input_tags.string
    return bool(takes_strings) and hasattr(estimator, "score_features")


def _score(estimator: Any, rows: Any) -> NDArray[np.float64]:
    """Return the scores of rows, ``(n,)``; raise ValueError if one of them is NaN."""
    scores = np.asarray(estimator.score_samples(rows), dtype=np.float64)
    if np.isnan(scores).any():
        raise ValueError(
            f"{type(estimator).__name__}.score_samples returned NaN for "
            f"{np.isnan(scores).sum()} of the {len(scores)} training rows."
        )
    return scores
