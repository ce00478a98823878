"""Scorers: functions of a fitted model and data, for the ``scoring`` of a search."""

import copy
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import sklearn
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils import check_scalar
from sklearn.utils.metadata_routing import MetadataRequest

from skae._utils.namespaces import on_host
from skae._utils.numbers import as_numbers, check_count, checked_weight, weighted_mean

# Value of a request in scikit-learn's metadata routing: whether to pass an argument on, or
# its name at the search. None means that passing it to the search is an error.
Request = bool | str | None

# The errors of numbers, by the names of scikit-learn's losses.
_ERRORS = {"squared_error": np.square, "absolute_error": np.abs}

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


class _Scorer:
    """Scorer whose call takes a fitted estimator, X, y (ignored) and `sample_weight`.

    It returns a float.
    """

    _maker = ""

    def __init__(self, **parameters: Any) -> None:
        self._parameters = parameters
        self._sample_weight_request: Request = None

    def __repr__(self) -> str:
        """Return the call that makes this scorer."""
        parameters = ", ".join(f"{k}={v!r}" for k, v in self._parameters.items())
        return f"{self._maker}({parameters})"

    def __sklearn_clone__(self) -> Self:
        """Return a copy. See `sklearn.base.clone`."""
        return copy.copy(self)

    def set_score_request(self, *, sample_weight: Request) -> Self:
        """Set whether a search passes its weights on.

        Raises RuntimeError if metadata routing is not enabled, and ValueError if the name
        of the weights is no identifier.
        """
        if not sklearn.get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "Requests need sklearn.set_config(enable_metadata_routing=True). Without "
                "it, a search passes sample_weight to its fits and to this scorer."
            )
        self._make_request(sample_weight)
        self._sample_weight_request = sample_weight
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the request for weights, for scikit-learn's routers."""
        return self._make_request(self._sample_weight_request)

    def _make_request(self, sample_weight: Request) -> MetadataRequest:
        """Make scikit-learn's object for a request, which raises if it is not valid."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_weight", alias=sample_weight)
        return request

    def _routing_repr(self) -> str:
        """Return the name of this object in messages of scikit-learn about metadata."""
        return repr(self)

    def _accept_sample_weight(self) -> bool:
        """Whether a search without metadata routing passes its weights on."""
        return True


class _LogMarginalScorer(_Scorer):
    """Scorer by the mean importance-weighted bound, in nats per sample.

    See `make_log_marginal_scorer`.
    """

    _maker = "make_log_marginal_scorer"

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


class _ReconstructionErrorScorer(_Scorer):
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


def _final_model(estimator: Any, X: ArrayLike) -> tuple[Any, Any]:
    """Return the model in a pipeline or search, and X ``(n, d)`` as the model gets it."""
    if isinstance(estimator, Pipeline):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        return _final_model(estimator[-1], X)
    best = getattr(estimator, "best_estimator_", None)
    return (estimator, X) if best is None else _final_model(best, X)


log_marginal_scorer = make_log_marginal_scorer()
reconstruction_error_scorer = make_reconstruction_error_scorer()
