"""The joblib backend "skae": functions of scikit-learn with it and without."""

import _thread
import itertools
import subprocess
import sys
import threading
import time
import warnings
import weakref

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from joblib import delayed, parallel_config
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import BaggingRegressor, RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  (enables the next)
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.likelihoods import GaussianLikelihood
from skae.model_selection import BatchedGridSearchCV
from skae.model_selection.searches import LockstepBackend

FOLDS = KFold(3, shuffle=True, random_state=0)  # 40 of 120 rows each
GRID = {"beta": [0.5, 1, 2], "learning_rate_init": [1e-3, 1e-2]}


def vae(**parameters):
    return VariationalAutoencoder(
        **{"max_iter": 4, "precision": "float64", "random_state": 0} | parameters
    )


@pytest.fixture(autouse=True)
def assert_nothing_is_left():
    """No thread, and no other number of them in torch."""
    threads, n_threads = set(threading.enumerate()), torch.get_num_threads()
    yield
    assert not [t for t in set(threading.enumerate()) - threads if "skae" in t.name]
    assert torch.get_num_threads() == n_threads


def search_results(search, X):
    """What a search found, without its times."""
    results = search.fit(X).cv_results_
    found = {k: np.asarray(v) for k, v in results.items() if not k.endswith("_time")}
    return {**found, "best": np.asarray(search.best_params_)}


# Each with the numbers of models that are trained side by side under the backend.
USES = {
    "cross_val_score": (lambda X: cross_val_score(vae(), X, cv=FOLDS), [3]),
    "cross_validate": (
        lambda X: cross_validate(vae(), X, cv=FOLDS, return_train_score=True),
        [3],
    ),
    "cross_val_predict": (
        lambda X: cross_val_predict(
            make_pipeline(vae(), LinearRegression()), X, X[:, 0], cv=FOLDS
        ),
        [3],
    ),
    "validation_curve": (
        lambda X: validation_curve(
            vae(), X, None, param_name="beta", param_range=[0.5, 1, 2], cv=FOLDS
        ),
        [9],
    ),
    "learning_curve": (
        lambda X: learning_curve(
            vae(batch_size=20), X, None, cv=FOLDS, train_sizes=[60, 80]
        ),
        [3, 3],
    ),
    "permutation_test_score": (
        lambda X: permutation_test_score(
            vae(), X, X[:, 0], cv=FOLDS, n_permutations=4, random_state=0
        ),
        # First the data as they are, then the permutations; each fits fold after fold.
        [1, 1, 1, 4, 4, 4],
    ),
    "GridSearchCV": (
        lambda X: search_results(GridSearchCV(vae(), GRID, cv=FOLDS), X),
        [18, 1],
    ),
    "RandomizedSearchCV": (
        lambda X: search_results(
            RandomizedSearchCV(vae(), GRID, n_iter=4, cv=FOLDS, random_state=0), X
        ),
        [12, 1],
    ),
    "HalvingGridSearchCV": (
        lambda X: search_results(
            HalvingGridSearchCV(
                vae(), GRID, resource="max_iter", max_resources=9, min_resources=3,
                cv=FOLDS, random_state=0,
            ),
            X,
        ),
        [18, 6, 1],
    ),
    "HalvingRandomSearchCV": (
        lambda X: search_results(
            HalvingRandomSearchCV(
                vae(), GRID, resource="max_iter", max_resources=9, min_resources=3,
                n_candidates=4, cv=FOLDS, random_state=0,
            ),
            X,
        ),
        [12, 6, 1],
    ),
    "pipeline": (
        lambda X: cross_val_score(make_pipeline(StandardScaler(), vae()), X, cv=FOLDS),
        [3],
    ),
    "search of a pipeline": (
        lambda X: search_results(
            GridSearchCV(
                make_pipeline(StandardScaler(), vae()),
                {"standardscaler__with_std": [True, False],
                 "variationalautoencoder__beta": [1, 2]},
                cv=FOLDS,
            ),
            X,
        ),
        [12, 1],
    ),
    "autoencoder before a regression": (
        lambda X: cross_val_score(
            make_pipeline(vae(), LinearRegression()), X, X[:, 0], cv=FOLDS
        ),
        [3],
    ),
    "bagging": (
        lambda X: BaggingRegressor(
            make_pipeline(vae(), LinearRegression()), 4, random_state=0
        ).fit(X, X[:, 0]).predict(X),
        [1, 1, 1, 1],  # it leaves them to one call for each worker
    ),
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_same_results_side_by_side(use, X, counted):
    """All that is returned but times is the same to the bit, and trained together."""
    function, together = USES[use]
    expected = function(X)
    assert set(counted) == {1}
    counted.clear()
    with parallel_config("skae"):
        found = function(X)
    assert counted == together
    assert_same(found, expected)


def assert_same(found, expected):
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, values in expected.items():
            if not name.endswith("_time"):
                np.testing.assert_array_equal(found[name], values)
    elif isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def found():
    """The results of a search without the backend, by name."""
    return {}


@pytest.fixture
def expected(X, found):
    if not found:
        found.update(search_results(GridSearchCV(vae(), GRID, cv=FOLDS), X))
    return found


@pytest.mark.parametrize(
    ("kind", "n_jobs"),
    [
        *itertools.product([GridSearchCV], [None, 1, 2, -1]),
        (BatchedGridSearchCV, None),
        (BatchedGridSearchCV, 2),
    ],
)
def test_number_of_workers(kind, n_jobs, expected, X, counted):
    """One process trains all models; of several, each has its share."""
    counted.clear()
    with parallel_config("skae"):
        found = search_results(kind(vae(), GRID, cv=FOLDS, n_jobs=n_jobs), X)
    assert_same(found, expected)
    is_alone = n_jobs in {None, 1} or joblib.cpu_count() == 1
    assert counted == ([18, 1] if n_jobs != 2 and is_alone else [1])
    if n_jobs is not None:
        counted.clear()
        with parallel_config("skae", n_jobs=n_jobs):
            assert_same(search_results(kind(vae(), GRID, cv=FOLDS), X), expected)
        assert counted == ([18, 1] if n_jobs != 2 and is_alone else [1])


def test_effective_number_of_workers():
    """By it, estimators divide their work."""
    with parallel_config("skae"):
        assert joblib.effective_n_jobs() == joblib.cpu_count()
        assert joblib.effective_n_jobs(None) == joblib.effective_n_jobs(1) == 1
        assert joblib.effective_n_jobs(3) == 3
    with parallel_config("skae", n_jobs=2):
        assert joblib.effective_n_jobs(None) == 2


def in_process(i):
    return i, joblib.parallel.get_active_backend()[0].nesting_level


@pytest.mark.parametrize("workers", ["loky", "threading"])
def test_workers_are_those_of_the_backend_around(workers):
    """With their number, which the backend inherits."""
    with parallel_config(workers, n_jobs=2), parallel_config("skae"):
        backend = joblib.parallel.get_active_backend()[0]
        assert type(backend.workers) is joblib.parallel.BACKENDS[workers]
        assert backend.effective_n_jobs(2) == 2
        results = joblib.Parallel()(delayed(in_process)(i) for i in range(7))
    assert results == [(i, 1) for i in range(7)]


def test_no_workers_are_no_number():
    with pytest.raises(ValueError, match="n_jobs == 0"), parallel_config("skae"):
        joblib.Parallel(n_jobs=0)(delayed(in_process)(i) for i in range(3))


def test_registration_imports_no_torch():
    """The name is known after `import skae`, whatever was imported before or is later."""
    code = (
        "import {}\n"
        "assert 'torch' not in sys.modules\n"
        "with joblib.parallel_config('skae', idle_timeout=5, n_jobs=1):\n"
        "    backend = joblib.parallel.get_active_backend()[0]\n"
        "    calls = [joblib.delayed(abs)(-i) for i in range(3)]\n"
        "    assert joblib.Parallel()(calls) == [0, 1, 2]\n"
        "assert backend.idle_timeout == 5\n"
        "assert type(backend).__name__ == 'LockstepBackend'\n"
    )
    for order in ("sys, skae, joblib", "sys, joblib, skae"):
        subprocess.run([sys.executable, "-c", code.format(order)], check=True)


# Calls that are no fits


def power(i):
    return i**2


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_any_calls(return_as, n_jobs, monkeypatch):
    """Results in order; the generator of the calls is consumed once."""
    monkeypatch.setattr("skae.model_selection.searches._MOST_FITS", 4)
    taken = []

    def calls():
        for i in range(10):
            taken.append(i)
            yield delayed(power)(i)

    parallel = joblib.Parallel(n_jobs, backend="skae", return_as=return_as)
    for _ in range(2):
        taken.clear()
        results = parallel(calls())
        if return_as != "list":
            assert not isinstance(results, list)
        results = list(results)
        if return_as == "generator_unordered":
            results.sort()
        assert results == [i**2 for i in range(10)]
        assert taken == list(range(10))
    assert list(parallel([])) == []


def test_batches_of_calls():
    parallel = joblib.Parallel(backend="skae", batch_size=3, pre_dispatch=1)
    assert parallel(delayed(power)(i) for i in range(8)) == [i**2 for i in range(8)]


def test_two_generators_at_the_same_time():
    """They share no calls, nor errors."""
    with parallel_config("skae"):
        failing = joblib.Parallel(return_as="generator")(delayed(divide)(i) for i in (0, 1))
        other = joblib.Parallel(return_as="generator")(delayed(power)(i) for i in (3, 4))
        assert list(other) == [9, 16]
        with pytest.raises(ZeroDivisionError):
            list(failing)


def test_a_generator_that_is_not_consumed():
    made = []
    parallel = joblib.Parallel(backend="skae", return_as="generator")
    results = parallel(delayed(made.append)(i) for i in range(3))
    with pytest.warns(UserWarning, match="have been cancelled"):
        del results
    assert made == []
    assert list(parallel([delayed(power)(3)])) == [9]


def divide(i):
    return 1 / i


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_the_first_error_is_raised(n_jobs):
    """And calls that have not begun are given up, so that the object can be used again."""
    parallel = joblib.Parallel(n_jobs, backend="skae")
    with pytest.raises(ZeroDivisionError):
        parallel(delayed(divide)(i) for i in (1, 0, "a", 2))
    assert parallel(delayed(divide)(i) for i in (1, 2)) == [1, 0.5]
    made = []
    with pytest.raises(ZeroDivisionError):
        joblib.Parallel(backend="skae")([delayed(divide)(0), delayed(made.append)(1)])
    assert made == []


def test_an_error_of_the_generator_of_calls():
    def calls():
        yield delayed(power)(1)
        raise ArithmeticError("of the generator")

    with pytest.raises(ArithmeticError, match="of the generator"):
        joblib.Parallel(backend="skae")(calls())


def test_verbose_prints_progress(capsys):
    joblib.Parallel(backend="skae", verbose=100)(delayed(power)(i) for i in range(3))
    told = capsys.readouterr().out
    assert "Using backend LockstepBackend" in told
    assert "Done   1 tasks" in told
    assert "Done   3 out of   3" in told


def test_calls_that_ask_for_threads_get_them():
    """Trees of a forest are fitted in its own threads."""
    seen = set()
    barrier = threading.Barrier(2)

    def meet(i):
        seen.add(threading.get_ident())
        barrier.wait(timeout=60)  # needs two at the same time
        return i

    with parallel_config("skae"):
        parallel = joblib.Parallel(n_jobs=2, prefer="threads")
        assert parallel(delayed(meet)(i) for i in range(4)) == [0, 1, 2, 3]
    assert len(seen) == 2
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    forest = RandomForestClassifier(4, n_jobs=2, random_state=0)
    expected = forest.fit(X, y).predict_proba(X)
    with parallel_config("skae"):
        np.testing.assert_array_equal(clone(forest).fit(X, y).predict_proba(X), expected)


def test_settings_go_along(X):
    """scikit-learn's settings and filters of warnings are those around the search."""
    seen = []

    def look(estimator, X, y=None):
        seen.append(sklearn.get_config()["transform_output"])
        warnings.warn("of the scorer", FutureWarning, stacklevel=1)
        return 0.0

    with parallel_config("skae"), sklearn.config_context(transform_output="pandas"):
        with pytest.warns(FutureWarning, match="of the scorer"):
            cross_val_score(vae(), X, cv=FOLDS, scoring=look)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            cross_val_score(vae(), pd.DataFrame(X), cv=FOLDS, scoring=look)
    assert seen == 6 * ["pandas"]


# Errors and interrupts


class FailsAt(BaseEstimator):
    """An autoencoder whose fit fails for one beta, before or after training."""

    def __init__(self, beta=1, when="before"):
        self.beta, self.when = beta, when

    def fit(self, X, y=None):
        if self.beta == 2 and self.when == "before":
            raise ArithmeticError("of the fit")
        self.model_ = vae(beta=self.beta).fit(X)
        if self.beta == 2:
            raise ArithmeticError("of the fit")
        return self

    def score(self, X, y=None):
        return self.model_.score(X)


@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fit_that_fails(when, X):
    """As without the backend: the score of an error, or the error itself."""
    search = GridSearchCV(FailsAt(when=when), {"beta": [1, 2, 4]}, cv=FOLDS)
    with pytest.warns(FitFailedWarning, match="of the fit"):
        expected = search_results(clone(search), X)
    with (
        parallel_config("skae"),
        pytest.warns(FitFailedWarning, match="of the fit"),
    ):
        assert_same(search_results(clone(search), X), expected)
    assert np.isnan(expected["mean_test_score"]).tolist() == [False, True, False]
    search.set_params(error_score="raise")
    with parallel_config("skae"):
        with pytest.raises(ArithmeticError, match="of the fit"):
            search.fit(X)
        with pytest.raises(ArithmeticError, match="of the fit"):
            search.set_params(n_jobs=2).fit(X)


def test_an_interrupt(X):
    def interrupting(estimator, X, y=None):
        _thread.interrupt_main()
        time.sleep(0.2)
        return 0.0

    with parallel_config("skae"):
        with pytest.raises(KeyboardInterrupt):
            cross_val_score(vae(), X, cv=FOLDS, scoring=interrupting)
        assert len(cross_val_score(vae(), X, cv=FOLDS)) == 3


# A lock around fit


class Locked(BaseEstimator):
    """A meta-estimator that lets one fit at a time run, in the whole process."""

    lock = threading.Lock()

    def __init__(self, estimator=None, is_released=True):
        self.estimator, self.is_released = estimator, is_released

    def fit(self, X, y=None):
        self.lock.acquire()
        try:
            self.estimator_ = clone(self.estimator).fit(X)
        finally:
            if self.is_released:
                self.lock.release()
        return self

    def score(self, X, y=None):
        return self.estimator_.score(X)


@pytest.mark.parametrize("error_score", [np.nan, "raise"])
@pytest.mark.parametrize("kind", [GridSearchCV, BatchedGridSearchCV])
def test_a_lock_around_fit(kind, error_score, X):
    """It ends with an error that says so, within the time limit, and leaves nothing."""
    grid = {"estimator__beta": [0.5, 1, 2]}
    search = kind(Locked(vae()), grid, cv=FOLDS, error_score=error_score)
    start = time.monotonic()
    with (
        parallel_config("skae", idle_timeout=0.5),
        pytest.raises(RuntimeError, match="holds a lock around `fit`"),
    ):
        search.fit(X)
    assert time.monotonic() - start < 30
    assert not Locked.lock.locked()
    # The remedy.
    assert np.isfinite(GridSearchCV(Locked(vae()), grid, cv=FOLDS).fit(X).best_score_)


def test_a_lock_that_is_never_released(X):
    """The search ends all the same; the blocked fit ends when it gets the lock."""
    search = GridSearchCV(Locked(vae(), False), {"estimator__beta": [1, 2]}, cv=FOLDS)
    with (
        parallel_config("skae", idle_timeout=0.5),
        pytest.raises(RuntimeError, match="holds a lock around `fit`"),
    ):
        search.fit(X)
    # The fit that held the lock has ended without releasing it.
    blocked = [t for t in threading.enumerate() if t.name == "skae-task"]
    assert len(blocked) == 1
    Locked.lock.release()
    blocked[0].join(timeout=60)
    assert not blocked[0].is_alive()
    Locked.lock = threading.Lock()


def test_workers_find_a_lock_too(X):
    """In processes of their own, with the same limit."""
    search = GridSearchCV(Locked(vae()), {"estimator__beta": [0.5, 1, 2]}, n_jobs=2)
    with (
        parallel_config("skae", idle_timeout=0.5),
        pytest.raises(RuntimeError, match="holds a lock around `fit`"),
    ):
        search.fit(X)


# One within another


def test_cross_validation_of_a_search(X, counted):
    """A batched search within each fold has the same scores, and trains together."""
    inner = {"param_grid": {"beta": [0.5, 1, 50]}, "cv": 2}
    expected = cross_val_score(GridSearchCV(vae(), **inner), X, cv=FOLDS)
    counted.clear()
    found = cross_val_score(BatchedGridSearchCV(vae(), **inner), X, cv=FOLDS)
    assert counted == 3 * [6, 1]
    np.testing.assert_array_equal(found, expected)
    counted.clear()
    with parallel_config("skae"):
        found = cross_val_score(BatchedGridSearchCV(vae(), **inner), X, cv=FOLDS)
        assert counted == [6, 6, 6, 3]
        np.testing.assert_array_equal(found, expected)
        # Fits of a search that is not batched go with those of the other folds.
        counted.clear()
        found = cross_val_score(GridSearchCV(vae(), **inner), X, cv=FOLDS)
        assert counted == 7 * [3]
        np.testing.assert_array_equal(found, expected)


def test_bagging_of_searches(X):
    search = BatchedGridSearchCV(
        make_pipeline(vae(), LinearRegression()),
        {"variationalautoencoder__beta": [0.5, 1]},
        cv=2,
    )
    bagging = BaggingRegressor(search, 2, random_state=0)
    expected = clone(bagging).fit(X, X[:, 0]).predict(X)
    with parallel_config("skae"):
        found = bagging.fit(X, X[:, 0]).predict(X)
    np.testing.assert_array_equal(found, expected)
    ordinary = clone(bagging).set_params(
        estimator=GridSearchCV(search.estimator, search.param_grid, cv=2)
    )
    np.testing.assert_array_equal(ordinary.fit(X, X[:, 0]).predict(X), expected)


class UnhashableKey(GaussianLikelihood):
    """A likelihood of a user's own, whose batch key cannot be hashed."""

    @property
    def batch_key(self):
        return [1]


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_wrong_declaration_fails_alone(X):
    """The fit that the part belongs to fails, and the other candidates go on."""
    grid = {"likelihood": ["gaussian", UnhashableKey()]}
    search = BatchedGridSearchCV(VariationalAutoencoder(max_iter=2), grid, cv=2)
    with pytest.warns(FitFailedWarning, match="unhashable"):
        search.fit(X)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]


@pytest.mark.parametrize("parameters", [{"idle_timeout": 0}, {"idle_timeot": 3}])
def test_wrong_parameters_of_the_backend(parameters):
    with pytest.raises((TypeError, ValueError), match="idle_time"):
        parallel_config("skae", **parameters)


def test_models_are_freed_while_a_search_goes_on(X):
    """A part of the calls keeps no model of an earlier part."""
    alive, models = [], weakref.WeakSet()

    class Counting(GaussianAutoencoder):
        """An estimator that counts the fitted models that are alive."""

        def fit(self, X, y=None, **params):
            super().fit(X, y, **params)
            models.add(self.module_)
            alive.append(len(models))
            return self

    backend = LockstepBackend()
    with parallel_config(backend), pytest.MonkeyPatch.context() as patch:
        patch.setattr("skae.model_selection.searches._MOST_FITS", 2)
        cross_val_score(Counting(max_iter=1), X, cv=12)
    assert len(alive) == 12
    assert max(alive) <= 4
