"""Scores and codes of many rows, whose chunks several threads compute."""

import os
import signal
import threading

import numpy as np
import pytest
import torch

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._evaluation import blocks as evaluation
from skae._utils import threads
from tests.surroundings import nothing_global_changes

METHODS = "transform", "reconstruct", "score_samples", "posterior", "log_marginal", "impute"


@pytest.fixture
def workers(monkeypatch):
    """Allow three threads and many small chunks; return the names of the threads."""
    monkeypatch.setattr(evaluation, "_CHUNK_NUMBERS", 2**10)
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 2**8)
    used = []
    prepare = evaluation.AutoencoderModule.prepare

    def recorded(self, y):
        used.append((threading.current_thread().name, torch.get_num_threads()))
        return prepare(self, y)

    monkeypatch.setattr(evaluation.AutoencoderModule, "prepare", recorded)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield used
    torch.set_num_threads(before)


def fitted(estimator=VariationalAutoencoder, X=None, **parameters):
    """Fit a model to rows, of which some have holes."""
    return estimator(2, max_iter=2, random_state=0, **parameters).fit(X)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_do_not_depend_on_threads(workers, X, method, dtype):
    """To the bit; each worker uses one thread of torch."""
    X = X.astype(dtype)
    X[::7, 1] = np.nan
    model = fitted(X=X)
    call = getattr(model, method)
    workers.clear()
    with nothing_global_changes():
        several = call(X)
    names, n_threads = zip(*workers, strict=True)
    assert all(name.startswith("ThreadPoolExecutor") for name in names)
    assert set(n_threads) == {1}
    torch.set_num_threads(1)
    np.testing.assert_array_equal(several, call(X))


def test_chunks_are_computed_at_the_same_time(workers, X):
    """By as many workers as there are threads; else the first would wait for ever."""
    model = fitted(GaussianAutoencoder, X)
    barrier, made = threading.Barrier(3), []

    def together(module, y):
        made.append(len(y))
        if len(made) <= 3:
            barrier.wait(10)
        return y

    assert len(model._over_rows(together, np.tile(X, (10, 1)))) == 10 * len(X)
    assert len(made) > 3


def test_draws_are_made_in_order(workers, X):
    """They come from one generator, so one thread computes all chunks."""
    X[::3, 1] = np.nan
    model = fitted(X=X)
    for options in ({"statistic": "median"}, {"n_samples": 5}):
        workers.clear()
        found = model.impute(X, random_state=0, **options)
        assert {name for name, _ in workers} == {"MainThread"}
        torch.set_num_threads(1)
        np.testing.assert_array_equal(found, model.impute(X, random_state=0, **options))
        torch.set_num_threads(3)


def test_a_model_of_one_users_part_stays_in_one_thread(workers, X):
    """Of a prior of the user it is not known whether threads may share it."""
    model = fitted(X=X, prior="mixture")
    workers.clear()
    model.score_samples(X)
    assert {name for name, _ in workers} == {"MainThread"}


def test_an_error_is_raised(workers, X, monkeypatch):
    model = fitted(GaussianAutoencoder, X)
    made = []

    def failing(module, y):
        made.append(len(y))
        if len(made) == 3:
            raise ZeroDivisionError
        return y

    with nothing_global_changes(), pytest.raises(ZeroDivisionError):
        model._over_rows(failing, X)


def test_an_interrupt_ends_a_score(workers, X):
    X = np.tile(X, (100, 1))
    model = fitted(GaussianAutoencoder, X[:120])
    made = []

    def interrupted(module, y):
        if not made:
            os.kill(os.getpid(), signal.SIGINT)
        made.append(len(y))
        threads.Signal().wait(0.05)
        return y

    with nothing_global_changes(), pytest.raises(KeyboardInterrupt):
        model._over_rows(interrupted, X)
    assert sum(made) < len(X)
