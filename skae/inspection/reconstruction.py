"""Display of samples and their reconstructions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import check_is_fitted

from skae._data.columns import package_of
from skae._utils.numbers import as_numbers
from skae.inspection._common import (
    Display,
    check_matplotlib,
    columns_of_numbers,
    read_numbers,
    refuse_overflow,
    styled,
    unwrap,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# Most columns of a table whose names are legible.
_MOST_NAMES = 16
# Standard deviations at which the colours of a table end: most standardised values are
# within them.
_CLIP = 3.0
# Most rows of a table between which there is a line, and that have a number.
_MOST_LINES, _MOST_NUMBERS = 60, 20
# Sizes of the names of columns, in points.
_SMALLEST_NAME, _LARGEST_NAME = 5.0, 10.0


class ReconstructionDisplay(Display):
    """Samples, their reconstructions and the difference, as images or as a table.

    With an `image_shape`, each sample is an image. The originals, the reconstructions and
    the differences are three rows of images. Without an `image_shape`, the samples are rows
    of a table in standard deviations of each feature, with three blocks side by side.

    Use :meth:`from_estimator` to make a display of any transformer that has an
    ``inverse_transform``, such as `sklearn.decomposition.PCA`.

    Parameters
    ----------
    X, X_hat : array-like of shape (n_samples, n_features)
        Samples and their reconstructions, in the same units.

    image_shape : tuple of int, default=None
        Height and width of an image, or height, width and 3 for colours between 0 and 1.

    center, spread : array-like of shape (n_features,), default=None
        Mean and standard deviation for a table; if None, those of `X`. A spread of 0 is
        replaced by 1.

    feature_names : sequence of str, default=None
        Names for the columns of a table; shown for at most 16 features.

    Attributes
    ----------
    images_ : list of matplotlib AxesImage
        Originals, reconstructions and differences, in this order: one for each image, or
        one for each block of a table.

    ax_ : matplotlib Axes
        Axes with the blocks.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import LaplaceAutoencoder
    >>> from skae.inspection import ReconstructionDisplay
    >>> X = load_digits().data
    >>> ae = LaplaceAutoencoder(8, max_iter=5, random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(ae, X, image_shape=(8, 8))
    >>> display.X_hat.shape
    (10, 64)
    """

    images_: list[AxesImage]

    def __init__(
        self,
        *,
        X: ArrayLike,
        X_hat: ArrayLike,
        image_shape: tuple[int, ...] | None = None,
        center: ArrayLike | None = None,
        spread: ArrayLike | None = None,
        feature_names: ArrayLike | None = None,
    ) -> None:
        self.X = X
        self.X_hat = X_hat
        self.image_shape = image_shape
        self.center = center
        self.spread = spread
        self.feature_names = feature_names

    def plot(
        self,
        ax: Axes | None = None,
        *,
        image_kwargs: dict[str, Any] | None = None,
        difference_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the three blocks.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        image_kwargs : dict, default=None
            Keyword arguments of ``ax.imshow`` for originals and reconstructions, which have
            the same limits.

        difference_kwargs : dict, default=None
            Keyword arguments of ``ax.imshow`` for the differences. The colours of images
            end at plus and minus the range of the originals.

        Returns
        -------
        display : ReconstructionDisplay
            This object.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        X, X_hat = np.asarray(self.X, dtype=float), np.asarray(self.X_hat, dtype=float)
        if self.image_shape is None:
            longest = max(map(len, self._shown_names(X.shape[1])), default=0)
            height = 1.2 + 0.24 * np.clip(len(X), 8, 20) + 0.08 * longest
            ax = self._start_plot(ax, figsize=(8, height))
            self._plot_table(ax, X, X_hat, image_kwargs, difference_kwargs)
        else:
            height, width = self.image_shape[:2]
            size = (0.9 * len(X) + 1.4, 3.1 * height / width)
            ax = self._start_plot(ax, figsize=size)
            self._plot_images(ax, X, X_hat, image_kwargs, difference_kwargs)
        return self

    def _shown_names(self, n_features: int) -> list[str]:
        """Return the names of the columns of a table, or none if they are not shown."""
        if self.feature_names is None or n_features > _MOST_NAMES:
            return []
        return [str(name) for name in np.asarray(self.feature_names)]

    def _order_of_names(self, n_features: int) -> str:
        """Return a label for columns without names: how many, and which is the first."""
        label = f"{n_features} columns"
        if self.feature_names is None:
            return label
        names = np.asarray(self.feature_names)
        return f"{label} in each block, from {names[0]} to {names[-1]}"

    def _plot_images(
        self,
        ax: Axes,
        X: np.ndarray,
        X_hat: np.ndarray,
        image_kwargs: dict[str, Any] | None,
        difference_kwargs: dict[str, Any] | None,
    ) -> None:
        """Draw three rows of images."""
        from matplotlib.image import AxesImage

        assert self.image_shape is not None
        n, (height, width, *colours) = len(X), self.image_shape
        step = 1 + 1 / max(height, width)  # a gap of about a pixel between images
        low, high = X.min(), X.max()
        span = high - low if high > low else 1.0
        image_style = styled(
            AxesImage, {"cmap": "gray_r", "vmin": low, "vmax": high}, image_kwargs
        )
        difference_style = styled(
            AxesImage, {"cmap": "RdBu_r", "vmin": -span, "vmax": span}, difference_kwargs
        )
        difference = X_hat - X
        if colours:
            X, X_hat = X.clip(0, 1), X_hat.clip(0, 1)
        rows = [(X, image_style), (X_hat, image_style), (difference, difference_style)]
        self.images_ = []
        for row, (block, style) in enumerate(rows):
            for column, sample in enumerate(block):
                image = sample.reshape(self.image_shape)
                if colours and block is difference:
                    image = image.mean(axis=2)
                left, top = column * step, row * step * height / width
                extent = (left, left + 1, top + height / width, top)
                self.images_.append(ax.imshow(image, extent=extent, **style))
        ax.set_xlim(0, (n - 1) * step + 1)
        ax.set_ylim((2 * step + 1) * height / width, 0)
        centers = (np.arange(3) * step + 0.5) * height / width
        ax.set_yticks(centers, ["original", "reconstruction", "difference"])
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.set_frame_on(False)

    def _plot_table(
        self,
        ax: Axes,
        X: np.ndarray,
        X_hat: np.ndarray,
        image_kwargs: dict[str, Any] | None,
        difference_kwargs: dict[str, Any] | None,
    ) -> None:
        """Draw three blocks of a table."""
        from matplotlib.image import AxesImage

        n, d = X.shape
        gap = max(1.0, 0.08 * d)
        center = X.mean(axis=0) if self.center is None else np.asarray(self.center)
        spread = X.std(axis=0) if self.spread is None else np.asarray(self.spread)
        spread = np.where(spread > 0, spread, 1.0)
        original, reconstruction = (X - center) / spread, (X_hat - center) / spread
        defaults = {
            "cmap": "RdBu_r",
            "vmin": -_CLIP,
            "vmax": _CLIP,
            "aspect": "auto",
            "interpolation": "nearest",  # other ones blend neighbouring rows
        }
        image_style = styled(AxesImage, defaults, image_kwargs)
        difference_style = styled(AxesImage, defaults, difference_kwargs)
        blocks = [
            (original, image_style),
            (reconstruction, image_style),
            (reconstruction - original, difference_style),
        ]
        lefts = np.arange(3) * (d + gap)
        self.images_ = [
            ax.imshow(block, extent=(left, left + d, n, 0), **style)
            for left, (block, style) in zip(lefts, blocks, strict=True)
        ]
        ax.set_xlim(0, lefts[-1] + d)
        ax.set_ylim(n, 0)
        for left, title in zip(
            lefts, ("original", "reconstruction", "difference"), strict=True
        ):
            ax.annotate(
                title,
                (left + d / 2, 1.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
            )
        points = 72 * ax.get_window_extent().width / self.figure_.dpi
        size = min(0.9 * points / (lefts[-1] + d), _LARGEST_NAME)
        names = self._shown_names(d)
        if names and size >= _SMALLEST_NAME:
            positions = (lefts[:, None] + np.arange(d) + 0.5).ravel()
            ax.set_xticks(positions, names * 3, rotation=90, fontsize=size)
        else:
            ax.set_xticks([])
            ax.set_xlabel(self._order_of_names(d))
        if n <= _MOST_LINES:
            ax.hlines(np.arange(1, n), 0, lefts[-1] + d, colors="white", linewidth=1.5)
        numbers = range(n) if n <= _MOST_NUMBERS else []
        ax.set_yticks(np.asarray(numbers) + 0.5, [str(i) for i in numbers])
        ax.set_ylabel("Samples")
        ax.tick_params(length=0)
        ax.set_frame_on(False)
        self.figure_.colorbar(
            self.images_[0], ax=ax, label="standard deviations", extend="both", pad=0.02
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        n_samples: int = 10,
        image_shape: tuple[int, ...] | None = None,
        ax: Axes | None = None,
        image_kwargs: dict[str, Any] | None = None,
        difference_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the first samples of X and their reconstructions.

        Parameters
        ----------
        estimator : estimator
            Fitted transformer with an ``inverse_transform``: an autoencoder, a pipeline or
            search that ends in one, or PCA.

        X : array-like of shape (n_samples_total, n_features)
            Data. A table is standardised with the mean and standard deviation of all
            samples. Of a table of several kinds of columns, those of numbers and flags are
            drawn.

        n_samples : int, default=10
            Number of samples to show.

        image_shape : tuple of int, default=None
            Height and width of an image, or height, width and 3. If None, a table is drawn.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        image_kwargs, difference_kwargs : dict, default=None
            Keyword arguments of ``ax.imshow`` for originals and reconstructions, and for
            the differences.

        Returns
        -------
        display : ReconstructionDisplay
            Display that holds the data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `image_shape` does not have as many pixels as X has features.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        model, _ = unwrap(estimator, None)
        numbers = columns_of_numbers(model, X)
        with np.errstate(over="ignore", invalid="ignore"):
            # scikit-learn looks for infinities by a sum, which may overflow.
            data = check_array(
                as_numbers(X) if numbers is None else read_numbers(X, numbers),
                dtype=np.float64,
                input_name="X",
                # What is missing stays blank; other estimators may refuse it.
                ensure_all_finite="allow-nan",
            )
        if image_shape is not None and np.prod(image_shape) != data.shape[1]:
            raise ValueError(
                f"image_shape={image_shape} has {np.prod(image_shape)} pixels, but X has "
                f"{data.shape[1]} features."
            )
        codes = estimator.transform(_safe_indexing(X, slice(n_samples)))
        X_hat = estimator.inverse_transform(codes)
        frame: Any = X if package_of(X) else None
        names = getattr(estimator, "feature_names_in_", getattr(frame, "columns", None))
        if numbers is None:
            X_hat = np.asarray(X_hat)
        else:
            X_hat = read_numbers(X_hat, numbers)
            names = None if names is None else np.asarray(names)[numbers]
        with refuse_overflow("their squares") as checked:
            spread = checked(data.std(axis=0, where=~np.isnan(data)))
        display = cls(
            X=data[:n_samples],
            X_hat=X_hat,
            image_shape=image_shape,
            center=data.mean(axis=0, where=~np.isnan(data)),
            spread=spread,
            feature_names=names,
        )
        return display.plot(
            ax, image_kwargs=image_kwargs, difference_kwargs=difference_kwargs
        )
