"""Display of the codes, and of decoded images over a grid of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from skae._data.columns import categories_of, is_missing
from skae._utils.numbers import as_numbers
from skae.inspection._common import Display, check_matplotlib, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.image import AxesImage

# Most classes that a legend can distinguish: the colours of matplotlib's tab20.
_MOST_CLASSES = 20
# Colour of samples without a label.
_NO_LABEL = "lightgray"
# Most points between which matplotlib finds the best place for a legend in little time.
_MOST_FOR_BEST = 20_000
# Style of a legend inside the axes, that covers few points.
_COMPACT: dict[str, Any] = {
    "framealpha": 0.7,
    "handletextpad": 0.1,
    "columnspacing": 0.5,
    "labelspacing": 0.2,
    "borderpad": 0.2,
}
# Fraction of the codes, at each end of each component, outside the decoded grid: outliers
# would make the grid too wide.
_TAIL = 0.01


class LatentSpaceDisplay(Display):
    """Two components of the codes as a scatter, or the decoder's images over a grid.

    Use :meth:`from_estimator` to make a display of any transformer. The grid needs two
    components and an ``inverse_transform``.

    Parameters
    ----------
    codes : array-like of shape (n_samples, 2)
        The two components.

    y : array-like of shape (n_samples,), default=None
        Classes or numbers that colour the samples.

    component_names : sequence of 2 str, default=("component 0", "component 1")
        Names for the axes.

    grid : array-like of shape (n_rows, n_columns, height, width), default=None
        Decoded images, with a last axis of 3 for colours; the first row has the smallest
        second component.

    grid_limits : tuple of float, default=None
        Smallest and largest first, smallest and largest second component of the grid.

    value_limits : tuple of float, default=None
        Values at which the colours of the grid end; if None, the limits of the grid. The
        limits of the data suit better, since decoded values may lie outside them.

    Attributes
    ----------
    scatters_ : list of matplotlib PathCollection
        The points, one collection for each class, after that of the samples whose class is
        missing; empty if the grid was drawn.

    image_ : matplotlib AxesImage or None
        The grid, if it was drawn.

    ax_ : matplotlib Axes
        Axes with the picture.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VariationalAutoencoder
    >>> from skae.inspection import LatentSpaceDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> vae = VariationalAutoencoder(2, max_iter=5, random_state=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(vae, X, y)
    >>> display.codes.shape
    (1797, 2)
    """

    scatters_: list[PathCollection]
    image_: AxesImage | None

    def __init__(
        self,
        *,
        codes: ArrayLike,
        y: ArrayLike | None = None,
        component_names: tuple[str, str] = ("component 0", "component 1"),
        grid: ArrayLike | None = None,
        grid_limits: tuple[float, float, float, float] | None = None,
        value_limits: tuple[float, float] | None = None,
    ) -> None:
        self.codes = codes
        self.y = y
        self.component_names = component_names
        self.grid = grid
        self.grid_limits = grid_limits
        self.value_limits = value_limits

    def plot(
        self,
        ax: Axes | None = None,
        *,
        kind: str | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
        image_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the codes or the grid.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        kind : {"scatter", "grid"}, default=None
            What to draw: the codes, or the decoded images at their codes. If None, the grid
            if it was computed, else the codes.

        scatter_kwargs, image_kwargs : dict, default=None
            Keyword arguments of ``ax.scatter`` and ``ax.imshow``.

        Returns
        -------
        display : LatentSpaceDisplay
            This object.

        Raises
        ------
        ValueError
            If `kind` has another value, if it is "grid" and there is no grid, or if codes
            and y differ in length.
        """
        if kind is None:
            kind = "scatter" if self.grid is None else "grid"
        if kind not in ("scatter", "grid"):
            raise ValueError(f'kind must be "scatter" or "grid", got {kind!r}.')
        if kind == "grid" and self.grid is None:
            raise ValueError(
                'kind="grid" needs decoded images: give image_shape to from_estimator.'
            )
        check_consistent_length(self.codes, self.y)
        ax = self._start_plot(ax)
        self.scatters_, self.image_ = [], None
        if kind == "scatter":
            self._plot_codes(ax, scatter_kwargs)
        else:
            self._plot_grid(ax, image_kwargs)
        ax.set(xlabel=self.component_names[0], ylabel=self.component_names[1])
        return self

    def _plot_codes(self, ax: Axes, kwargs: dict[str, Any] | None) -> None:
        """Draw the codes as points, in colours that depend on y."""
        from matplotlib.collections import PathCollection

        codes = np.asarray(self.codes)
        size = float(np.clip(8000 / len(codes), 4, 36))
        defaults = {"s": size, "alpha": 0.8, "linewidths": 0}
        # The names of scatter's arguments are not aliases of the artist's properties.
        kwargs = {"c" if k == "color" else k: v for k, v in (kwargs or {}).items()}
        kwargs = {"s" if k == "sizes" else k: v for k, v in kwargs.items()}
        style = styled(PathCollection, defaults, kwargs)
        if self.y is None or "c" in style:
            self.scatters_ = [ax.scatter(*codes.T, **style)]
            return
        y, is_missing = _labels(self.y)
        if is_missing.any():
            points = codes[is_missing].T
            missing_style = {"color": _NO_LABEL, "label": "missing", **style}
            # They have no numbers for a colour map.
            for key in ("cmap", "norm", "vmin", "vmax"):
                missing_style.pop(key, None)
            self.scatters_.append(ax.scatter(*points, **missing_style))
        y, codes = y[~is_missing], codes[~is_missing]
        classes, _ = categories_of(y, None)
        is_continuous = (
            y.dtype.kind == "f"
            and len(y) > 0
            and type_of_target(y).startswith("continuous")
        )
        if is_continuous or len(classes) > _MOST_CLASSES:
            if y.dtype.kind not in "fiub":
                raise ValueError(
                    f"y has {len(classes)} classes that are no numbers, but a legend can "
                    f"distinguish {_MOST_CLASSES}. Join rare classes, or pass numbers."
                )
            self.scatters_.append(ax.scatter(*codes.T, **{"c": y, **style}))
            name = getattr(self.y, "name", None)  # of a series
            label = "y" if name is None else str(name)
            self.figure_.colorbar(self.scatters_[-1], ax=ax, label=label)
            if is_missing.any():
                ax.legend()
            return
        import matplotlib as mpl

        name = "tab10" if len(classes) <= 10 else "tab20"
        for label, colour in zip(classes, mpl.color_sequences[name], strict=False):
            points = codes[y == label].T
            self.scatters_.append(
                ax.scatter(*points, **{"color": colour, "label": str(label), **style})
            )
        legend: dict[str, Any] = {"markerscale": 2}
        if self.figure_.get_layout_engine() is not None:
            # The legend is beside the axes, since the points leave no corner free, and the
            # layout makes room for it.
            legend |= {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False}
        else:
            # Beside the axes, the legend would lie over other axes of the figure.
            legend |= {
                "loc": "best" if len(codes) <= _MOST_FOR_BEST else "upper right",
                "ncols": 1 if len(classes) <= 5 else 2,
                "fontsize": "small",
                **_COMPACT,
            }
        ax.legend(**legend)

    def _plot_grid(self, ax: Axes, kwargs: dict[str, Any] | None) -> None:
        """Draw the decoded images as one mosaic."""
        from matplotlib.image import AxesImage

        grid, limits = np.asarray(self.grid), self.grid_limits
        assert limits is not None
        # A frame of one empty pixel tells an image from its neighbours.
        frame = [(0, 0), (0, 0), (1, 1), (1, 1)] + [(0, 0)] * (grid.ndim - 4)
        empty = np.nan if grid.ndim == 4 else 1.0
        grid = np.pad(grid.astype(float), frame, constant_values=empty)
        n_rows, n_columns, height, width, *colours = grid.shape
        # The largest second component is at the top.
        rows = np.moveaxis(grid[::-1], 1, 2)
        mosaic = rows.reshape(n_rows * height, n_columns * width, *colours)
        if colours:
            mosaic = mosaic.clip(0, 1)
        # Each image is centred on its code, so the mosaic is half an image wider on each
        # side.
        x_half = (limits[1] - limits[0]) / (n_columns - 1) / 2
        y_half = (limits[3] - limits[2]) / (n_rows - 1) / 2
        extent = (
            limits[0] - x_half,
            limits[1] + x_half,
            limits[2] - y_half,
            limits[3] + y_half,
        )
        pixels = (height * n_rows / (width * n_columns)) * (
            (extent[1] - extent[0]) / (extent[3] - extent[2])
        )
        low, high = (None, None) if self.value_limits is None else self.value_limits
        defaults = {"cmap": "gray_r", "aspect": pixels, "vmin": low, "vmax": high}
        self.image_ = ax.imshow(
            mosaic, extent=extent, **styled(AxesImage, defaults, kwargs)
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        components: tuple[int, int] = (0, 1),
        image_shape: tuple[int, ...] | None = None,
        n_images: int = 15,
        kind: str | None = None,
        ax: Axes | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
        image_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the codes of data, or images that are decoded over the plane of the codes.

        Parameters
        ----------
        estimator : estimator
            Fitted transformer: an autoencoder, a pipeline or search that ends in one, or
            PCA.

        X : array-like of shape (n_samples, n_features)
            Data.

        y : array-like of shape (n_samples,), default=None
            Classes or numbers that colour the samples. Up to 20 classes have a legend;
            numbers, also those of more classes, have a colour bar. Samples whose value is
            missing are gray, with the label "missing".

        components : tuple of 2 int, default=(0, 1)
            Which components to show.

        image_shape : tuple of int, default=None
            Height and width of an image, or height, width and 3. If given, images are
            decoded on a grid that covers the middle 98 per cent of each component.

        n_images : int, default=15
            Number of images in each direction.

        kind : {"scatter", "grid"}, default=None
            What to draw. If None, the grid if `image_shape` is given, else the codes.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        scatter_kwargs, image_kwargs : dict, default=None
            Keyword arguments of ``ax.scatter`` and ``ax.imshow``.

        Returns
        -------
        display : LatentSpaceDisplay
            Display that holds the data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If a component does not exist, if a grid is requested and the codes do not have
            two components, if X and y differ in length, or if there are more than 20
            classes that are no numbers.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        codes = np.asarray(estimator.transform(X))
        if max(components) >= codes.shape[1]:
            raise ValueError(
                f"components={components}, but the codes have {codes.shape[1]} of them, "
                "counted from 0."
            )
        grid = limits = values = None
        if image_shape is not None:
            if codes.shape[1] != 2:
                raise ValueError(
                    "A grid of decoded images needs n_components=2; the codes have "
                    f"{codes.shape[1]}."
                )
            grid, limits = _decode_grid(estimator, codes, components, image_shape, n_images)
            data = check_array(
                as_numbers(X),
                dtype=np.float64,
                input_name="X",
                ensure_all_finite="allow-nan",
            )
            values = (float(np.nanmin(data)), float(np.nanmax(data)))
        display = cls(
            codes=codes[:, list(components)],
            y=y,
            component_names=(f"component {components[0]}", f"component {components[1]}"),
            grid=grid,
            grid_limits=limits,
            value_limits=values,
        )
        return display.plot(
            ax, kind=kind, scatter_kwargs=scatter_kwargs, image_kwargs=image_kwargs
        )


def _labels(y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of a user ``(n,)``, as numbers if they are, and which are missing."""
    values = column_or_1d(np.asarray(y))
    if values.dtype.kind == "O":
        missing = np.array([is_missing(value) for value in values], dtype=bool)
        # They may be numbers beside None or NA, such as those of pandas' Int64.
        known = np.array(values[~missing].tolist())
        if known.dtype.kind in "fiub":
            values = np.zeros(len(values), dtype=known.dtype)
            values[~missing] = known
        return values, missing
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    return values, missing


def _decode_grid(
    estimator: BaseEstimator,
    codes: np.ndarray,
    components: tuple[int, int],
    image_shape: tuple[int, ...],
    n_images: int,
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Decode a square grid of codes; return the images and the limits of the codes."""
    low, high = np.quantile(codes[:, list(components)], [_TAIL, 1 - _TAIL], axis=0)
    first = np.linspace(low[0], high[0], n_images)
    second = np.linspace(low[1], high[1], n_images)
    places = np.empty((n_images * n_images, 2))
    places[:, components[0]] = np.tile(first, n_images)
    places[:, components[1]] = np.repeat(second, n_images)
    images = np.asarray(estimator.inverse_transform(places))
    limits = float(first[0]), float(first[-1]), float(second[0]), float(second[-1])
    return images.reshape(n_images, n_images, *image_shape), limits
