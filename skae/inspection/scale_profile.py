"""Display of the score as a function of the likelihood's scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from torch import Tensor

from skae._module import AutoencoderModule
from skae.estimators.inference import InferenceMixin
from skae.inspection._common import (
    Display,
    check_location_scale,
    plain_ticks,
    refuse_overflow,
    styled,
)
from skae.likelihoods import Likelihood
from skae.objectives.base import Conditional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Style of the line of the optimal scale, on which that of the fitted one may lie.
_BEST_STYLE: dict[str, Any] = {"linewidth": 5, "alpha": 0.3, "linestyle": "-", "zorder": 1}


class ScaleProfileDisplay(Display):
    r"""Score of data for multiples of the fitted scale.

    Encoder and decoder do not change. For a Gaussian with one scale and d features, the
    profile is :math:`-\tfrac d2 (\log 2\pi s^2 + \mathrm{MSE} / s^2)`, for a variational
    autoencoder minus its KL. Its maximum is at :math:`s = \sqrt{\mathrm{MSE}}`. On the
    training data, a closed-form scale is at the maximum. On other data, the maximum shows
    by which factor the scale is too small for them.

    Use :meth:`from_estimator` to make a display.

    Parameters
    ----------
    factors : array-like of shape (n_points,)
        Factors of the scale, in increasing order.

    score : array-like of shape (n_points,)
        Mean score of the data, in nats per sample.

    fitted_scale : float, default=None
        The scale, in the units of the model's data, if it is one number. If None, the
        horizontal axis shows the factors.

    name : str, default=None
        Name of the model, for the legend.

    Attributes
    ----------
    best_factor : float
        Factor with the best score: the maximum of a parabola, in the logarithm of the
        factor, through the best point and its neighbours.

    line_ : matplotlib Line2D
        The profile.

    fitted_line_, best_line_ : matplotlib Line2D
        Vertical lines at the fitted and at the optimal scale.

    ax_ : matplotlib Axes
        Axes with the profile.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VariationalAutoencoder
    >>> from skae.inspection import ScaleProfileDisplay
    >>> X = load_iris().data
    >>> vae = VariationalAutoencoder(2, max_iter=20, random_state=0).fit(X)
    >>> display = ScaleProfileDisplay.from_estimator(vae, X)
    >>> round(display.best_factor, 2)
    1.0
    """

    line_: Line2D
    fitted_line_: Line2D
    best_line_: Line2D

    def __init__(
        self,
        *,
        factors: ArrayLike,
        score: ArrayLike,
        fitted_scale: float | None = None,
        name: str | None = None,
    ) -> None:
        self.factors = factors
        self.score = score
        self.fitted_scale = fitted_scale
        self.name = name

    @property
    def best_factor(self) -> float:
        """Factor with the best score."""
        log_factors, score = np.log(self.factors), np.asarray(self.score)
        best = int(np.argmax(score))
        if best in (0, len(score) - 1):
            return float(np.exp(log_factors[best]))
        near = slice(best - 1, best + 2)
        curvature, slope, _ = np.polyfit(
            log_factors[near] - log_factors[best], score[near], 2
        )
        return float(np.exp(log_factors[best] - slope / (2 * curvature)))

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        line_kwargs: dict[str, Any] | None = None,
        mark_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the profile.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        name : str, default=None
            Name of the model; if None, the stored one.

        line_kwargs, mark_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the profile, and of ``ax.axvline`` for the
            fitted and the optimal scale.

        Returns
        -------
        display : ScaleProfileDisplay
            This object.
        """
        ax = self._start_plot(ax)
        from matplotlib.lines import Line2D

        unit = 1.0 if self.fitted_scale is None else self.fitted_scale
        name = self.name if name is None else name
        prefix = "" if name is None else f"{name}, "
        style = styled(Line2D, {"label": f"{prefix}score"}, line_kwargs)
        (self.line_,) = ax.plot(np.asarray(self.factors) * unit, self.score, **style)
        defaults = {"color": self.line_.get_color(), "linewidth": 1, "linestyle": "--"}
        style = styled(Line2D, defaults, mark_kwargs)
        self.fitted_line_ = ax.axvline(unit, **{"label": f"{prefix}fitted scale", **style})
        style = styled(Line2D, {**defaults, **_BEST_STYLE}, mark_kwargs)
        style["linestyle"] = _BEST_STYLE["linestyle"]
        self.best_line_ = ax.axvline(
            self.best_factor * unit, **{"label": f"{prefix}optimal scale", **style}
        )
        ax.set_xscale("log")
        plain_ticks(ax.xaxis)
        ax.set(
            xlabel="Scale" if self.fitted_scale is not None else "Factor of the scale",
            ylabel="Score (nats per sample)",
        )
        ax.legend()
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        span: float = 4.0,
        n_points: int = 61,
        name: str | None = None,
        ax: Axes | None = None,
        line_kwargs: dict[str, Any] | None = None,
        mark_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the profile of a fitted autoencoder.

        Parameters
        ----------
        estimator : estimator
            Fitted autoencoder, or a pipeline or search that ends in one. The score is that
            of the autoencoder on its own input.

        X : array-like of shape (n_samples, n_features)
            Data.

        span : float, default=4.0
            Largest factor, above 1; the smallest factor is its inverse.

        n_points : int, default=61
            Number of factors, evenly spaced on a logarithmic axis. An odd number includes
            the fitted scale.

        name : str, default=None
            Name of the model for the legend; if None, the name of its class.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        line_kwargs, mark_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the profile, and of ``ax.axvline`` for the
            fitted and the optimal scale.

        Returns
        -------
        display : ScaleProfileDisplay
            Display that holds the data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator is not an autoencoder of skae.
        """
        model, X = cls._find_autoencoder(estimator, X)
        check_location_scale(model, cls.__name__)
        factors = np.geomspace(1 / span, span, n_points)
        scale = model.scale_
        display = cls(
            factors=factors,
            score=_scores(model, X, factors),
            fitted_scale=float(scale)
            if np.ndim(scale) == 0 and scale is not None
            else None,
            name=type(model).__name__ if name is None else name,
        )
        return display.plot(ax, line_kwargs=line_kwargs, mark_kwargs=mark_kwargs)


def _scores(model: InferenceMixin, X: ArrayLike, factors: np.ndarray) -> np.ndarray:
    """Compute the mean score, in nats, for each factor of the scale, ``(n_points,)``."""
    objective = model._fitted_objective()

    def scores(module: AutoencoderModule, y: Tensor) -> Tensor:
        def scaled(factor: float) -> Conditional:
            def conditional(outputs: Tensor) -> tuple[Likelihood, Tensor]:
                likelihood, log_scale = module.conditional(outputs)
                return likelihood, log_scale + math.log(factor)

            return conditional

        return torch.stack(
            [objective.score(module, y, scaled(factor)) for factor in factors], dim=-1
        )

    data = model._validate(X)
    n_draws = objective.n_draws(model.module_.spec)
    values = model._over_rows(scores, data, n_draws=n_draws).numpy()
    with refuse_overflow("their scores") as checked:
        mean = checked(values.mean(axis=0, dtype=np.float64))
    return mean - np.mean(model._standardization.log_det_of(data))
