"""Display of the quantiles of residuals, to choose a likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from torch import Tensor

from skae._module import AutoencoderModule
from skae._utils.numbers import as_numbers
from skae.estimators.inference import InferenceMixin
from skae.inspection._common import (
    Display,
    check_location_scale,
    check_matplotlib,
    refuse_overflow,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Number of quantiles, which makes a nearly continuous curve.
_POINTS = 201
_STANDARD = {"gaussian": scipy.stats.norm, "laplace": scipy.stats.laplace}


class ResidualQQDisplay(Display):
    r"""Quantiles of the residuals against those of a Gaussian and of a Laplace density.

    A residual is x minus the reconstruction. For each density, the residuals are in units
    of its optimal scale: the root mean square for the Gaussian, the mean absolute value for
    the Laplace. The density whose points are closer to the diagonal fits the residuals
    better. The mean log-densities measure the difference:
    :math:`-\tfrac12(\log 2\pi s^2 + 1)` and :math:`-(\log 2b + 1)` nats for each feature
    of a sample.

    The residuals depend on the likelihood that the model was trained with. A Laplace
    autoencoder makes most residuals small and leaves a few large, even if the noise is
    Gaussian. The effect is largest for a deterministic model with more components than it
    needs. So use the residuals of a Gaussian model, or those of PCA with
    :meth:`from_residuals`: if the Laplace density fits these better, it is a better choice.
    The reconstruction of a variational autoencoder is that of the posterior mean.

    Use :meth:`from_estimator` or :meth:`from_residuals` to make a display.

    Parameters
    ----------
    quantiles : dict of str to ndarray of shape (n_points,)
        For "gaussian" and "laplace": quantiles of the residuals in units of the scale.

    theoretical : dict of str to ndarray of shape (n_points,)
        The quantiles of the standard densities at the same probabilities.

    log_density : dict of str to float
        Mean log-density of a residual at the optimal scale, in nats, for the units of the
        residuals.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The points of each density.

    diagonal_ : matplotlib Line2D
        Line on which the points of the true density are.

    ax_ : matplotlib Axes
        Axes with the points.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> import numpy as np
    >>> from skae.inspection import ResidualQQDisplay
    >>> residuals = np.random.default_rng(0).laplace(size=(500, 3))
    >>> display = ResidualQQDisplay.from_residuals(residuals)
    >>> max(display.log_density, key=display.log_density.get)
    'laplace'
    """

    lines_: dict[str, Line2D]
    diagonal_: Line2D

    def __init__(
        self,
        *,
        quantiles: dict[str, np.ndarray],
        theoretical: dict[str, np.ndarray],
        log_density: dict[str, float],
    ) -> None:
        self.quantiles = quantiles
        self.theoretical = theoretical
        self.log_density = log_density

    def plot(
        self,
        ax: Axes | None = None,
        *,
        point_kwargs: dict[str, Any] | None = None,
        diagonal_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the quantiles.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        point_kwargs, diagonal_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the points and for the diagonal.

        Returns
        -------
        display : ResidualQQDisplay
            This object.
        """
        ax = self._start_plot(ax)
        from matplotlib.lines import Line2D

        self.lines_ = {}
        for marker, (name, quantiles) in zip("ox", self.quantiles.items(), strict=True):
            defaults = {
                "linestyle": "none",
                "marker": marker,
                "markersize": 4,
                "label": f"{name} ({self.log_density[name]:.3f} nats)",
            }
            style = styled(Line2D, defaults, point_kwargs)
            (self.lines_[name],) = ax.plot(self.theoretical[name], quantiles, **style)
        reach = max(np.abs(t).max() for t in self.theoretical.values())
        defaults = {
            "color": "black",
            "linewidth": 1,
            "zorder": 1,
            "label": "where the density is right",
        }
        style = styled(Line2D, defaults, diagonal_kwargs)
        (self.diagonal_,) = ax.plot([-reach, reach], [-reach, reach], **style)
        ax.set(
            xlabel="Quantile of the density (scales)",
            ylabel="Quantile of the residuals (scales)",
        )
        ax.legend(title="Mean log-density of a residual", loc="upper left")
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        ax: Axes | None = None,
        point_kwargs: dict[str, Any] | None = None,
        diagonal_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the quantiles of the residuals of a fitted autoencoder.

        The residuals share a scale as in the model: all of them for
        ``covariance_type="spherical"``, those of a feature for ``"diag"``. If the scale is
        predicted, the residuals are divided by the predicted scale first.

        Parameters
        ----------
        estimator : estimator
            Fitted autoencoder, or a pipeline or search that ends in one. The residuals are
            in the units of the autoencoder's input.

        X : array-like of shape (n_samples, n_features)
            Data; preferably not those of the fit.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        point_kwargs, diagonal_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the points and for the diagonal.

        Returns
        -------
        display : ResidualQQDisplay
            Display that holds the data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator is not an autoencoder of skae.
        ValueError
            If all residuals are 0.
        """
        model, X = cls._find_autoencoder(estimator, X)
        check_location_scale(model, cls.__name__)
        X = as_numbers(X)
        # Infinities are an error of the model.
        data = check_array(X, dtype=np.float64, input_name="X", ensure_all_finite=False)
        residuals = data - np.asarray(model.reconstruct(X))
        scale = _predicted_scale(model, X) if model.scale_ is None else np.ones(1)
        display = cls._compare(residuals, scale, by_feature=model.covariance_type == "diag")
        return display.plot(ax, point_kwargs=point_kwargs, diagonal_kwargs=diagonal_kwargs)

    @classmethod
    def from_residuals(
        cls,
        residuals: ArrayLike,
        *,
        by_feature: bool = False,
        ax: Axes | None = None,
        point_kwargs: dict[str, Any] | None = None,
        diagonal_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the quantiles of residuals.

        Parameters
        ----------
        residuals : array-like of shape (n_samples, n_features)
            Data minus their reconstruction.

        by_feature : bool, default=False
            Whether each feature has its own scale.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        point_kwargs, diagonal_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the points and for the diagonal.

        Returns
        -------
        display : ResidualQQDisplay
            Display that holds the data.

        Raises
        ------
        ValueError
            If all residuals are 0.
        """
        check_matplotlib(f"{cls.__name__}.from_residuals")
        residuals = np.asarray(residuals, dtype=np.float64)
        display = cls._compare(residuals, np.ones(1), by_feature=by_feature)
        return display.plot(ax, point_kwargs=point_kwargs, diagonal_kwargs=diagonal_kwargs)

    @classmethod
    def _compare(
        cls, residuals: np.ndarray, scale: np.ndarray, *, by_feature: bool
    ) -> Self:
        """Compare residuals ``(n, d)``, over their predicted scale, with both densities.

        Residuals of missing values are NaN.
        """
        observed = ~np.isnan(residuals)
        if not residuals[observed].any():
            raise ValueError("The residuals are all 0: they have no scale.")
        axis = 0 if by_feature else None
        residuals = residuals / scale
        with refuse_overflow("the squares of the residuals") as checked:
            best = {
                "gaussian": checked(
                    np.sqrt(np.mean(residuals**2, axis=axis, where=observed))
                ),
                "laplace": np.mean(np.abs(residuals), axis=axis, where=observed),
            }
        # Evenly spaced normal quantiles resolve the tails, with few points in the middle.
        reach = scipy.stats.norm.isf(0.5 / observed.sum())
        probability = scipy.stats.norm.cdf(np.linspace(-reach, reach, _POINTS))
        quantiles, theoretical, log_density = {}, {}, {}
        for name, standard in _STANDARD.items():
            # A feature whose residuals are all 0 has no scale.
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = residuals / best[name]
            ratio = ratio[np.isfinite(ratio)]
            quantiles[name] = np.quantile(ratio, probability, method="hazen")
            theoretical[name] = standard.ppf(probability)
            used = best[name][best[name] > 0]
            log_scale = np.broadcast_to(np.log(scale), residuals.shape)
            log_density[name] = float(
                standard.logpdf(ratio).mean()
                - np.log(used).mean()
                - log_scale[observed].mean()
            )
        return cls(quantiles=quantiles, theoretical=theoretical, log_density=log_density)


def _predicted_scale(model: InferenceMixin, X: ArrayLike) -> np.ndarray:
    """Compute the scale of each sample, ``(n, 1)`` or ``(n, d)``, in the units of X."""
    objective = model._fitted_objective()

    def log_scale(module: AutoencoderModule, y: Tensor) -> Tensor:
        _, outputs = module.decode(objective.code(module, y))
        return module.conditional(outputs)[1]

    data = model._validate(X)
    unit = model._standardization.likelihood_unit
    scale = np.exp(model._over_rows(log_scale, data).double().numpy())
    return scale * (unit if scale.shape[1] == len(unit) else unit[:1])
