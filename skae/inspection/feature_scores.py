"""Display of the columns that make a row unusual."""

from __future__ import annotations

from contextlib import suppress
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _num_features, _num_samples

from skae._data.columns import package_of, read_column
from skae._utils.numbers import as_numbers
from skae.estimators.table import as_table
from skae.inspection._common import Display, check_matplotlib, styled, unwrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer

# Inches of the axes, of a letter of the labels and of the margins, and the widest figure.
_AXES_WIDTH, _LETTER_WIDTH, _MARGIN, _WIDEST = 3.6, 0.085, 0.1, 12.0
# Numbers from here on have an exponent: more digits cannot be read at a glance.
_LARGEST_PLAIN = 1e9


class FeatureScoresDisplay(Display):
    """The columns of a row that are the most surprising to a model.

    A bar is the median of a column's part in the scores of all rows, minus its part in the
    score of one row, in nats: how much less likely the value of the row is than usual. The
    largest bar is at the top. Its label has the value of the row, and in brackets the
    median of the column or its most frequent category.

    Use :meth:`from_estimator` to make a display of any estimator that has a
    ``score_features``. What is missing in the row is left out.

    Parameters
    ----------
    differences : array-like of shape (n_shown,)
        The bars, in nats.

    values, typical_values : sequence of length n_shown
        Values of the row, and what is typical of the columns.

    feature_names : sequence of str of length n_shown
        Names of the columns.

    row : int, default=None
        Position of the row, for the title.

    row_name : object, default=None
        Name of the row, which the title has in place of its position.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        The bars, the largest first.

    ax_ : matplotlib Axes
        Axes with the bars.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae.inspection import FeatureScoresDisplay
    >>> from skae.outlier import LikelihoodOutlierDetector
    >>> X = load_wine(as_frame=True).data
    >>> detector = LikelihoodOutlierDetector(random_state=0).fit(X)
    >>> display = FeatureScoresDisplay.from_estimator(detector, X)  # the lowest score
    >>> display.row, display.feature_names[display.differences.argmax()]
    (121, 'alcalinity_of_ash')
    """

    bars_: BarContainer

    def __init__(
        self,
        *,
        differences: ArrayLike,
        values: Any,
        typical_values: Any,
        feature_names: Any,
        row: int | None = None,
        row_name: Any = None,
    ) -> None:
        self.differences = differences
        self.values = values
        self.typical_values = typical_values
        self.feature_names = feature_names
        self.row = row
        self.row_name = row_name

    def plot(
        self,
        ax: Axes | None = None,
        *,
        max_features: int = 10,
        bar_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the bars, the largest at the top.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        max_features : int, default=10
            Largest number of bars.

        bar_kwargs : dict, default=None
            Keyword arguments of ``ax.barh``.

        Returns
        -------
        display : FeatureScoresDisplay
            This object.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        differences = np.asarray(self.differences, dtype=float)
        order = np.argsort(-differences, kind="stable")[:max_features]
        labels = [
            f"{self.feature_names[i]} = {_shown(self.values[i])} "
            f"({_shown(self.typical_values[i])})"
            for i in order
        ]
        is_own = ax is None
        height = 1.2 + 0.32 * max(len(order), 2)
        width = _AXES_WIDTH + _LETTER_WIDTH * max(map(len, labels), default=0)
        ax = self._start_plot(ax, figsize=(max(6.4, min(width, _WIDEST)), height))
        from matplotlib.patches import Rectangle

        places = np.arange(len(order))
        style = styled(Rectangle, {}, bar_kwargs)
        self.bars_ = ax.barh(places, differences[order], **style)
        ax.set_yticks(places, labels)
        ax.invert_yaxis()
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_xlabel("Score of the column below its median (nats)")
        name = self.row if self.row_name is None else self.row_name
        which = "" if name is None else f"Row {name}: "
        title = f"{which}column = value (typical value)"
        if is_own:
            # Over the labels too, which may take more than half of the figure.
            self.figure_.suptitle(title, fontsize="large", wrap=True)
            engine: Any = self.figure_.get_layout_engine()
            engine.set(w_pad=_MARGIN, h_pad=_MARGIN)
        else:
            ax.set_title(title)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        row: int | None = None,
        *,
        max_features: int = 10,
        ax: Axes | None = None,
        bar_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the most surprising columns of a row.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator with ``score_samples`` and ``score_features``: an autoencoder,
            a :class:`skae.outlier.LikelihoodOutlierDetector` of one, or a pipeline or
            search that ends in one. If the earlier steps of a pipeline keep the columns,
            their values before these steps are shown.

        X : array-like of shape (n_samples, n_features)
            Data that contain the row, and define what is typical.

        row : int, default=None
            Position of the row in X, from 0 to n_samples - 1, or from -1 backwards. None is
            the row with the lowest score. The title has the name of the row in the index of
            a pandas frame, if its index is another than 0, 1, ...

        max_features : int, default=10
            Largest number of columns to show.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        bar_kwargs : dict, default=None
            Keyword arguments of ``ax.barh``.

        Returns
        -------
        display : FeatureScoresDisplay
            Display that holds the data of all columns.

        Raises
        ------
        IndexError
            If X has no such row.
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no ``score_features``, or if the row is a label of an index.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        if isinstance(X, np.ma.MaskedArray):
            X = as_numbers(X)  # masked entries are missing
        model, inner = unwrap(estimator, X)
        if not hasattr(model, "score_features"):
            raise TypeError(
                f"{cls.__name__} needs an estimator with score_features, alone or at the "
                f"end of a pipeline or search; got {type(model).__name__}."
            )
        n = _num_samples(X)
        if row is None:
            row = int(np.argmin(model.score_samples(inner)))
        row = _position(row, n, X)
        parts = np.asarray(model.score_features(inner))
        names, are_kept = _columns(estimator, model, inner)
        table: Any = X if are_kept else inner
        table = table.toarray() if issparse(table) else table
        table = table if package_of(table) else as_table(table)
        shown: list[tuple[float, Any, Any, str]] = []
        for j, name in enumerate(names):
            values = read_column(table, j)
            observed = np.array([v is not None and v == v for v in values])
            if observed[row]:
                typical_part = float(np.median(parts[observed, j]))
                typical = _typical(values[observed])
                shown.append((typical_part - parts[row, j], values[row], typical, name))
        columns = zip(*shown, strict=True) if shown else ((), (), (), ())
        differences, own, typical_values, feature_names = columns
        display = cls(
            differences=np.array(differences),
            values=list(own),
            typical_values=list(typical_values),
            feature_names=list(feature_names),
            row=row,
            row_name=_name_of(row, X),
        )
        return display.plot(ax, max_features=max_features, bar_kwargs=bar_kwargs)


def _position(row: Any, n: int, X: Any) -> int:
    """Return the position of one of n rows, counted from the first.

    Raises TypeError for what is no integer, and IndexError for a position beyond the rows.
    """
    if not isinstance(row, Integral) or isinstance(row, bool):
        index = getattr(X, "index", None)
        found = "."
        if hasattr(index, "get_indexer_for"):
            places = np.flatnonzero(np.asarray(index == row))
            if len(places):
                found = f"; the index has {row!r} at position {places[0]}."
        raise TypeError(
            f"row is a position, 0 to {n - 1}, but {row!r} is a {type(row).__name__}{found}"
        )
    position = int(row)
    if not -n <= position < n:
        raise IndexError(f"row={row}, but X has {n} rows: row is a position, 0 to {n - 1}.")
    return position % n


def _name_of(row: int, X: Any) -> Any:
    """Return the name of a row in the index of a pandas frame; None if that is plain."""
    if package_of(X) != "pandas":
        return None
    name = X.index[row]
    return None if isinstance(name, Integral) and name == row else name


def _columns(estimator: Any, model: Any, inner: Any) -> tuple[list[str], bool]:
    """Return the names of the columns of the model's input, and whether steps keep them.

    The names are x0, x1, ... by default. The steps of a pipeline keep the columns if they
    return those of their input, by their names.
    """
    steps, returned, keeps = _steps(estimator), None, True
    if steps is not None:
        # A pipeline has this method, which needs that of each step.
        with suppress(AttributeError):
            returned = list(steps.get_feature_names_out())
        given = getattr(steps, "feature_names_in_", None)
        if given is None:
            given = [f"x{j}" for j in range(getattr(steps, "n_features_in_", 0))]
        keeps = returned == list(given)
    names = getattr(model, "feature_names_in_", returned)
    if names is None and package_of(inner):
        names = inner.columns
    if names is None:
        names = [f"x{j}" for j in range(_num_features(inner))]
    return [str(name) for name in names], keeps


def _steps(estimator: Any) -> Pipeline | None:
    """Return the steps before the model of a fitted pipeline or search, or None."""
    if isinstance(estimator, (GridSearchCV, RandomizedSearchCV)):
        estimator = estimator.best_estimator_
    is_pipeline = isinstance(estimator, Pipeline) and len(estimator) > 1
    return estimator[:-1] if is_pipeline else None


def _typical(values: np.ndarray) -> Any:
    """Return the median of numbers, or the most frequent of other values."""
    if values.dtype.kind in "fiu":
        return float(np.median(values))
    different, counts = np.unique(values.astype(str), return_counts=True)
    return str(different[counts.argmax()])


def _shown(value: Any) -> str:
    """Return a value as text; a number of money or rows is one of whole units."""
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not is_number:
        return str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < _LARGEST_PLAIN else f"{value:.4g}"
