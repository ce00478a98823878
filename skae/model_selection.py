"""Searches whose candidates are trained together."""

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

import joblib
import numpy as np
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import delayed

from skae._fitting.lockstep import run_in_lockstep, train

__all__ = ["BatchedGridSearchCV", "BatchedRandomizedSearchCV"]

# Fits that may be under way together, and the bytes that their copies of X may take.
_MOST_FITS = 128
_MOST_BYTES = 2**30


class _Together:
    """A joblib.Parallel that hands each worker all of its share at once.

    Parameters
    ----------
    parallel : joblib.Parallel
        Who has the workers.
    most : int
        Calls that a worker may have under way at the same time.
    """

    def __init__(self, parallel: joblib.Parallel, most: int) -> None:
        self.parallel = parallel
        self.most = most

    def __call__(self, tasks: Iterable[tuple[Any, tuple, dict[str, Any]]]) -> list[Any]:
        # The settings of scikit-learn belong to a thread, so each call takes them along.
        settings = get_config(), warnings.filters
        calls = [
            partial(f.with_config_and_warning_filters(*settings), *args, **kwargs)
            for f, args, kwargs in tasks
        ]
        n_workers = max(min(joblib.effective_n_jobs(self.parallel.n_jobs), len(calls)), 1)
        # Dealt there and back: then all workers have a like share of each shape of model.
        turns = [*range(n_workers), *reversed(range(n_workers))]
        owners = np.resize(turns, len(calls))
        shares = [np.flatnonzero(owners == worker) for worker in range(n_workers)]
        results = self.parallel(
            delayed(run_in_lockstep)([calls[i] for i in share], self.most)
            for share in shares
        )
        out: list[Any] = [None] * len(calls)
        for share, found in zip(shares, results, strict=True):
            for i, result in zip(share, found, strict=True):
                out[i] = result
        return out


class _Memo:
    """Remembers what the steps of a pipeline returned, as a joblib.Memory would.

    In the memory of the process, while a search lasts: a step that many candidates share
    is fitted once for each fold.
    """

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.under_way: set[str] = set()

    def cache(
        self, function: Callable[..., Any], ignore: Iterable[str] = ()
    ) -> Callable[..., Any]:
        """A function that computes nothing twice.

        Parameters
        ----------
        function : callable
            A pure function.
        ignore : iterable of str, default=()
            Arguments that the result does not depend on.

        Returns
        -------
        callable
            The same function.
        """
        name = f"{function.__module__}.{function.__qualname__}"
        arguments_of = inspect.signature(function).bind

        def remembering(*args: Any, **kwargs: Any) -> Any:
            arguments = arguments_of(*args, **kwargs).arguments
            for ignored in ignore:
                arguments.pop(ignored, None)
            key = joblib.hash((name, arguments))
            # Another call may have begun it, if it trains a model itself.
            while key in self.under_way:
                train([])
            if key not in self.results:
                self.under_way.add(key)
                try:
                    self.results[key] = function(*args, **kwargs)
                finally:
                    self.under_way.discard(key)
            # A copy: the next step may write over it.
            return copy.deepcopy(self.results[key])

        return remembering

    def __repr__(self) -> str:
        # Users gave their pipeline no memory, and should find none in a message.
        return "None"

    def clear(self) -> None:
        """Forget everything."""
        self.results.clear()

    def __getstate__(self) -> dict[str, Any]:
        # A worker in another process begins with nothing.
        return {"results": {}, "under_way": set()}

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Memo":
        return self


class _BatchedSearch(BaseSearchCV):
    """What turns a search of scikit-learn into one whose fits are trained together."""

    estimator: Any

    def fit(self, X: ArrayLike, y: Any = None, **params: Any) -> Self:
        """Run the search.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.

        y : Any, default=None
            Passed on to the splitter and to the estimator.

        **params : dict
            As for the search of scikit-learn: passed to the estimator, the scorer and the
            splitter.

        Returns
        -------
        self : object
            The search, with its results.
        """
        n_bytes = getattr(X, "nbytes", 0) or 8 * np.size(X)
        # A fit has its part of X, and what steps before it make of that.
        self._most = int(np.clip(_MOST_BYTES // max(2 * n_bytes, 1), 1, _MOST_FITS))
        estimator: Any = self.estimator
        if not isinstance(estimator, Pipeline) or estimator.memory is not None:
            return super().fit(X, y, **params)
        memo = _Memo()
        self.estimator = clone(estimator).set_params(memory=memo)
        try:
            super().fit(X, y, **params)
        finally:
            # Scorers keep the pipeline that they were made for.
            self.estimator.set_params(memory=None)
            self.estimator = estimator
            memo.clear()
        if getattr(getattr(self, "best_estimator_", None), "memory", None) is memo:
            self.best_estimator_.set_params(memory=None)
        return self

    def _run_search(
        self, evaluate_candidates: Callable[..., Any], *, callback_ctx: Any = None
    ) -> None:
        # What evaluates the candidates has its joblib.Parallel as a free variable, and
        # there is no other way to say how the fits are to be run.
        names = evaluate_candidates.__code__.co_freevars
        cells = dict(zip(names, evaluate_candidates.__closure__ or (), strict=True))
        cell = cells["parallel"]
        cell.cell_contents = _Together(cell.cell_contents, self._most)
        super()._run_search(evaluate_candidates, callback_ctx=callback_ctx)


class BatchedGridSearchCV(_BatchedSearch, GridSearchCV):
    """A grid search that trains its candidates and folds together.

    The same parameters, attributes and results as
    :class:`sklearn.model_selection.GridSearchCV`. The fits of skae's estimators whose
    models have the same shapes are one training over a leading axis of models, each with
    its own data, learning rate, penalty and beta; whatever else there is to fit, is fitted
    in the ordinary way. In float64 the scores equal those of GridSearchCV to rounding; in
    float32, on a CPU, mostly to the bit.

    With ``n_jobs`` above 1, or under a :func:`joblib.parallel_config` of another backend
    (loky, Dask, Ray), each worker gets its share of the fits and trains it together. The
    steps before the last of a :class:`~sklearn.pipeline.Pipeline` without a ``memory`` of
    its own are fitted once for each fold and setting that candidates share.

    Parameters
    ----------
    estimator : estimator object
        An estimator of skae, a pipeline that ends with one, or any other estimator.

    param_grid : dict or list of dict
        Parameters to try, as for GridSearchCV. Parameters that change the shapes of a
        model (``n_components``, ``hidden_layer_sizes``, ``batch_size``) or the program
        that trains it (``variance_mode``, ``likelihood``) make groups, each of which is
        trained together.

    scoring : str, callable, list, tuple or dict, default=None
        How to score; None is the estimator's own `score`, for
        :class:`~skae.VariationalAutoencoder` the mean ELBO in nats.

    n_jobs : int, default=None
        Number of workers. Each gets a share of the fits.

    refit : bool, str or callable, default=True
        Whether, or by which metric, to fit the best candidate to all data.

    cv : int, cross-validation generator or iterable, default=None
        The folds; None is five.

    verbose : int, default=0
        How much to print.

    pre_dispatch : int or str, default="2*n_jobs"
        Number of shares that may be handed out before they are needed.

    error_score : "raise" or numeric, default=np.nan
        Score of a candidate whose fit fails.

    return_train_score : bool, default=False
        Whether to score the training data too.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : The search whose results these are.
    BatchedRandomizedSearchCV : Parameters at random from distributions.

    Notes
    -----
    At most 128 fits are under way at the same time in a worker, and fewer where their
    copies of X would take more than a gigabyte. ``mean_fit_time`` of a candidate is the
    time until its models were ready, the others' time included. After an interrupt (Ctrl-C)
    while models are trained, each of them is what it was after its last whole epoch, as for
    a single fit; at other times an interrupt ends the search.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VariationalAutoencoder
    >>> from skae.model_selection import BatchedGridSearchCV
    >>> X = load_iris().data
    >>> vae = VariationalAutoencoder(n_components=2, max_iter=20, random_state=0)
    >>> search = BatchedGridSearchCV(vae, {"beta": [0.5, 1.0, 50.0]}).fit(X)
    >>> search.best_params_["beta"] < 50
    True
    """


class BatchedRandomizedSearchCV(_BatchedSearch, RandomizedSearchCV):
    """A randomised search that trains its candidates and folds together.

    The same parameters, attributes and results as
    :class:`sklearn.model_selection.RandomizedSearchCV`; what is said of
    :class:`BatchedGridSearchCV` holds here too.

    Parameters
    ----------
    estimator : estimator object
        An estimator of skae, a pipeline that ends with one, or any other estimator.

    param_distributions : dict or list of dict
        Parameters to draw, as for RandomizedSearchCV.

    n_iter : int, default=10
        Number of candidates.

    scoring : str, callable, list, tuple or dict, default=None
        How to score; None is the estimator's own `score`, for
        :class:`~skae.VariationalAutoencoder` the mean ELBO in nats.

    n_jobs : int, default=None
        Number of workers. Each gets a share of the fits.

    refit : bool, str or callable, default=True
        Whether, or by which metric, to fit the best candidate to all data.

    cv : int, cross-validation generator or iterable, default=None
        The folds; None is five.

    verbose : int, default=0
        How much to print.

    pre_dispatch : int or str, default="2*n_jobs"
        Number of shares that may be handed out before they are needed.

    random_state : int, RandomState instance or None, default=None
        Source of the draws.

    error_score : "raise" or numeric, default=np.nan
        Score of a candidate whose fit fails.

    return_train_score : bool, default=False
        Whether to score the training data too.

    See Also
    --------
    BatchedGridSearchCV : All parameters of a grid.
    """
