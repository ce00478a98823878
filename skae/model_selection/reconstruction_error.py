"""The scorer by the error of reconstructions."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils import check_scalar

from skae._utils.namespaces import on_host
from skae._utils.numbers import as_numbers, checked_weight, weighted_mean
from skae.model_selection.scorer import Scorer

# The errors of numbers, by the names of scikit-learn's losses.
_ERRORS = {"squared_error": np.square, "absolute_error": np.abs}


def make_reconstruction_error_scorer(
    error: str = "squared_error", *, standardize: bool = False
) -> "_ReconstructionErrorScorer":
    r"""Make a scorer by the error of reconstructions, with its sign changed.

    The score of a model is minus the (weighted) mean, over rows and columns, of

    .. math:: (x_{ij} - \hat x_{ij})^2 \quad\text{or}\quad |x_{ij} - \hat x_{ij}|,
        \quad \hat x = \mathrm{inverse\_transform}(\mathrm{transform}(x))

    So it is what ``"neg_mean_squared_error"`` and ``"neg_mean_absolute_error"`` are for a
    regression, and a search maximises it. ``reconstruction_error_scorer`` is the scorer
    with the default parameters.

    Parameters
    ----------
    error : {"squared_error", "absolute_error"}, default="squared_error"
        The error of a number. The squared error has the unit of X squared.

    standardize : bool, default=False
        Whether to divide the residuals of each column by its standard deviation in X, the
        data of the score, so that all columns count alike. Without, columns in large units
        decide. A column that is constant in X is not divided. The squared error is then 1
        minus the mean of R² over the columns, if no entry is missing.

    Returns
    -------
    scorer : callable
        A function of a fitted estimator, X, y (ignored) and `sample_weight`, which returns
        a float of at most 0. The estimator is any with ``transform`` and
        ``inverse_transform``: one of skae, a pipeline or a search that ends with one, and
        :class:`~sklearn.decomposition.PCA`. Missing entries do not count. A scorer can be
        pickled and cloned, and requests `sample_weight` by ``set_score_request``. A call
        raises TypeError for an estimator without these methods, and ValueError for a table
        whose columns are not all numbers.

    Raises
    ------
    TypeError
        If `standardize` is no flag.
    ValueError
        If there is no such error.

    See Also
    --------
    make_log_marginal_scorer : A score that knows how much of X the code leaves open.

    Notes
    -----
    The error falls with each component and as `beta` goes to 0, also on new rows. So it
    chooses neither `n_components` nor `beta`: it prefers the model that compresses least.
    For these, leave `scoring` at None. The error is the right score for the size of a
    network or the length of a training at a given `n_components`.

    In a pipeline, X and the reconstruction are in the units of X before the first step, so
    a scaler in it does not make the columns count alike: set `standardize`. Steps without
    ``inverse_transform`` cannot be in it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import GaussianAutoencoder
    >>> from skae.model_selection import BatchedGridSearchCV, reconstruction_error_scorer
    >>> X = load_iris().data
    >>> model = GaussianAutoencoder(n_components=2, random_state=0)
    >>> grid = {"max_iter": [2, 20]}
    >>> search = BatchedGridSearchCV(model, grid, scoring=reconstruction_error_scorer)
    >>> X_hat = search.fit(X).best_estimator_.reconstruct(X)
    >>> bool(search.score(X) == -((X - X_hat) ** 2).mean())
    True
    """
    if error not in list(_ERRORS):  # which takes what has no hash
        raise ValueError(f"error must be one of {list(_ERRORS)}, got {error!r}.")
    check_scalar(standardize, "standardize", (bool, np.bool_))
    return _ReconstructionErrorScorer(error=error, standardize=bool(standardize))


class _ReconstructionErrorScorer(Scorer):
    """Scorer by minus the mean error of reconstructions.

    See `make_reconstruction_error_scorer`.
    """

    _maker = "make_reconstruction_error_scorer"

    def __call__(
        self,
        estimator: Any,
        X: ArrayLike,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Compute minus the (weighted) mean error of rows X ``(n, d)``."""
        for method in ("transform", "inverse_transform"):
            if not hasattr(estimator, method):
                raise TypeError(
                    f"{self!r} scores estimators with transform and inverse_transform, but "
                    f"{type(estimator).__name__} has no {method}."
                )
        given = _numbers(X)
        # `reconstruct` is the same in one pass, but a pipeline has none.
        residual = given - _numbers(_reconstruction(estimator, X))
        observed = ~np.isnan(given)
        if not observed.any():
            raise ValueError("X has missing entries only, which have no error.")
        weight = checked_weight(on_host(sample_weight), given)
        weight = np.broadcast_to(weight[:, None], given.shape)
        if self._parameters["standardize"]:
            residual = residual / _spread(given, np.where(observed, weight, 0.0))
        error = _ERRORS[self._parameters["error"]](residual)
        return -weighted_mean(error[observed], weight[observed])


def _spread(given: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the standard deviation of columns ``(n, d)``, ``(d,)``; 1 for a constant one.

    Entries have weights ``(n, d)``, 0 for what is missing.
    """
    counts = weight > 0
    low = np.where(counts, given, np.inf).min(axis=0)
    high = np.where(counts, given, -np.inf).max(axis=0)
    spread = np.ones(given.shape[1])
    # Also without a column that has no entry of any weight.
    for j in np.flatnonzero(low < high):
        # In units of the largest number, because squares of large ones overflow.
        unit = max(-low[j], high[j])
        values, own = given[counts[:, j], j] / unit, weight[counts[:, j], j]
        own = own / own.max()
        centred = values - np.average(values, weights=own)
        spread[j] = unit * np.sqrt(np.average(np.square(centred), weights=own))
    return spread


def _reconstruction(estimator: Any, X: ArrayLike) -> Any:
    """Return the reconstruction of rows, ``(n, d)``; a search is its best estimator."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    if hasattr(estimator, "reconstruct"):
        return estimator.reconstruct(X)
    return estimator.inverse_transform(estimator.transform(X))


def _numbers(X: Any) -> np.ndarray:
    """Return a table as float64 ``(n, d)``; NaN is missing."""
    try:
        # Masked entries and pandas' NA are missing, as in a fit.
        table = as_numbers(X.toarray() if issparse(X) else on_host(X))
        if hasattr(table, "iloc"):
            return np.asarray(table.astype(np.float64), dtype=np.float64)
        return np.asarray(table).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "A reconstruction error needs a table of numbers, but X has other values. "
            "Leave scoring at None, which scores columns of all kinds."
        ) from error


reconstruction_error_scorer = make_reconstruction_error_scorer()
