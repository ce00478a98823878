"""Searches and cross-validation whose models are trained side by side.

:class:`LockstepBackend` is the joblib backend ``"skae"``. Under that backend, searches and
cross-validation of scikit-learn train side by side. The two searches here activate the
backend themselves.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from inspect import getattr_static
from numbers import Real
from typing import Any, Self

import joblib
import numpy as np
import sklearn
from joblib.parallel import (
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
    get_active_backend,
)
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import check_scalar

from skae._fitting.lockstep import IDLE_TIMEOUT, run_in_lockstep
from skae._fitting.step_cache import StepCache, n_bytes
from skae._utils.documentation import DocumentationLinkMixin
from skae._utils.messages import warn_user, warnings_collected
from skae._utils.names import MissingMethod, own_method_names
from skae.model_selection.fit_warnings import (
    FitWarnings,
    Record,
    read_candidates,
    record_warnings,
    take_records,
)
from skae.model_selection.units import (
    grids_of,
    is_log_likelihood,
    warn_of_changed_data,
    warn_of_components,
    warn_of_likelihoods,
)

__all__ = ["BatchedGridSearchCV", "BatchedRandomizedSearchCV"]

# Calls that may be under way at the same time: each has a thread of its own.
_MOST_FITS = 128
# Bytes that the copies of X in these calls may take.
_MOST_BYTES = 2**30
# Bytes of cached pipeline steps over the bytes of X: five folds with four settings each, if
# a step returns as many numbers as it takes.
_CACHE_FACTOR = 16
# Bytes that a cache may always take, because a step may be larger than small data.
_LEAST_CACHE = 2**22


class LockstepBackend(ParallelBackendBase):
    """Joblib backend that runs calls in turns and trains their models side by side.

    The backend is registered under the name ``"skae"`` (see
    :func:`joblib.parallel_config`). Each call of a :class:`joblib.Parallel` gets a thread,
    and one thread runs at a time. A call pauses where it would train a model. When all
    calls have paused, the models are trained side by side.

    ``n_jobs`` counts processes, as elsewhere in joblib. None and 1 mean this process, with
    all threads of PyTorch. Other numbers are workers of the backend that was active before
    (loky, Dask, Ray), each of which runs its part of the calls in the same way.

    Parameters
    ----------
    idle_timeout : float, default=60.0
        Seconds after which a call that computes nothing, while other calls are paused,
        counts as blocked by a lock that a paused call holds. Then a RuntimeError is raised.

    **parameters : dict
        Parameters that joblib passes to every backend.
    """

    supports_retrieve_callback = True
    supports_timeout = False

    def __init__(self, idle_timeout: float = IDLE_TIMEOUT, **parameters: Any) -> None:
        unknown = set(parameters) - {"nesting_level", "inner_max_num_threads"}
        if unknown:
            raise TypeError(f"The backend 'skae' has no parameters {sorted(unknown)}.")
        check_scalar(
            idle_timeout, "idle_timeout", Real, min_val=0, include_boundaries="neither"
        )
        super().__init__(**parameters)
        self.idle_timeout = idle_timeout
        active: Any = get_active_backend()[0]
        self.workers: ParallelBackendBase = (
            active.workers if isinstance(active, LockstepBackend) else active
        )
        self.default_n_jobs = self.workers.default_n_jobs
        self.parallel: Any = None
        self.n_workers = 1
        self.calls: list[tuple[Any, Callable[[Any], None]]] = []
        # Where a search of this package sums up the warnings of its fits.
        self.found: FitWarnings | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        n_workers = self.workers.effective_n_jobs(n_jobs)
        # For 1, a joblib.Parallel would make the calls itself, one after the other. But
        # joblib.effective_n_jobs, which has no joblib.Parallel, must return 1.
        return n_workers if n_workers > 1 or self.parallel is None else _MOST_FITS

    def configure(
        self,
        n_jobs: int | None = 1,
        parallel: Any = None,
        prefer: str | None = None,
        **parameters: Any,
    ) -> int:
        """Prepare the calls of a joblib.Parallel."""
        if prefer == "threads":
            # Such calls expect threads that run at the same time.
            raise FallbackToBackend(ThreadingBackend(nesting_level=self.nesting_level))
        if parallel is not self.parallel:
            # Each joblib.Parallel has a backend of its own, so that calls are not mixed.
            own = copy.copy(self)
            own.parallel, own.calls = parallel, []
            raise FallbackToBackend(own)
        self.n_workers = self.workers.effective_n_jobs(n_jobs)
        # All calls are collected before the first one begins. With "all", joblib would
        # hide an error of the iterable that generates the calls.
        parallel.pre_dispatch = sys.maxsize
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Callable[[Any], None]) -> None:
        """Collect a call."""
        self.calls.append((func, callback))

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return the result of a call."""
        return out

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Make all collected calls, in the thread that waits for the results."""
        if self.calls:
            self._make_calls()
        yield

    def _make_calls(self) -> None:
        """Make the calls; warnings of the fits of a search are summed up."""
        calls, self.calls = self.calls, []
        search = read_candidates([call.items[0][2] for call, _ in calls])
        if self.found is not None or search is None:
            self._run_calls(calls, self.found)
            return
        found = FitWarnings()
        with found.of_failed_search(), warnings_collected(found.collect):
            self._run_calls(calls, found)
        found.warn(*search)

    def _run_calls(
        self,
        calls: list[tuple[Any, Callable[[Any], None]]],
        found: FitWarnings | None,
    ) -> None:
        """Make calls, in this process or in workers, and pass on the results."""
        # A fit holds its part of X, and the output of the pipeline steps before it. The
        # first call stands for all: the calls of a search differ in their parameters.
        tasks = calls[0][0].items
        data = [x for _, args, kwargs in tasks for x in (*args, *kwargs.values())]
        n_at_once = _MOST_BYTES // max(2 * max(map(n_bytes, data), default=0), 1)
        n_at_once = int(np.clip(n_at_once, 1, _MOST_FITS))
        run = partial(run_in_lockstep, n_at_once=n_at_once, idle_timeout=self.idle_timeout)
        if self.n_workers == 1:
            # A call holds its estimator, so each one is dropped as soon as it is over.
            run(partial(_pass_on, *calls.pop(0)) for _ in range(len(calls)))
            return
        parts = _deal(len(calls), self.n_workers)
        try:
            results = joblib.Parallel(self.n_workers, self.workers)(
                joblib.delayed(record_warnings)(
                    partial(run, [calls[i][0] for i in part]), part
                )
                for part in parts
            )
        except BaseException as error:
            # A filter may make errors of the warnings, but this error is the reason.
            with suppress(Warning):
                _pass_records(take_records(error), found)
            raise
        order = np.argsort(np.concatenate(parts))
        outputs = [output for part, _ in results for output in part]
        for (_, callback), i in zip(calls, order, strict=True):
            callback(outputs[i])
        for _, records in results:
            _pass_records(records, found)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Drop the calls that have not begun."""
        self.calls = []

    def get_nested_backend(self) -> tuple[SequentialBackend, None]:
        # A joblib.Parallel within a call makes its calls itself, so that its fits go beside
        # those of the other calls.
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


def _pass_on(function: Callable[[], Any], callback: Callable[[Any], None]) -> None:
    """Call a function, and a callback with its result."""
    callback(function())


def _pass_records(records: list[Record], found: FitWarnings | None) -> None:
    """Pass the warnings of fits to what sums them up, or raise them."""
    for fit, message, category in records:
        if found is None:
            warn_user(message, category)
        else:
            found.add(fit, message, category)


def _deal(n_calls: int, n_workers: int) -> list[np.ndarray]:
    """Deal calls to workers; return the positions of the calls of each worker.

    The order of the workers alternates, so that each one gets models of all shapes.
    """
    turns = [*range(n_workers), *reversed(range(n_workers))]
    owners = np.resize(turns, n_calls)
    return [np.flatnonzero(owners == i) for i in range(min(n_workers, n_calls))]


def _check_scoring(search: Any, grid: Any) -> None:
    """Raise ValueError if the scoring needs a method that an autoencoder does not have.

    Else each fit would be trained, and its score would then be NaN. ``grid`` is a
    dictionary of candidates, or several.
    """
    final, replaced, prefix = search.estimator, set(), ""
    while isinstance(final, Pipeline):
        name, final = final.steps[-1]
        replaced.add(f"{prefix}{name}")
        prefix = f"{prefix}{name}__"
    is_replaced = any(replaced & set(one) for one in grids_of(grid))
    is_missing = isinstance(getattr_static(final, "predict", None), MissingMethod)
    if search.scoring is None or is_replaced or not is_missing:
        return
    scorers, _ = search._get_scorers()
    for scorer in getattr(scorers, "_scorers", {"score": scorers}).values():
        needed = getattr(scorer, "_response_method", ())
        needed = (needed,) if isinstance(needed, str) else needed
        if needed and not any(hasattr(final, method) for method in needed):
            try:
                final.predict  # noqa: B018  (its error says what to use)
            except AttributeError as error:
                message = f"scoring={search.scoring!r} cannot be used: {error}"
                raise ValueError(message) from None


class _BatchedSearch(DocumentationLinkMixin, BaseEstimator):
    """Mixin that trains the models of a search of scikit-learn side by side."""

    estimator: Any
    scoring: Any
    param_distributions: Any

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

        Raises
        ------
        RuntimeError
            If a fit waits for a lock that another fit holds, for a minute.
        ValueError
            If `scoring` needs ``predict``, which an autoencoder does not have.

        Warns
        -----
        UserWarning
            If candidates of a pipeline differ in steps before an autoencoder, and its own
            score decides: it is in the units that these steps return. And if candidates of
            a deterministic autoencoder differ in ``n_components``, and its own score
            decides: it grows with each component. And if some likelihoods of candidates
            have a density and others a probability, and the score decides.
        Warning
            One of each kind that fits of the search warn of, when the search is over, also
            by an error; with `n_jobs`, then by the fits of the worker that has the error.
            It says how many fits warn, and which candidates, and whether the refit has
            such a warning.
        """
        if not sklearn.get_config()["skip_parameter_validation"]:
            # Before the checks below, which take parameters of the right type.
            self._validate_params()
        grid = getattr(self, "param_grid", None)
        grid = self.param_distributions if grid is None else grid
        _check_scoring(self, grid)
        if is_log_likelihood(self.scoring):
            warn_of_changed_data(self.estimator, grid)
            warn_of_components(self.estimator, grid)
            warn_of_likelihoods(self.estimator, grid)
        active = get_active_backend()[0]
        is_own = isinstance(active, LockstepBackend)
        backend = copy.copy(active) if is_own else LockstepBackend()
        found = backend.found = FitWarnings()
        with (
            found.of_failed_search(),
            joblib.parallel_config(backend),
            warnings_collected(found.collect),
        ):
            if isinstance(self.estimator, Pipeline) and self.estimator.memory is None:
                self._fit_pipeline(X, y, params)
            else:
                super().fit(X, y, **params)
        found.warn(self.cv_results_["params"], self.n_splits_)
        return self

    def _fit_pipeline(self, X: ArrayLike, y: Any, params: dict[str, Any]) -> Self:
        """Run the search of a pipeline, with a cache of its steps."""
        cache = StepCache(max(_CACHE_FACTOR * n_bytes(X), _LEAST_CACHE))
        # Run on a copy, because another thread may use the search at the same time.
        search = copy.copy(self)
        search.estimator = clone(self.estimator).set_params(memory=cache)
        try:
            super(_BatchedSearch, search).fit(X, y, **params)
        finally:
            # A scorer keeps the pipeline that it was made for.
            search.estimator.set_params(memory=None)
            cache.clear()
        best = getattr(search, "best_estimator_", None)
        if getattr(best, "memory", None) is cache:
            search.best_estimator_.set_params(memory=None)
        fitted = {k: v for k, v in vars(search).items() if k != "estimator"}
        self.__dict__.update(fitted)
        return self


@own_method_names
class BatchedGridSearchCV(_BatchedSearch, GridSearchCV):
    """A grid search that trains its candidates and folds together.

    The same parameters, attributes and results as
    :class:`sklearn.model_selection.GridSearchCV`, which trains in the same way under
    ``joblib.parallel_config("skae")``. Models of skae's estimators that have the same
    shapes are trained side by side, each with its own data, learning rate, penalty and
    beta. Other estimators are fitted one after the other. On a CPU the scores equal those
    of GridSearchCV to the bit, also in float32, if a model alone uses one thread. On a GPU,
    and for large models, they are equal to rounding.

    With ``n_jobs`` above 1, or under a :func:`joblib.parallel_config` of another backend
    (loky, Dask, Ray), each worker trains its part of the fits side by side. In addition,
    the steps before the last of a :class:`~sklearn.pipeline.Pipeline` without a ``memory``
    of its own are fitted once for each fold and setting that candidates share. Their cache
    takes at most 16 times the memory of X (or 4 MB, if that is more).

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
        :data:`~skae.model_selection.log_marginal_scorer` is a tighter bound.

    n_jobs : int, default=None
        Number of processes, each of which trains a share of the fits; None and 1 are this
        process, with all threads of PyTorch, and -1 is one for each core. Workers import
        PyTorch in the first call, which takes seconds.

    refit : bool, str or callable, default=True
        Whether, or by which metric, to fit the best candidate to all data.

    cv : int, cross-validation generator or iterable, default=None
        The folds; None is five.

    verbose : int, default=0
        How much to print.

    pre_dispatch : int or str, default="2*n_jobs"
        Not used: all fits are prepared before the first of them is trained.

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
    copies of X would take more than a gigabyte. A lock around ``fit`` ends the search with
    a RuntimeError (see the guide). An interrupt (Ctrl-C) ends the search; a `checkpoint` of
    the estimator that is a folder keeps what was trained.

    ``mean_fit_time`` in `cv_results_` is no time of a candidate: it is the time until its
    models were ready, those beside them included. So it is about the same for all
    candidates, and each may have nearly the time of the whole search. Do not add these
    times, nor rank candidates by them. For times of single fits, use GridSearchCV.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VariationalAutoencoder
    >>> from skae.model_selection import BatchedGridSearchCV
    >>> X = load_iris().data
    >>> vae = VariationalAutoencoder(n_components=2, max_iter=20, random_state=0)
    >>> search = BatchedGridSearchCV(vae, {"beta": [0.5, 1.0, 2.0]}).fit(X)
    >>> search.best_params_
    {'beta': 1.0}
    """


@own_method_names
class BatchedRandomizedSearchCV(_BatchedSearch, RandomizedSearchCV):
    """A randomised search that trains its candidates and folds together.

    The same parameters, attributes and results as
    :class:`sklearn.model_selection.RandomizedSearchCV`. The notes of
    :class:`BatchedGridSearchCV` apply here too.

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
        :data:`~skae.model_selection.log_marginal_scorer` is a tighter bound.

    n_jobs : int, default=None
        Number of processes, each of which trains a share of the fits; None and 1 are this
        process, with all threads of PyTorch, and -1 is one for each core. Workers import
        PyTorch in the first call, which takes seconds.

    refit : bool, str or callable, default=True
        Whether, or by which metric, to fit the best candidate to all data.

    cv : int, cross-validation generator or iterable, default=None
        The folds; None is five.

    verbose : int, default=0
        How much to print.

    pre_dispatch : int or str, default="2*n_jobs"
        Not used: all fits are prepared before the first of them is trained.

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
