"""The scorer by the importance-weighted bound."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils import check_scalar

from skae._utils.numbers import check_count, weighted_mean
from skae.model_selection.scorer import Scorer

_LARGEST_SEED = np.iinfo(np.uint32).max  # of numpy's RandomState


def make_log_marginal_scorer(
    n_samples: int = 128, *, tol: float | None = None, random_state: int = 0
) -> "_LogMarginalScorer":
    r"""Make a scorer by the importance-weighted bound of the log-likelihood.

    The score of a model is the (weighted) mean over the rows of

    .. math:: \log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)},
        \quad z_k \sim q(z|x)

    with K = `n_samples` (Burda, Grosse and Salakhutdinov 2016, eq. 8), in nats per sample,
    for data in the units of X: see ``VariationalAutoencoder.log_marginal``. It is closer to
    the mean of log p(x) than the ELBO, which ``scoring=None`` stands for.
    ``log_marginal_scorer`` is the scorer with the default parameters.

    Parameters
    ----------
    n_samples : int, default=128
        Draws of the code for each row, K. The time of a score is proportional to K.

    tol : float, default=None
        Largest estimated gap, in nats, between the bound of a row and log p(x). If given,
        rows with a larger gap get up to 16384 draws. Rows that need more raise a
        ConvergenceWarning.

    random_state : int, default=0
        Seed of the draws, the same at each call: equal models have equal scores.

    Returns
    -------
    scorer : callable
        A function of a fitted estimator, X, y (ignored) and `sample_weight`, which returns
        a float. The estimator is a :class:`~skae.VariationalAutoencoder`, or a pipeline or
        search that ends with one. A scorer can be pickled and cloned, and requests
        `sample_weight` by ``set_score_request``, as scikit-learn's scorers do. A call
        raises TypeError for an estimator without ``log_marginal``.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type, or is out of range.

    See Also
    --------
    skae.VariationalAutoencoder.log_marginal : The bound of each row.

    Notes
    -----
    The earlier steps of a pipeline transform X. So the score is one of transformed data, as
    ``score`` of a pipeline is: if a step divides feature j by :math:`s_j`, the score is
    larger by :math:`\sum_j \log s_j` than in the units of X.

    A request that is set on ``log_marginal_scorer`` holds wherever that object is used. A
    new scorer of this function has a request of its own.

    References
    ----------
    Y. Burda, R. Grosse and R. Salakhutdinov (2016). "Importance weighted autoencoders".
    ICLR.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VariationalAutoencoder
    >>> from skae.model_selection import BatchedGridSearchCV, make_log_marginal_scorer
    >>> X = load_iris().data
    >>> vae = VariationalAutoencoder(n_components=2, max_iter=20, random_state=0)
    >>> scorer = make_log_marginal_scorer(n_samples=256)
    >>> search = BatchedGridSearchCV(vae, {"beta": [0.5, 2.0]}, scoring=scorer).fit(X)
    >>> bound = search.best_estimator_.log_marginal(X, n_samples=256)
    >>> bool(search.score(X) == bound.mean())
    True
    """
    check_count(n_samples, "n_samples")
    if tol is not None:
        check_scalar(tol, "tol", Real, min_val=0, include_boundaries="neither")
    check_scalar(random_state, "random_state", Integral, min_val=0, max_val=_LARGEST_SEED)
    return _LogMarginalScorer(n_samples=n_samples, tol=tol, random_state=random_state)


class _LogMarginalScorer(Scorer):
    """Scorer by the mean importance-weighted bound, in nats per sample.

    See `make_log_marginal_scorer`.
    """

    _maker = "make_log_marginal_scorer"
    _is_log_likelihood = True

    def __call__(
        self,
        estimator: Any,
        X: ArrayLike,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Compute the (weighted) mean bound of rows X ``(n, n_features)``, in nats."""
        model, X = _final_model(estimator, X)
        log_marginal = getattr(model, "log_marginal", None)
        if log_marginal is None:
            raise TypeError(self._message_about(type(model)))
        return weighted_mean(log_marginal(X, **self._parameters), sample_weight)

    def _message_about(self, cls: type) -> str:
        """Return the message about an estimator without a bound."""
        message = (
            f"{self!r} scores estimators with the method log_marginal: "
            f"VariationalAutoencoder, or a pipeline that ends with one. {cls.__name__} "
            "has no such method."
        )
        if hasattr(cls, "score"):
            message += f" Use scoring=None, which scores by {cls.__name__}.score."
        return message


def _final_model(estimator: Any, X: ArrayLike) -> tuple[Any, Any]:
    """Return the model in a pipeline or search, and X ``(n, d)`` as the model gets it."""
    if isinstance(estimator, Pipeline):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        return _final_model(estimator[-1], X)
    best = getattr(estimator, "best_estimator_", None)
    return (estimator, X) if best is None else _final_model(best, X)


log_marginal_scorer = make_log_marginal_scorer()
