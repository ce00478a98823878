"""Display of observed beside imputed values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _num_samples, check_array

from skae._utils.choices import validate_parameters
from skae._utils.numbers import as_numbers
from skae.inspection._common import (
    Display,
    check_matplotlib,
    columns_of_numbers,
    read_numbers,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Columns that are drawn, those with the most missing values, and points of each strip.
_MOST_COLUMNS = 12
_MOST_POINTS = 500
_CONSTRAINTS = {"statistic": [None, StrOptions({"mean", "median", "plug_in"})]}


class ImputationDisplay(Display):
    """Observed and imputed values of each column with missing values, side by side.

    The values are standardised by mean and standard deviation of the observed ones.
    Imputed values are drawn from their conditional distribution by default. If entries are
    missing completely at random, they are distributed like the observed ones. Means vary
    less. A difference is no proof of an error: values that are missing at random may differ
    from the observed ones, but large differences ask for an explanation.

    Use :meth:`from_estimator` to make a display.

    Parameters
    ----------
    filled : array-like of shape (n_samples, n_features)
        Table without missing values; a column that is not drawn may be NaN.

    missing : array-like of bool of shape (n_samples, n_features)
        Which values are imputed.

    feature_names : sequence of str, default=None
        Names of the columns; by default their positions.

    Attributes
    ----------
    columns_ : ndarray of int
        Positions of the columns that are drawn: those with the most missing values, at most
        12, in their order.

    observed_, imputed_ : matplotlib Line2D
        Points of at most 500 values of each column.

    ax_ : matplotlib Axes
        Axes with the points.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skae import VariationalAutoencoder
    >>> from skae.inspection import ImputationDisplay
    >>> X = load_iris().data
    >>> X[::4, 2] = np.nan
    >>> vae = VariationalAutoencoder(2, max_iter=20, random_state=0).fit(X)
    >>> display = ImputationDisplay.from_estimator(vae, X)
    >>> display.columns_.tolist(), int(np.sum(display.missing))
    ([2], 38)
    """

    columns_: np.ndarray
    observed_: Line2D
    imputed_: Line2D

    def __init__(
        self,
        *,
        filled: ArrayLike,
        missing: ArrayLike,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.filled = filled
        self.missing = missing
        self.feature_names = feature_names

    def plot(
        self,
        ax: Axes | None = None,
        *,
        observed_kwargs: dict[str, Any] | None = None,
        imputed_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw a strip of observed and one of imputed values for each column.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        observed_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the observed values.

        imputed_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the imputed values.

        Returns
        -------
        display : ImputationDisplay
            This object.

        Raises
        ------
        ValueError
            If no value is missing.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        filled = np.asarray(self.filled, dtype=np.float64)
        missing = np.asarray(self.missing, dtype=bool)
        counts = missing.sum(axis=0)
        if not counts.any():
            raise ValueError(
                "X has no missing values to compare with observed ones, in columns of "
                "numbers."
            )
        ax = self._start_plot(ax)
        from matplotlib.lines import Line2D

        most = np.argsort(-counts, kind="stable")[:_MOST_COLUMNS]
        self.columns_ = np.sort(most[counts[most] > 0])
        strips: dict[bool, list[np.ndarray]] = {False: [], True: []}
        rng = np.random.RandomState(0)
        for place, column in enumerate(self.columns_):
            values, mask = filled[:, column], missing[:, column]
            observed = values[~mask] if not mask.all() else values
            spread = observed.std()
            for is_imputed, side in ((False, -0.2), (True, 0.2)):
                own = (values[mask == is_imputed] - observed.mean()) / (spread or 1.0)
                own = own[:: -(-max(len(own), 1) // _MOST_POINTS)]
                x = place + side + rng.uniform(-0.12, 0.12, size=len(own))
                strips[is_imputed].append(np.column_stack([x, own]))
        common = {"marker": ".", "linestyle": "none", "alpha": 0.4}
        styles = (
            styled(Line2D, {**common, "color": "gray"}, observed_kwargs),
            styled(Line2D, {**common, "color": "C1"}, imputed_kwargs),
        )
        self.observed_, self.imputed_ = (
            ax.plot(*np.concatenate(strips[kind]).T, label=label, **style)[0]
            for kind, label, style in zip(
                (False, True), ("Observed", "Imputed"), styles, strict=True
            )
        )
        names = self.feature_names
        labels = [str(j) if names is None else str(names[j]) for j in self.columns_]
        ax.set_xticks(range(len(labels)), labels)
        if names is not None:
            ax.tick_params(axis="x", labelrotation=30)
            for label in ax.get_xticklabels():
                label.set(horizontalalignment="right", rotation_mode="anchor")
        n_drawn, n_with = len(labels), np.count_nonzero(counts)
        which = f"Column ({n_drawn} of {n_with}, those with the most missing values)"
        ax.set(
            xlabel="Column" if n_drawn == n_with else which,
            ylabel="Value in standard deviations",
        )
        ax.legend()
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        statistic: str | None = None,
        random_state: int | np.random.RandomState | None = 0,
        ax: Axes | None = None,
        observed_kwargs: dict[str, Any] | None = None,
        imputed_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Impute the missing values of a table, and draw them beside the observed ones.

        Parameters
        ----------
        estimator : estimator
            Fitted autoencoder, or a pipeline or search that ends in one. Of an
            `AutoencoderImputer`, its ``estimator_``.

        X : array-like of shape (n_samples, n_features)
            Table with missing values. Of a table of several kinds of columns, the columns
            of numbers and flags are drawn.

        statistic : {"mean", "median", "plug_in"}, default=None
            What fills a missing value; by default a draw from its conditional distribution.

        random_state : int, RandomState instance or None, default=0
            Source of the draws.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        observed_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the observed values.

        imputed_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the imputed values.

        Returns
        -------
        display : ImputationDisplay
            Display that holds the data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is not an autoencoder of skae.
        ValueError
            If no value is missing.
        """
        validate_parameters(_CONSTRAINTS, {"statistic": statistic}, cls.__name__)
        model, X = cls._find_autoencoder(estimator, X)
        if statistic is None:
            filled = model.impute(X, n_samples=1, random_state=random_state)[0]
        else:
            filled = model.impute(X, statistic=statistic, random_state=random_state)
        names = getattr(model, "feature_names_in_", None)
        numbers = columns_of_numbers(model, X)
        if numbers is None:
            filled, check = np.asarray(filled), {"ensure_all_finite": "allow-nan"}
            missing = np.isnan(check_array(as_numbers(X), dtype="numeric", **check))
        else:
            table, missing = filled, np.zeros((_num_samples(X), model.n_features_in_), bool)
            filled = np.full(missing.shape, np.nan)
            filled[:, numbers] = read_numbers(table, numbers)
            missing[:, numbers] = np.isnan(read_numbers(X, numbers))
        display = cls(filled=filled, missing=missing, feature_names=names)
        return display.plot(
            ax, observed_kwargs=observed_kwargs, imputed_kwargs=imputed_kwargs
        )
