"""Searches on a Dask cluster of separate processes, one of which may be killed."""

import os
import signal
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, KFold

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from tests.callbacks import FolderCallback

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.slow
FOLDS = KFold(3, shuffle=True, random_state=0)
GRID = {"beta": [0.5, 1, 2, 4], "n_components": [1, 2]}


@pytest.fixture(scope="module")
def environment():
    """Put back the environment, in which Dask sets one thread for all later processes."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def cluster(environment):
    """Two workers of one thread each, which are processes of their own."""
    with (
        distributed.LocalCluster(
            processes=True,
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def found():
    """The results of a search in this process, by name."""
    return {}


@pytest.fixture
def expected(X, found):
    if not found:
        found["search"] = GridSearchCV(vae(), GRID, cv=FOLDS).fit(X)
    return found["search"]


def vae(*callbacks):
    model = VariationalAutoencoder(max_iter=6, precision="float64", random_state=0)
    return model.set_callbacks(*callbacks)


class Telling(FolderCallback):
    """A callback that writes down the threads of each epoch, in a file for its process."""

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.tell(context.task_id)
        return False

    def tell(self, epoch):
        with (self.folder / str(os.getpid())).open("a") as file:
            print(torch.get_num_threads(), epoch, file=file)


class Killing(Telling):
    """A callback that kills the process that it is in, once, in the midst of a training."""

    def tell(self, epoch):
        if epoch == 3:
            try:
                (self.folder / "killed").touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


def assert_same_scores(search, expected):
    assert search.best_params_ == expected.best_params_
    for name, values in expected.cv_results_.items():
        if "score" in name and "time" not in name:
            np.testing.assert_allclose(search.cv_results_[name], values, rtol=1e-9)
    assert search.best_estimator_.n_iter_ == 6


@pytest.mark.parametrize(
    ("kind", "backend"),
    [(GridSearchCV, None), (BatchedGridSearchCV, None), (GridSearchCV, "skae")],
)
def test_same_results_on_both_workers(kind, backend, cluster, expected, X, tmp_path):
    with ExitStack() as stack:
        stack.enter_context(parallel_config("dask"))
        if backend:
            stack.enter_context(parallel_config(backend))
        search = kind(vae(Telling(tmp_path)), GRID, cv=FOLDS).fit(X)
    assert_same_scores(search, expected)
    told = {
        int(path.name): np.loadtxt(path, dtype=int)
        for path in tmp_path.iterdir()
        if int(path.name) != os.getpid()  # the refit
    }
    assert set(told) == set(cluster.run(os.getpid).values())
    assert sum(map(len, told.values())) == 6 * 24
    for threads, epoch in (lines.T for lines in told.values()):
        # One thread for each worker, also where the machine has more.
        assert set(threads) == {1}
        # Each worker has trained its share side by side.
        if kind is BatchedGridSearchCV or backend:
            assert len(epoch) == 6 * 12
            together = np.repeat([np.arange(6)] * 2, 6, axis=1).ravel()
            np.testing.assert_array_equal(epoch, together)


@pytest.mark.parametrize(
    ("kind", "is_sent_to_all"),
    [(GridSearchCV, True), (BatchedGridSearchCV, False)],
)
def test_a_worker_that_is_killed_loses_nothing(
    kind, is_sent_to_all, cluster, expected, X, tmp_path
):
    """Its share is computed again, and the results are the same.

    By default joblib puts the arguments of scikit-learn's search, X too, on one worker,
    and with that one they are lost; a batched share brings its data along.
    """
    workers = set(cluster.run(os.getpid).values())
    assert len(workers) == 2
    with parallel_config("dask", **({"scatter": [X]} if is_sent_to_all else {})):
        search = kind(vae(Killing(tmp_path)), GRID, cv=FOLDS).fit(X)
    assert (tmp_path / "killed").exists()
    assert_same_scores(search, expected)
    # The cluster has put another worker in its place.
    cluster.wait_for_workers(2, timeout=120)
    assert len(set(cluster.run(os.getpid).values()) - workers) == 1
