"""Tests that estimators neither change nor read the settings of the process."""

import copy
import pickle
import random
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import VariationalAutoencoder
from skae.networks import MLP
from skae.objectives.draws import matched_normal
from tests.callbacks import Callback
from tests.helpers import answers, assert_same_answers, every_estimator, weights
from tests.surroundings import nothing_global_changes, unusual_settings


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
    if error is KeyboardInterrupt:
        ended = pytest.warns(UserWarning, match="interrupted")
    recorder = SettingsRecorder(error)
    with unusual_settings():
        with nothing_global_changes(), ended:
            clone(model).set_callbacks(recorder).fit(X)
        assert recorder.seen == [(1, True, "tf32")]
        with nothing_global_changes(), pytest.raises(ValueError, match="NaN"):
            model.fit(np.where(X > 1, np.nan, X))
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


@contextmanager
def default_dtype(dtype):
    """Set torch's default dtype within a block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    """Set torch's default device within a block."""
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


SETTINGS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device meta": lambda: default_device("meta"),
    "device meta in a block": lambda: torch.device("meta"),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
STARTS = {
    "pca": {"init": "pca"},
    "random": {"init": "random", "n_init": 2, "variance_mode": "learned"},
    "predicted": {"variance_mode": "predicted", "covariance_type": "diag"},
    "profile": {"shuffle": False, "early_stopping": True, "precision": "float64"},
}


@every_estimator
@every_setting
@pytest.mark.parametrize("start", STARTS)
def test_fit_does_not_depend_on_torch_settings(estimator, setting, start, X):
    """Torch's gradient modes, default dtype and default device do not change a fit."""
    model = estimator(max_iter=3, random_state=0, **STARTS[start])
    model, other = clone(model).fit(X), clone(model)
    # The draws of scores are cached, so that a wrong first value would be kept.
    matched_normal.cache_clear()
    with setting():
        other.fit(X)
        assert_same_answers(model, other, X)
        assert_same_answers(model, pickle.loads(pickle.dumps(other)), X)
        assert_same_answers(model, copy.deepcopy(other), X)
        other.set_params(warm_start=True).fit(X)
    model.set_params(warm_start=True).fit(X)
    assert weights(model) == weights(other)
    assert_same_answers(model, other, X)


@contextmanager
def in_threads(function, n_threads):
    """Call a function again and again in threads, within a block."""
    is_over, n_calls, errors = threading.Event(), [0] * n_threads, []

    def repeat(i):
        try:
            while not is_over.is_set():
                function()
                n_calls[i] += 1
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


def test_fit_works_with_torchs_global_fp32_precision():
    """A fit works in a process that sets `torch.backends.fp32_precision`."""
    code = (
        "import torch, numpy as np\n"
        "torch.backends.fp32_precision = 'tf32'\n"
        "from skae import GaussianAutoencoder\n"
        "GaussianAutoencoder(max_iter=2).fit(np.random.RandomState(0).randn(40, 3))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
