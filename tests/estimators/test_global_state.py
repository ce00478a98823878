"""Tests that estimators neither change nor read the settings of the process."""

import copy
import pickle
import random
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import VariationalAutoencoder
from skae.networks import MLP
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


@every_estimator
@pytest.mark.parametrize(
    "setting",
    [torch.no_grad, torch.inference_mode, lambda: default_dtype(torch.float64)],
    ids=["no_grad", "inference_mode", "default dtype float64"],
)
def test_fit_does_not_depend_on_torch_settings(estimator, setting, X):
    """Torch's gradient modes and default dtype in the caller do not change a fit."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    with setting():
        other = estimator(max_iter=3, random_state=0).fit(X)
        assert_same_answers(model, other, X)
    assert weights(model) == weights(other)
    assert_same_answers(model, other, X)


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
