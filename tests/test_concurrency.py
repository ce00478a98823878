"""Models in threads and processes: the results are those of one thread."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from tests.callbacks import Callback, FolderCallback
from tests.helpers import weights
from tests.small_models import all_answers, digest, fitted
from tests.surroundings import nothing_global_changes

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"  # the fits have two epochs
)


@pytest.fixture
def frequent_switches():
    """Let the threads of Python take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(call, n=8):
    """Call a function with 0, 1, ... at the same time; return its results."""
    barrier = threading.Barrier(n)

    def begin(i):
        barrier.wait(30)
        return call(i)

    # scikit-learn's validation replaces the warning filters for a moment, which is not safe
    # beside other threads.
    with nothing_global_changes(but=["warnings"]), ThreadPoolExecutor(n) as pool:
        return [future.result() for future in [pool.submit(begin, i) for i in range(n)]]


@pytest.mark.parametrize("name", ["gaussian", "holes", "mixed", "network of a user"])
def test_threads_share_a_model(name, frequent_switches):
    """Each of them gets the answers of one thread, in both precisions."""
    _, X, model, expected = fitted(name)
    # Without the copy in another precision, which is kept with the model.
    model = pickle.loads(pickle.dumps(model))
    for found in in_threads(lambda i: all_answers(model, X)):
        assert [k for k in expected if found[k] != expected[k]] == []


def test_a_copy_in_another_precision_is_never_rounded(monkeypatch, X):
    """Another thread may use the copy while its numbers are written again."""
    model = VariationalAutoencoder(max_iter=1, random_state=0).fit(X)
    expected = model.score_samples(X)
    copied, original, seen = model.module_._copy[1], torch.Tensor.copy_, []
    exact = model._standardization.module_buffers["std_in_units"]
    assert (exact != exact.astype(np.float32)).all()

    def copy_(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        seen.append((copied.std_in_units.numpy() == exact).all())
        return result

    monkeypatch.setattr(torch.Tensor, "copy_", copy_)
    np.testing.assert_array_equal(model.score_samples(X), expected)
    assert len(seen) > 10
    assert all(seen)


def test_fits_in_threads(frequent_switches):
    """Fits of different models at the same time are those of each alone."""
    names = ["gaussian", "laplace", "holes", "prior", "student_t", "network of a user"]
    names = [*names, "mixed", "float64"]

    def fit(i):
        estimator, X, _, _ = fitted(names[i])
        return weights(clone(estimator).fit(X))

    expected = [weights(fitted(name)[2]) for name in names]
    assert in_threads(fit) == expected


def answers_of(pickled, name):
    """Return the answers of a pickled model for its table."""
    return all_answers(pickle.loads(pickled), fitted(name)[1])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_new_processes(method):
    """A child process fits and scores as its parent does."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this system")
    _, _, model, expected = fitted("holes")
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply_async(answers_of, [pickle.dumps(model), "holes"]).get(120)
        assert found == expected
        assert pool.apply_async(digest).get(120) == digest()
        # The pool would be killed, and a measurement of coverage with it.
        pool.close()
        pool.join()


FORKS = """
    import multiprocessing, os, pickle, signal, warnings
    import numpy as np, torch
    from skae import VariationalAutoencoder
    from tests.helpers import weights

    torch.set_num_threads(2)
    X = np.random.default_rng(0).normal(size=(1100, 64))

    def fit(width=512):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = VariationalAutoencoder(
                hidden_layer_sizes=(width,), batch_size=1000, max_iter=1, random_state=0
            ).fit(X)
        return model, [w.filename for w in caught if w.category is RuntimeWarning]

    def answers(model):
        return [model.score_samples(X), model.sample(3, 0), model.log_marginal(X[:5])]

    def work(pickled):
        signal.alarm(60)
        # It warns once, and only if a second thread would have been used.
        assert fit(8)[1] == []
        model, warned = fit()
        assert warned == [__file__]
        assert fit()[1] == []
        assert torch.get_num_threads() == 2
        return weights(model), pickle.dumps(answers(pickle.loads(pickled)))

    model, warned = fit()
    assert warned == []
    expected = weights(model), pickle.dumps(answers(model))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(work, [pickle.dumps(model)]).get(90) == expected
    again, warned = fit()
    assert (weights(again), warned) == (expected[0], [])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_processes(tmp_path):
    """A child of a process whose torch used several threads computes on one.

    GNU's OpenMP would let the child wait for ever for threads that it does not have.
    """
    (tmp_path / "forks.py").write_text(textwrap.dedent(FORKS))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", tmp_path / "forks.py"],
        capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


class ThreadCounter(FolderCallback):
    """A callback that writes down the threads of its process, before and after epochs."""

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            with (self.folder / str(os.getpid())).open("a") as file:
                print(torch.get_num_threads(), file=file)
        return False


class Killer(Callback):
    """A callback that ends its process in a training, as a system without memory does.

    Parameters
    ----------
    parent : int
        The process that is spared.
    """

    def __init__(self, parent):
        self.parent = parent

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch" and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return False


@pytest.mark.slow
def test_workers_of_a_search(X, tmp_path):
    """A worker that dies ends a search with an error, and the next search works.

    Together the workers have no more threads than the machine has cores.
    """
    large = VariationalAutoencoder(
        hidden_layer_sizes=(2000,), batch_size=1000, max_iter=1, random_state=0
    )
    wide = np.tile(X, (9, 5))
    dying = clone(large).set_callbacks(Killer(os.getpid()))
    with pytest.raises(TerminatedWorkerError):
        BatchedGridSearchCV(dying, {"beta": [1, 2]}, cv=2, n_jobs=2).fit(wide)
    counting = clone(large).set_callbacks(ThreadCounter(tmp_path))
    with nothing_global_changes():
        search = GridSearchCV(counting, {"beta": [1, 2]}, cv=2, n_jobs=2, refit=False)
        search.fit(wide)
    counts = [int(n) for path in tmp_path.iterdir() for n in path.read_text().split()]
    assert len(counts) == 4
    assert max(counts) <= max(1, joblib.cpu_count() // 2)
    alone = GridSearchCV(large, {"beta": [1, 2]}, cv=2, refit=False).fit(wide)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_allclose(
            search.cv_results_[name], alone.cv_results_[name], rtol=1e-5, atol=1e-5
        )
