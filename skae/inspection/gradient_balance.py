"""Display of the gradients of the two terms of the objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skae.inspection._common import Display, plain_ticks, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_OF = ("outputs", "parameters")


class GradientBalanceDisplay(Display):
    r"""Gradients of the reconstruction term and of beta KL after each epoch.

    The gradients are with respect to the encoder's outputs or to its parameters, as defined
    by :func:`skae.objectives.gradient_balance`. If the encoder is at its optimum, their sum
    is 0 for any beta: they have the same norm and opposite directions.

    Use :meth:`from_estimator` to make a display, with a model that was fitted with
    ``gradient_balance=True``.

    Parameters
    ----------
    reconstruction : array-like of shape (n_epochs,)
        Norm of the gradient of the reconstruction term after each epoch, in nats per unit
        of the outputs or parameters.

    kl : array-like of shape (n_epochs,)
        Norm of the gradient of the weighted KL term, in the same unit.

    cosine : array-like of shape (n_epochs,), default=None
        Cosine of the angle between the two gradients.

    name : str, default=None
        Name of the model, for the legend.

    Attributes
    ----------
    ratio : ndarray of shape (n_epochs,)
        Norm of the gradient of the reconstruction term over that of the KL term.

    lines_ : list of matplotlib Line2D
        The two norms.

    cosine_line_ : matplotlib Line2D or None
        The cosine, on a second axis at the right; None without a cosine.

    ax_ : matplotlib Axes
        Axes with the norms.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VariationalAutoencoder
    >>> from skae.inspection import GradientBalanceDisplay
    >>> vae = VariationalAutoencoder(gradient_balance=True, max_iter=20, random_state=0)
    >>> display = GradientBalanceDisplay.from_estimator(vae.fit(load_iris().data))
    >>> display.ratio.shape
    (20,)
    """

    lines_: list[Line2D]
    cosine_line_: Line2D | None

    def __init__(
        self,
        *,
        reconstruction: ArrayLike,
        kl: ArrayLike,
        cosine: ArrayLike | None = None,
        name: str | None = None,
    ) -> None:
        self.reconstruction = reconstruction
        self.kl = kl
        self.cosine = cosine
        self.name = name

    @property
    def ratio(self) -> np.ndarray:
        """Reconstruction over KL, shape (n_epochs,); infinite if the KL gradient is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.reconstruction) / np.asarray(self.kl)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        line_kwargs: dict[str, Any] | None = None,
        cosine_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the norms on a logarithmic axis, and the cosine on a second axis.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        name : str, default=None
            Name of the model; if None, the stored one.

        line_kwargs, cosine_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the norms and for the cosine.

        Returns
        -------
        display : GradientBalanceDisplay
            This object.
        """
        ax = self._start_plot(ax)
        from matplotlib.lines import Line2D

        name = self.name if name is None else name
        prefix = "" if name is None else f"{name}, "
        epochs = np.arange(1, len(np.asarray(self.kl)) + 1)
        self.lines_ = []
        for label, norms in (
            ("reconstruction", self.reconstruction),
            ("beta KL", self.kl),
        ):
            # A logarithmic axis cannot show 0.
            norms = np.where(np.asarray(norms) > 0, norms, np.nan)
            defaults: dict[str, Any] = {"label": f"{prefix}{label}"}
            if self.lines_:
                defaults |= {"color": self.lines_[0].get_color(), "linestyle": "--"}
            self.lines_ += ax.plot(epochs, norms, **styled(Line2D, defaults, line_kwargs))
        ax.set(yscale="log", xlabel="Epoch", ylabel="Norm of the gradient (nats)")
        plain_ticks(ax.yaxis)
        legend = ax.get_legend()
        handles = [*(legend.legend_handles if legend else []), *self.lines_]
        self.cosine_line_ = None
        if self.cosine is not None:
            right = ax.twinx()
            style = styled(
                Line2D,
                {"label": f"{prefix}cosine", "color": "gray", "linestyle": ":"},
                cosine_kwargs,
            )
            (self.cosine_line_,) = right.plot(epochs, np.asarray(self.cosine), **style)
            right.set(ylim=(-1.2, 1.5), ylabel="Cosine of their angle")
            right.set_yticks([-1, -0.5, 0, 0.5, 1])
            handles.append(self.cosine_line_)
        # The margin keeps the legend above the lines.
        ax.margins(y=0.2)
        ax.legend(handles=handles, loc="upper center", ncols=3, fontsize="small")
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Any = None,
        *,
        of: str = "outputs",
        name: str | None = None,
        ax: Axes | None = None,
        line_kwargs: dict[str, Any] | None = None,
        cosine_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the balance of a fitted variational autoencoder.

        Parameters
        ----------
        estimator : estimator
            `VariationalAutoencoder` fitted with ``gradient_balance=True``, or a pipeline
            or search that ends in one.

        X : Ignored
            Not used: the history of the fit is drawn. Other displays take data here.

        of : {"outputs", "parameters"}, default="outputs"
            Whether to draw the gradients with respect to the encoder's outputs or to its
            parameters.

        name : str, default=None
            Name of the model for the legend.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        line_kwargs, cosine_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for the norms and for the cosine.

        Returns
        -------
        display : GradientBalanceDisplay
            Display that holds the data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator is not a variational autoencoder.
        ValueError
            If the fit did not record the balance, or if `of` is not one of the two names.
        """
        model, _ = cls._find_variational(estimator, None, "a KL term")
        if of not in _OF:
            raise ValueError(f"of must be one of {_OF}, got {of!r}.")
        history = model.history_
        if f"grad_kl_{of}" not in history:
            raise ValueError(
                f"{cls.__name__} needs a model that was fitted with gradient_balance=True."
            )
        display = cls(
            reconstruction=history[f"grad_reconstruction_{of}"].copy(),
            kl=history[f"grad_kl_{of}"].copy(),
            cosine=history[f"grad_cosine_{of}"].copy(),
            name=name,
        )
        return display.plot(ax, line_kwargs=line_kwargs, cosine_kwargs=cosine_kwargs)
