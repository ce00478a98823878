"""Display of the KL of each component of the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skae.inspection._common import Display, refuse_overflow, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer


class KLSpectrumDisplay(Display):
    r"""Mean KL of each component of a variational autoencoder's code.

    .. math:: KL_j = \tfrac12 (m_j^2 + s_j^2 - 1) - \log s_j

    is the KL of component j in the ELBO, for a posterior with mean :math:`m_j` and standard
    deviation :math:`s_j` (Kingma and Welling 2014, appendix B). A component whose KL is 0
    is inactive: its posterior equals the prior.

    Use :meth:`from_estimator` to make a display.

    Parameters
    ----------
    kl : array-like of shape (n_components,)
        Mean over samples of the KL of each component, in nats.

    threshold : float, default=0.01
        Components with a larger KL, in nats, count as active.

    Attributes
    ----------
    active : ndarray of bool of shape (n_components,)
        Which components are active.

    bars_ : matplotlib BarContainer
        The bars, the largest first.

    ax_ : matplotlib Axes
        Axes with the bars.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VariationalAutoencoder
    >>> from skae.inspection import KLSpectrumDisplay
    >>> X = load_iris().data
    >>> vae = VariationalAutoencoder(3, beta=1.5, max_iter=20, random_state=0).fit(X)
    >>> display = KLSpectrumDisplay.from_estimator(vae, X)
    >>> display.kl.shape, int(display.active.sum())
    ((3,), 2)
    """

    bars_: BarContainer

    def __init__(self, *, kl: ArrayLike, threshold: float = 0.01) -> None:
        self.kl = kl
        self.threshold = threshold

    @property
    def active(self) -> np.ndarray:
        """Which components are active, bool of shape (n_components,)."""
        return np.asarray(self.kl) > self.threshold

    def plot(
        self,
        ax: Axes | None = None,
        *,
        bar_kwargs: dict[str, Any] | None = None,
        inactive_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the spectrum, the largest component first.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        bar_kwargs : dict, default=None
            Keyword arguments of ``ax.bar``.

        inactive_kwargs : dict, default=None
            Properties of the bars of components that are not active.

        Returns
        -------
        display : KLSpectrumDisplay
            This object.
        """
        ax = self._start_plot(ax)
        from matplotlib.patches import Rectangle
        from matplotlib.ticker import MaxNLocator

        kl, active = np.asarray(self.kl), self.active
        order = np.argsort(-kl, kind="stable")
        ranks = np.arange(1, len(kl) + 1)
        self.bars_ = ax.bar(ranks, kl[order], **styled(Rectangle, {}, bar_kwargs))
        inactive = styled(Rectangle, {"color": "lightgray"}, inactive_kwargs)
        for bar, is_active in zip(self.bars_, active[order], strict=True):
            if not is_active:
                bar.set(**inactive)
        if len(kl) <= 40:
            ax.set_xticks(ranks, [str(j) for j in order])
        else:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        label = "Component" if len(kl) <= 40 else "Rank of the component"
        ax.set(
            xlabel=f"{label}, the largest KL first",
            ylabel="KL (nats per sample)",
            title=f"{active.sum()} of {len(kl)} components active, {kl.sum():.1f} nats",
        )
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        threshold: float = 0.01,
        ax: Axes | None = None,
        bar_kwargs: dict[str, Any] | None = None,
        inactive_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the spectrum of a fitted variational autoencoder.

        Parameters
        ----------
        estimator : estimator
            Fitted `VariationalAutoencoder`, or a pipeline or search that ends in one.

        X : array-like of shape (n_samples, n_features)
            Data.

        threshold : float, default=0.01
            Components with a larger KL, in nats, count as active.

        ax : matplotlib Axes, default=None
            Axes to draw on; if None, the axes of a new figure.

        bar_kwargs : dict, default=None
            Keyword arguments of ``ax.bar``.

        inactive_kwargs : dict, default=None
            Properties of the bars of components that are not active.

        Returns
        -------
        display : KLSpectrumDisplay
            Display that holds the data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no posterior.
        """
        model, X = cls._find_variational(estimator, X, "a posterior")
        mean, std = (part.astype(np.float64) for part in model.posterior(X))
        with refuse_overflow("the squares of their codes") as checked:
            kl = checked((0.5 * (mean**2 + std**2 - 1) - np.log(std)).mean(axis=0))
        display = cls(kl=kl, threshold=threshold)
        return display.plot(ax, bar_kwargs=bar_kwargs, inactive_kwargs=inactive_kwargs)
