"""What candidates of a search share of a pipeline, and how much memory that takes."""

import copy
import pickle
import re
import threading
import time

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skae import VariationalAutoencoder
from skae._fitting.step_cache import StepCache, n_bytes
from skae.model_selection import BatchedGridSearchCV

FOLDS = KFold(3, shuffle=True, random_state=0)


def vae():
    return VariationalAutoencoder(max_iter=2, precision="float64", random_state=0)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (np.zeros((5, 3)), 120),
        (np.zeros((5, 3), dtype=np.float32), 60),
        (pd.DataFrame(np.zeros((5, 3))), 120),
        ([[0.0] * 3] * 5, 120),
        ([np.zeros(3)] * 5, 120),
        ((), 8),
        (csr_array(np.eye(4)), 32),
        ("abc", 8),
        (None, 8),
        (PCA(), 8),
        (make_pipeline(PCA(), PCA()), 8),
    ],
)
def test_size(data, size):
    assert n_bytes(data) == size


def test_size_of_a_polars_frame():
    polars = pytest.importorskip("polars")
    assert n_bytes(polars.DataFrame(np.zeros((5, 3)))) == 120


def test_least_recently_used_results_are_dropped():
    made = []

    def zeros(n):
        made.append(n)
        return np.zeros(1000), n

    size = len(pickle.dumps(zeros(0), protocol=5))
    cache = StepCache(3 * size + size // 2)
    cached = cache.cache(zeros)
    made.clear()
    for n in (1, 2, 3, 1, 4, 1, 3, 2):
        assert cached(n)[1] == n
        assert cache.n_bytes_cached <= cache.most_bytes
    # 4 came when 2 had not been used for the longest time, and 2 when 4 had not.
    assert made == [1, 2, 3, 4, 2]
    assert len(cache.results) == 3
    # What is larger than the cache is not kept at all.
    small = StepCache(size - 1)
    assert small.cache(zeros)(5)[1] == 5
    assert small.n_bytes_cached == 0


def test_results_are_copies():
    cached = StepCache().cache(lambda: [1])
    for _ in range(3):
        result = cached()
        assert result == [1]
        result.append(2)


@pytest.mark.parametrize("part", ["argument", "result"])
def test_what_cannot_be_pickled_is_computed_each_time(part):
    made = []

    def function(argument):
        made.append(argument)
        return (lambda: 7) if part == "result" else 7

    cache = StepCache()
    cached = cache.cache(function)
    for _ in range(2):
        result = cached((lambda: 1) if part == "argument" else 1)
        assert (result() if part == "result" else result) == 7
    assert len(made) == 2
    assert (cache.n_bytes_cached, cache.under_way) == (0, {})


def test_an_error_is_not_kept():
    attempts = []

    def failing():
        attempts.append(1)
        if len(attempts) == 1:
            raise ArithmeticError
        return 7

    cached = StepCache().cache(failing)
    with pytest.raises(ArithmeticError):
        cached()
    assert cached() == cached() == 7
    assert len(attempts) == 2


def test_a_search_with_a_lambda_in_a_step(X):
    pipeline = make_pipeline(FunctionTransformer(lambda x: x + 1), vae())
    grid = {"variationalautoencoder__beta": [1, 2]}
    ours = BatchedGridSearchCV(pipeline, grid, cv=FOLDS).fit(X)
    theirs = GridSearchCV(pipeline, grid, cv=FOLDS).fit(X)
    name = "mean_test_score"
    np.testing.assert_array_equal(ours.cv_results_[name], theirs.cv_results_[name])


@pytest.fixture
def sizes(monkeypatch):
    """Bytes in the cache after each result, and the most that it may take."""
    sizes = []
    original = StepCache._put

    def put(cache, key, result):
        original(cache, key, result)
        sizes.append((cache.n_bytes_cached, cache.most_bytes))

    monkeypatch.setattr(StepCache, "_put", put)
    return sizes


def test_memory_of_a_search(sizes):
    """However many settings the steps have, it is a multiple of the size of X."""
    X = np.random.default_rng(0).normal(size=(4000, 25))  # 0.8 MB
    grid = {"scale__with_std": [False, True], "pca__n_components": list(range(5, 25))}
    pipeline = Pipeline([("scale", StandardScaler()), ("pca", PCA()), ("last", PCA(1))])
    search = BatchedGridSearchCV(pipeline, grid, cv=FOLDS, refit=False).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert max(size for size, _ in sizes) <= 16 * X.nbytes
    assert {most for _, most in sizes} == {16 * X.nbytes}
    # All together would not have gone in.
    assert len(sizes) > 2 * 20 * 3


def test_small_data_may_have_larger_models(X, sizes):
    """Models of a step are kept, though they are larger than X."""
    pipeline = make_pipeline(vae(), PCA(1))
    grid = {"pca__whiten": [False, True], "variationalautoencoder__beta": [1, 2, 4]}
    BatchedGridSearchCV(pipeline, grid, cv=FOLDS, refit=False).fit(X)
    assert len(sizes) == 9
    assert sizes[-1][0] > 16 * X.nbytes


@pytest.mark.filterwarnings("ignore:Candidates differ in 'standardscaler'")
def test_a_search_leaves_no_trace_of_its_cache(X):
    """In nothing that can be reached from the search, nor while it is under way."""
    seen = []
    pipeline = make_pipeline(StandardScaler(), vae())

    def look(estimator, X, y=None):
        seen.append((search.estimator is pipeline, pipeline.memory, repr(estimator)))
        return estimator.score(X)

    grid = {"standardscaler": [StandardScaler(), PCA(3)]}
    for scoring, refit in ((None, True), (look, True), ({"one": look}, "one")):
        search = BatchedGridSearchCV(pipeline, grid, cv=FOLDS, scoring=scoring, refit=refit)
        for _ in range(2):
            search.fit(X)
        left = [search.best_estimator_, search.cv_results_, search.best_params_]
        if scoring is None:
            left.append(search)
        assert b"StepCache" not in pickle.dumps(left)
        assert search.estimator is pipeline
        reference = GridSearchCV(**search.get_params(deep=False)).fit(X)
        assert sorted(vars(search)) == sorted(vars(reference))
        told = "".join(repr(search).replace("Batched", "").split())
        assert told == "".join(repr(reference).split())
        assert repr(search.best_estimator_) == repr(reference.best_estimator_)
        assert repr(search.scorer_) == repr(reference.scorer_)
    assert seen
    for is_same, memory, text in seen:
        assert is_same
        assert memory is None
        assert not re.search("memory|Cache", text)


def test_a_failed_search_leaves_no_trace(X):
    pipeline = make_pipeline(StandardScaler(), vae())
    grid = {"variationalautoencoder__beta": [1, -1]}
    search = BatchedGridSearchCV(pipeline, grid, cv=FOLDS, error_score="raise")
    before = dict(vars(search))
    with pytest.raises(ValueError, match="'beta' parameter") as caught:
        search.fit(X)
    assert "Cache" not in str(caught.value)
    assert vars(search) == before
    assert pipeline.memory is None


def test_one_search_in_two_threads(X):
    """Each fit has its own cache; the parameters of the search are not touched."""
    pipeline = make_pipeline(StandardScaler(), vae())
    grid = {"variationalautoencoder__beta": [0.5, 1, 2]}
    search = BatchedGridSearchCV(pipeline, grid, cv=FOLDS)
    expected = GridSearchCV(pipeline, grid, cv=FOLDS).fit(X).cv_results_
    results, errors = [], []
    both = threading.Barrier(2)

    def run():
        try:
            for _ in range(3):
                both.wait(timeout=60)
                results.append(search.fit(X).cv_results_["mean_test_score"])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(results) == 6
    for scores in results:
        np.testing.assert_array_equal(scores, expected["mean_test_score"])
    assert search.estimator is pipeline
    assert pipeline.memory is search.best_estimator_.memory is None


def test_interface():
    cache = StepCache(5)
    assert repr(cache) == "None"
    assert copy.deepcopy(cache) is cache
    assert pickle.loads(pickle.dumps(cache)).most_bytes == 5


def test_a_result_beyond_the_limit_drops_no_other():
    """It is not kept, and computed again; the small ones stay."""
    calls = []

    def make(size):
        calls.append(size)
        return bytes(size)

    cached = StepCache(1000).cache(make)
    for _ in range(3):
        for size in (100, 200, 5000):
            assert cached(size) == bytes(size)
    assert calls == [100, 200, 5000, 5000, 5000]


class Unpicklable:
    """An object whose state raises an error of its own."""

    def __getstate__(self):
        raise RuntimeError("no state")


class Unloadable:
    """An object that can be pickled and not loaded."""

    def __setstate__(self, state):
        raise RuntimeError("no way back")

    def __getstate__(self):
        return {"a": 1}


@pytest.mark.parametrize("kind", [Unpicklable, Unloadable])
def test_objects_that_cannot_be_cached_are_computed(kind):
    """A step works with the cache if it works without one."""
    calls = []

    def make(i):
        calls.append(i)
        return kind()

    cached = StepCache().cache(make)
    assert all(isinstance(cached(0), kind) for _ in range(3))
    assert calls == [0, 0, 0]


def test_threads_compute_a_result_once():
    """A thread waits for the thread that computes a result, without a busy loop."""
    calls, results = [], []

    def slow(i):
        calls.append(i)
        time.sleep(0.3)
        return i

    cached = StepCache().cache(slow)
    threads = [threading.Thread(target=lambda: results.append(cached(1))) for _ in range(4)]
    before = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (calls, results) == ([1], [1, 1, 1, 1])
    assert time.process_time() - before < 0.25
