"""Tests that estimators neither change nor read the settings of the process."""

import copy
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from torch import nn

from skae import VariationalAutoencoder
from skae._fitting.lockstep import run_in_lockstep
from skae.networks import MLP
from skae.objectives.draws import matched_normal
from tests.callbacks import Callback
from tests.helpers import answers, every_estimator, weights
from tests.surroundings import default_dtype, nothing_global_changes, unusual_settings


class SettingsRecorder(Callback):
    """A callback that records arithmetic settings of the process and may raise an error."""

    def __init__(self, error=None):
        self.error, self.seen = error, []

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch":
            flushed = not (torch.tensor(1e-40, dtype=torch.float32) * 1).item()
            products = torch.backends.cuda.matmul.fp32_precision
            self.seen.append((torch.get_num_threads(), flushed, products))
            if self.error is not None:
                raise self.error


@every_estimator
@pytest.mark.parametrize("random_state", [None, 0])
@pytest.mark.parametrize("flush_denormal", [False, True])
def test_global_state_is_unchanged(estimator, random_state, flush_denormal, X):
    """A fit restores the settings that it changes, and methods change none."""
    recorder = SettingsRecorder()
    model = estimator(
        max_iter=3, random_state=random_state, early_stopping=True, precision="tf32"
    ).set_callbacks(recorder)
    with unusual_settings(flush_denormal):
        with nothing_global_changes():
            model.fit(X)
        assert recorder.seen == 3 * [(1, True, "tf32")]
        with nothing_global_changes():
            answers(model, X)
            model.score(X)
            if estimator is VariationalAutoencoder:
                model.sample(3)
        with nothing_global_changes():
            copy.deepcopy(pickle.loads(pickle.dumps(model)))


@every_estimator
@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_failed_fit_restores_global_state(estimator, error, X):
    """A fit restores all settings after an error in a callback, the data or a network."""
    model = estimator(max_iter=3, random_state=0, precision="tf32")
    ended = pytest.raises(error)
    recorder = SettingsRecorder(error)
    with unusual_settings():
        with nothing_global_changes(), ended:
            clone(model).set_callbacks(recorder).fit(X)
        assert recorder.seen == [(1, True, "tf32")]
        with nothing_global_changes(), pytest.raises(ValueError, match="infinity"):
            model.fit(np.where(X > 1, np.inf, X))
        with nothing_global_changes(), pytest.raises(RuntimeError, match="in a layer"):
            clone(model).set_params(network=Failing()).fit(X)


class Failing(MLP):
    """A network that raises an error when it is called."""

    def encoder(self, n_features, n_outputs):
        network = super().encoder(n_features, n_outputs)

        def fail(module, inputs):
            raise RuntimeError("in a layer")

        network.register_forward_pre_hook(fail)
        return network


@every_estimator
def test_global_seeds_are_not_read(estimator, X):
    """Global seeds do not determine a fit with `random_state=None`."""

    def fit():
        np.random.seed(0)  # noqa: NPY002  (the global state under test)
        torch.manual_seed(0)
        random.seed(0)
        return estimator(max_iter=3, random_state=None).fit(X)

    assert fit().loss_curve_ != fit().loss_curve_


class Dropout(BaseEstimator):
    """A network that draws from torch's global generator while it trains."""

    def __init__(self, p=0.3):
        self.p = p

    def encoder(self, n_features, n_outputs):
        return self._layers(n_features, n_outputs)

    def decoder(self, n_components, n_outputs):
        return self._layers(n_components, n_outputs)

    def _layers(self, n_in, n_out):
        return nn.Sequential(
            nn.Linear(n_in, 8), nn.ReLU(), nn.Dropout(self.p), nn.Linear(8, n_out)
        )


def fit_with_dropout(X, random_state=0, p=0.3, **parameters):
    """Fit a model whose networks have dropout."""
    parameters = {"max_iter": 4, "random_state": random_state} | parameters
    return VariationalAutoencoder(network=Dropout(p), **parameters).fit(X)


@pytest.mark.parametrize("parameters", [{}, {"n_init": 2}, {"early_stopping": True}])
def test_dropout_is_reproducible(parameters, X):
    """Fits with dropout and one seed are equal, and the global stream goes on as before."""
    torch.manual_seed(1)
    with nothing_global_changes():
        one = fit_with_dropout(X, **parameters)
    torch.manual_seed(2)
    other = fit_with_dropout(X, **parameters)
    assert weights(one) == weights(other)
    assert one.history_["objective"].tolist() == other.history_["objective"].tolist()
    assert weights(one) != weights(fit_with_dropout(X, random_state=1, **parameters))
    # Dropout is active in training: without it the fit is another one.
    assert weights(one) != weights(fit_with_dropout(X, p=0.0, **parameters))


def test_dropout_differs_between_steps_and_starts(X):
    """Each step draws a new mask, and each start has a stream of its own."""
    masks = []

    class Watched(Dropout):
        def _layers(self, n_in, n_out):
            layers = super()._layers(n_in, n_out)
            layers[2].register_forward_hook(
                lambda _, args, out: masks.append((out == 0)[args[0] != 0].tolist())
            )
            return layers

    VariationalAutoencoder(
        network=Watched(0.5),
        batch_size=32,
        max_iter=2,
        n_init=2,
        init="random",
        random_state=0,
    ).fit(X)
    masks = [tuple(mask) for mask in masks if any(mask)]
    assert len(masks) == len(set(masks)) == 2 * 2 * 2 * 4


def test_dropout_is_reproducible_side_by_side(X):
    """The masks are those of a fit alone: in a search, and in threads of a user."""
    expected = [weights(fit_with_dropout(X, seed)) for seed in range(4)]
    fits = [partial(fit_with_dropout, X, seed) for seed in range(4)]
    with nothing_global_changes():
        found = run_in_lockstep(fits, 4)
    assert [weights(model) for model in found] == expected
    with nothing_global_changes(), ThreadPoolExecutor(4) as pool:
        found = [future.result() for future in [pool.submit(fit) for fit in fits]]
    assert [weights(model) for model in found] == expected


@contextmanager
def in_threads(function, n_threads):
    """Call a function again and again in threads, within a block."""
    is_over, n_calls, errors = threading.Event(), [0] * n_threads, []

    def repeat(i):
        try:
            while not is_over.is_set():
                function()
                n_calls[i] += 1
        # A thread cannot fail a test: the block raises the error at its end.
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(i,)) for i in range(n_threads)]
    for thread in threads:
        thread.start()
    try:
        yield n_calls
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert min(n_calls) > 0


@contextmanager
def frequent_switches():
    """Let the threads of Python take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@every_estimator
def test_draws_of_other_threads_do_not_change_fits(estimator, X):
    """A thread draws from torch's global generator, and changes the default dtype."""

    def disturb():
        with default_dtype(torch.float64):
            torch.randn(3)

    def fit(seed):
        model = estimator(init="random", max_iter=1, random_state=seed)
        return weights(model.fit(X))

    expected = [fit(seed) for seed in range(20)]
    with frequent_switches(), in_threads(disturb, 1):
        found = [fit(seed) for seed in range(20)]
    assert found == expected


def test_fits_in_threads_do_not_change_draws(X):
    """The draws and defaults of the main thread are as before while others use models."""
    pickled = pickle.dumps(VariationalAutoencoder(max_iter=1, random_state=0).fit(X))

    def use():
        matched_normal.cache_clear()
        model = pickle.loads(pickled)
        model.fit(X).score(X)
        model.sample(3)

    def draw():
        torch.manual_seed(0)
        return [torch.randn(2).tolist() for _ in range(500)]

    expected = draw()
    with frequent_switches(), in_threads(use, 4) as n_calls:
        while min(n_calls) < 5:
            assert draw() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_during_fits():
    """A process that is forked during a fit has the generator of the user, and no lock."""
    program = """
        import os, signal, sys, threading, warnings
        import numpy as np, torch
        from skae import VariationalAutoencoder
        from tests.estimators.test_global_state import Dropout, fit_with_dropout

        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        torch.set_num_threads(1)
        sys.setswitchinterval(5e-5)
        X = np.random.default_rng(0).normal(size=(40, 3))
        torch.manual_seed(0)
        before = torch.get_rng_state()
        is_over = threading.Event()

        def repeat():
            while not is_over.is_set():
                fit_with_dropout(X, max_iter=1)

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        for _ in range(12):
            if (child := os.fork()) == 0:
                signal.alarm(30)
                is_same = torch.equal(torch.get_rng_state(), before)
                fit_with_dropout(X, max_iter=1)
                os._exit(0 if is_same else 1)
            assert os.waitpid(child, 0)[1] == 0
        is_over.set()
        thread.join()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
