"""What the displays share: axes, the model to draw, styles."""

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skae._fitted import FittedAutoencoder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def check_matplotlib(caller: str) -> None:
    """Refuse to go on without matplotlib.

    Parameters
    ----------
    caller : str
        Who needs it.

    Raises
    ------
    ImportError
        If matplotlib is not installed; it names the extra.
    """
    try:
        import matplotlib  # noqa: F401  (only to see whether it is there)
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib: install it with `pip install skae[plot]`."
        ) from error


class Display:
    """Base class of the displays: axes to draw on, and the figure that they are in."""

    ax_: "Axes"
    figure_: "Figure"

    def _start_plot(self, ax: "Axes | None", **kwargs: Any) -> "Axes":
        """Store the axes given, or those of a new figure made with the keywords."""
        check_matplotlib(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained", **kwargs)
        figure = ax.get_figure(root=True)
        assert figure is not None  # axes are only without one after their removal
        self.ax_, self.figure_ = ax, figure
        return ax


def styled(
    artist: type, defaults: dict[str, Any], kwargs: dict[str, Any] | None
) -> dict[str, Any]:
    """Keyword arguments of a drawing call: the user's before the defaults.

    Parameters
    ----------
    artist : type
        Matplotlib's class of what is drawn, which knows that ``c`` is ``color``.
    defaults : dict
        The display's own.
    kwargs : dict or None
        The user's.

    Returns
    -------
    dict
        Both, by their full names.
    """
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(kwargs or {}, artist)}


def unwrap(estimator: BaseEstimator, X: Any = None) -> tuple[BaseEstimator, Any]:
    """The model at the end of a fitted search or pipeline, and its own input.

    Parameters
    ----------
    estimator : estimator
        Fitted model, pipeline or search.
    X : array-like of shape (n_samples, n_features), default=None
        Data for all of it.

    Returns
    -------
    model : estimator
        The last step.
    X : array-like of shape (n_samples, n_features_of_model) or None
        What the steps before it make of the data.

    Raises
    ------
    NotFittedError
        If there has been no fit.
    """
    check_is_fitted(estimator)
    if isinstance(estimator, (GridSearchCV, RandomizedSearchCV)):
        return unwrap(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        before = estimator[:-1]
        if X is not None and len(before) > 0:
            X = before.transform(X)
        return unwrap(estimator[-1], X)
    return estimator, X


def unwrap_autoencoder(
    estimator: BaseEstimator, caller: str, X: Any = None
) -> tuple[FittedAutoencoder, Any]:
    """As :func:`unwrap`, for displays that need one of our models.

    Parameters
    ----------
    estimator : estimator
        Fitted model, pipeline or search.
    caller : str
        Which display needs it.
    X : array-like of shape (n_samples, n_features), default=None
        Data for all of it.

    Returns
    -------
    model : FittedAutoencoder
        The autoencoder.
    X : array-like of shape (n_samples, n_features_of_model) or None
        Its own input.

    Raises
    ------
    TypeError
        If the model is not an autoencoder of this package.
    """
    model, data = unwrap(estimator, X)
    if not isinstance(model, FittedAutoencoder):
        raise TypeError(
            f"{caller} needs an autoencoder of skae, alone or at the end of a pipeline "
            f"or search; got {type(model).__name__}."
        )
    return model, data
