"""A fit neither changes nor reads the settings of the process."""

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


class Looking(Callback):
    """A callback that looks at the arithmetic of the process, and may end the fit."""

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
def test_nothing_global_is_touched(estimator, random_state, flush_denormal, X):
    """Neither by a fit, which wants other settings, nor by anything after it."""
    looking = Looking()
    model = estimator(
        max_iter=3, random_state=random_state, early_stopping=True, precision="tf32"
    ).set_callbacks(looking)
    with unusual_settings(flush_denormal):
        with nothing_global_changes():
            model.fit(X)
        assert looking.seen == 3 * [(1, True, "tf32")]
        with nothing_global_changes():
            answers(model, X)
            model.score(X)
            if estimator is VariationalAutoencoder:
                model.sample(3)
        with nothing_global_changes():
            copy.deepcopy(pickle.loads(pickle.dumps(model)))


@every_estimator
@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_a_fit_that_fails_touches_nothing_global(estimator, error, X):
    """Whatever ends it, and wherever."""
    model = estimator(max_iter=3, random_state=0, precision="tf32")
    ended = pytest.raises(error)
    if error is KeyboardInterrupt:
        ended = pytest.warns(UserWarning, match="interrupted")
    looking = Looking(error)
    with unusual_settings():
        with nothing_global_changes(), ended:
            clone(model).set_callbacks(looking).fit(X)
        assert looking.seen == [(1, True, "tf32")]
        with nothing_global_changes(), pytest.raises(ValueError, match="NaN"):
            model.fit(np.where(X > 1, np.nan, X))
        with nothing_global_changes(), pytest.raises(RuntimeError, match="in a layer"):
            clone(model).set_params(network=Failing()).fit(X)


class Failing(MLP):
    """A network that cannot be used, when it is first called."""

    def encoder(self, n_features, n_outputs):
        network = super().encoder(n_features, n_outputs)

        def fail(module, inputs):
            raise RuntimeError("in a layer")

        network.register_forward_pre_hook(fail)
        return network


@every_estimator
def test_nothing_global_is_read(estimator, X):
    """Seeding the process does not seed a fit with `random_state=None`."""

    def fit():
        np.random.seed(0)  # noqa: NPY002  (what must not be read)
        torch.manual_seed(0)
        random.seed(0)
        return estimator(max_iter=3, random_state=None).fit(X)

    assert fit().loss_curve_ != fit().loss_curve_


@contextmanager
def default_dtype(dtype):
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
def test_torch_settings_of_the_caller_do_not_matter(estimator, setting, X):
    """A fit is the same wherever in the user's torch code it stands."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    with setting():
        other = estimator(max_iter=3, random_state=0).fit(X)
        assert_same_answers(model, other, X)
    assert weights(model) == weights(other)
    assert_same_answers(model, other, X)


def test_torchs_new_setting_of_precision_does_not_disturb_a_fit():
    code = (
        "import torch, numpy as np\n"
        "torch.backends.fp32_precision = 'tf32'\n"
        "from skae import GaussianAutoencoder\n"
        "GaussianAutoencoder(max_iter=2).fit(np.random.RandomState(0).randn(40, 3))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
