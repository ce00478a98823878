"""Common parts of the displays: the model to draw, axes, styles and ticks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skae._data.columns import package_of, read_column
from skae._utils.namespaces import home_of
from skae._utils.signatures import make_methods_readable
from skae.estimators.imputation import ImputationMixin
from skae.estimators.table import as_table
from skae.estimators.variational import VariationalAutoencoder
from skae.likelihoods import GeneralizedLinear

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError that names the caller if matplotlib is not installed."""
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib: install it with: pip install 'skae[plot]'"
        ) from error


def unwrap(estimator: BaseEstimator, X: Any) -> tuple[BaseEstimator, Any]:
    """Return the model at the end of a fitted search or pipeline, and its input.

    X, ``(n_samples, n_features)`` or None, is the input of the whole estimator. The earlier
    steps of a pipeline transform it. Raises NotFittedError without a fit, and TypeError for
    tensors.
    """
    check_is_fitted(estimator)
    if home_of(X) is not None:
        raise TypeError(
            "Displays take arrays of NumPy. Call them with X.cpu().numpy(), outside of "
            "config_context(array_api_dispatch=True)."
        )
    if isinstance(estimator, (GridSearchCV, RandomizedSearchCV)):
        return unwrap(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        before = estimator[:-1]
        if X is not None and len(before) > 0:
            X = before.transform(X)
        return unwrap(estimator[-1], X)
    return estimator, X


def columns_of_numbers(model: Any, X: Any) -> list[int] | None:
    """Return which columns of a table of several kinds are numbers or flags, by position.

    X is the table of the model, or that of a pipeline around it, which may have other
    columns. It is None for a model whose columns are all numbers. Raises ValueError if no
    column is one.
    """
    if not isinstance(model, ImputationMixin) or model._table.columns is None:
        return None
    X = as_table(X) if package_of(X) is None else X
    found = [i for i in range(X.shape[1]) if read_column(X, i).dtype.kind in "fiub"]
    if not found:
        raise ValueError("X has no column of numbers, and no other ones can be drawn.")
    return found


def read_numbers(X: Any, columns: Sequence[int]) -> np.ndarray:
    """Return some columns of a table as float64, ``(n, n_columns)``; NaN is missing."""
    X = as_table(X) if package_of(X) is None else X
    return np.column_stack([read_column(X, i).astype(np.float64) for i in columns])


def check_location_scale(model: ImputationMixin, caller: str) -> None:
    """Raise ValueError if some features have no residuals in units of a scale."""
    for _, family in model.likelihood_.parts(model.module_.spec.n_features):
        if isinstance(family, GeneralizedLinear) or family.takes_logarithm:
            raise ValueError(
                f"{caller} is for residuals in units of a scale, and "
                f"{type(family).__name__} has none."
            )


class Display:
    """Base class of the displays."""

    ax_: Axes
    figure_: Figure

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make signatures that `help` shows in lines that can be read."""
        super().__init_subclass__(**kwargs)
        make_methods_readable(cls)

    def _start_plot(self, ax: Axes | None, **kwargs: Any) -> Axes:
        """Store the given axes, or the axes of a new figure made with the keywords."""
        check_matplotlib(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained", **kwargs)
        figure = ax.get_figure(root=True)
        assert figure is not None  # only axes that were removed have no figure
        self.ax_, self.figure_ = ax, figure
        return ax

    @classmethod
    def _find_autoencoder(
        cls, estimator: BaseEstimator, X: Any = None
    ) -> tuple[ImputationMixin, Any]:
        """Unwrap an estimator, as `unwrap` does, and raise if it is not one of skae."""
        return cls._find_model(estimator, X, ImputationMixin, "an autoencoder of skae")

    @classmethod
    def _find_variational(
        cls, estimator: BaseEstimator, X: Any, need: str
    ) -> tuple[VariationalAutoencoder, Any]:
        """Unwrap an estimator, and raise if it is not a variational autoencoder."""
        need = f"{need}, so a VariationalAutoencoder"
        return cls._find_model(estimator, X, VariationalAutoencoder, need)

    @classmethod
    def _find_model(
        cls, estimator: BaseEstimator, X: Any, kind: type, need: str
    ) -> tuple[Any, Any]:
        """Unwrap an estimator, and raise a TypeError if it is not of a kind."""
        # The two callers give the types: for mypy, an abstract class is no type[Model].
        check_matplotlib(f"{cls.__name__}.from_estimator")
        model, X = unwrap(estimator, X)
        if not isinstance(model, kind):
            raise TypeError(
                f"{cls.__name__} needs {need}, alone or at the end of a pipeline or "
                f"search; got {type(model).__name__}."
            )
        return model, X


@contextmanager
def refuse_overflow(what: str) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Compute without warnings of an overflow, and raise ValueError if there was one.

    The value is a function that returns its array, or raises if that is not finite.
    """

    def checked(values: np.ndarray) -> np.ndarray:
        if not np.isfinite(values).all():
            raise ValueError(
                f"X has values so large that {what} overflow float64: leave out these rows."
            )
        return values

    with np.errstate(over="ignore", invalid="ignore"):
        yield checked


def styled(
    artist: type, defaults: dict[str, Any], kwargs: dict[str, Any] | None
) -> dict[str, Any]:
    """Merge the keyword arguments of a drawing call; those of the user come first.

    The matplotlib class ``artist`` defines which names are aliases, such as ``c`` for
    ``color``. The result has the full names.
    """
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(kwargs or {}, artist)}


def plain_ticks(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2 and 5 times the powers of 10, without exponents."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())
