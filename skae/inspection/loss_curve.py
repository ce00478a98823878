"""Display of the objective of each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skae.inspection._common import Display, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


class LossCurveDisplay(Display):
    """Objective of each epoch, and the validation score if there is one.

    Use :meth:`from_estimator` to make a display.

    Parameters
    ----------
    loss : array-like of shape (n_epochs,)
        Objective of each epoch, in nats per sample.

    validation_loss : array-like of shape (n_epochs,), default=None
        Minus the score of the validation data after each epoch, in nats per sample. The
        score of a variational autoencoder is the unweighted ELBO. So the two curves are
        comparable for ``beta=1`` only.

    name : str, default=None
        Name of the model, for the legend.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The curve of the training, and that of the validation if there is one.

    ax_ : matplotlib Axes
        Axes with the curves.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import GaussianAutoencoder
    >>> from skae.inspection import LossCurveDisplay
    >>> ae = GaussianAutoencoder(max_iter=20, random_state=0).fit(load_iris().data)
    >>> display = LossCurveDisplay.from_estimator(ae)
    >>> display.loss.shape
    (20,)
    """

    lines_: list[Line2D]

    def __init__(
        self,
        *,
        loss: ArrayLike,
        validation_loss: ArrayLike | None = None,
        name: str | None = None,
    ) -> None:
        self.loss = loss
        self.validation_loss = validation_loss
        self.name = name

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        name : str, default=None
            Name of the model; if None, the stored one.

        line_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for both curves.

        Returns
        -------
        display : LossCurveDisplay
            This object.
        """
        ax = self._start_plot(ax)
        from matplotlib.lines import Line2D

        name = self.name if name is None else name
        prefix = "" if name is None else f"{name}, "
        loss = np.asarray(self.loss)
        epochs = np.arange(1, len(loss) + 1)
        style = styled(Line2D, {"label": f"{prefix}training objective"}, line_kwargs)
        self.lines_ = ax.plot(epochs, loss, **style)
        if self.validation_loss is not None:
            defaults = {
                "label": f"{prefix}minus validation score",
                "color": self.lines_[0].get_color(),
                "linestyle": "--",
            }
            user = {k: v for k, v in (line_kwargs or {}).items() if k != "label"}
            style = styled(Line2D, defaults, user)
            self.lines_ += ax.plot(epochs, np.asarray(self.validation_loss), **style)
        ax.set(xlabel="Epoch", ylabel="Nats per sample")
        ax.legend()
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Any = None,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the curves of a fitted autoencoder.

        Parameters
        ----------
        estimator : estimator
            Fitted autoencoder, or a pipeline or search that ends in one.

        X : Ignored
            Not used: the history of the fit is drawn. Other displays take data here.

        name : str, default=None
            Name of the model for the legend; if None, the name of its class.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        line_kwargs : dict, default=None
            Keyword arguments of ``ax.plot`` for both curves.

        Returns
        -------
        display : LossCurveDisplay
            Display that holds the data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator is not an autoencoder of skae.
        """
        model, _ = cls._find_autoencoder(estimator)
        history = model.history_
        validation = history.get("validation_score")
        display = cls(
            loss=history["objective"].copy(),
            validation_loss=None if validation is None else -validation,
            name=type(model).__name__ if name is None else name,
        )
        return display.plot(ax, line_kwargs=line_kwargs)
